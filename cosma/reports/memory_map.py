"""The memory map of a plan: steps across, addresses up, one rectangle a residency or buffer; below it what moves."""

from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from cosma.plan import Buffer, Plan, Residency
from cosma.reports.figure import label, save

_COLOURS = {"input": "#8da0cb", "weight": "#b3b3b3", "activation": "#66c2a5", "output": "#ffd92f"}
_BUFFER, _WORKSPACE = "#d9c7f0", "#f0f0f0"  # hatched: not there as a whole
_EVICTED = "#e34a33"
_MOVED = (  # of a step, from the bottom up
    ("loaded", "#0072b2"), ("streamed in", "#9ecae1"), ("stored", "#cc79a7"), ("streamed out", "#f0c9de"),
)  # fmt: skip
_UNITS = ((2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def draw(plan: Plan, kinds: dict[str, str], file_format: str) -> bytes:
    """The map as an image file. `kinds`: tensor name -> kind, for the colours.

    Evictions are marked: a residency that ends early has a red frame, the one that it comes back in a dashed one.
    Buffers of streamed operands and workspaces are hatched; where something is streamed, bars below say what moves.
    """
    width = min(40.0, max(9.0, 0.035 * len(plan.order) + 7))
    streams = any(step.buffers for step in plan.order)
    figure = Figure(figsize=(width, 8.0 if streams else 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_dpi(120)
    if streams:
        axes, strip = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        _paint_moved(strip, plan)
        axes.tick_params(labelbottom=False)
    else:
        axes = figure.add_subplot()
        axes.set_xlabel("step")
    paint(axes, plan, kinds)
    return save(figure, file_format)


def paint(axes: Any, plan: Plan, kinds: dict[str, str]) -> None:
    """Draw the map into matplotlib axes."""
    factor, unit = next((f, u) for f, u in _UNITS if plan.capacity_bytes >= 4 * f or f == 1)
    for kind, colour in _COLOURS.items():
        boxes = [_box(r, factor) for r in plan.residencies if kinds[r.tensor] == kind]
        axes.add_collection(PatchCollection(boxes, facecolor=colour, edgecolor="white", linewidth=0.4))
    _paint_buffers(axes, plan, factor)
    evicted, returned = evictions(plan)
    for rows, style in ((evicted, "solid"), (returned, "dashed")):
        boxes = [_box(r, factor) for r in rows]
        frame = PatchCollection(boxes, facecolor="none", edgecolor=_EVICTED, linewidth=1.6, linestyle=style, zorder=3)
        axes.add_collection(frame)
    capacity = plan.capacity_bytes / factor
    axes.axhline(capacity, color="black", linewidth=1.2)
    axes.set_xlim(0, len(plan.order))
    axes.set_ylim(0, capacity * 1.06)
    axes.text(0, capacity * 1.01, f" capacity {capacity:.5g} {unit}", va="bottom", fontsize=9)
    axes.set_ylabel(f"scratchpad address ({unit})")
    claims = plan.claims
    axes.set_title(
        f"{label(plan.source.model)} on {label(plan.hardware)}: {claims.non_compulsory_bytes:,} B non-compulsory, "
        f"{claims.compulsory_bytes:,} B compulsory, {claims.status}",
        fontsize=10,
    )
    legend = [Patch(color=c, label=k) for k, c in _COLOURS.items() if k in set(kinds.values())]
    if evicted:
        legend.append(Patch(facecolor="none", edgecolor=_EVICTED, label=f"evicted at its end ({len(evicted)})"))
        dashed = Patch(
            facecolor="none", edgecolor=_EVICTED, linestyle="dashed", label=f"loaded again ({len(returned)})"
        )
        legend.append(dashed)
    buffers = [b for step in plan.order for b in step.buffers if b.size_bytes]
    for what, colour, hatch, is_there in _hatched(buffers):
        if is_there:
            legend.append(Patch(facecolor=colour, edgecolor="grey", hatch=hatch, label=what))
    axes.legend(handles=legend, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    _label(axes, plan, factor)


def _hatched(buffers: Sequence[Buffer]) -> list[tuple[str, str, str, bool]]:
    """(what, colour, hatching, whether there is any) of what lives for one step."""
    return [
        ("buffer, streamed in", _BUFFER, "///", any(b.queue == "in" for b in buffers)),
        ("buffer, streamed out", _BUFFER, "\\\\\\", any(b.queue == "out" for b in buffers)),
        ("workspace", _WORKSPACE, "...", any(b.tensor is None for b in buffers)),
    ]


def _paint_buffers(axes: Any, plan: Plan, factor: int) -> None:
    """Buffers and workspaces, each for its one step."""
    placed = [(t, b) for t, step in enumerate(plan.order) for b in step.buffers if b.size_bytes]
    queues = ("in", "out", "")
    for queue, (_, colour, hatch, _) in zip(queues, _hatched([]), strict=True):
        boxes = [
            Rectangle((t, b.offset_bytes / factor), 1, b.size_bytes / factor) for t, b in placed if b.queue == queue
        ]
        patches = PatchCollection(boxes, facecolor=colour, edgecolor="grey", linewidth=0.3, hatch=hatch)
        axes.add_collection(patches)


def _paint_moved(axes: Any, plan: Plan) -> None:
    """Bars of the bytes that each step moves, as a whole and through buffers."""
    rows = moved_bytes(plan)
    factor, unit = next((f, u) for f, u in _UNITS if max(map(sum, rows), default=0) >= 4 * f or f == 1)
    below = [0.0] * len(rows)
    for number, (what, colour) in enumerate(_MOVED):
        high = [row[number] / factor for row in rows]
        axes.bar(range(len(rows)), high, 1, bottom=below, align="edge", color=colour, label=what)
        below = [a + b for a, b in zip(below, high, strict=True)]
    axes.set_xlim(0, len(rows))
    axes.set_xlabel("step")
    axes.set_ylabel(f"moved ({unit})")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)


def moved_bytes(plan: Plan) -> list[tuple[int, int, int, int]]:
    """For each step bytes loaded, streamed in, stored, streamed out."""
    rows = [[0, 0, 0, 0] for _ in plan.order]
    for move in plan.moves:
        if move.kind != "drop":
            rows[move.step][0 if move.kind == "load" else 2] += move.size_bytes
    for row, step in zip(rows, plan.order, strict=True):
        for b in step.buffers:
            row[3 if b.queue == "out" else 1] += b.moved_bytes
    return [(a, b, c, d) for a, b, c, d in rows]


def evictions(plan: Plan) -> tuple[list[Residency], list[Residency]]:
    """Residencies that end although the tensor comes back, and those in which it has come back."""
    first = {r.tensor: r.start for r in sorted(plan.residencies, key=lambda r: -r.start)}
    last = {r.tensor: r.end for r in sorted(plan.residencies, key=lambda r: r.end)}
    ended = [r for r in plan.residencies if r.end < last[r.tensor]]
    return ended, [r for r in plan.residencies if r.start > first[r.tensor]]


def _box(r: Residency, factor: int) -> Rectangle:
    return Rectangle((r.start, r.offset_bytes / factor), r.end - r.start, r.size_bytes / factor)


def _label(axes: Any, plan: Plan, factor: int) -> None:
    """Write names into the rectangles, shrunk to fit; below a readable size the name is left out."""
    axes.figure.canvas.draw()  # settles the layout, so that data units have their final size
    box = axes.get_window_extent()
    across = box.width / len(plan.order)  # pixels a step
    up = box.height / (plan.capacity_bytes * 1.06)  # pixels a byte
    points = 72 / axes.figure.dpi
    for r in plan.residencies:
        wide, high = (r.end - r.start) * across * points, r.size_bytes * up * points
        name = _short(r)
        for rotation, along, beside in ((0, wide, high), (90, high, wide)):
            size = min(8.0, 0.8 * beside, along / (0.62 * len(name)))
            if size >= 4:
                x, y = (r.start + r.end) / 2, (r.offset_bytes + r.size_bytes / 2) / factor
                axes.text(x, y, label(name), ha="center", va="center", rotation=rotation, fontsize=size, clip_on=True)
                break


def _short(residency: Residency) -> str:
    """The end of a tensor's name tells it from its neighbours."""
    name = residency.tensor.removesuffix("_output_0")
    return name if len(name) <= 28 else "…" + name[-27:]
