"""The default way to solve a problem: exact replacement on the exported order, then on a better one."""

from dataclasses import dataclass

from cosma.problem import Problem
from cosma.solvers import replacement
from cosma.solvers.base import Deadline, Options
from cosma.solvers.orders import small_peak_order
from cosma.solvers.replacement import Placed
from cosma.solvers.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Outcome:
    """best: the plan to use. bound_bytes: proven for all schedules. why: how it was found and proved."""

    best: Placed
    bound_bytes: int
    why: tuple[str, ...]


def solve(problem: Problem, options: Options, deadline: Deadline) -> Outcome:
    """The better of the exported and a small-peak order, each with its optimal replacement, placed.

    Requires capacity >= M_R. Anytime: at the deadline the best so far is returned.
    """
    exported = tuple(range(len(problem.graph.operators)))
    best = replacement.solve(Timeline.of(problem, exported), options, deadline)
    if best.cost_bytes == 0:
        return Outcome(best, 0, ("exported order", "nothing has to be evicted: 0 bytes is optimal"))
    if problem.graph.has_single_order:
        why = "the graph allows one schedule only"
        if best.cost_bytes == best.bound_bytes:
            return Outcome(best, best.bound_bytes, (why, "its replacement is proved optimal"))
        return Outcome(best, best.bound_bytes, (why, "its replacement is bounded by the integer programme"))
    order, found = "exported order", small_peak_order(problem, deadline)
    if found is not None and found != exported:
        other = replacement.solve(Timeline.of(problem, found), options, deadline)
        if other.cost_bytes < best.cost_bytes:
            best, order = other, "small-peak order"
    if best.cost_bytes == 0:
        return Outcome(best, 0, (order, "nothing has to be evicted: 0 bytes is optimal"))
    exact = "optimal" if best.cost_bytes == best.bound_bytes else "not proved optimal"
    return Outcome(best, 0, (order, f"replacement {exact} for this order", "other orders may need less: bound 0"))
