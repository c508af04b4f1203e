"""Residencies -> offsets within the capacity: omnimalloc behind one function, best-fit as fallback.

Deterministic: a greedy portfolio first, then a single-threaded branch and bound with a node limit
at the capacity itself. Nothing is returned that has not been checked here.
"""

import sys
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cosma.problem import Memory

NODE_LIMIT = 20_000


@dataclass(frozen=True, slots=True)
class Block:
    """`size_bytes` of scratchpad for steps [start, end)."""

    start: int
    end: int
    size_bytes: int


def place(
    blocks: Sequence[Block],
    memory: Memory,
    seconds: float = 60.0,
    node_limit: int = NODE_LIMIT,
) -> tuple[int, ...] | None:
    """One offset (bytes, aligned) a block such that none overlap within the memory, or None if not found.

    None proves nothing: the search may have run out of nodes, or of seconds, in which case the answer
    depends on the machine. Sizes need not be aligned.
    """
    # In units of the alignment every offset is aligned by construction.
    units = [memory.units(b.size_bytes) for b in blocks]
    capacity = memory.capacity_bytes // memory.alignment_bytes
    solid = [i for i, size in enumerate(units) if size and blocks[i].end > blocks[i].start]
    offsets = [0] * len(blocks)
    for found in _attempts([(blocks[i].start, blocks[i].end, units[i]) for i in solid], capacity, seconds, node_limit):
        for i, offset in zip(solid, found, strict=True):
            offsets[i] = offset
        if _fits(blocks, units, offsets, solid, capacity):
            return tuple(offset * memory.alignment_bytes for offset in offsets)
    return None


def best_fit(blocks: Sequence[Block], memory: Memory, order: Sequence[int]) -> tuple[int, ...]:
    """One aligned offset (bytes) a block, placed in this order, each into the tightest gap where it fits.

    Whether it lies within the capacity is not looked at.

    Only blocks that overlap in time are in each other's way; without a gap a block goes on top of them.
    """
    offsets = [0] * len(blocks)
    placed: list[int] = []
    for i in order:
        block, size = blocks[i], memory.aligned(blocks[i].size_bytes)
        if not size:
            continue
        others = (j for j in placed if blocks[j].start < block.end and block.start < blocks[j].end)
        best: tuple[int, int] | None = None
        top = 0
        for low, high in sorted((offsets[j], offsets[j] + memory.aligned(blocks[j].size_bytes)) for j in others):
            if low - top >= size and (best is None or low - top < best[0]):
                best = (low - top, top)
            top = max(top, high)
        offsets[i] = top if best is None else best[1]
        placed.append(i)
    return tuple(offsets)


def peak_live_bytes(blocks: Sequence[Block]) -> int:
    """The most bytes that are resident at one time: no placement needs less."""
    events = sorted([(b.start, b.size_bytes) for b in blocks] + [(b.end, -b.size_bytes) for b in blocks])
    live = peak = 0
    for _, change in events:  # at equal times frees (negative) sort first: intervals are half-open
        live += change
        peak = max(peak, live)
    return peak


_Rows = list[tuple[int, int, int]]  # (start, end, size)


def _attempts(rows: _Rows, capacity: int, seconds: float, node_limit: int) -> Iterator[list[int]]:
    if not rows:
        yield []
        return
    if peak_live_bytes([Block(*row) for row in rows]) > capacity:
        return
    yield from _omnimalloc(rows, capacity, seconds, node_limit)


def _omnimalloc(rows: _Rows, capacity: int, seconds: float, node_limit: int) -> Iterator[list[int]]:
    try:
        # The public allocators minimise the peak under a wall-clock limit. Underneath lies what is
        # needed here: a search for any placement below a bound, limited in nodes, so repeatable.
        with _no_matplotlib():
            from omnimalloc import Allocation, allocate
            from omnimalloc._cpp import Partition, try_solve_many
            from omnimalloc.allocators.supermalloc import DEFAULT_HEURISTICS
    except ImportError:  # no build for this platform, or another layout of its internals
        largest_first = sorted(range(len(rows)), key=lambda i: (-rows[i][2], rows[i][0], i))
        yield list(best_fit([Block(*row) for row in rows], Memory(capacity), largest_first))
        return
    allocations = [Allocation(i, size, start, end) for i, (start, end, size) in enumerate(rows)]
    yield _in_order(allocate(allocations, "omni"))
    base = Partition.from_allocations(allocations)
    orders = [base.reorder("".join(h)).with_bound(capacity + 1) for h in DEFAULT_HEURISTICS]
    solution = try_solve_many(
        orders, capacity + 1, node_limit, canonical=True, dominance=True, floor_inference=True,
        monotonic_floor=True, decompose=True, timeout=seconds, num_threads=1,
    )  # fmt: skip
    if solution is not None:
        yield _in_order(solution.allocations)


@contextmanager
def _no_matplotlib() -> Iterator[None]:
    """Hide what omnimalloc would draw with: importing it takes longer than most compilations."""
    hidden = "matplotlib" not in sys.modules
    if hidden:
        sys.modules["matplotlib"] = None  # type: ignore[assignment]  # documented: its import fails then
    try:
        yield
    finally:
        if hidden:
            del sys.modules["matplotlib"]


def _in_order(allocations: Iterable[Any]) -> list[int]:
    return [a.offset for a in sorted(allocations, key=lambda a: a.id)]


def _fits(
    blocks: Sequence[Block], units: Sequence[int], offsets: Sequence[int], solid: Sequence[int], capacity: int
) -> bool:
    """Whether the placement is valid: sweep over time, comparing each new block with its neighbours."""
    events = sorted([(blocks[i].end, 0, i) for i in solid] + [(blocks[i].start, 1, i) for i in solid])
    live: list[tuple[int, int, int]] = []
    for _, starts, i in events:
        entry = (offsets[i], offsets[i] + units[i], i)
        if not starts:
            live.remove(entry)
            continue
        if entry[0] < 0 or entry[1] > capacity:
            return False
        k = bisect_left(live, entry)
        if (k and live[k - 1][1] > entry[0]) or (k < len(live) and live[k][0] < entry[1]):
            return False
        insort(live, entry)
    return True
