"""Optimal replacement and placement under a fixed schedule: compact ILP, then addresses, then cuts.

The ILP knows bytes but no addresses, so its optimum bounds every plan of this schedule. Where its
residencies do not fit side by side, a small window of steps that cannot be placed is found, one of the
tensors kept across it must go (a cut), and the ILP is solved again. Until then `repair.py` has a plan.
As long as every cut is proved, the ILP's bound holds for plans with addresses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cosma.deadline import Deadline
from cosma.milp import backends
from cosma.milp.programme import ModelTooLargeError
from cosma.schedule import gap_programme
from cosma.schedule.eviction import belady
from cosma.schedule.packing import proved_unplaceable
from cosma.schedule.placed import Placed, cheapest
from cosma.schedule.placement import Block, place
from cosma.schedule.repair import place_online
from cosma.schedule.timeline import Timeline

MAX_ROUNDS = 40
_SHRINK_NODES = 500  # packing effort while a conflict is narrowed down; only the size of cuts depends on it


@dataclass(frozen=True, slots=True)
class Conflict:
    """Kept gaps that were not placed together, and the blocks that they alone make at steps [start, end).

    Whoever keeps the set has to place at least these.
    """

    gaps: frozenset[int]
    blocks: list[Block]
    start: int
    end: int


def solve(timeline: Timeline, backend: str, deadline: Deadline) -> Placed:
    """The least non-compulsory traffic of a schedule, placed. Requires capacity >= M_R.

    At the deadline the best plan so far is returned: Belady's, if need be.
    """
    bound = moved = timeline.cost(())
    proved, basis = True, ""
    best, _ = settle(timeline, belady(timeline), deadline)
    cuts: list[frozenset[int]] = []
    for _ in range(MAX_ROUNDS):
        if best.cost_bytes <= bound or deadline.passed:
            break
        evicted, known, rests_on = _solve_ilp(timeline, cuts, best.evicted, backend, deadline)
        if proved and moved + known > bound:
            bound, basis = moved + known, rests_on
        if evicted is None or timeline.cost(evicted) >= best.cost_bytes:
            break
        settled, fits = settle(timeline, evicted, deadline)
        best = cheapest((best, settled))
        if fits or deadline.passed:
            break
        conflict = find_conflict(timeline, evicted, deadline)
        cuts.append(conflict.gaps)
        capacity, alignment = timeline.problem.capacity_bytes, timeline.problem.alignment_bytes
        proved = proved and proved_unplaceable(conflict.blocks, capacity, alignment, deadline)
    return Placed(timeline, best.evicted, best.offsets, best.cost_bytes, bound, basis)


def _solve_ilp(
    timeline: Timeline, cuts: list[frozenset[int]], incumbent: frozenset[int], backend: str, deadline: Deadline
) -> tuple[frozenset[int] | None, int, str]:
    """The gaps to evict, None if not found; a lower bound in bytes, and what it rests on."""
    try:
        ilp = gap_programme.build(timeline, cuts, incumbent, deadline)
    except ModelTooLargeError:
        return None, 0, ""
    if not ilp.gaps:
        return frozenset(), 0, ""
    solved = backends.solve(ilp.model, backend, deadline)
    bound = max(0, solved.bound or 0) * ilp.unit
    if solved.values is None:
        return None, bound, solved.rests_on
    evicted = frozenset(g for g, keep in zip(ilp.gaps, solved.values, strict=False) if not keep)
    return evicted, bound, solved.rests_on


def settle(timeline: Timeline, evicted: frozenset[int], deadline: Deadline) -> tuple[Placed, bool]:
    """Place a residency decision, and whether that went without evicting more. No bound is proved."""
    problem = timeline.problem
    found = place(timeline.blocks(evicted), problem.capacity_bytes, problem.alignment_bytes, deadline.remaining_s)
    if found is not None:
        count = len(timeline.intervals(evicted))
        return Placed(timeline, evicted, found[:count], timeline.cost(evicted), 0), True
    evicted, offsets = place_online(timeline, evicted)
    return Placed(timeline, evicted, offsets, timeline.cost(evicted), 0), False


def find_conflict(timeline: Timeline, evicted: frozenset[int], deadline: Deadline) -> Conflict:
    """A small set of kept gaps that were not placed together, never empty; larger when time runs out."""
    blocks = timeline.blocks(evicted)

    def fails(start: int, end: int) -> bool:
        return deadline.passed or not _window_fits(timeline, blocks, start, end)

    end = _least(1, len(timeline.order), lambda t: fails(0, t))
    start = end - _least(1, end, lambda length: fails(end - length, end))
    kept = [
        g
        for g, gap in enumerate(timeline.gaps)
        if g not in evicted and gap.first < end - 1 and gap.second > start and timeline.problem.sizes[gap.tensor]
    ]
    needed = kept
    for g in sorted(kept, key=lambda g: (timeline.gaps[g].second - timeline.gaps[g].first, g)):
        without = [k for k in needed if k != g]
        gone = evicted | (frozenset(kept) - frozenset(without))
        if not without or deadline.passed:
            break
        if not _window_fits(timeline, timeline.blocks(gone), start, end):
            needed = without
    gone = evicted | (frozenset(kept) - frozenset(needed))
    return Conflict(frozenset(needed), _clip(timeline.blocks(gone), start, end), start, end)


def _window_fits(timeline: Timeline, blocks: Sequence[Block], start: int, end: int) -> bool:
    problem = timeline.problem
    inside = _clip(blocks, start, end)
    return place(inside, problem.capacity_bytes, problem.alignment_bytes, node_limit=_SHRINK_NODES) is not None


def _clip(blocks: Sequence[Block], start: int, end: int) -> list[Block]:
    """What the blocks are within steps [start, end)."""
    inside = (b for b in blocks if b.start < end and b.end > start)
    return [Block(max(b.start, start), min(b.end, end), b.size_bytes) for b in inside]


def _least(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The least value in [low, high] for which a monotone predicate holds, `high` if it holds for none."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
