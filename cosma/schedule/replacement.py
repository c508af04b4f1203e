"""Optimal replacement and placement under a fixed schedule: compact ILP, then addresses, then cuts.

The ILP knows bytes but no addresses, so its optimum bounds every plan of this schedule. Where its
residencies do not fit side by side, a small window of steps that cannot be placed is found, one of the
tensors kept across it must go (a cut), and the ILP is solved again. Until then `repair.py` has a plan.
As long as every cut is proved, the ILP's bound holds for plans with addresses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cosma.deadline import Deadline
from cosma.milp import backends
from cosma.milp.programme import ProgrammeTooLargeError
from cosma.schedule import gap_programme
from cosma.schedule.eviction import belady
from cosma.schedule.gap_programme import Cut
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

    A plan that keeps the set has to place at least these; not exact: or somewhat less.
    """

    gaps: frozenset[int]
    blocks: list[Block]
    start: int
    end: int
    is_exact: bool


def optimise(timeline: Timeline, backend: str, deadline: Deadline, holds_runs: bool = False) -> Placed:
    """The least non-compulsory traffic of a schedule, placed. Requires that each operator fits in some run.

    Where operators have modes to choose from, the runs of `timeline` are only where this begins, unless holds_runs:
    then the bound is one for them alone. At the deadline the best plan so far is returned: Belady's, if need be.
    """
    bound = 0 if timeline.problem.has_choices and not holds_runs else timeline.cost(())
    proved, basis = True, ""
    best, _ = settle(timeline, belady(timeline), deadline)
    cuts: list[Cut] = []
    for _ in range(MAX_ROUNDS):
        if best.cost_bytes <= bound or deadline.passed:
            break
        found, known, rests_on = solve_programme(best.timeline, best.evicted, cuts, backend, deadline, holds_runs)
        if proved and known > bound:
            bound, basis = known, rests_on
        if found is None or found[0].cost(found[1]) >= best.cost_bytes:
            break
        settled, fits = settle(*found, deadline)
        best = cheapest((best, settled))
        if fits or deadline.passed:
            break
        conflict = find_conflict(*found, deadline)
        cuts.append(_cut(found[0], conflict))
        memory = timeline.problem.memory
        proved = proved and conflict.is_exact and proved_unplaceable(conflict.blocks, memory, deadline)
    return replace(best, bound_bytes=bound, rests_on=basis)


def solve_programme(
    timeline: Timeline,
    evicted: frozenset[int],
    cuts: Sequence[Cut],
    backend: str,
    deadline: Deadline,
    holds_runs: bool = False,
) -> tuple[tuple[Timeline, frozenset[int]] | None, int, str]:
    """The least traffic of an order, addresses ignored; `timeline` and `evicted` are where the backend may begin.

    Returns a timeline and the gaps to evict, None if not found; a lower bound in bytes, and what it rests on.
    """
    try:
        stated = gap_programme.build(timeline, cuts, (timeline, evicted), deadline, holds_runs)
    except ProgrammeTooLargeError:
        return None, 0, ""
    least = stated.timeline.base_bytes
    if stated.is_decided:
        return (stated.timeline, frozenset()), least, ""
    solved = backends.minimise(stated.programme, backend, deadline)
    bound = 0 if solved.bound is None else least + solved.bound * stated.unit
    return None if solved.values is None else stated.decode(solved.values), bound, solved.rests_on


def _cut(timeline: Timeline, conflict: Conflict) -> Cut:
    """The conflict as a row: its gaps, and how the operators run at its steps."""
    gaps = frozenset(timeline.gaps[g] for g in conflict.gaps)
    inside = timeline.order[conflict.start : conflict.end] if timeline.problem.has_choices else ()
    return Cut(gaps, tuple((v, timeline.runs[v]) for v in inside))


def settle(timeline: Timeline, evicted: frozenset[int], deadline: Deadline) -> tuple[Placed, bool]:
    """Place a residency decision, and whether that went without evicting more. No bound is proved."""
    problem, layout = timeline.problem, timeline.layout(evicted)
    found = place(layout.blocks, problem.memory, deadline.remaining_s)
    if found is not None:
        return Placed(timeline, evicted, layout.offsets(found), timeline.cost(evicted), 0), True
    evicted, offsets = place_online(timeline, evicted)
    return Placed(timeline, evicted, offsets, timeline.cost(evicted), 0), False


def find_conflict(timeline: Timeline, evicted: frozenset[int], deadline: Deadline) -> Conflict:
    """A small set of kept gaps that were not placed together, never empty; larger when time runs out."""
    blocks = timeline.layout(evicted).blocks

    def fails(start: int, end: int) -> bool:
        return deadline.passed or not _window_fits(timeline, blocks, start, end)

    end = _least(1, len(timeline.order), lambda t: fails(0, t))
    start = end - _least(1, end, lambda length: fails(end - length, end))
    gone = evicted | timeline.lost
    kept = [
        g
        for g, gap in enumerate(timeline.gaps)
        if g not in gone and gap.first < end - 1 and gap.second > start and timeline.problem.sizes[gap.tensor]
    ]
    needed = kept
    for g in sorted(kept, key=lambda g: (timeline.gaps[g].second - timeline.gaps[g].first, g)):
        without = [k for k in needed if k != g]
        gone = evicted | (frozenset(kept) - frozenset(without))
        if not without or deadline.passed:
            break
        if not _window_fits(timeline, timeline.layout(gone).blocks, start, end):
            needed = without
    gone = evicted | (frozenset(kept) - frozenset(needed))
    layout = timeline.layout(gone)
    return Conflict(frozenset(needed), _clip(layout.blocks, start, end), start, end, layout.is_exact)


def _window_fits(timeline: Timeline, blocks: Sequence[Block], start: int, end: int) -> bool:
    inside = _clip(blocks, start, end)
    return place(inside, timeline.problem.memory, node_limit=_SHRINK_NODES) is not None


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
