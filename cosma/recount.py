"""What a tiling takes and moves, counted tile by tile: the second way, which the verifier believes.

It shares no code with the engine that makes modes (`cosma/target/tiling.py`). Sets of elements are made for each
axis of an operand, and since different axes are indexed by different loops, sizes of products of sets are products of
sizes.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

from cosma.modes import Mode, Stream
from cosma.nest import Access, Index, Nest, Tiler, Tiling
from cosma.units import align_up

Loops = list[tuple[int, list[range]]]  # (axis, the rounds of each tile), the outermost first


class Taken(NamedTuple):
    """What streaming one operand takes and moves: bytes, bytes, number."""

    buffer_bytes: int
    moved_bytes: int
    transfers: int


class Recount(NamedTuple):
    """All of a tiling: bytes of accumulators, number of tiles, and what each operand takes if it is streamed."""

    workspace_bytes: int
    tiles: int
    operands: dict[int, Taken]


def recount(nest: Nest, tiler: Tiler, tiling: Tiling, alignment_bytes: int = 1) -> Recount:
    """Count what a tiling takes; moved bytes in multiples of the alignment. Raises ValueError if it is no tiling of it.

    An operand's tile is brought in when a loop steps that indexes it, or one outside of the innermost loop that
    does. While that innermost loop runs, an element that is needed again stays. An output is complete when it leaves.
    """
    loops = _loops(nest, tiler, tiling)
    operands: dict[int, Taken] = {}
    for access in nest.accesses:
        found = _taken(nest, tiler, access, loops)
        before = operands.get(access.tensor, Taken(0, 0, 0))
        operands[access.tensor] = Taken(*(a + b for a, b in zip(before, found, strict=True)))
    for a, found in operands.items():
        moved = -(-found.moved_bytes // alignment_bytes) * alignment_bytes
        operands[a] = found._replace(moved_bytes=moved)
    workspace = sum(_accumulators(nest, tiler, access, loops) for access in nest.accesses if access.written)
    return Recount(workspace, prod(len(tiles) for _, tiles in loops), operands)


def mode_of(nest: Nest, tiler: Tiler, tiling: Tiling, sizes: Sequence[int], alignment_bytes: int) -> Mode:
    """The mode of a tiling, with tensors of these aligned sizes (bytes). Raises ValueError where it is none of it.

    An operand that its buffer would hold as a whole is none of its streams.
    """
    tensors = tuple(dict.fromkeys(access.tensor for access in nest.accesses))
    plain = nest.renumbered({a: i for i, a in enumerate(tensors)})
    found = _once_each(plain, tiler, tuple(tiling), alignment_bytes)
    streams = (
        Stream(a, *taken)
        for a, taken in ((tensors[i], taken) for i, taken in found.operands.items())
        if align_up(taken.buffer_bytes, alignment_bytes) < sizes[a] or taken.moved_bytes < sizes[a]
    )
    return Mode(tuple(streams), found.workspace_bytes, (), tuple(tiling), found.tiles)


@lru_cache(maxsize=4096)
def _once_each(nest: Nest, tiler: Tiler, tiling: Tiling, alignment_bytes: int) -> Recount:
    """A recount of a nest over tensors 0, 1, ..., which operators of one shape share."""
    return recount(nest, tiler, tiling, alignment_bytes)


def _loops(nest: Nest, tiler: Tiler, tiling: Tiling) -> Loops:
    number = {axis.name: i for i, axis in enumerate(nest.axes)}
    loops: Loops = []
    for name, size in tiling:
        axis = nest.axes[number[name]] if name in number else None
        if axis is None or axis.whole or not 0 < size < axis.extent or size % tiler.step(axis):
            raise ValueError(f"no loop over {name!r} can be cut into tiles of {size}")
        steps = range(0, axis.extent, size)
        loops.append((number[name], [range(i, min(i + size, axis.extent)) for i in steps]))
    if len({name for name, _ in tiling}) < len(tiling):
        raise ValueError("a loop is cut twice")
    return loops


def _taken(nest: Nest, tiler: Tiler, access: Access, loops: Loops) -> Taken:
    indexing = _indexing(access)
    inner = max((i for i, (axis, _) in enumerate(loops) if axis in indexing), default=-1)
    again = prod(len(tiles) for axis, tiles in loops[: inner + 1] if axis not in indexing)
    if access.written and again > 1:
        raise ValueError("sums that are not complete would leave the scratchpad")
    live, moved, transfers = 1, again, again
    for index in access.indices:
        sweeps = list(_sweeps(nest, index, loops, loops[inner][0] if inner >= 0 else -1))
        live *= max(map(_most_live, sweeps))
        moved *= sum(len(set().union(*sweep)) for sweep in sweeps)
        transfers *= sum(map(_arrivals, sweeps))
    buffer = -(-live * access.bits // 8) * (tiler.buffers if transfers > 1 else 1)
    burst = tiler.burst_bytes  # a transfer is rounded up: by burst - 1 bytes at most
    return Taken(buffer, (-(-moved * access.bits // 8) + transfers * (burst - 1)) // burst * burst, transfers)


def _indexing(access: Access) -> set[int]:
    return {axis for index in access.indices for axis, _ in index.terms}


def _sweeps(nest: Nest, index: Index, loops: Loops, inner: int) -> Iterator[list[set[int]]]:
    """For each round of the loops that index one axis of an operand, the innermost loop's tiles: sets of elements."""
    cut = dict(loops)
    terms = [(axis, stride, [range(nest.axes[axis].extent)]) for axis, stride in index.terms]
    outer = [cut.get(axis, whole) if axis != inner else [range(0)] for axis, _, whole in terms]
    for rounds in product(*outer):
        steps = cut[inner] if inner in {axis for axis, _, _ in terms} else [range(0)]
        yield [
            _touched(index, [(step if a == inner else r, s) for (a, s, _), r in zip(terms, rounds, strict=True)])
            for step in steps
        ]


def _touched(index: Index, terms: Sequence[tuple[range, int]]) -> set[int]:
    found = {index.offset}
    for rounds, stride in terms:
        found = {x + stride * i for x in found for i in rounds}
    return {x for x in found if 0 <= x < index.size}


def _most_live(sweep: Iterable[set[int]]) -> int:
    """The most elements that are held at one step: touched at it, or before it and after it."""
    steps = list(sweep)
    last = {x: t for t, step in enumerate(steps) for x in step}
    held: set[int] = set()
    most = 0
    for t, step in enumerate(steps):
        held |= step
        most = max(most, len(held))
        held -= {x for x in held if last[x] == t}
    return most


def _arrivals(sweep: Iterable[set[int]]) -> int:
    """Steps that touch an element which no step before touched."""
    seen: set[int] = set()
    arrivals = 0
    for step in sweep:
        arrivals += bool(step - seen)
        seen |= step
    return arrivals


def _accumulators(nest: Nest, tiler: Tiler, access: Access, loops: Loops) -> int:
    """Bytes of the sums of one output's tile, where they are wider than its elements: else they add up in place."""
    width, indexing = tiler.accumulator_bytes, _indexing(access)
    if width is None or width * 8 <= access.bits or all(axis in indexing for axis, _ in loops):
        return 0
    return width * prod(max(len(s) for sweep in _sweeps(nest, i, loops, -1) for s in sweep) for i in access.indices)
