"""All bytes moved against capacity, and what nothing beats in both."""

from collections.abc import Sequence
from typing import Any

from cosma.experiments.rows import Row
from cosma.reports.capacity import planned, stem, word
from cosma.reports.figure import label, save
from cosma.units import format_bytes

_MARKS = "os^Dv<>ph8d"  # one a solver
_FILLS = ("full", "none", "left", "right")  # one for all colours


def moved_bytes(row: Row) -> int:
    """All traffic of a row that has a plan."""
    return row.compulsory_bytes + row.traffic[0]


def draw(rows: Sequence[Row], form: str) -> bytes:
    """A panel a model, a dot a row; a line for each workload joins what nothing beats in both: png, svg or pdf."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = planned(rows)
    models = list(dict.fromkeys(row.model for row in rows))
    columns = _columns(rows)
    kinds = sorted({_kind(row, columns) for row in rows}, key=str)
    palette = colormaps["tab10" if len(kinds) <= 10 else "tab20"]
    styles = {
        kind: {"color": palette(c % palette.N), "fillstyle": _FILLS[c // palette.N % len(_FILLS)]}
        for c, kind in enumerate(kinds)
    }
    solvers = list(dict.fromkeys(row.solver for row in rows))
    marks = {solver: _MARKS[i % len(_MARKS)] for i, solver in enumerate(solvers)}
    legend: dict[str, dict[str, Any]]
    legend = {_name(kind, columns): {**styles[kind], "marker": "o"} for kind in kinds}
    if len(solvers) > 1:
        legend |= {solver: {"color": "0.4", "marker": mark, "linestyle": "none"} for solver, mark in marks.items()}
    across = min(4, len(models))
    down = -(-len(models) // across)
    width = max(8.0, 3.3 * across)
    abreast = max(1, min(6, int(72 * width / (4.6 * max(map(len, legend)) + 40))))  # names in a line of the legend
    height = 0.4 + 3.0 * down + 0.19 * -(-len(legend) // abreast)
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    for k, model in enumerate(models):
        axes = figure.add_subplot(down, across, k + 1)
        mine = [row for row in rows if row.model == model]
        for kind, style in styles.items():
            _draw_kind(axes, [row for row in mine if _kind(row, columns) == kind], style, marks)
        _name_points(axes, mine)
        _format(axes, stem(model))
    handles = [Line2D([], [], markersize=4, linewidth=0.9, **style) for style in legend.values()]
    texts = list(map(label, legend))
    figure.legend(handles, texts, loc="outside upper center", ncols=abreast, frameon=False, fontsize=8)
    figure.supxlabel("scratchpad", fontsize=9)
    figure.supylabel("bytes moved, compulsory ones included", fontsize=9)
    return save(figure, form)


def front(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """(capacity, bytes moved) of the rows that no other row beats in both, by capacity."""
    best: list[tuple[int, int]] = []
    for point in sorted({(row.capacity_bytes, moved_bytes(row)) for row in rows}):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def fronts(rows: Sequence[Row]) -> list[list[tuple[int, int]]]:
    """The front of each workload; workloads are not compared with each other."""
    problems = dict.fromkeys(row.problem for row in rows)
    return [front([row for row in rows if row.problem == problem]) for problem in problems]


def _columns(rows: Sequence[Row]) -> list[str]:
    """What tells kinds apart: type and weights, and what else is not the same for all rows of some model."""
    chosen = ["dtype", "weights"]
    for column in ("dims", "fusion"):
        pairs = {(row.model, getattr(row, column)) for row in rows}
        if len(pairs) > len({model for model, _ in pairs}):
            chosen.append(column)
    return chosen


def _kind(row: Row, columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(row, column) for column in columns)


def _name(kind: tuple[Any, ...], columns: Sequence[str]) -> str:
    return ", ".join(word(column, value) for column, value in zip(columns, kind, strict=True))


def _draw_kind(axes: Any, rows: Sequence[Row], style: dict[str, Any], marks: dict[str, str]) -> None:
    """Dots and fronts of one kind."""
    for solver, mark in marks.items():
        mine = [row for row in rows if row.solver == solver]
        at = [row.capacity_bytes for row in mine], [moved_bytes(row) for row in mine]
        axes.plot(*at, mark, markersize=3.5, alpha=0.7, **style)
    for best in fronts(rows):
        axes.step(*zip(*best, strict=True), where="post", color=style["color"], linewidth=0.9)


def _name_points(axes: Any, rows: Sequence[Row]) -> None:
    """Machines beside the lowest point of the fronts at their capacity."""
    lowest: dict[int, int] = {}
    for capacity, moved in sorted(point for best in fronts(rows) for point in best):
        lowest.setdefault(capacity, moved)
    for k, (capacity, moved) in enumerate(lowest.items()):
        here = [row for row in rows if (row.capacity_bytes, moved_bytes(row)) == (capacity, moved)]
        names = {row.hardware for row in here} - {"any"}
        if names:
            above = (3, 3) if k % 2 == 0 else (3, -8)  # neighbours stay apart
            axes.annotate(
                label(min(names)), (capacity, moved), above, textcoords="offset points", fontsize=6, color="0.3"
            )


def _format(axes: Any, title: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: format_bytes(round(value)))
    axes.yaxis.set_major_formatter(lambda value, _: format_bytes(round(value)))
    axes.locator_params(numticks=6)
    axes.tick_params(labelsize=6.5)
    axes.set_title(label(title), fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.12)
