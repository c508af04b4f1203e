"""Traffic against capacity: the exact staircase by bisection between optima, its knee, what the next KiB is worth.

Traffic never grows with capacity: whatever fits into a scratchpad fits into a larger one. So between two
capacities of equal optimum nothing has to be solved, the plan of the smaller starts the search on a larger
one, and the bound of the larger holds on a smaller one. Capacities need to be looked at only in multiples of
what divides all sizes: pushed down as far as they go, tensors lie at sums of sizes.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

from cosma.problem import Problem
from cosma.units import align_up


@dataclass(frozen=True, slots=True)
class Probe:
    """A capacity to solve for, with an order to start from and a bound, both known from other capacities."""

    capacity_bytes: int
    known_order: tuple[int, ...] = ()
    known_bound: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a solver found at some capacity: non-compulsory bytes, a proven bound, addresses used, the order."""

    cost_bytes: int
    bound_bytes: int
    peak_use_bytes: int
    order: tuple[int, ...]


Search = Generator[list[Probe], list[Found | None], None]


def grid_bytes(problem: Problem) -> int:
    """The optimum changes at multiples of this only: the common divisor of all that takes room."""
    workspaces = [abs(mode.workspace_bytes) for modes in problem.modes for mode in modes]
    return gcd(*problem.sizes, *workspaces) or problem.alignment_bytes


def staircase(problem: Problem) -> Search:
    """Yields rounds of probes and is sent what they found (None: no answer), until every step is known.

    The probes of a round do not depend on each other, so the search does not depend on who is faster.
    """
    grid = grid_bytes(problem)
    low = problem.working_set_bytes
    enough = max(low, sum(problem.sizes))
    known: dict[int, Found] = {}
    todo = {low: Probe(low), enough: Probe(enough)}
    asked = set(todo)
    while todo:
        answers = yield list(todo.values())
        fresh = {probe.capacity_bytes: a for probe, a in zip(todo.values(), answers, strict=True) if a is not None}
        known.update(fresh)
        todo = {p.capacity_bytes: p for p in _next(known, fresh, grid) if p.capacity_bytes not in asked}
        asked |= set(todo)


def _next(known: dict[int, Found], fresh: dict[int, Found], grid: int) -> list[Probe]:
    """Where to look next: how far down new plans reach, and half-way wherever the optimum changes."""
    probes = []
    # The plan of a larger capacity, moved down to what it uses, is a step's lower end more often than not.
    for capacity, found in fresh.items():
        reach = align_up(found.peak_use_bytes, grid)
        if reach < capacity and reach not in known and reach > min(known):
            probes.append(Probe(reach, found.order, found.bound_bytes))
    best: Found | None = None
    for low, high in pairwise(sorted(known)):
        best = known[low] if best is None or known[low].cost_bytes < best.cost_bytes else best
        middle = (low + high) // 2 // grid * grid
        if best.cost_bytes > known[high].cost_bytes and low < middle:
            if not any(low < p.capacity_bytes < high for p in probes):
                probes.append(Probe(middle, best.order, max(known[c].bound_bytes for c in known if c >= high)))
    return probes


@dataclass(frozen=True, slots=True)
class Step:
    """From this capacity on (bytes) a plan moves `cost_bytes`, and none moves less than `bound_bytes`."""

    capacity_bytes: int
    cost_bytes: int
    bound_bytes: int


def steps(points: Sequence[tuple[int, int, int]]) -> list[Step]:
    """The corners of (capacity, non-compulsory bytes, bound) points, by capacity.

    A plan counts for all larger capacities and a bound for all smaller ones, so both sides fall.
    """
    points = sorted(points)
    bounds = [bound for _, _, bound in points]
    for i in range(len(bounds) - 2, -1, -1):
        bounds[i] = max(bounds[i], bounds[i + 1])
    corners: list[Step] = []
    for (capacity, cost, _), bound in zip(points, bounds, strict=True):
        if not corners or cost < corners[-1].cost_bytes:
            corners.append(Step(capacity, cost, min(bound, cost)))
    return corners


def knee(corners: Sequence[Step]) -> Step | None:
    """The corner furthest below the straight line from the first corner to the last; None with fewer than three.

    Both axes are scaled to 1 (Satopaa et al., "Finding a kneedle in a haystack", 2011).
    """
    if len(corners) < 3:
        return None
    first, last = corners[0], corners[-1]
    wide, high = last.capacity_bytes - first.capacity_bytes, first.cost_bytes - last.cost_bytes

    def below(step: Step) -> float:
        return (first.cost_bytes - step.cost_bytes) / high - (step.capacity_bytes - first.capacity_bytes) / wide

    return max(corners, key=below)


def worth_of_next_kib(corners: Sequence[Step]) -> list[float]:
    """For each corner but the last: bytes of traffic saved per KiB of capacity on the way to the next corner."""
    return [
        1024 * (here.cost_bytes - there.cost_bytes) / (there.capacity_bytes - here.capacity_bytes)
        for here, there in pairwise(corners)
    ]
