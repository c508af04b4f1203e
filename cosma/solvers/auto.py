"""The default: search over all schedules, and where that does not end, divide and conquer on what it found."""

from dataclasses import replace

from cosma.deadline import Deadline
from cosma.problem import Problem
from cosma.solvers.decompose import divide
from cosma.solvers.options import Options
from cosma.solvers.outcome import Outcome
from cosma.solvers.search import portfolio

_SEARCH = 0.6  # of the time, at most


def solve(problem: Problem, options: Options, deadline: Deadline) -> Outcome:
    """The best placed plan within the limits, and a bound. Requires capacity >= M_R."""
    outcome = portfolio.solve(problem, options, deadline.share(_SEARCH))
    best = outcome.best
    if best is None or problem.has_choices or best.cost_bytes == outcome.bound_bytes:
        return outcome
    # Its last step takes about as long as the first plan took.
    better, how = divide.improve(best, outcome.bound_bytes, options, deadline, outcome.first_s or 0.0)
    if better.cost_bytes == best.cost_bytes:
        return outcome
    return replace(
        outcome, best=better, why=(*outcome.why, f"then divide and conquer: {how}"), fragmentation_bytes=None
    )
