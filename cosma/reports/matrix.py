"""Models against machines: all bytes moved over the compulsory ones, or the reason why there is no plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple, get_args

from cosma.experiments.rows import Row, Swept
from cosma.graph import DType
from cosma.reports.capacity import curved, stem
from cosma.reports.figure import label, save
from cosma.units import format_bytes

# Classes of ratios: up to where, what they are called, their colour. The colours are matplotlib's cividis from light to
# dark, which looks alike with any colour vision and keeps its order in grey.
_CLASSES = (
    (1.0, "1", "#fee838"),
    (1.1, "to 1.1", "#dac65b"),
    (1.5, "to 1.5", "#b4a76f"),
    (2.0, "to 2", "#908b78"),
    (5.0, "to 5", "#6f7073"),
    (10.0, "to 10", "#4f576c"),
    (100.0, "to 100", "#243c6e"),
    (float("inf"), "more", "#00224e"),
)
_FIRST_DARK = 4  # of the classes, on which text is white
_SCALE = "all bytes moved / compulsory bytes"
_MARKS = "\u2264: not proved; h2: two operators run on the host; +weights: these count and share the scratchpad"


class Machine(NamedTuple):
    """A column: hardware, what was set in its spec, whether weights share its scratchpad, its capacity."""

    hardware: str
    instead: str
    weights: bool
    capacity_bytes: int

    @property
    def name(self) -> str:
        """As it is shown."""
        return " ".join(filter(None, (self.hardware, self.instead, "+weights" if self.weights else "")))


@dataclass(frozen=True, slots=True)
class Matrix:
    """The rows of one element type and one mode set by workload and machine."""

    name: str
    workloads: tuple[str, ...]
    machines: tuple[Machine, ...]
    cells: dict[tuple[str, Machine], Swept]

    @property
    def summary(self) -> str:
        """How many pairs have a plan, how many of these are proved, how many do without the host."""
        plans = [row for row in self.cells.values() if row.moved_bytes is not None]
        proved = sum(row.status == "optimal" for row in plans)
        alone = sum(not row.host_operators for row in plans)
        return (
            f"{len(self.cells):,} pairs of network and machine: {len(plans):,} have a verified plan, "
            f"{alone:,} of them without the host, {proved:,} of them proved optimal"
        )


def charted(rows: Sequence[Row]) -> list[Row]:
    """The rows of models on machines, if there is more than one pair and none is a point of a curve."""
    found: list[Row] = [row for row in rows if isinstance(row, Swept) and row.hardware != "any"]
    pairs = {(row.model, _machine(row)) for row in found if isinstance(row, Swept)}
    return found if len(pairs) > 1 and not curved(found) else []


def matrices(rows: Sequence[Row]) -> list[Matrix]:
    """One matrix an element type and mode set, small elements first, the most modes first.

    Where several rows are of one pair (of two solvers, say) the one with the fewest bytes over compulsory counts.
    """
    kinds: dict[tuple[str | None, str], list[Swept]] = {}
    for row in rows:
        if isinstance(row, Swept):
            kinds.setdefault((row.dtype, row.modes), []).append(row)
    order = ("int8", *(name for name in get_args(DType) if name != "int8"), None)
    ordered = sorted(kinds, key=lambda kind: (order.index(kind[0]), kind[1] == "paper", kind[1]))
    return [
        _matrix(f"{dtype or 'types as in the file'}, modes: {modes}", kinds[dtype, modes]) for dtype, modes in ordered
    ]


def _matrix(name: str, rows: Sequence[Swept]) -> Matrix:
    cells: dict[tuple[str, Machine], Swept] = {}
    for row in sorted(rows, key=lambda row: (_ratio(row), row.status != "optimal"), reverse=True):
        cells[_workload(row), _machine(row)] = row
    workloads = sorted({workload for workload, _ in cells})
    machines = sorted({machine for _, machine in cells}, key=lambda m: (m.capacity_bytes, m))
    return Matrix(name, tuple(workloads), tuple(machines), cells)


def _workload(row: Swept) -> str:
    return " ".join(filter(None, (stem(row.model), row.dims)))


def _machine(row: Swept) -> Machine:
    return Machine(row.hardware, row.instead, row.weights, row.capacity_bytes)


def _ratio(row: Swept) -> float:
    """All bytes moved over the compulsory ones, infinite without a plan."""
    return float("inf") if row.moved_bytes is None else row.moved_bytes / max(1, row.compulsory_bytes)


def _class(row: Swept) -> int:
    """The number of the class of a row that has a plan."""
    return next(i for i, (most, _, _) in enumerate(_CLASSES) if _ratio(row) <= most)


def _text(row: Swept) -> str:
    """What a cell says: the ratio with its marks, or why there is none: what some operator needs, a status."""
    if row.moved_bytes is None:
        return format_bytes(row.smallest_capacity_bytes) if row.status == "infeasible" else row.status
    mark = "" if row.status == "optimal" else "\u2264"
    return mark + _number(_ratio(row)) + (f" h{row.host_operators}" if row.host_operators else "")


def _number(ratio: float) -> str:
    """Three digits at most; 1 is exactly 1."""
    if ratio >= 1000:
        return f"{ratio / 1000:.1f}k"
    return "1" if ratio == 1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _told(row: Swept) -> str:
    """All that there is to say of a cell, in a line."""
    of = f"{_workload(row)} on {_machine(row).name}, {format_bytes(row.capacity_bytes)}"
    if row.moved_bytes is None:
        return f"{of}: {row.status}, {row.why}"
    gap = "proved optimal" if row.status == "optimal" else f"at most {row.moved_bytes - _floor(row):,} B from optimal"
    host = f"; {row.host_operators} operators on the host" if row.host_operators else ""
    return f"{of}: {row.moved_bytes:,} B moved, {row.compulsory_bytes:,} B compulsory, {gap}{host}"


def _floor(row: Swept) -> int:
    """The fewest bytes that any plan moves, as far as is proved."""
    return row.compulsory_bytes + row.traffic[1]


def section(rows: Sequence[Row]) -> str:
    """HTML: a matrix for each element type and mode set, with a chooser where there are several; "" without rows."""
    found = matrices(charted(rows))
    if not found:
        return ""
    colours = "".join(
        f".k{i} {{ background: {colour}; color: {'#fff' if i >= _FIRST_DARK else '#1c1e21'}; }}"
        for i, (_, _, colour) in enumerate(_CLASSES)
    )
    legend = "".join(f'<li><i class="k{i}"></i>{escape(name)}</li>' for i, (_, name, _) in enumerate(_CLASSES))
    options = "".join(f'<option value="{i}">{escape(matrix.name)}</option>' for i, matrix in enumerate(found))
    chooser = f'<label>Elements and modes <select id="kind">{options}</select></label>' if len(found) > 1 else ""
    return (
        f'<h2>Networks on machines</h2><style>{colours}</style><div class="controls">{chooser}</div>'
        f'<ul class="legend scale"><li>{escape(_SCALE)}:</li>{legend}<li><i class="none"></i>no plan: what it needs'
        "</li></ul>"
        f'<p class="note">{escape(_MARKS)}. Machines by capacity.</p>' + "".join(map(_grid, found))
    )


def _grid(matrix: Matrix) -> str:
    heads = "".join(
        f'<th scope="col"><span>{escape(m.name)} <small>{format_bytes(m.capacity_bytes)}</small></span></th>'
        for m in matrix.machines
    )
    lines = "".join(
        f'<tr><th scope="row">{escape(workload)}</th>{"".join(_cells(matrix, workload))}</tr>'
        for workload in matrix.workloads
    )
    return (
        f'<figure class="matrix"><figcaption>{escape(matrix.name)}. {matrix.summary}.</figcaption><div class="scroll">'
        f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{lines}</tbody></table></div></figure>"
    )


def _cells(matrix: Matrix, workload: str) -> Iterator[str]:
    for machine in matrix.machines:
        row = matrix.cells.get((workload, machine))
        if row is None:
            yield "<td></td>"
        else:
            kind = "none" if row.moved_bytes is None else f"k{_class(row)}{' host' if row.host_operators else ''}"
            yield f'<td class="{kind}" title="{escape(_told(row))}">{escape(_text(row))}</td>'


def draw(rows: Sequence[Row], form: str) -> bytes:
    """A panel an element type and mode set: png, svg or pdf."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure

    found = matrices(rows)
    heights = [1.9 + 0.24 * len(matrix.workloads) for matrix in found]
    width = 3.4 + 0.36 * max(len(matrix.machines) for matrix in found)
    figure = Figure(figsize=(width, sum(heights) + 0.7), dpi=120, layout="constrained")
    panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, matrix in zip(panels, found, strict=True):
        _draw_panel(axes, matrix)
    scale = ScalarMappable(
        BoundaryNorm(range(len(_CLASSES) + 1), len(_CLASSES)), ListedColormap([c for *_, c in _CLASSES])
    )
    bar = figure.colorbar(scale, ax=panels[-1], location="bottom", aspect=60, shrink=0.7, pad=0.03)
    bar.set_ticks([i + 0.5 for i in range(len(_CLASSES))], labels=[name for _, name, _ in _CLASSES], fontsize=8)
    bar.set_label(f"{_SCALE}; hatched: no plan; {_MARKS}", fontsize=8)
    return save(figure, form)


