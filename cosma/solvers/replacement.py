"""Optimal replacement and placement under a fixed schedule: compact ILP, then addresses, then cuts.

The ILP knows bytes but no addresses, so its optimum bounds every plan of this schedule. Where its
residencies do not fit side by side, a small window of steps that cannot be placed is found, one of the
tensors kept across it must go (a cut), and the ILP is solved again. Until then `online.py` has a plan.
As long as every cut is proved, the ILP's bound holds for plans with addresses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cosma.allocate import Block, place
from cosma.solvers import compact, compact_ortools, compact_pulp
from cosma.solvers.base import Deadline, Options
from cosma.solvers.baselines import belady
from cosma.solvers.online import place_online
from cosma.solvers.packing import proved_unplaceable
from cosma.solvers.timeline import Timeline

MAX_ROUNDS = 40
_SHRINK_NODES = 500  # packing effort while a conflict is narrowed down; only the size of cuts depends on it


@dataclass(frozen=True, slots=True)
class Placed:
    """A residency decision with addresses. bound_bytes holds for every plan of the same schedule."""

    timeline: Timeline
    evicted: frozenset[int]
    offsets: tuple[int, ...]
    cost_bytes: int
    bound_bytes: int


def solve(timeline: Timeline, options: Options, deadline: Deadline) -> Placed:
    """The least non-compulsory traffic of a schedule, placed. Requires capacity >= M_R.

    At the deadline the best plan so far is returned: Belady's, if need be.
    """
    bound = moved = timeline.cost(())
    proved = True
    best, _ = _settle(timeline, belady(timeline), deadline)
    cuts: list[frozenset[int]] = []
    for _ in range(MAX_ROUNDS):
        if best.cost_bytes <= bound or deadline.passed:
            break
        ilp = compact.build(timeline, cuts)
        solution = _solve_ilp(ilp, best.evicted, options, deadline)
        if proved:
            bound = max(bound, moved + solution.bound_bytes)
        if solution.kept is None:
            break
        evicted = frozenset(g for g, keep in zip(ilp.gaps, solution.kept, strict=True) if not keep)
        if timeline.cost(evicted) >= best.cost_bytes:
            break
        settled, fits = _settle(timeline, evicted, deadline)
        best = min(best, settled, key=lambda placed: placed.cost_bytes)
        if fits or deadline.passed:
            break
        conflict, blocks = _conflict(timeline, evicted, deadline)
        cuts.append(conflict)
        problem = timeline.problem
        proved = proved and proved_unplaceable(blocks, problem.capacity_bytes, problem.alignment_bytes, deadline)
    return Placed(timeline, best.evicted, best.offsets, best.cost_bytes, min(bound, best.cost_bytes))


def _solve_ilp(
    ilp: compact.CompactILP, incumbent: frozenset[int], options: Options, deadline: Deadline
) -> compact.CompactSolution:
    if not ilp.gaps:
        return compact.CompactSolution((), 0)
    if options.backend == "cp-sat":
        return compact_ortools.solve(ilp, [g not in incumbent for g in ilp.gaps], deadline)
    return compact_pulp.solve(ilp, options.backend, deadline)


def _settle(timeline: Timeline, evicted: frozenset[int], deadline: Deadline) -> tuple[Placed, bool]:
    """Place a residency decision, and whether that went without evicting more."""
    problem = timeline.problem
    blocks = _blocks(timeline, evicted)
    workspaces = _workspaces(timeline)
    found = place(blocks + workspaces, problem.capacity_bytes, problem.alignment_bytes, deadline.remaining_s)
    if found is not None:
        return Placed(timeline, evicted, found[: len(blocks)], timeline.cost(evicted), 0), True
    evicted, offsets = place_online(timeline, evicted)
    return Placed(timeline, evicted, offsets, timeline.cost(evicted), 0), False


def _blocks(timeline: Timeline, evicted: frozenset[int]) -> list[Block]:
    sizes = timeline.problem.sizes
    return [Block(start, end, sizes[a]) for a, start, end in timeline.intervals(evicted)]


def _workspaces(timeline: Timeline) -> list[Block]:
    """Each mode's working bytes, as a block of their own at its step."""
    modes = ((t, timeline.problem.modes[v][timeline.modes[v]]) for t, v in enumerate(timeline.order))
    return [Block(t, t + 1, mode.workspace_bytes) for t, mode in modes if mode.workspace_bytes > 0]


def _conflict(timeline: Timeline, evicted: frozenset[int], deadline: Deadline) -> tuple[frozenset[int], list[Block]]:
    """A small set of kept gaps that were not placed together, never empty; larger when time runs out.

    Also the blocks that they alone make in the window where that failed: whoever keeps the set has
    to place at least these.
    """
    workspaces = _workspaces(timeline)
    blocks = _blocks(timeline, evicted) + workspaces

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
        if not _window_fits(timeline, _blocks(timeline, gone) + workspaces, start, end):
            needed = without
    gone = evicted | (frozenset(kept) - frozenset(needed))
    return frozenset(needed), _clip(_blocks(timeline, gone) + workspaces, start, end)


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
