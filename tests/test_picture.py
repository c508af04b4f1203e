"""Maps for notebooks."""

from cosma.picture import Box, picture


def test_buffers_are_hatched() -> None:
    boxes = [Box("a", 0, 2, 0, 4, False), Box("buffer of b", 1, 2, 4, 2, True, is_buffer=True)]
    found = picture("line", 2, 8, boxes)
    assert found.count('fill="url(#buffer)"') == 1
    assert "hatched: buffers" in found
    assert "hatched" not in picture("line", 2, 8, boxes[:1])