def _draw_panel(axes: Any, matrix: Matrix) -> None:
    """One matrix: a coloured square and its text a cell."""
    from matplotlib.patches import Rectangle

    for y, workload in enumerate(matrix.workloads):
        for x, machine in enumerate(matrix.machines):
            row = matrix.cells.get((workload, machine))
            if row is None:
                continue
            kind = None if row.moved_bytes is None else _class(row)
            face, edge, hatch = ("white", "0.75", "////") if kind is None else (_CLASSES[kind][2], "white", None)
            square = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0.8)
            axes.add_patch(square)
            if kind is not None:
                ink = "white" if kind >= _FIRST_DARK else "black"
                axes.text(x, y, _text(row).replace(" ", "\n"), ha="center", va="center", fontsize=6.5, color=ink)
    axes.set_xlim(-0.5, len(matrix.machines) - 0.5)
    axes.set_ylim(len(matrix.workloads) - 0.5, -0.5)
    names = [label(f"{m.name}, {format_bytes(m.capacity_bytes)}") for m in matrix.machines]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="left", rotation_mode="anchor", fontsize=7.5)
    axes.set_yticks(range(len(matrix.workloads)), [label(name) for name in matrix.workloads], fontsize=7.5)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(label(f"{matrix.name}: {matrix.summary}"), fontsize=9, loc="left")
