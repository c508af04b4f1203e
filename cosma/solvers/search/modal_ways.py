"""Ways to run an operator as points of a linear programme: what is streamed, bytes too many, bytes moved."""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

from cosma.solvers.search.fronts import Role
from cosma.solvers.search.modal import ModalSpace

_MOST_STREAMED = 6  # operands that may be streamed; all their sets are listed


class Way(NamedTuple):
    """The mask of tensors that are streamed; bytes of what is pending that have to be out for it; bytes moved."""

    streamed: int
    excess: int
    moved: int


class Loose(NamedTuple):
    """An operator with each of its operands on its own: it takes no less and moves no less.

    excess: bytes pending and taken beyond the capacity with all operands resident, maybe negative. streams: for each
    that may be streamed (tensor, bytes that this frees at most, bytes that it moves at least beyond the floor).
    """

    excess: int
    streams: tuple[tuple[int, int, int], ...]


def loose_of(space: ModalSpace, v: int, pending: int) -> Loose:
    """Operator v while `pending` bytes are pending, its ways not listed: of all modes the least of everything."""
    menu = space.menus[v]
    tracked = {slot.position for slot in space.slots[v]}
    least = menu.least_buffers
    own = sum(min(size, least[p]) for p, size in enumerate(menu.sizes) if p not in tracked)
    streams = []
    for p, t, _, is_streamable in space.slots[v]:
        if is_streamable:
            moved = 0 if menu.roles[p] is Role.SENT else menu.least_moved[p]
            streams.append((t, max(0, space.sizes[t] - least[p]), moved))
    whole = sum(space.sizes[slot.tensor] for slot in space.slots[v])
    return Loose(pending + whole + own + menu.least_room - space.capacity, tuple(streams))


def ways_of(space: ModalSpace, v: int, pending: int) -> list[Way]:
    """The ways of operator v while `pending` bytes are pending; empty where its sets of operands are too many to list.

    A way that takes w bytes needs max(0, pending + w - capacity) of the pending ones out. Of each set of streamed
    operands only the vertices of the lower hull of (excess, moved) are kept: where neither has a negative price another
    is never cheapest.
    """
    menu = space.menus[v]
    free = [slot for slot in space.slots[v] if slot.is_streamable]
    if len(free) > _MOST_STREAMED:
        return []
    found = []
    for count in range(len(free) + 1):
        for chosen in combinations(free, count):
            mask = sum(1 << slot.position for slot in chosen)
            whole = sum(space.sizes[s.tensor] for s in space.slots[v] if not mask >> s.position & 1)
            streamed = sum(1 << s.tensor for s in chosen)
            points = (p for o in menu.overwriting if not o & mask for p in _points(space, v, mask, o, whole))
            hull = _hull((max(0, pending + n), moved) for n, moved in points)
            found += [Way(streamed, excess, moved) for excess, moved in hull]
    return found


def _points(space: ModalSpace, v: int, streamed: int, overwritten: int, whole: int) -> Iterator[tuple[int, int]]:
    """(bytes beyond the capacity, at most 0; bytes moved) of the ways that fit with `whole` bytes of other operands."""
    front = space.menus[v].front(streamed, overwritten)
    for room, moved in zip(front.room, front.moved, strict=True):
        if room + whole <= space.capacity:
            yield room + whole - space.capacity, moved


def _hull(points: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The vertices of the lower left hull."""
    hull: list[tuple[int, int]] = []
    for x, y in sorted(points):
        if hull and y >= hull[-1][1]:
            continue
        while len(hull) > 1 and _is_above(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return hull


def _is_above(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    """Whether b is on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
