"""Which solver runs when: cheap certificates first, then search over all schedules, within the limits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cosma.deadline import Deadline
from cosma.milp.backends import DEFAULT_BACKEND
from cosma.problem import Problem
from cosma.schedule import replacement
from cosma.schedule.placed import Placed, cheapest
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.solvers.outcome import Outcome, named
from cosma.solvers.programmes.compact import LARGEST_SPACE, PEAK_STATES, best_of, state_limit
from cosma.solvers.search.bounds import Potentials, peak_bound
from cosma.solvers.search.chain import Chain, Found
from cosma.solvers.search.modal_prices import modal_bounds
from cosma.solvers.search.parts import Part, split
from cosma.solvers.search.space import Space
from cosma.solvers.search.strategies import SearchResult, beam, best_first, smallest_peak
from cosma.solvers.search.windows import window_bounds, windows

_WIDTHS = (1, 10, 100)  # of the beams
_NO_CUTOFF = 2**63
_WINDOWS = (72, 216)  # operators in a window
_SHRUNK = (64, 32, 16, 8)  # of the scratchpad, left free by another search where addresses cost something
_EXPLAINED = 12  # parts that the reasons name


@dataclass(frozen=True, slots=True)
class _PartResult:
    """What is known of one part: an order (operators numbered from 0), its cost or None, a bound."""

    order: tuple[int, ...]
    cost: int | None
    bound: int
    bound_name: str
    states: int


def solve(problem: Problem, options: Options, deadline: Deadline) -> Outcome:
    """The best placed plan within the limits, and a bound. Requires capacity >= M_R."""
    exported = Timeline.of(problem, range(len(problem.graph.operators)))
    best = replacement.optimise(exported, DEFAULT_BACKEND, deadline.share(0.3), holds_runs=problem.has_choices)
    first_s = deadline.elapsed_s
    if options.search.known_order and best.cost_bytes > options.search.known_bound:
        known = Timeline.of(problem, options.search.known_order)
        found = replacement.optimise(known, DEFAULT_BACKEND, deadline.share(0.3), holds_runs=problem.has_choices)
        best = cheapest((best, found))
    if best.cost_bytes == 0:
        outcome = Outcome(best, 0, "nothing to evict", ("a known order fits without evictions",), 0, 0)
    elif best.cost_bytes == options.search.known_bound:
        why = ("no schedule moves less on a larger scratchpad",)
        outcome = Outcome(best, best.cost_bytes, "larger scratchpad", why)
    elif problem.has_choices:
        outcome = _search_modes(problem, options, deadline, best)
    else:
        outcome = _search_all(problem, options, deadline, best)
    return replace(_raised(outcome, options.search.known_bound), first_s=first_s)


def _raised(outcome: Outcome, known_bound: int) -> Outcome:
    """The outcome with a bound known from a larger scratchpad, where that is higher and no plan contradicts it."""
    if outcome.best is not None and outcome.best.cost_bytes < known_bound:
        why = f"the bound of {known_bound:,} B from a larger scratchpad is not used: the plan moves less"
        return replace(outcome, why=(*outcome.why, why))
    if outcome.bound_bytes < known_bound:
        return replace(outcome, bound_bytes=known_bound, bound_name="larger scratchpad")
    return outcome


def _search_all(problem: Problem, options: Options, deadline: Deadline, start: Placed) -> Outcome:
    """Solve the independent parts, each kind once, and place the whole."""
    parts = split(problem)
    limit = deadline.share(0.8)
    answers: dict[tuple[object, ...], _PartResult] = {}
    chosen: list[_PartResult] = []
    order: list[int] = []
    for p in parts:
        key, answer = _answer(problem, p, answers, options, limit)
        answers[key] = answer
        chosen.append(answer)
        order += [p.start + v for v in answer.order]
    bound = sum(answer.bound for answer in chosen)
    best = start
    if best.cost_bytes > bound:
        found = replacement.optimise(Timeline.of(problem, order), DEFAULT_BACKEND, deadline)
        best = cheapest((best, found))
    if best.cost_bytes > bound and any(a.cost != a.bound for a in chosen):
        best, _ = best_of(problem, options, DEFAULT_BACKEND, deadline, best)
    relaxed = None if any(a.cost is None for a in chosen) else sum(a.cost or 0 for a in chosen)
    if relaxed == bound < best.cost_bytes:
        best = _other_optima(problem, parts, options, deadline, best, bound)
    states = sum(answer.states for answer in answers.values())
    decisive = max(chosen, key=lambda a: a.bound)
    name = decisive.bound_name if best.cost_bytes == bound or decisive.bound else "trivial"
    lost = best.cost_bytes - bound if relaxed == bound else None
    if problem.graph.has_single_order and best.bound_bytes > bound:
        bound, name = best.bound_bytes, named("integer programme with address cuts", best.rests_on)
    why = (
        f"{'searched all schedules' if lost is not None else 'a limit struck before all schedules were searched'}: "
        f"{len(parts)} independent parts, {len(answers)} kinds, {states:,} states",
        "exported order is as good as any" if best is start and _is_exported(best) and best.cost_bytes == bound else "",
        *_explain(parts, chosen),
    )
    return Outcome(best, bound, name, tuple(line for line in why if line), states, lost)


def _search_modes(problem: Problem, options: Options, deadline: Deadline, start: Placed) -> Outcome:
    """Search over schedules and modes, then place what was found with its runs held."""
    chain = _chain(problem, options, deadline.share(0.7))
    found = chain.solve()
    best = cheapest((start, *_placed(found, problem, deadline)))
    is_proved = found.cost == found.bound
    for share in _SHRUNK if is_proved else ():
        smaller = problem.memory.capacity_bytes - problem.memory.capacity_bytes // share
        if best.cost_bytes == found.bound or deadline.passed or smaller < problem.smallest_capacity_bytes:
            break
        other = _chain(problem.with_capacity(smaller), options, deadline.share(0.5)).solve()
        best = cheapest((best, *_placed(other, problem, deadline)))
    why = (
        f"{'searched all schedules and modes' if is_proved else 'a limit struck before all schedules were searched'}: "
        f"{len(chain.parts)} independent parts, {found.kinds} kinds, {found.states:,} states"
    )
    lost = best.cost_bytes - found.bound if is_proved else None
    name = "best-first search over modes" if found.bound else "trivial"
    return Outcome(replace(best, bound_bytes=0, rests_on=""), found.bound, name, (why,), found.states, lost)


def _chain(problem: Problem, options: Options, deadline: Deadline) -> Chain:
    """The search of a problem whose operators have modes."""
    return Chain(problem, split(problem), modal_bounds, lambda s: state_limit(s, options), deadline)


def _placed(found: Found, problem: Problem, deadline: Deadline) -> Iterator[Placed]:
    """What a search found, placed: as it is, or its order and runs with the replacement that addresses allow."""
    if found.timeline is not None:
        timeline = replace(found.timeline, problem=problem)
        settled, fits = replacement.settle(timeline, found.evicted, deadline)
        yield settled
        if not fits:
            yield replacement.optimise(timeline, DEFAULT_BACKEND, deadline.share(0.3), holds_runs=True)


def _is_exported(placed: Placed) -> bool:
    return placed.timeline.order == tuple(range(len(placed.timeline.order)))


def _explain(parts: list[Part], answers: list[_PartResult]) -> list[str]:
    """One line a part in which something has to be evicted: its bound, what that rests on, the effort."""
    lines = [
        f"operators {p.start} to {p.end - 1}: at least {a.bound:,} B by {a.bound_name}, "
        f"{'no schedule' if a.cost is None else f'{a.cost:,} B'} found, {a.states:,} states"
        for p, a in zip(parts, answers, strict=True)
        if a.bound or a.cost != a.bound
    ]
    rest = len(lines) - _EXPLAINED
    return lines if rest <= 0 else [*lines[:_EXPLAINED], f"and {rest} more parts"]


def _other_optima(
    problem: Problem, parts: list[Part], options: Options, deadline: Deadline, best: Placed, bound: int
) -> Placed:
    """The optimum in bytes could not be placed; try other schedules of the same bytes."""
    for variant in (1, 2):
        order: list[int] = []
        for p in parts:
            space = p.space(problem)
            to_come = Potentials(space).to_come
            limit = state_limit(space, options)
            found = best_first(space, to_come, _NO_CUTOFF, limit, deadline, variant=variant)
            if found.order is None:
                return best
            order += [space.operators[v] for v in found.order]
        placed = replacement.optimise(Timeline.of(problem, order), DEFAULT_BACKEND, deadline)
        best = cheapest((best, placed))
        if best.cost_bytes == bound:
            break
    return best


def _answer(
    problem: Problem, p: Part, answers: dict[tuple[object, ...], _PartResult], options: Options, deadline: Deadline
) -> tuple[tuple[object, ...], _PartResult]:
    """The answer for a part and the key under which its like will find it."""
    if p.end - p.start > LARGEST_SPACE or deadline.passed:
        answer = _PartResult(tuple(range(p.end - p.start)), None, 0, "trivial", 0)
        return (p,), _raise_bound(problem, range(p.start, p.end), answer, deadline)
    space = p.space(problem)
    known = answers.get(space.key)
    if known is None:
        known = _solve_part(space, options, deadline)
        if known.cost != known.bound:
            known = _raise_bound(problem, [space.operators[v] for v in known.order], known, deadline)
    return space.key, known


def _raise_bound(problem: Problem, order: Sequence[int], answer: _PartResult, deadline: Deadline) -> _PartResult:
    """The search did not end: add up the optima of windows, of several lengths, each kind solved once."""
    best, states = answer.bound, 0
    for length in _WINDOWS:
        bounds = list(window_bounds(problem, windows(order, length, length), deadline))
        best = max(best, sum(bound for _, bound, _ in bounds))
        states += sum(searched for _, _, searched in bounds)
    name = "sub-DAG windows" if best > answer.bound else answer.bound_name
    return replace(answer, bound=best, bound_name=name, states=answer.states + states)


def _solve_part(space: Space, options: Options, deadline: Deadline) -> _PartResult:
    """Certificates, a quick incumbent, the exact search, and wider beams if that did not end."""
    exported = tuple(range(len(space.operators)))
    if _fits(space, exported):
        return _PartResult(exported, 0, 0, "nothing to evict", 0)
    limit = state_limit(space, options)
    peak = smallest_peak(space, min(PEAK_STATES, limit), deadline, peak_bound(space))
    if peak.order is not None and peak.cost <= space.capacity:
        return _PartResult(peak.order, 0, 0, "nothing to evict", peak.states)
    potentials = Potentials(space)
    floor, states = potentials.bound, peak.states
    best = SearchResult(None, _NO_CUTOFF, floor, 0, False)
    for width in _WIDTHS:
        found = beam(space, potentials.to_come, width, best.cost, deadline)
        if found is not None:
            states += found.states
            best = min(found, best, key=lambda f: f.cost)
        if best.cost == floor:
            return _PartResult(best.order or exported, best.cost, floor, "forced residency", states)
        if width == _WIDTHS[0]:
            exact = best_first(space, potentials.to_come, best.cost, limit, deadline)
            states += exact.states
            if exact.complete:
                best = exact if exact.order is not None else best
                return _PartResult(best.order or exported, best.cost, best.cost, "best-first search", states)
            floor = max(floor, exact.bound)
    cost = None if best.order is None else best.cost
    return _PartResult(best.order or exported, cost, floor, "best-first search, unfinished", states)


def _fits(space: Space, order: tuple[int, ...]) -> bool:
    """Whether an order needs no evictions."""
    state = space.start()
    for v in order:
        if space.shortage(state, v) > 0:
            return False
        state = space.run(state, v)
    return True
