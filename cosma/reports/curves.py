"""Traffic against capacity as a figure: curves with their bounds, knees, and the chips of hw_specs."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any, NamedTuple

from cosma.experiments.rows import Row
from cosma.experiments.staircase import Step, knee, worth_of_next_kib
from cosma.reports.capacity import Series, corners, labels, proved, series, stem
from cosma.reports.figure import label, save
from cosma.target.hardware import load_hardware, spec_names

_WIDTH = 4.4  # inches of a panel
_CLOSE = 0.05  # of the width of a panel: chips that are no further apart share a label
_DASHES = ("-", "--", ":", "-.")  # one for ten colours
_LETTERS = 50  # of two names that share a label
_BEST = "best found"
Curve = tuple[str, list[Step]]  # its name, its corners


def draw(rows: Sequence[Row], form: str) -> bytes:
    """A panel a model: traffic against capacity; below it what the next KiB is worth: png, svg or pdf."""
    from matplotlib.figure import Figure

    panels: dict[str, dict[Series, list[Row]]] = {}
    for key, points in series(rows).items():
        panels.setdefault(key.model, {})[key] = points
    across = min(3, len(panels))
    width = _WIDTH if across > 1 else 8.0
    merged = {model: _merged(curves) for model, curves in panels.items()}
    drawn = [(model, lines, _legend(lines, width)) for model, lines in merged.items()]
    bands = [drawn[i : i + across] for i in range(0, len(drawn), across)]
    heights = [4.9 + 0.17 * max(legend.lines for _, _, legend in band) for band in bands]
    figure = Figure(figsize=(width * across, sum(heights)), dpi=120, layout="constrained")
    parts = figure.subfigures(len(bands), across, squeeze=False, height_ratios=heights)
    for band, places in zip(bands, parts, strict=True):
        for (model, lines, legend), part in zip(band, places, strict=False):
            curve, worth = part.subplots(2, 1, sharex=True, height_ratios=[3, 1])
            part.suptitle(label(stem(model)), fontsize=10)
            _draw_panel(curve, worth, lines)
            part.legend(
                handles=legend.handles, ncols=legend.columns, loc="outside lower center", frameon=False, fontsize=8
            )
    return save(figure, form)


def _merged(curves: Mapping[Series, Sequence[Row]]) -> list[Curve]:
    """The curves of one model; those with the same corners are one with all their names."""
    found: list[tuple[list[str], list[Step]]] = []
    for key, name in labels(list(curves)).items():
        line = corners(curves[key])
        same = next((names for names, other in found if other == line), None)
        if same is None:
            found.append(([], line))
            same = found[-1][0]
        same.append(name.removeprefix(stem(key.model)).removeprefix(", "))
    return [(_name(names, line), line) for names, line in found]


def _name(names: Sequence[str], line: Sequence[Step]) -> str:
    """What the curve is of, and whether less may be possible."""
    both = "; ".join(names)
    text = both if len(names) <= 2 and len(both) <= _LETTERS else _few(names, 1)
    if proved(line):
        return text or "least non-compulsory traffic"
    return f"{text}: {_BEST}" if text else _BEST


def _few(names: Sequence[str], shown: int) -> str:
    """The first names, the rest by number."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def _draw_panel(curve: Any, worth: Any, curves: Sequence[Curve]) -> None:
    """One model on two matplotlib axes that share capacities."""
    low = min(line[0].capacity_bytes for _, line in curves)
    high = max(line[-1].capacity_bytes for _, line in curves)
    most = max(line[0].cost_bytes for _, line in curves)
    margin = max(1, high - low) * 0.08
    unit, name = _unit(high)
    up, up_name = _unit(most)
    for k, (_, line) in enumerate(curves):
        style = _style(k)
        at = [step.capacity_bytes / unit for step in line] + [(high + margin) / unit]
        cost = [step.cost_bytes / up for step in [*line, line[-1]]]
        bound = [step.bound_bytes / up for step in [*line, line[-1]]]
        curve.step(at, cost, where="post", **style)
        curve.fill_between(at, bound, cost, step="post", color=style["color"], alpha=0.25, linewidth=0)
        bend = knee(line)
        if bend is not None:
            inside = style["color"] if proved(line) else "white"
            spot = bend.capacity_bytes / unit, bend.cost_bytes / up
            curve.plot(*spot, "o", color=style["color"], markerfacecolor=inside)
        rates = worth_of_next_kib(line)
        worth.step(at[: len(rates) + 1] if rates else [], [*rates, *rates[-1:]], where="post", **style)
    _mark_chips(curve, low - margin, high + margin, unit)
    curve.set_xlim((low - margin) / unit, (high + margin) / unit)
    curve.set_ylim(0, 1.08 * most / up)
    curve.set_ylabel(f"non-compulsory {up_name}", fontsize=9)
    worth.set_ylabel("bytes saved\nper KiB more", fontsize=8)
    worth.set_xlabel(f"scratchpad ({name})", fontsize=9)
    worth.set_ylim(bottom=0)
    for axes in (curve, worth):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="0.93")


