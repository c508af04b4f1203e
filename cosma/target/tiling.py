"""Modes of operators from their nests: tile sizes, loop orders, and which of them can matter.

```
for k in tiles of channels:     weights: their innermost loop, each moved once
    for p in tiles of rows:     input: read again for each k; rows that the next tile needs too stay in the buffer
        y[k, p] = ...           output: each tile moved once
```
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations, groupby

import numpy as np

from cosma.graph import Graph
from cosma.modes import PAPER, Mode, Stream
from cosma.nest import Nest, Tiler, Tiling
from cosma.problem import Memory
from cosma.target.loops import Cut, Order, Shape, orders, shape_of
from cosma.target.measured import Points, measured, points
from cosma.target.touched import Array
from cosma.units import align_up

_MOST_CLASSES = 4  # of operands of which every subset is looked at


def modes_of(graph: Graph, memory: Memory, tiler: Tiler) -> tuple[tuple[Mode, ...], ...]:
    """The modes of every operator: the paper's first, then tiled ones; the paper's alone where no rule is known.

    A tiled mode is kept if for some set of operands no other has both less scratchpad (workspace and aligned buffers
    of the set) and fewer moved bytes (of the set); of equals the one with the fewest tiles. So whatever a plan
    streams in one of the tilings that are tried, there is a kept mode that costs it no more. The sets are all subsets
    of classes of operands that the same loops index in the same way (a bias and a scale, say), up to four classes;
    of more, each class alone, all, and all but one.

    Tried are all tilings with one level of tiles that can matter (`cosma/target/loops.py`, `points`), but: axes that
    index the same operands are cut one after another; windows with holes (dilation) keep their overlaps; and of very
    long or very many loops not every size is tried.
    """
    return tuple(_modes(graph, v, memory, tiler) for v in range(len(graph.operators)))


def _modes(graph: Graph, v: int, memory: Memory, tiler: Tiler) -> tuple[Mode, ...]:
    nest = graph.operators[v].nest
    if nest is None or not nest.accesses:
        return (PAPER,)
    plain, tensors, sizes = _plain(graph, nest)
    tiled = _tiled(plain, sizes, memory.alignment_bytes, tiler)
    return (PAPER, *(_renumbered(mode, tensors) for mode in tiled))


def _plain(graph: Graph, nest: Nest) -> tuple[Nest, tuple[int, ...], tuple[int, ...]]:
    """The nest over tensors 0, 1, ..., which tensors these are, and their sizes in bytes."""
    tensors = tuple(dict.fromkeys(a.tensor for a in nest.accesses))
    sizes = tuple(graph.tensors[a].size_bytes for a in tensors)
    return nest.renumbered({a: i for i, a in enumerate(tensors)}), tensors, sizes


def _renumbered(mode: Mode, tensors: Sequence[int]) -> Mode:
    return replace(mode, streams=tuple(replace(s, tensor=tensors[s.tensor]) for s in mode.streams))


@lru_cache(maxsize=4096)
def _tiled(nest: Nest, sizes: tuple[int, ...], alignment: int, tiler: Tiler) -> tuple[Mode, ...]:
    """The tiled modes of a nest over tensors 0, 1, ... of these sizes: once for equal shapes."""
    shape = shape_of(nest, tiler)
    found = [points(nest, shape, order, tiler) for order in _orders(nest, shape)]
    if not found:
        return ()
    begins = np.cumsum([0, *(p.tiles.size for p in found)])
    chosen = []
    for i in _useful(nest, found, sizes, alignment):
        family = int(np.searchsorted(begins, i, side="right")) - 1
        chosen.append(_mode(nest, found[family], i - int(begins[family]), sizes, alignment))
    return tuple(dict.fromkeys(mode for mode in chosen if mode.streams))


def _orders(nest: Nest, shape: Shape) -> tuple[Order, ...]:
    written = sum(1 << i for i, access in enumerate(nest.accesses) if access.written)
    masks, overlaps = tuple(x.mask for x in shape.loops), tuple(x.overlaps for x in shape.loops)
    return orders(masks, overlaps, written, (1 << len(nest.accesses)) - 1)


def _useful(nest: Nest, found: Sequence[Points], sizes: tuple[int, ...], alignment: int) -> list[int]:
    """The points that are on the front of some set of operands, ascending."""
    buffers, moved = (np.concatenate([getattr(p, x) for p in found], axis=1) for x in ("buffers", "moved"))
    workspace, tiles = (np.concatenate([getattr(p, x) for p in found]) for x in ("workspace", "tiles"))
    by_tiles = np.argsort(tiles, kind="stable")
    whole = np.array([align_up(sizes[access.tensor], alignment) for access in nest.accesses])
    buffers, moved, workspace = (-(-x // alignment) * alignment for x in (buffers, moved, workspace))
    room = np.minimum(buffers, whole[:, None])  # what is held whole is resident
    useful: set[int] = set()
    for chosen in _sets(nest):
        on_front = _front((workspace + room[chosen].sum(axis=0))[by_tiles], moved[chosen].sum(axis=0)[by_tiles])
        useful.update(int(i) for i in by_tiles[on_front])
    return sorted(useful)


def _front(room: Array, moved: Array) -> Array:
    """The points that no other beats, with less room or fewer bytes and no more of the other; of equals the first."""
    order = np.argsort(room, kind="stable")
    least = np.minimum.accumulate(moved[order])
    better = order[np.concatenate([[True], least[1:] < least[:-1]])]
    last = np.concatenate([room[better][1:] != room[better][:-1], [True]])  # of equal room the fewest bytes
    return np.asarray(better[last])


def _sets(nest: Nest) -> Iterator[list[int]]:
    def key(a: int) -> str:
        return repr(nest.accesses[a].indices)

    classes = [list(group) for _, group in groupby(sorted(range(len(nest.accesses)), key=key), key=key)]
    n = len(classes)
    for number in range(1, n + 1) if n <= _MOST_CLASSES else sorted({1, n - 1, n}):
        for chosen in combinations(classes, number):
            yield [a for group in chosen for a in group]


def _mode(nest: Nest, found: Points, i: int, sizes: tuple[int, ...], alignment: int) -> Mode:
    """One tiling as a mode. An operand that its buffer would hold as a whole is none of its streams.

    What is moved is rounded up to the alignment as all sizes are, or else streaming a tensor would seem to move less
    than loading it.
    """
    streams = []
    for a, size in enumerate(sizes):
        rows = [r for r, access in enumerate(nest.accesses) if access.tensor == a]
        buffer, moved, transfers = (int(x[rows, i].sum()) for x in (found.buffers, found.moved, found.transfers))
        moved, whole = align_up(moved, alignment), align_up(size, alignment)
        if align_up(buffer, alignment) < whole or moved < whole:
            streams.append(Stream(a, buffer, moved, transfers))
    return Mode(tuple(streams), int(found.workspace[i]), (), _tiling(nest, found, i), int(found.tiles[i]))


def _tiling(nest: Nest, found: Points, i: int) -> Tiling:
    chosen = ((cut, int(sizes[i])) for cut, sizes in found.cuts)
    return tuple((nest.axes[c.axis].name, c.sizes[size]) for c, size in chosen if c.tiles[size] > 1)


def larger(
    graph: Graph, v: int, mode: Mode, streamed: Collection[int], room_bytes: int, memory: Memory, tiler: Tiler
) -> Mode:
    """The tiled mode with tiles as large as the room allows, and so fewer transfers: loops grow, the innermost first.

    room_bytes: for the workspace and the buffers of what is streamed, aligned. No operand moves more bytes than in
    `mode`, and the loops keep their order. What fits into the mode's own buffers is found too.
    """
    nest = graph.operators[v].nest
    if nest is None or not mode.tiling:
        return mode
    plain, tensors, sizes = _plain(graph, nest)
    shape = shape_of(plain, tiler)
    cuts = {plain.axes[cut.axis].name: cut for loop in shape.loops for cut in loop.cuts}
    now = list(mode.tiling)
    limits = {s.tensor: s.moved_bytes for s in mode.streams}
    best = mode
    for name in [name for name, _ in reversed(mode.tiling)]:
        for found in _grown(plain, shape, now, name, cuts, tiler):
            room_for = (
                _renumbered(_mode(plain, found, i, sizes, memory.alignment_bytes), tensors)
                for i in reversed(_small_enough(found, room_bytes))
            )
            grown = next((m for m in room_for if _fits(m, streamed, limits, room_bytes, memory)), None)
            if grown is not None:
                now, best = list(grown.tiling), grown
                break
    return best


def _grown(
    nest: Nest, shape: Shape, tiling: Sequence[tuple[str, int]], name: str, cuts: dict[str, Cut], tiler: Tiler
) -> Iterator[Points]:
    """The tiling with this loop whole, then with all tiles of it that are larger than now, ascending."""
    whole = [(cuts[n], np.array([cuts[n].sizes.index(size)], np.int64)) for n, size in tiling if n != name]
    if whole:
        yield measured(nest, shape, whole, tiler)
    first = cuts[name].sizes.index(dict(tiling)[name]) + 1
    sizes = np.arange(first, len(cuts[name].sizes) - 1)
    if sizes.size:
        fixed = ((n, np.full_like(sizes, cuts[n].sizes.index(size))) for n, size in tiling)
        yield measured(nest, shape, [(cuts[n], sizes if n == name else index) for n, index in fixed], tiler)


def _small_enough(found: Points, room: int) -> list[int]:
    """The tilings of which no buffer alone exceeds the room; those of operands that are resident are not excluded."""
    return [int(i) for i in np.flatnonzero(found.buffers.min(axis=0) <= room)]


def _fits(mode: Mode, streamed: Collection[int], limits: dict[int, int], room: int, memory: Memory) -> bool:
    chosen = [s for s in mode.streams if s.tensor in streamed]
    taken = memory.aligned(mode.workspace_bytes) + sum(memory.aligned(s.buffer_bytes) for s in chosen)
    dearer = any(s.moved_bytes > limits[s.tensor] for s in mode.streams if s.tensor in limits)
    return len(chosen) == len(set(streamed)) and taken <= room and not dearer
