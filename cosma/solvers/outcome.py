"""What a solver hands back: a placed residency decision for a schedule, bounds and reasons."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cosma.plan import SCHEMA_VERSION, Claims, Plan, Source, Step, derive_moves
from cosma.solvers.base import Size
from cosma.solvers.timeline import Timeline
from cosma.verify import check


@dataclass(frozen=True, slots=True)
class Placed:
    """A residency decision with addresses. bound_bytes holds for every plan of the same schedule; rests_on says why."""

    timeline: Timeline
    evicted: frozenset[int]
    offsets: tuple[int, ...]
    cost_bytes: int
    bound_bytes: int
    rests_on: str = ""


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
    """The outcome, but for a bound that its own plan contradicts; whoever proved that is named.

    No part of the program may hide this by lowering a bound to what its plan costs: that would look like a proof.
    """
    best, bound = outcome.best, outcome.bound_bytes
    if best is None or bound <= best.cost_bytes:
        return outcome
    why = f"{outcome.bound_name} gave a bound of {bound:,} B, and the plan moves less: it is at fault, and not used"
    return replace(outcome, bound_bytes=0, bound_name="trivial", why=(why, *outcome.why), fragmentation_bytes=None)


def to_plan(placed: Placed, bound_bytes: int, source: Source, hardware: str, solver: str, generator: str) -> Plan:
    """The plan that a placed decision stands for, with its claims; not yet verified."""
    timeline = placed.timeline
    problem = timeline.problem
    residencies = timeline.residencies(placed.evicted, placed.offsets)
    return Plan(
        schema_version=SCHEMA_VERSION,
        generator=generator,
        source=source,
        hardware=hardware,
        capacity_bytes=problem.capacity_bytes,
        alignment_bytes=problem.alignment_bytes,
        solver=solver,
        claims=Claims(
            status="optimal" if placed.cost_bytes == bound_bytes else "feasible",
            compulsory_bytes=problem.compulsory_bytes,
            non_compulsory_bytes=placed.cost_bytes,
            bound_bytes=bound_bytes,
            peak_use_bytes=max((r.offset_bytes + r.size_bytes for r in residencies), default=0),
        ),
        order=tuple(Step(problem.graph.operators[v].name, timeline.modes[v]) for v in timeline.order),
        residencies=residencies,
        moves=derive_moves(problem, residencies),
    )


def named(bound: str, rests_on: str) -> str:
    """The name of a bound that an integer programme gives, with what confirms it."""
    return f"{bound}, {rests_on}" if rests_on else bound


def violations(placed: Placed) -> tuple[str, ...]:
    """What the verifier finds wrong with a decision that came from outside."""
    problem = placed.timeline.problem
    source = Source("", problem.fingerprint(), None, "none", True, {})
    return check(to_plan(placed, 0, source, "", "", ""), problem).violations


def cheapest(candidates: Iterable[Placed]) -> Placed:
    """The first of the candidates with the least traffic."""
    return min(candidates, key=lambda placed: placed.cost_bytes)
