"""Which loops of a nest are cut together, into which sizes, and in which orders: what is worth trying."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations, permutations
from math import prod
from typing import NamedTuple

import numpy as np

from cosma.nest import Access, Axis, Index, Nest, Tiler
from cosma.target.touched import Counts, Rule, counts, touched

_MOST_SIZES = 2**16  # up to this extent every number of tiles is tried
_MOST_LOOPS = 5  # that are cut besides those that index everything
Order = tuple[int, ...]  # numbers of loops, the outermost first


class Cut(NamedTuple):
    """One axis that may be cut: sizes of tiles, ascending, the last the whole axis; counts of what each access has."""

    axis: int
    sizes: tuple[int, ...]
    tiles: tuple[int, ...]
    counts: tuple[Counts | None, ...]


class Loop(NamedTuple):
    """Axes that are cut together, the outermost first, in these ways: for each an index into its sizes, ascending.

    mask: the accesses that it indexes, as bits. overlaps: whether two rounds touch the same element of one.
    """

    cuts: tuple[Cut, ...]
    options: tuple[tuple[int, ...], ...]
    mask: int
    overlaps: bool


class Shape(NamedTuple):
    """A nest as the engine sees it. constant: elements of each access along the axes that no loop cuts."""

    loops: tuple[Loop, ...]
    constant: tuple[int, ...]


def tile_sizes(axis: Axis, tiler: Tiler) -> tuple[int, ...]:
    """One size for each number of tiles, the least, then the whole axis; multiples of the granularity.

    Of two sizes that make equally many tiles the smaller takes no larger buffers. Where tiles do not overlap, they move
    the same. Where they do, a larger one can move less, by what its ragged last tile reaches into the padding.
    """
    n, step = axis.extent, tiler.step(axis)
    if n <= _MOST_SIZES:
        sizes = np.arange(1, n + 1)
    else:
        sizes = np.unique(np.concatenate([np.arange(1, 257), np.geomspace(257, n, 256).astype(np.int64)]))
    sizes = np.unique(np.minimum(-(-sizes // step) * step, n))
    _, least = np.unique(-(-n // sizes), return_index=True)
    return tuple(int(t) for t in np.sort(sizes[least]))


def shape_of(nest: Nest, tiler: Tiler) -> Shape:
    """Group the axes of a nest into loops.

    Axes without overlaps that index the same accesses are cut together: outer ones into the least, one into any
    size, inner ones not at all. Buffers and bytes then depend on the number of elements in a tile and of tiles alone,
    and other ways to cut, such as 3 x 5 of 7 x 11, only fill in between.
    """
    axes = tuple(replace(axis, whole=axis.whole or axis.extent <= tiler.step(axis)) for axis in nest.axes)
    nest = Nest(axes, nest.accesses)
    cuts = [_cut(nest, a, tiler) for a, axis in enumerate(axes) if not axis.whole]
    groups: dict[tuple[int, int], list[Cut]] = {}
    for cut in cuts:
        mask = sum(1 << i for i, found in enumerate(cut.counts) if found is not None)
        overlaps = any(found is not None and not found.disjoint for found in cut.counts)
        if mask:
            groups.setdefault((mask, cut.axis + 1 if overlaps else 0), []).append(cut)
    loops = [Loop(tuple(g), tuple(_options(g)), mask, bool(axis)) for (mask, axis), g in groups.items()]
    return Shape(tuple(loops), tuple(_constant(nest, access) for access in nest.accesses))


def _options(cuts: Sequence[Cut]) -> Iterator[tuple[int, ...]]:
    least, whole = (0,) * len(cuts), tuple(len(cut.sizes) - 1 for cut in cuts)
    yield least
    for i in reversed(range(len(cuts))):
        for size in range(1, whole[i] + (i > 0)):
            yield (*least[:i], size, *whole[i + 1 :])


def _cut(nest: Nest, axis: int, tiler: Tiler) -> Cut:
    sizes = tile_sizes(nest.axes[axis], tiler)
    tiles = tuple(-(-nest.axes[axis].extent // t) for t in sizes)
    return Cut(axis, sizes, tiles, tuple(_counts(nest, access, axis, sizes) for access in nest.accesses))


def _counts(nest: Nest, access: Access, axis: int, sizes: tuple[int, ...]) -> Counts | None:
    for index in access.indices:
        strides = [s for a, s in index.terms if a == axis]
        if strides and len(nest.tileable(index)) > 1:  # digits: every round touches others
            return counts(Rule(nest.axes[axis].extent, 1, (), 0, nest.axes[axis].extent), sizes)
        if strides:
            whole = _whole(nest, index)
            return counts(Rule(nest.axes[axis].extent, strides[0], whole, index.offset, index.size), sizes)
    return None


def _whole(nest: Nest, index: Index) -> tuple[tuple[int, int], ...]:
    cut = nest.tileable(index)
    terms = ((nest.axes[a].extent, s) for a, s in index.terms if (a, s) not in cut)
    return tuple((extent, s) for extent, s in terms if extent > 1)


def _constant(nest: Nest, access: Access) -> int:
    """Elements along the axes of an operand that no loop cuts."""
    elements = 1
    for index in access.indices:
        cut = len(nest.tileable(index))
        if not cut:
            elements *= touched(_whole(nest, index), index.offset, index.size)
        elif cut > 1:
            elements *= prod(extent for extent, _ in _whole(nest, index))
    return elements


@lru_cache(maxsize=1024)
def orders(masks: tuple[int, ...], overlaps: tuple[bool, ...], written: int, everything: int) -> tuple[Order, ...]:
    """Orders of the loops that are cut, for each choice of which are; no order twice that another is as good as.

    1. A loop that indexes every access is cut and outermost. It multiplies nothing, and makes buffers smaller.
    2. A loop that does not index an output is inside of all that do: else incomplete sums would be moved.
    3. Of two orders of the same loops one is left out if the other reads no operand more often (the loops outside of
    its innermost one that do not index it are fewer), and overlaps are kept in the buffer of the same loop.
    """
    always = tuple(i for i, mask in enumerate(masks) if mask == everything and not overlaps[i])
    free = [i for i in range(len(masks)) if i not in always][:_MOST_LOOPS]
    found: list[Order] = []
    for number in range(len(free) + 1):
        for chosen in combinations(free, number):
            some = [always + order for order in permutations(chosen) if always + order]
            legal = [order for order in some if _completes(order, masks, written)]
            found += _without_worse(legal, masks, overlaps, everything)
    return tuple(found)


def _completes(order: Order, masks: tuple[int, ...], written: int) -> bool:
    """Whether for every output the loops that index it come first."""
    left = written
    for loop in order:
        if masks[loop] & written & ~left:
            return False
        left &= masks[loop]
    return True


def _without_worse(orders: list[Order], masks: tuple[int, ...], overlaps: tuple[bool, ...], all_: int) -> list[Order]:
    kept: list[tuple[Order, list[tuple[int, frozenset[int]]]]] = []
    for order in orders:
        ways = [_way(order, bit, masks, overlaps) for bit in range(all_.bit_length())]
        if not any(_is_no_worse(other, ways) for _, other in kept):
            kept = [(o, other) for o, other in kept if not _is_no_worse(ways, other)]
            kept.append((order, ways))
    return [order for order, _ in kept]


def _way(order: Order, bit: int, masks: tuple[int, ...], overlaps: tuple[bool, ...]) -> tuple[int, frozenset[int]]:
    """How an order treats an access: the loop that keeps its overlaps, or -1; the loops that read it again."""
    indexing = [i for i, loop in enumerate(order) if masks[loop] >> bit & 1]
    inner = indexing[-1] if indexing else -1
    again = frozenset(loop for loop in order[: inner + 1] if not masks[loop] >> bit & 1)
    matters = any(overlaps[order[i]] for i in indexing)
    return order[inner] if matters else -1, again


def _is_no_worse(one: list[tuple[int, frozenset[int]]], other: list[tuple[int, frozenset[int]]]) -> bool:
    return all(a == b and x <= y for (a, x), (b, y) in zip(one, other, strict=True))
