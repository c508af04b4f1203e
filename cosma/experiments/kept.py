"""What is kept of a proved plan, and the way back: rebuilt, replayed by the verifier, its bytes counted again.

That nothing moves less is not proved again: proofs take from milliseconds to minutes. It rests on the word of whoever
kept the plan; if that was false, a rebuilt plan is still a valid one, of the bytes that are said.
"""

from dataclasses import asdict
from typing import Any

from cosma.binding import to_names, to_numbers, with_tilings
from cosma.compile import Prepared
from cosma.errors import InputError
from cosma.instructions import Instruction
from cosma.modes import Run
from cosma.plan import SCHEMA_VERSION, Claims, Plan
from cosma.problem import Problem
from cosma.verify import check

Kept = dict[str, Any]  # JSON can hold it


def keep(plan: Plan, problem: Problem, bound_name: str) -> Kept:
    """Of a plan that is proved optimal: its schedule in numbers, its claims, and what the proof rests on."""
    problem, schedule, _ = to_numbers(plan, problem)
    larger = {v: modes[-1].tiling for v, modes in enumerate(problem.modes) if modes[-1].is_larger}
    return {
        "larger": list(larger.items()),
        "schedule": [[i.op, i.number, i.offset, i.run.mode, sorted(i.run.streamed), i.places] for i in schedule],
        "claims": asdict(plan.claims),
        "bound_name": bound_name,
    }


def rebuild(kept: Any, prepared: Prepared) -> tuple[Plan, str]:
    """The plan for a problem, verified, and what its proof rested on. Raises InputError where anything is wrong."""
    problem = prepared.problem
    try:
        plan = _plan(kept, prepared)
        bound_name = kept["bound_name"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"it holds no plan: {type(error).__name__}") from None
    if plan.claims.status != "optimal":
        raise InputError("its plan is not said to be optimal")
    if not isinstance(bound_name, str):
        raise InputError("it does not say what its proof rests on")
    found = check(plan, problem).violations
    if found:
        raise InputError(f"its plan is wrong: {found[0]}")
    return plan, bound_name


def _plan(kept: Any, prepared: Prepared) -> Plan:
    """The plan from its kept form. Fields of other types and negative numbers are refused by the classes themselves."""
    tilings = {v: tuple((axis, size) for axis, size in tiling) for v, tiling in kept["larger"]}
    problem = with_tilings(prepared.problem, tilings)
    schedule = tuple(
        Instruction(op, index, offset, Run(mode, frozenset(streamed)), tuple((a, at) for a, at in places))
        for op, index, offset, mode, streamed, places in kept["schedule"]
    )
    return Plan(
        schema_version=SCHEMA_VERSION,
        generator="",
        source=prepared.source,
        hardware="",
        capacity_bytes=problem.memory.capacity_bytes,
        alignment_bytes=problem.memory.alignment_bytes,
        solver="",
        claims=Claims(**kept["claims"]),
        instructions=to_names(schedule, problem),
    )