def _style(k: int) -> dict[str, Any]:
    return {"color": f"C{k % 10}", "linestyle": _DASHES[k // 10 % len(_DASHES)]}


class _Legend(NamedTuple):
    handles: list[Any]
    columns: int
    lines: int  # of text in the longest column


def _legend(curves: Sequence[Curve], width: float) -> _Legend:
    """What is named below a panel of so many inches: each curve, the band and the knees once."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    fits = int((72 * width - 40) / 4.6)  # letters
    handles: list[Any] = [Line2D([], [], **_style(k), label=_wrapped(name, fits)) for k, (name, _) in enumerate(curves)]
    if not all(proved(line) for _, line in curves):
        handles.append(Patch(color="0.4", alpha=0.25, linewidth=0, label="band: down to the proven bound"))
    bent = {proved(line) for _, line in curves if knee(line) is not None}
    dot: dict[str, Any] = {"color": "0.3", "marker": "o", "linestyle": "none"}
    if True in bent:
        handles.append(Line2D([], [], **dot, label="knee"))
    if False in bent:
        handles.append(Line2D([], [], **dot, markerfacecolor="white", label="knee, if these are optima"))
    texts = [handle.get_label() for handle in handles]
    columns = max(1, int(72 * width / (4.6 * max(map(len, texts)) + 40)))
    lines = sum(text.count("\n") + 1 for text in texts)
    return _Legend(handles, columns, -(-lines // columns))


def _wrapped(name: str, fits: int) -> str:
    return "\n".join(map(label, wrap(name, fits)))


def _unit(largest: int) -> tuple[int, str]:
    return next((u, n) for u, n in ((2**20, "MiB"), (2**10, "KiB"), (1, "B")) if largest >= 4 * u or u == 1)


def _mark_chips(axes: Any, low: float, high: float, unit: int) -> None:
    """Real scratchpads: lines with names above the axes, lists of those before and after it."""
    chips = sorted((load_hardware(name).capacity_bytes, name) for name in spec_names())
    for capacity, names in chip_labels(chips, low, high):
        axes.annotate(
            _few(names, 1 if len(names) > 2 else 2), (capacity / unit, 1.01), xycoords=("data", "axes fraction"),
            rotation=40, rotation_mode="anchor", ha="left", va="bottom", fontsize=6.5, color="0.35",
        )  # fmt: skip
    for capacity in {capacity for capacity, _ in chips if low <= capacity <= high}:
        axes.axvline(capacity / unit, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    before = [name for capacity, name in chips if capacity < low]
    after = [name for capacity, name in chips if capacity > high]
    text = "\n".join(f"{way} {_few(names, 2)}" for way, names in (("←", before[::-1]), ("→", after)) if names)
    axes.annotate(
        text, (0, 0), (0, -8), xycoords="axes fraction", textcoords="offset points", va="top", fontsize=6.5,
        color="0.35", linespacing=1.3,
    )  # fmt: skip


def chip_labels(chips: Sequence[tuple[int, str]], low: float, high: float) -> list[tuple[int, list[str]]]:
    """Where the names of the chips between two capacities go: those that lie close together share a place."""
    places: list[tuple[int, list[str]]] = []
    for capacity, name in chips:
        if low <= capacity <= high:
            if not places or capacity - places[-1][0] > _CLOSE * (high - low):
                places.append((capacity, []))
            places[-1][1].append(name)
    return places
