"""A plan in a notebook: its claims in a line, and the memory map as SVG, steps across and addresses up."""

from html import escape
from typing import TYPE_CHECKING

from cosma.names import shown

if TYPE_CHECKING:
    from cosma.plan import Plan

_WIDTH, _HEIGHT = 900, 300


def picture(plan: "Plan") -> str:
    """HTML for one plan. A residency that is loaded, not written, is darker; each has its name as a tooltip."""
    claims, steps, top = plan.claims, max(1, len(plan.order)), max(1, plan.capacity_bytes)
    loaded = {(move.tensor, move.step) for move in plan.moves if move.kind == "load"}
    boxes = []
    for r in plan.residencies:
        x, width = _WIDTH * r.start / steps, _WIDTH * (r.end - r.start) / steps
        y, height = _HEIGHT * (1 - (r.offset_bytes + r.size_bytes) / top), _HEIGHT * r.size_bytes / top
        colour = "#4a7c9b" if (r.tensor, r.start) in loaded else "#8fbcd4"
        title = f"{shown(r.tensor)}: steps {r.start} to {r.end - 1}, {r.size_bytes:,} B at {r.offset_bytes:,}"
        boxes.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}" stroke="white" '
            f'stroke-width="0.5"><title>{escape(title)}</title></rect>'
        )
    line = (
        f"{shown(plan.source.model)} on {shown(plan.hardware)}: {claims.status}, "
        f"{claims.non_compulsory_bytes:,} B non-compulsory (bound {claims.bound_bytes:,} B), "
        f"{claims.compulsory_bytes:,} B compulsory, {claims.peak_use_bytes:,} of {plan.capacity_bytes:,} B used"
    )
    frame = f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>'
    drawn = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" role="img">{frame}{"".join(boxes)}</svg>'
    return f"<div><p>{escape(line)}</p>{drawn}</div>"
