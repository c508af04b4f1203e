"""What is kept of a proved plan, and the way back: rebuilt, replayed by the verifier, its bytes counted again.

That nothing moves less is not proved again: proofs take from milliseconds to minutes. It rests on the word of whoever
kept the plan; if that was false, a rebuilt plan is still a valid one, of the bytes that are said.
"""

from typing import Any

from cosma.compile import Prepared
from cosma.errors import InputError
from cosma.plan import SCHEMA_VERSION, Buffer, Claims, Plan, Residency, Step, derive_moves
from cosma.problem import Problem
from cosma.verify import check

Kept = dict[str, Any]  # JSON can hold it


def keep(plan: Plan, problem: Problem, bound_name: str) -> Kept:
    """Of a plan that is proved optimal: operators with their modes, residencies, bytes, and what the proof rests on."""
    operators = {v.name: i for i, v in enumerate(problem.graph.operators)}
    tensors = {t.name: a for a, t in enumerate(problem.graph.tensors)}
    return {
        "order": [
            [
                operators[step.operator],
                step.mode,
                *(
                    [None if b.tensor is None else tensors[b.tensor], b.offset_bytes, b.size_bytes]
                    for b in step.buffers
                ),
            ]
            for step in plan.order
        ],
        "residencies": [[tensors[r.tensor], r.start, r.end, r.offset_bytes] for r in plan.residencies],
        "non_compulsory_bytes": plan.claims.non_compulsory_bytes,
        "peak_use_bytes": plan.claims.peak_use_bytes,
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
    if not isinstance(bound_name, str):
        raise InputError("it does not say what its proof rests on")
    found = check(plan, problem).violations
    if found:
        raise InputError(f"its plan is wrong: {found[0]}")
    return plan, bound_name


def _plan(kept: Any, prepared: Prepared) -> Plan:
    """The plan from its kept form. Fields of other types and negative numbers are refused by the classes themselves."""
    problem = prepared.problem
    operators, tensors, cost = problem.graph.operators, problem.graph.tensors, kept["non_compulsory_bytes"]
    residencies = tuple(
        Residency(tensors[a].name, start, end, offset, problem.sizes[a])
        for a, start, end, offset in kept["residencies"]
    )
    order = tuple(
        Step(operators[v].name, mode, tuple(Buffer(None if a is None else tensors[a].name, *at) for a, *at in buffers))
        for v, mode, *buffers in kept["order"]
    )
    return Plan(
        schema_version=SCHEMA_VERSION,
        generator="",
        source=prepared.source,
        hardware="",
        capacity_bytes=problem.memory.capacity_bytes,
        alignment_bytes=problem.memory.alignment_bytes,
        solver="",
        claims=Claims("optimal", problem.compulsory_bytes, cost, cost, kept["peak_use_bytes"]),
        order=order,
        residencies=residencies,
        moves=derive_moves(problem, order, residencies),
    )
