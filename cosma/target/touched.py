"""How many elements along one axis of an operand the tiles of one loop touch: the only place that knows overlaps.

Round i of the loop touches stride x i + w for every w of a set of offsets that axes which are not cut make (the taps
of a kernel). Where the offsets are an interval, all counts are closed formulae; where they have holes (dilation),
elements are listed.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.int64]


class Rule(NamedTuple):
    """One axis of an operand under one loop: whole are (extent, stride) of the axes that are not cut."""

    extent: int
    stride: int
    whole: tuple[tuple[int, int], ...]
    offset: int
    size: int


class Counts(NamedTuple):
    """Elements by size of the tile.

    most: in one tile. live: held at one step, if an element that is needed again stays. total: of all tiles, each
    counted for itself. union: touched at all. loads: tiles that touch any; fresh: tiles that touch a new one.
    disjoint: whether no two rounds touch the same element.
    """

    most: Array
    live: Array
    total: Array
    loads: Array
    fresh: Array
    union: int
    disjoint: bool


@lru_cache(maxsize=4096)
def counts(rule: Rule, sizes: tuple[int, ...]) -> Counts:
    """Count for each size of a tile."""
    if rule[1:] == (1, (), 0, rule.extent):  # every element once: most axes, so not to be slow
        tile = np.array(sizes, np.int64)
        tiles = -(-rule.extent // tile)
        return Counts(tile, tile, np.full_like(tile, rule.extent), tiles, tiles, rule.extent, True)
    length, base = _interval(rule)
    found = _listed(rule, sizes) if length is None else _computed(rule, length, base, sizes)
    rows = list(found)
    columns = [np.array([row[i] for row in rows], np.int64) for i in range(5)]
    once = int(columns[2][sizes.index(1)]) if 1 in sizes else None
    union = rows[0][5]
    disjoint = once == union if once is not None else abs(rule.stride) >= (length or 2**62)
    return Counts(columns[0], columns[1], columns[2], columns[3], columns[4], union, disjoint)


def touched(whole: tuple[tuple[int, int], ...], offset: int, size: int) -> int:
    """How many elements along an axis that no loop cuts are touched."""
    return counts(Rule(1, 1, whole, offset, size), (1,)).union


def _interval(rule: Rule) -> tuple[int | None, int]:
    """Length and beginning of the offsets; no length where they have holes.

    Sorted by stride, the offsets so far are an interval; one more axis leaves no hole if its step is no longer.
    """
    length, base = 1, rule.offset
    for extent, stride in sorted(rule.whole, key=lambda term: abs(term[1])):
        if abs(stride) > length and extent > 1:
            return None, 0
        length += abs(stride) * (extent - 1)
        base += min(0, stride * (extent - 1))
    return length, base


def _computed(rule: Rule, length: int, base: int, sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Counts of offsets that are an interval.

    Then the rounds that touch an element follow one another, so no tile between two that touch it leaves it out, and
    what is live at a step is what its tile touches.
    """
    n, s, size = rule.extent, rule.stride, rule.size

    def inside(x: Array) -> Array:
        return np.clip(x, 0, size)

    starts = np.arange(n, dtype=np.int64) * s + base
    upto = np.concatenate([[0], np.cumsum(inside(starts + length) - inside(starts))]) if abs(s) > length else None

    def reach(low: Array, high: Array) -> Array:
        if upto is not None:  # rounds leave gaps between them
            return np.asarray(upto[high] - upto[low])
        first, last = low * s + base, (high - 1) * s + base
        return inside(np.maximum(first, last) + length) - inside(np.minimum(first, last))

    for tile in sizes:
        low = np.arange(0, n, tile, dtype=np.int64)
        high = np.minimum(low + tile, n)
        each, before = reach(low, high), reach(np.zeros_like(low), high)
        fresh = int(before[0] > 0) + int((np.diff(before) > 0).sum())
        most = int(each.max())
        yield most, most, int(each.sum()), int((each > 0).sum()), fresh, int(before[-1])


def _listed(rule: Rule, sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Counts of offsets with holes, from a list of all (element, round) pairs in which each element's rounds ascend."""
    offsets = np.array([rule.offset], np.int64)
    for extent, stride in rule.whole:
        offsets = np.unique(offsets[:, None] + stride * np.arange(extent, dtype=np.int64))
    rounds, offsets = np.divmod(np.arange(rule.extent * len(offsets)), len(offsets))[0], np.tile(offsets, rule.extent)
    elements = rounds * rule.stride + offsets
    inside = (elements >= 0) & (elements < rule.size)
    rounds, elements = rounds[inside], elements[inside]
    order = np.lexsort((rounds, elements))
    rounds, elements = rounds[order], elements[order]
    first = np.concatenate([[True], elements[1:] != elements[:-1]])[: len(elements)]
    last = np.concatenate([elements[1:] != elements[:-1], [True]])[: len(elements)]
    for tile in sizes:
        tiles = -(-rule.extent // tile)
        at = rounds // tile
        new = first | np.concatenate([[True], at[1:] != at[:-1]])[: len(at)]
        each = np.bincount(at[new], minlength=tiles)
        fresh = np.bincount(at[first], minlength=tiles)
        gone = np.concatenate([[0], np.bincount(at[last], minlength=tiles)[:-1]])
        live = np.cumsum(fresh - gone)
        yield (
            int(each.max()),
            int(live.max()),
            int(each.sum()),
            int((each > 0).sum()),
            int((fresh > 0).sum()),
            int(first.sum()),
        )
