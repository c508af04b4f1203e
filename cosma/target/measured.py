"""What tilings take and move: the one set of rules, for many tilings at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from cosma.nest import Access, Nest, Tiler
from cosma.target.loops import Cut, Order, Shape
from cosma.target.touched import Array

_MOST_POINTS = 50_000  # of one order of loops
_MOST_WITH_BURSTS = 5_000
_FEW = 8  # sizes of a loop whose size moves nothing but the ends of bursts
Cuts = Sequence[tuple[Cut, Array]]  # axes that are cut, the outermost first, and indices into the sizes of each


@dataclass(frozen=True, slots=True)
class Points:
    """Many tilings of a nest. buffers, moved, transfers: a row an access, in bytes, bytes and numbers."""

    cuts: Cuts
    buffers: Array
    moved: Array
    transfers: Array
    workspace: Array
    tiles: Array


def points(nest: Nest, shape: Shape, order: Order, tiler: Tiler) -> Points:
    """All tilings of one order of loops that can matter.

    The size of the innermost loop's tile moves nothing: overlaps stay in the buffer, and it is outside of no other
    loop. So its least size is no worse in bytes, and the same holds of a loop that indexes everything, which is
    outermost. Bursts make small tiles dearer: then a few sizes of these are tried too. Of very many tilings every
    other size of a loop is left out until they are fewer.
    """
    everything = (1 << len(nest.accesses)) - 1
    options = []
    for i, number in enumerate(order):
        loop = shape.loops[number]
        some = list(range(len(loop.options)))
        moves_nothing = i == len(order) - 1 or (loop.mask == everything and not loop.overlaps)
        if moves_nothing and len(shape.loops) > 1:
            some = some[:1] if tiler.burst_bytes == 1 else _thinned(some, _FEW)
        options.append(some)
    while prod(map(len, options)) > (_MOST_POINTS if tiler.burst_bytes == 1 else _MOST_WITH_BURSTS):
        longest = max(range(len(options)), key=lambda i: len(options[i]))
        options[longest] = _thinned(options[longest], len(options[longest]) // 2 + 1)
    grid = np.indices([len(some) for some in options]).reshape(len(options), -1)
    cuts: list[tuple[Cut, Array]] = []
    for i, number in enumerate(order):
        chosen = np.array([shape.loops[number].options[o] for o in options[i]], np.int64)[grid[i]]
        cuts += [(cut, chosen[:, j]) for j, cut in enumerate(shape.loops[number].cuts)]
    return measured(nest, shape, cuts, tiler)


def _thinned(some: list[int], number: int) -> list[int]:
    """At most `number` members of a list, spread evenly, the first and the last among them."""
    return [some[i] for i in sorted({round(i) for i in np.linspace(0, len(some) - 1, number)})]


def measured(nest: Nest, shape: Shape, cuts: Cuts, tiler: Tiler) -> Points:
    """What tilings take and move; axes of the shape that are not among the cuts are whole."""
    rounds = [np.array(cut.tiles, np.int64)[size] for cut, size in cuts]
    tiles = np.prod(np.array(rounds), axis=0)
    columns = [_operand(a, access, shape, cuts, rounds, tiler) for a, access in enumerate(nest.accesses)]
    buffers, moved, transfers, workspace = (np.array(column) for column in zip(*columns, strict=True))
    return Points(cuts, buffers, moved, transfers, workspace.sum(axis=0), tiles)


def _operand(
    a: int, access: Access, shape: Shape, cuts: Cuts, rounds: Sequence[Array], tiler: Tiler
) -> tuple[Array, Array, Array, Array]:
    """Bytes of the buffer, bytes moved, transfers and bytes of accumulators of one access.

    An operand's tile changes when a loop steps that indexes it, or one outside of the innermost loop that does. So
    what the tiles of its loops touch is moved, added up, for each round of those outside that do not index it; along
    the innermost one each element once, since what the next tile needs too stays in the buffer.
    """
    cut_axes = {cut.axis for cut, _ in cuts}
    every = [cut for loop in shape.loops for cut in loop.cuts if cut.axis not in cut_axes]
    whole = prod((found.union for cut in every if (found := cut.counts[a]) is not None), start=shape.constant[a])
    inner = max((i for i, (cut, _) in enumerate(cuts) if cut.counts[a] is not None), default=-1)
    held = moved = tile = np.full(rounds[0].shape, whole, np.int64)
    transfers, incomplete = np.full_like(tile, min(whole, 1)), np.zeros(tile.shape, bool)
    for i, (cut, size) in enumerate(cuts):
        found = cut.counts[a]
        if found is None:
            incomplete = incomplete | (rounds[i] > 1)
            if i < inner:
                moved, transfers = moved * rounds[i], transfers * rounds[i]
            continue
        tile = tile * found.most[size]
        held = held * (found.live if i == inner else found.most)[size]
        moved = moved * (found.union if i == inner else found.total[size])
        transfers = transfers * (found.fresh if i == inner else found.loads)[size]
    buffer = -(-held * access.bits // 8) * np.where(transfers > 1, tiler.buffers, 1)  # one filled once is not doubled
    burst = tiler.burst_bytes  # a transfer is rounded up by a burst less one byte at most, which is what is counted
    bus = (-(-moved * access.bits // 8) + transfers * (burst - 1)) // burst * burst
    return buffer, bus, transfers, tile * np.where(incomplete, _sum_bytes(access, tiler), 0)


def _sum_bytes(access: Access, tiler: Tiler) -> int:
    """Bytes of an incomplete sum besides those of the output itself, in whose place it adds up if it is no wider."""
    width = tiler.accumulator_bytes
    return width if access.written and width is not None and width * 8 > access.bits else 0
