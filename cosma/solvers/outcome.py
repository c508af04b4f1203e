"""What a solver hands back: a placed residency decision for a schedule, bounds and reasons."""

from dataclasses import dataclass, replace

from cosma.milp.programme import Size
from cosma.schedule.placed import Placed


@dataclass(frozen=True, slots=True)
class Outcome:
    """best: the plan to use, None if the method cannot make one. bound_bytes: proven for all schedules, by bound_name.

    fragmentation_bytes: what addresses cost, where the optimum without addresses is known. first_s: seconds
    until there was a plan.
    """

    best: Placed | None
    bound_bytes: int
    bound_name: str
    why: tuple[str, ...]
    states: int = 0
    fragmentation_bytes: int | None = None
    size: Size | None = None
    first_s: float | None = None


def without_false_bound(outcome: Outcome) -> Outcome:
    """The outcome, but for a bound that its own plan contradicts; its prover is named.

    No part of the program may hide this by lowering a bound to what its plan costs: that would look like a proof.
    """
    best, bound = outcome.best, outcome.bound_bytes
    if best is None or bound <= best.cost_bytes:
        return outcome
    why = f"{outcome.bound_name} gave a bound of {bound:,} B, and the plan moves less: it is at fault, and not used"
    return replace(outcome, bound_bytes=0, bound_name="trivial", why=(why, *outcome.why), fragmentation_bytes=None)


def named(bound: str, rests_on: str) -> str:
    """The name of a bound that an integer programme gives, with what confirms it."""
    return f"{bound}, {rests_on}" if rests_on else bound
