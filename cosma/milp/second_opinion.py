"""What a solver's word is worth: nothing, until something independent says the same (docs/problem.md#second-opinion).

A solution is checked in exact arithmetic (`Programme.broken_rule`). A bound, or that there is no solution, cannot be
checked that way, and solvers do err there (github.com/google/or-tools/issues/5293). So a claim counts only if

1. no solution at hand contradicts it, and
2. a bound in exact arithmetic reaches it (`dual_bound`), or CP-SAT without presolve, to which the claim's negation is
   stated as a problem of its own, finds that impossible.

Otherwise what is left is the exact bound. A solver that is contradicted is named.
"""

from dataclasses import dataclass, replace

from cosma.deadline import Deadline
from cosma.milp import ortools_backend
from cosma.milp.dual_bound import dual_bound
from cosma.milp.programme import Programme, Solved, Status
from cosma.workers.processes import StoppedError

EXACT = "a dual bound in exact arithmetic"
_EXACT = 0.3  # of the time, for that; it is in vain where the relaxation is weak


@dataclass(frozen=True, slots=True)
class _Known:
    """The best solution at hand and its objective."""

    values: tuple[int, ...] | None = None
    objective: int | None = None

    def contradicts(self, bound: int | None) -> bool:
        """Whether a solution is better than a bound allows; None: whether there is one at all."""
        return self.objective is not None and (bound is None or self.objective < bound)


def confirmed(programme: Programme, claimed: Solved, backend: str, deadline: Deadline) -> Solved:
    """What `backend` says of a programme, its bound and status as far as something else confirms them.

    Values in `claimed` obey the programme, and an optimal status comes with a bound that is their objective.
    """
    if claimed.bound is None and claimed.status != "infeasible":
        return claimed
    known = _known(programme, claimed)
    if known.contradicts(claimed.bound):
        return _at_fault(claimed, known, backend, None)
    bound = dual_bound(programme, deadline.share(_EXACT))
    if claimed.bound is not None and bound is not None and bound >= claimed.bound:
        return replace(claimed, rests_on=f"{backend}, confirmed by {EXACT}")
    second = _negation(programme, claimed.bound, deadline)
    if second.values is not None:
        return _at_fault(claimed, _Known(second.values, programme.objective(second.values)), backend, bound)
    if second.status == "infeasible":
        return replace(claimed, rests_on=f"{backend}, confirmed by cp-sat without presolve")
    return _unconfirmed(claimed, backend, bound)


def _known(programme: Programme, claimed: Solved) -> _Known:
    """The best of the solver's solution, the hint where that is a solution, and the one known to exist."""
    count = len(programme.names)
    hint = tuple(programme.hint[c] for c in range(count)) if len(programme.hint) == count else None
    candidates = [claimed.values] if claimed.values is not None else []
    candidates += [hint] if hint is not None and programme.broken_rule(hint) is None else []
    best = min(candidates, key=programme.objective, default=None)
    objective = None if best is None else programme.objective(best)
    if programme.known is not None and (objective is None or programme.known < objective):
        return _Known(claimed.values, programme.known)
    return _Known(best, objective)


def _negation(programme: Programme, bound: int | None, deadline: Deadline) -> Solved:
    """Look for a solution below the bound, or for any if there is none, by CP-SAT without presolve."""
    try:
        found = ortools_backend.look_below(programme, bound, deadline)
    except StoppedError:
        return Solved("unknown")
    if found.values is not None and programme.broken_rule(found.values) is not None:
        return Solved("unknown")
    return found


def _at_fault(claimed: Solved, known: _Known, backend: str, bound: int | None) -> Solved:
    why = f"{backend} claims {_what(claimed)}, but a solution of {known.objective} is at hand: its bounds are not used"
    return Solved("feasible", known.values, bound, claimed.first_s, why, EXACT if bound is not None else "")


def _unconfirmed(claimed: Solved, backend: str, bound: int | None) -> Solved:
    why = f"{backend} claims {_what(claimed)}, which nothing confirmed in time: it is not used"
    status: Status = "unknown" if claimed.values is None else "feasible"
    return Solved(status, claimed.values, bound, claimed.first_s, why, EXACT if bound is not None else "")


def _what(claimed: Solved) -> str:
    return "that there is no solution" if claimed.bound is None else f"a bound of {claimed.bound}"
