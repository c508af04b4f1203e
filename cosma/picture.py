"""A memory map as SVG in HTML, for notebooks: steps across and addresses up."""

from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from cosma.names import shown

_WIDTH, _HEIGHT = 900, 300


class Box(NamedTuple):
    """Bytes [offset, offset + size) during steps [start, end); darker where they were loaded, not written."""

    title: str
    start: int
    end: int
    offset_bytes: int
    size_bytes: int
    is_loaded: bool


def picture(line: str, steps: int, capacity_bytes: int, boxes: Iterable[Box]) -> str:
    """HTML of a line of text over a map of boxes, each with its title as a tooltip."""
    across, up = _WIDTH / max(1, steps), _HEIGHT / max(1, capacity_bytes)
    drawn = [f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>']
    for box in boxes:
        x, width = across * box.start, across * (box.end - box.start)
        y, height = _HEIGHT - up * (box.offset_bytes + box.size_bytes), up * box.size_bytes
        colour = "#4a7c9b" if box.is_loaded else "#8fbcd4"
        drawn.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}" stroke="white" '
            f'stroke-width="0.5"><title>{escape(shown(box.title))}</title></rect>'
        )
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" role="img">{"".join(drawn)}</svg>'
    return f"<div><p>{escape(shown(line))}</p>{svg}</div>"
