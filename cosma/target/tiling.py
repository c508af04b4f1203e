"""Modes of operators from their nests: tile sizes, loop orders, and which of them can matter.

```
for k in tiles of channels:     weights: their innermost loop, each moved once
    for p in tiles of rows:     input: read again for each k; rows that the next tile needs too stay in the buffer
        y[k, p] = ...           output: each tile moved once
```
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, groupby
from math import prod

import numpy as np

from cosma.graph import Graph, Operator
from cosma.modes import PAPER, Mode, Stream
from cosma.nest import Access, Nest, Tiler
from cosma.problem import Memory
from cosma.target.loops import Cut, Loop, Order, Shape, orders, shape_of
from cosma.target.touched import Array
from cosma.units import align_up

_MOST_POINTS = 50_000  # of one order of loops
_MOST_GROUPS = 4  # of operands of which every subset is looked at


@dataclass(frozen=True, slots=True)
class Points:
    """Many tilings of a nest. buffers, moved, transfers: a row an access, in bytes, bytes and numbers."""

    tilings: "tuple[tuple[Cut, Array], ...]"
    buffers: Array
    moved: Array
    transfers: Array
    workspace: Array
    tiles: Array


def modes_of(graph: Graph, memory: Memory, tiler: Tiler) -> tuple[tuple[Mode, ...], ...]:
    """The modes of every operator: the paper's first, then tiled ones; the paper's alone where no rule is known.

    A tiled mode is kept if for some set of operands no other has both less scratchpad (workspace and aligned buffers
    of the set) and fewer moved bytes (of the set); of equals the one with the fewest tiles. So whatever a plan
    streams in one mode, there is a kept mode that costs it no more: nothing is lost in bytes. The sets are all subsets
    of classes of operands that the same loops index in the same way (a bias and a scale, say), up to four classes;
    of more, each class alone, all, and all but one.
    """
    return tuple(_modes(graph, v, memory, tiler) for v in graph.operators)


def _modes(graph: Graph, operator: Operator, memory: Memory, tiler: Tiler) -> tuple[Mode, ...]:
    if operator.nest is None or not operator.nest.accesses:
        return (PAPER,)
    tensors = tuple(dict.fromkeys(a.tensor for a in operator.nest.accesses))
    plain = operator.nest.renumbered({a: i for i, a in enumerate(tensors)})
    sizes = tuple(graph.tensors[a].size_bytes for a in tensors)
    tiled = _tiled(plain, sizes, memory.alignment_bytes, tiler)
    return (PAPER, *(_renumbered(mode, tensors) for mode in tiled))


def _renumbered(mode: Mode, tensors: Sequence[int]) -> Mode:
    return replace(mode, streams=tuple(replace(s, tensor=tensors[s.tensor]) for s in mode.streams))


@lru_cache(maxsize=4096)
def _tiled(nest: Nest, sizes: tuple[int, ...], alignment: int, tiler: Tiler) -> tuple[Mode, ...]:
    """The tiled modes of a nest over tensors 0, 1, ... of these sizes: once for equal shapes."""
    shape = shape_of(nest, tiler)
    found = [points(nest, shape, order, tiler) for order in _orders(nest, shape)]
    if not found:
        return ()
    total = Points(
        (),
        *(np.concatenate([getattr(p, part) for p in found], axis=1) for part in ("buffers", "moved", "transfers")),
        *(np.concatenate([getattr(p, part) for p in found]) for part in ("workspace", "tiles")),
    )
    begins = np.cumsum([0, *(p.tiles.size for p in found)])
    modes = []
    for i in sorted(_useful(nest, total, sizes, alignment), key=lambda i: (int(total.moved[:, i].sum()), i)):
        family = int(np.searchsorted(begins, i, side="right")) - 1
        tiling = tuple(
            (nest.axes[cut.axis].name, cut.sizes[size])
            for cut, options in found[family].tilings
            if (size := int(options[i - begins[family]])) < len(cut.sizes) - 1
        )
        modes.append(_mode(nest, total, i, sizes, tiling))
    return tuple(dict.fromkeys(mode for mode in modes if mode.streams))


def _mode(nest: Nest, found: Points, i: int, sizes: tuple[int, ...], tiling: tuple[tuple[str, int], ...]) -> Mode:
    """One tiling as a mode. An operand that its buffer would hold as a whole is none of its streams."""
    streams = []
    for a, size in enumerate(sizes):
        rows = [r for r, access in enumerate(nest.accesses) if access.tensor == a]
        buffer, moved, transfers = (int(x[rows, i].sum()) for x in (found.buffers, found.moved, found.transfers))
        if buffer < size or moved < size:
            streams.append(Stream(a, buffer, moved, transfers))
    return Mode(tuple(streams), int(found.workspace[i]), (), tiling, int(found.tiles[i]))


def _orders(nest: Nest, shape: Shape) -> tuple[Order, ...]:
    written = sum(1 << i for i, access in enumerate(nest.accesses) if access.written)
    masks, overlaps = tuple(x.mask for x in shape.loops), tuple(x.overlaps for x in shape.loops)
    return orders(masks, overlaps, written, (1 << len(nest.accesses)) - 1)


def points(nest: Nest, shape: Shape, order: Order, tiler: Tiler) -> Points:
    """All tilings of one order of loops that can matter.

    The size of the innermost loop's tile moves nothing: overlaps stay in the buffer, and it is outside of no other
    loop. So its least size is no worse, and the same holds of a loop that indexes everything, which is outermost.
    """
    everything = (1 << len(nest.accesses)) - 1
    options = []
    for i, number in enumerate(order):
        loop = shape.loops[number]
        firm = i == len(order) - 1 or (loop.mask == everything and not loop.overlaps)
        some = list(range(len(loop.options)))
        if firm and len(shape.loops) > 1:
            some = some[:1] if tiler.burst_bytes == 1 else _thinned(some, 8)
        options.append(some)
    while prod(map(len, options)) > _MOST_POINTS:
        longest = max(range(len(options)), key=lambda i: len(options[i]))
        options[longest] = _thinned(options[longest], len(options[longest]) // 2 + 1)
    grid = np.indices([len(some) for some in options]).reshape(len(options), -1)
    tilings = []
    for i, number in enumerate(order):
        chosen = np.array([shape.loops[number].options[o] for o in options[i]], np.int64)[grid[i]]
        tilings += [(cut, chosen[:, j]) for j, cut in enumerate(shape.loops[number].cuts)]
    return measured(nest, shape, tilings, tiler)


def _thinned(some: list[int], number: int) -> list[int]:
    """At most `number` members of a list, spread evenly, the first and the last among them."""
    return [some[i] for i in sorted({round(i) for i in np.linspace(0, len(some) - 1, number)})]


def measured(nest: Nest, shape: Shape, tilings: Sequence[tuple[Cut, Array]], tiler: Tiler) -> Points:
    """What tilings take and move: for each axis that is cut, the outermost first, indices into its sizes.

    An operand's tile changes when a loop steps that indexes it, or one outside of the innermost loop that does. So
    it moves what the tiles of its loops touch, added up, for each round of those outside that do not index it; along the
    innermost one each element once, since what the next tile needs too stays in the buffer.
    """
    rounds = [np.array(cut.tiles, np.int64)[size] for cut, size in tilings]
    cut_axes = {cut.axis for cut, _ in tilings}
    tiles = np.prod(np.array(rounds), axis=0)
    rows = []
    workspace = np.zeros_like(tiles)
    for a, access in enumerate(nest.accesses):
        held, moved = np.full_like(tiles, shape.constant[a]), np.full_like(tiles, shape.constant[a])
        transfers, tile = np.ones_like(tiles), np.full_like(tiles, shape.constant[a])
        for loop in shape.loops:
            for cut in loop.cuts:
                if (found := cut.counts[a]) is not None and cut.axis not in cut_axes:
                    held, moved, tile = held * found.union, moved * found.union, tile * found.union
        inner = max((i for i, (cut, _) in enumerate(tilings) if cut.counts[a] is not None), default=-1)
        summed = np.zeros(tiles.shape, bool)
        for i, (cut, size) in enumerate(tilings):
            found = cut.counts[a]
            if found is None:
                summed |= rounds[i] > 1
                if i < inner:
                    moved, transfers = moved * rounds[i], transfers * rounds[i]
                continue
            tile = tile * found.most[size]
            held = held * (found.live if i == inner else found.most)[size]
            moved = moved * (found.union if i == inner else found.total[size])
            transfers = transfers * (found.fresh if i == inner else found.loads)[size]
        rows.append((_buffer(held, transfers, access, tiler), _bus(moved, transfers, access, tiler), transfers))
        if access.written and tiler.accumulator_bytes is not None and tiler.accumulator_bytes * 8 > access.bits:
            workspace = workspace + np.where(summed, tile * tiler.accumulator_bytes, 0)
    buffers, moves, transfers = (np.array([row[i] for row in rows]) for i in range(3))
    return Points(tuple(tilings), buffers, moves, transfers, workspace, tiles)


def _buffer(elements: Array, transfers: Array, access: Access, tiler: Tiler) -> Array:
    """Bytes of a buffer; one that is filled once is not doubled."""
    return -(-elements * access.bits // 8) * np.where(transfers > 1, tiler.buffers, 1)


def _bus(elements: Array, transfers: Array, access: Access, tiler: Tiler) -> Array:
    """Bytes moved, each transfer rounded up to bursts: by a burst less one byte at most, which is what is counted."""
    burst = tiler.burst_bytes
    return (-(-elements * access.bits // 8) + transfers * (burst - 1)) // burst * burst


def _useful(nest: Nest, found: Points, sizes: tuple[int, ...], alignment: int) -> set[int]:
    """The points that are on the front of some set of operands."""
    by_tiles = np.argsort(found.tiles, kind="stable")
    aligned = -(-found.buffers // alignment) * alignment
    size = np.array([align_up(sizes[access.tensor], alignment) for access in nest.accesses])
    aligned = np.minimum(aligned, size[:, None])
    workspace = -(-found.workspace // alignment) * alignment
    useful: set[int] = set()
    for chosen in _sets(nest):
        room = (workspace + aligned[chosen].sum(axis=0))[by_tiles]
        moved = found.moved[chosen].sum(axis=0)[by_tiles]
        order = np.lexsort((moved, room))
        order = np.argsort(room, kind="stable")
        least = np.minimum.accumulate(moved[order])
        falls = np.concatenate([[True], least[1:] < least[:-1]])
        some = order[falls]
        last = np.concatenate([room[some][1:] != room[some][:-1], [True]])  # of equal room the fewest bytes
        useful.update(int(i) for i in by_tiles[some[last]])
    return useful


def _sets(nest: Nest) -> Iterator[list[int]]:
    def key(a: int) -> str:
        return repr(nest.accesses[a].indices)

    groups = [list(group) for _, group in groupby(sorted(range(len(nest.accesses)), key=key), key=key)]
    n = len(groups)
    sizes = range(1, n + 1) if n <= _MOST_GROUPS else sorted({1, n - 1, n})
    for number in sizes:
        for chosen in combinations(groups, number):
            yield [a for group in chosen for a in group]
