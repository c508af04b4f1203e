"""Divide and conquer: stretches of a schedule solved exactly, what is resident carried across their boundaries.

Start from the best of a few cheap schedules with its optimal replacement, which is a plan. Cut it where few
bytes cross. Each part is a problem of its own (`stretch.py`) that any exact solver solves; parts do not
depend on each other, so processes share them. The plan's own stretch is a solution of each part, so
nothing gets dearer. The stitched order's replacement is then optimised exactly, and windows around the
dearest evictions are solved in the same way until none improves; then again with larger windows.
The bound is that of windows as sub-DAGs, or of forced residency.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import BrokenExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from cosma.deadline import Deadline
from cosma.milp.backends import DEFAULT_BACKEND
from cosma.problem import Problem
from cosma.schedule import replacement
from cosma.schedule.placed import Placed, cheapest
from cosma.schedule.timeline import Timeline
from cosma.solvers.decompose.stretch import Ledger, Stretch, stretch
from cosma.solvers.options import Options
from cosma.solvers.outcome import Outcome
from cosma.solvers.programmes import joint, paper
from cosma.solvers.programmes.compact import LARGEST_SPACE, three_orders
from cosma.solvers.search import portfolio
from cosma.solvers.search.bounds import Potentials
from cosma.solvers.search.space import whole
from cosma.solvers.search.windows import window_bounds, windows
from cosma.workers.processes import Workers

_SOLVERS = {"search": portfolio.solve, "joint": joint.solve, "paper": paper.solve}
PART_SOLVERS = tuple(_SOLVERS)
_SIZES = {"search": (50, 100, 200, 400), "joint": (20, 40, 80), "paper": (8, 12)}  # operators in a window
_PART_STATES = 20_000  # of the search in a part: a limit that strikes alike on every machine
_BOUND_WINDOWS = (72, 216)
_GRACE_S = 0.5  # after the deadline, for processes to say what they have

_Solve = Callable[[list[Stretch]], list[tuple[int, ...] | None]]
_Known = dict[tuple[object, int], tuple[int, ...] | None]  # kind of stretch and what it costs -> a cheaper order


def solve(problem: Problem, options: Options, deadline: Deadline) -> Outcome:
    """The best plan found, and a bound for all schedules. Requires capacity >= M_R.

    Deterministic, whatever the number of processes, unless the deadline strikes.
    """
    best = three_orders(problem, options, DEFAULT_BACKEND, deadline.share(0.3))
    first_s = deadline.elapsed_s
    if best.cost_bytes == 0:
        return Outcome(best, 0, "nothing to evict", ("a schedule fits without evictions",), 0, 0, first_s=first_s)
    floor, states = _bound(problem, best.timeline.order, deadline.share(0.3))
    best, why = improve(best, floor, options, deadline, first_s / 3)  # three orders took first_s
    name = "sub-DAG windows or forced residency" if floor else "trivial"
    return Outcome(best, floor, name, (why,), states, first_s=first_s)


def improve(best: Placed, floor: int, options: Options, deadline: Deadline, stitch_s: float) -> tuple[Placed, str]:
    """A plan at least as good, by solving stretches of it again, and what was done. Stops at `floor` bytes.

    stitch_s: about how long the replacement of the whole order takes, which is kept for the end.
    """
    work = deadline.less(stitch_s)
    how = options.inner or "search"
    known: _Known = {}
    count = len(best.timeline.order)
    with _solver(how, options, work) as run:
        enough = next((k for k, size in enumerate(_SIZES[how]) if size >= count), len(_SIZES[how]) - 1)
        k = 0
        while k <= enough and best.cost_bytes > floor and not work.passed:
            before, size = best.cost_bytes, _SIZES[how][k]
            best = _round(best, _narrow_parts(best, size), known, run, work, deadline)
            best = _improve_windows(best, size, floor, known, run, work, deadline)
            k = 0 if k and best.cost_bytes < before else k + 1  # smaller windows may better what a larger one changed
    return (
        best,
        f"{len(known)} kinds of stretches of up to {', '.join(map(str, _SIZES[how]))} operators solved by {how}",
    )


def _improve_windows(
    best: Placed, size: int, floor: int, known: _Known, run: _Solve, work: Deadline, deadline: Deadline
) -> Placed:
    """Solve windows of one size around the dearest evictions until none improves the plan."""
    tried: set[tuple[int, int]] = set()
    while best.cost_bytes > floor and not work.passed:
        chosen = list(_worst_windows(best, size, tried))
        if not chosen:
            break
        tried |= set(chosen)
        before = best.cost_bytes
        best = _round(best, chosen, known, run, work, deadline)
        if best.cost_bytes < before:
            tried.clear()
    return best


def _round(
    best: Placed, stretches: Iterable[tuple[int, int]], known: _Known, run: _Solve, work: Deadline, deadline: Deadline
) -> Placed:
    """Until `work` solve disjoint stretches of a plan that cost something, each kind once; stitch until `deadline`."""
    ledger = Ledger.of(best)
    parts: list[Stretch] = []
    keys: list[tuple[object, int]] = []
    for start, end in stretches:
        if ledger.paid(start, end) and not work.passed:
            parts.append(stretch(ledger, start, end))
            keys.append((whole(parts[-1].problem).key, parts[-1].cost_bytes))
    new = {key: part for key, part in zip(keys, parts, strict=True) if key not in known}
    known.update(zip(new, run(list(new.values())), strict=True))
    order = list(best.timeline.order)
    for key, part in zip(keys, parts, strict=True):
        inner = known[key]
        if inner is not None:
            order[part.start : part.end] = [part.operators[i] for i in inner]
    if tuple(order) == best.timeline.order or deadline.passed:
        return best
    return cheapest((best, replacement.optimise(Timeline.of(best.timeline.problem, order), DEFAULT_BACKEND, deadline)))


def _narrow_parts(best: Placed, size: int) -> list[tuple[int, int]]:
    """The whole order in parts of about `size` operators, cut where the fewest bytes cross.

    A cut may lie up to a quarter of a part away from where it would be for balance.
    """
    count = len(best.timeline.order)
    change = [0] * (count + 1)
    for gap in best.timeline.gaps:
        change[gap.first + 1] += best.timeline.problem.sizes[gap.tensor]
        change[gap.second + 1 if gap.second < count else count] -= best.timeline.problem.sizes[gap.tensor]
    crossing, live = [], 0
    for t in range(count):
        live += change[t]
        crossing.append(live)
    cuts = [0]
    for middle in range(size, count - size // 2, size):
        near = range(max(cuts[-1] + 1, middle - size // 4), min(count, middle + size // 4 + 1))
        cuts.append(min(near, key=lambda t: (crossing[t], abs(t - middle), t)))
    return list(zip(cuts, [*cuts[1:], count], strict=True))


def _worst_windows(best: Placed, size: int, tried: Set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Disjoint windows of `size` operators around the dearest evictions, around their middles and around each end,
    but for those that were tried."""
    count, sizes = len(best.timeline.order), best.timeline.problem.sizes
    gaps = [best.timeline.gaps[g] for g in sorted(best.evicted)]
    taken = [False] * count
    for gap in sorted(gaps, key=lambda gap: (-sizes[gap.tensor], gap.first, gap.tensor)):
        for middle in ((gap.first + gap.second) // 2, gap.first, gap.second):
            start = max(0, min(middle - size // 2, count - size))
            end = min(count, start + size)
            if (start, end) not in tried and not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                yield start, end


def _bound(problem: Problem, order: Sequence[int], deadline: Deadline) -> tuple[int, int]:
    """A lower bound for every schedule (bytes), and the states searched for it."""
    floor, states = 0, 0
    if len(order) <= LARGEST_SPACE:
        floor = Potentials(whole(problem)).bound
    for length in _BOUND_WINDOWS:
        bounds = list(window_bounds(problem, windows(order, length, length), deadline))
        floor = max(floor, sum(bound for _, bound, _ in bounds))
        states += sum(searched for _, _, searched in bounds)
    return floor, states


@contextmanager
def _solver(how: str, options: Options, deadline: Deadline) -> Iterator[_Solve]:
    """What solves stretches: this process, or several that are started when there is more than one stretch."""
    inner = Options(
        "auto", options.time_limit_s, min(options.state_limit, _PART_STATES), options.memory_limit_bytes,
        programme=replace(options.programme, write_model=None),
    )  # fmt: skip
    one = partial(_solve_stretch, how=how, options=inner, deadline=deadline)
    pool: list[Workers] = []

    def run(todo: list[Stretch]) -> list[tuple[int, ...] | None]:
        if options.divide.jobs > 1 and len(todo) > 1 and not pool:
            pool.append(Workers(options.divide.jobs))
        if not pool:
            return list(map(one, todo))
        try:
            running = [pool[0].submit(one, part) for part in todo]
            done, _ = wait(running, deadline.remaining_s + _GRACE_S)  # they may not have started yet
            return [future.result() if future in done else None for future in running]
        except BrokenExecutor:  # a process was killed, e.g. for its memory; so it stays
            return [None] * len(todo)

    try:
        yield run
    finally:
        for workers in pool:
            workers.stop()


def _solve_stretch(part: Stretch, how: str, options: Options, deadline: Deadline) -> tuple[int, ...] | None:
    """A cheaper order of the stretch's operators, as positions in it; None if none was found."""
    if deadline.passed:
        return None
    outcome = _SOLVERS[how](part.problem, options, deadline)
    if outcome.best is None or outcome.best.cost_bytes >= part.cost_bytes:
        return None
    return tuple(v - 1 for v in outcome.best.timeline.order if 0 < v <= len(part.operators))
