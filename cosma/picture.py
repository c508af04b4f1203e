"""A memory map as SVG in HTML, for notebooks: steps across and addresses up."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from cosma.names import shown

_WIDTH, _HEIGHT = 900, 300
_HATCHING = (
    '<defs><pattern id="buffer" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" fill="#e4d8f5"/><rect width="1.5" height="6" fill="#8a6fb5"/></pattern></defs>'
)
_THIN = 2  # a thinner box has no edge, which would hide it


class Box(NamedTuple):
    """Bytes [offset, offset + size) during steps [start, end); darker where they were loaded, not written.

    is_buffer: of an operand that is streamed, or a workspace; hatched.
    """

    title: str
    start: int
    end: int
    offset_bytes: int
    size_bytes: int
    is_loaded: bool
    is_buffer: bool = False


def picture(line: str, steps: int, capacity_bytes: int, boxes: Sequence[Box]) -> str:
    """HTML of a line of text over a map of boxes, each with its title as a tooltip."""
    across, up = _WIDTH / max(1, steps), _HEIGHT / max(1, capacity_bytes)
    has_buffers = any(box.is_buffer for box in boxes)
    drawn = [_HATCHING if has_buffers else "", f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>']
    for box in boxes:
        x, width = across * box.start, across * (box.end - box.start)
        y, height = _HEIGHT - up * (box.offset_bytes + box.size_bytes), up * box.size_bytes
        colour = "url(#buffer)" if box.is_buffer else "#4a7c9b" if box.is_loaded else "#8fbcd4"
        edge = "white" if min(width, height) > _THIN else "none"
        drawn.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}" stroke="{edge}" '
            f'stroke-width="0.5"><title>{escape(shown(box.title))}</title></rect>'
        )
    hatched = ", hatched: buffers" if has_buffers else ""
    words = f'<text x="4" y="14" font-size="12">{capacity_bytes:,} B{hatched}</text>'
    words += f'<text x="{_WIDTH - 4}" y="{_HEIGHT + 14}" font-size="12" text-anchor="end">step {steps - 1}</text>'
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 18}" width="100%" role="img">{"".join(drawn)}{words}</svg>'
    return f"<div><p>{escape(shown(line))}</p>{svg}</div>"
