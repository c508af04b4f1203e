"""Traffic against capacity: the exact staircase by bisection between optima, its knee, what the next KiB is worth.

Traffic never grows with capacity: whatever fits into a scratchpad fits into a larger one. So between two
capacities of equal optimum nothing has to be solved, the plan of the smaller starts the search on a larger
one, and the bound of the larger holds on a smaller one. Capacities need to be looked at only in multiples of
what divides all sizes: pushed down as far as they go, tensors lie at sums of sizes.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd, isqrt

from cosma.problem import Problem
from cosma.units import align_up


@dataclass(frozen=True, slots=True)
class Probe:
    """A capacity to solve for, with an order to start from and a bound, both known from other capacities."""

    capacity_bytes: int
    known_order: tuple[int, ...] = ()
    known_bound: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """What a solver found at some capacity: non-compulsory bytes, a proven bound, addresses used, the order."""

    cost_bytes: int
    bound_bytes: int
    peak_use_bytes: int
    order: tuple[int, ...]


MOST_PROBES = 48  # capacities of a curve with modes
Search = Generator[list[Probe], list[Point | None], None]


def grid_bytes(problem: Problem) -> int:
    """The optimum changes at multiples of this only: the common divisor of all that takes room."""
    modes = [mode for modes in problem.modes for mode in modes]
    buffers = [n for mode in modes for n in (mode.workspace_bytes, *(s.buffer_bytes for s in mode.streams))]
    return gcd(*problem.sizes, *map(problem.aligned, buffers)) or problem.memory.alignment_bytes


def staircase(problem: Problem) -> Search:
    """Yields rounds of probes and is sent what they found (None: no answer), until every step is known.

    The probes of a round do not depend on each other, so the search does not depend on which is faster. With modes
    there are thousands of steps: then `MOST_PROBES` capacities are looked at, those first between which the optimum
    falls most, and the rest of the curve is a band, from what the larger capacity needs to what the smaller one does.
    """
    if problem.has_choices:
        yield from _coarse(problem)
        return
    grid = grid_bytes(problem)
    low = problem.smallest_capacity_bytes
    enough = max(low, sum(problem.sizes))
    known: dict[int, Point] = {}
    todo = {low: Probe(low), enough: Probe(enough)}
    asked: set[int] = set()
    reached: set[int] = set()  # where a plan of a larger capacity ends: corners, more often than not
    while todo:
        asked |= set(todo)
        answers = yield list(todo.values())
        fresh = {probe.capacity_bytes: a for probe, a in zip(todo.values(), answers, strict=True) if a is not None}
        known.update(fresh)
        probes = [
            Probe(align_up(found.peak_use_bytes, grid), found.order, found.bound_bytes) for found in fresh.values()
        ]
        probes = [p for p in probes if p.capacity_bytes not in asked and p.capacity_bytes > low]
        reached |= {p.capacity_bytes for p in probes}
        probes += _between(known, asked, reached, grid)
        todo = {p.capacity_bytes: p for p in reversed(probes)}


def _coarse(problem: Problem) -> Search:
    """As many rounds as `MOST_PROBES` allow, each half as large as what is known, so that probes know others."""
    grid, low = grid_bytes(problem), problem.smallest_capacity_bytes
    known: dict[int, Point] = {}
    todo = [Probe(low), Probe(max(low, sum(problem.sizes)))]
    asked: set[int] = set()
    while todo:
        asked |= {probe.capacity_bytes for probe in todo}
        answers = yield todo
        known.update({p.capacity_bytes: a for p, a in zip(todo, answers, strict=True) if a is not None})
        falls = [f for f in _falls(known, grid) if f[1].capacity_bytes not in asked]
        falls.sort(key=lambda f: (-f[0], f[1].capacity_bytes))
        todo = [probe for _, probe in falls[: max(0, min(len(asked) // 2, MOST_PROBES - len(asked)))]]


def _falls(known: dict[int, Point], grid: int) -> list[tuple[int, Probe]]:
    """Between each two capacities by how much the optimum falls, and where to look: half-way, by ratio if far apart."""
    found = []
    for low, high in pairwise(sorted(known)):
        middle = isqrt(low * high) if high > 4 * low else (low + high) // 2
        middle = middle // grid * grid
        fall = known[low].cost_bytes - known[high].cost_bytes
        if fall > 0 and low < middle < high:
            bound = max(point.bound_bytes for capacity, point in known.items() if capacity >= high)
            found.append((fall, Probe(middle, known[low].order, bound)))
    return found


def _between(known: dict[int, Point], asked: set[int], reached: set[int], grid: int) -> list[Probe]:
    """Where the optimum changes between two capacities: just below what looks like a corner, else half-way."""
    probes = []
    best: Point | None = None
    for low, high in pairwise(sorted(known)):
        best = known[low] if best is None or known[low].cost_bytes < best.cost_bytes else best
        below, middle = high - grid, (low + high) // 2 // grid * grid
        if best.cost_bytes <= known[high].cost_bytes or below <= low or any(low < c < high for c in reached - asked):
            continue
        wanted = [c for c in ((below,) if high in reached else ()) + (middle,) if c not in asked]
        if wanted:  # else there was no answer
            bound = max(found.bound_bytes for capacity, found in known.items() if capacity >= high)
            probes.append(Probe(wanted[0], best.order, bound))
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
    """The corner furthest below the straight line from the first corner to the last; None if none lies below it.

    Both axes are scaled to 1 (Satopaa et al., "Finding a kneedle in a haystack", 2011).
    """
    if len(corners) < 3:
        return None
    first, last = corners[0], corners[-1]
    wide, high = last.capacity_bytes - first.capacity_bytes, first.cost_bytes - last.cost_bytes

    def below(step: Step) -> int:  # the distance, times wide x high: exact
        return (first.cost_bytes - step.cost_bytes) * wide - (step.capacity_bytes - first.capacity_bytes) * high

    furthest = max(corners, key=below)
    return furthest if below(furthest) > 0 else None


def worth_of_next_kib(corners: Sequence[Step]) -> list[float]:
    """For each corner but the last: bytes of traffic saved per KiB of capacity on the way to the next corner."""
    return [
        1024 * (here.cost_bytes - there.cost_bytes) / (there.capacity_bytes - here.capacity_bytes)
        for here, there in pairwise(corners)
    ]
