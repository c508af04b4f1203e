"""The time-indexed programme as a solver: an incumbent, the programme, its answer checked and compared."""

from cosma.deadline import Deadline
from cosma.milp import backends
from cosma.milp.backends import DEFAULT_BACKEND
from cosma.milp.programme import Programme, ProgrammeTooLargeError
from cosma.problem import Problem
from cosma.schedule import replacement
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.solvers.outcome import Outcome, named
from cosma.solvers.programmes.compact import three_orders
from cosma.solvers.programmes.paper.extract import decode, encode, order
from cosma.solvers.programmes.paper.indices import index
from cosma.solvers.programmes.paper.rules import TimeIndexed, least_peak, least_traffic
from cosma.solvers.programmes.stating import better_of, measure, no_plan_cheaper, too_large


def solve(problem: Problem, options: Options, deadline: Deadline) -> Outcome:
    """Eq. 1-12 with the strengthenings that are not left out. Requires capacity >= M_R."""
    backend = backends.chosen(options.inner)
    incumbent = three_orders(problem, options, DEFAULT_BACKEND, deadline.share(0.3))
    skip = no_plan_cheaper(incumbent, "cutoff" in options.programme.without, options, deadline)
    if skip is not None:
        return skip
    first_s = deadline.elapsed_s
    indices = index(problem, options.programme.without)
    moved = incumbent.timeline.cost(())
    stated = TimeIndexed(indices, Programme("cosma", deadline, options.memory_limit_bytes))
    cutoff = (incumbent.cost_bytes - moved) // indices.unit if indices.has("cutoff") else None
    try:
        least_traffic(stated, cutoff)
    except ProgrammeTooLargeError as error:
        return too_large(incumbent, error, options, first_s)
    programme = stated.programme
    programme.known = (incumbent.cost_bytes - moved) // indices.unit
    if indices.has("warm-start"):
        programme.hint = encode(stated, incumbent)
    size = measure(programme, indices.unit, options, deadline)
    solved = backends.minimise(programme, backend, deadline, options.programme.log)
    best, why = better_of(incumbent, None if solved.values is None else decode(stated, solved.values), backend)
    bound = moved + max(0, solved.bound or 0) * indices.unit
    reasons = (solved.why or f"{backend}: {solved.status}", why)
    return Outcome(
        best, bound, named("time-indexed programme", solved.rests_on) if bound else "trivial",
        tuple(r for r in reasons if r),
        size=size, first_s=first_s,
    )  # fmt: skip


def solve_peak(problem: Problem, options: Options, deadline: Deadline) -> Outcome:
    """Eq. 13-15 for the order of smallest peak, then the compact programme for it. Requires capacity >= M_R."""
    backend = backends.chosen(options.inner)
    exported = Timeline.of(problem, range(len(problem.graph.operators)))
    best = replacement.optimise(exported, DEFAULT_BACKEND, deadline.share(0.2))
    first_s = deadline.elapsed_s
    roomy = problem.with_capacity(max(problem.memory.capacity_bytes, problem.peak_bytes(exported.order)))
    indices = index(roomy, options.programme.without)
    stated = TimeIndexed(indices, Programme("cosma_peak", deadline, options.memory_limit_bytes))
    try:
        least_peak(stated)
    except ProgrammeTooLargeError as error:
        return too_large(best, error, options, first_s)
    size = measure(stated.programme, indices.unit, options, deadline)
    solved = backends.minimise(stated.programme, backend, deadline.share(0.8), options.programme.log)
    why = [solved.why or f"{backend}: {solved.status}"]
    if solved.values is not None:
        found = replacement.optimise(Timeline.of(problem, order(stated, solved.values)), DEFAULT_BACKEND, deadline)
        best, _ = better_of(best, found, backend)
        which = "smallest peak" if solved.status == "optimal" else "peak"
        why.append(f"{which} {stated.programme.objective(solved.values) * indices.unit:,} B")
    return Outcome(best, 0, "trivial", tuple(r for r in why if r), size=size, first_s=first_s)
