"""A schedule with residencies and addresses, and the plan that it stands for."""

from collections.abc import Iterable
from dataclasses import dataclass

from cosma.plan import SCHEMA_VERSION, Buffer, Claims, Plan, Schedule, Source, Step, derive_moves
from cosma.schedule.timeline import Timeline
from cosma.verify import replay


@dataclass(frozen=True, slots=True)
class Placed:
    """A residency decision with addresses: of residencies, then of buffers, in the order of the timeline.

    bound_bytes holds for every plan of the same schedule; rests_on says why.
    """

    timeline: Timeline
    evicted: frozenset[int]
    offsets: tuple[int, ...]
    cost_bytes: int
    bound_bytes: int
    rests_on: str = ""


def to_plan(placed: Placed, bound_bytes: int, source: Source, hardware: str, solver: str, generator: str) -> Plan:
    """The plan that a placed decision stands for, with its claims; not yet verified."""
    problem, schedule = placed.timeline.problem, schedule_of(placed)
    tops = [r.offset_bytes + r.size_bytes for r in schedule.residencies]
    tops += [b.offset_bytes + b.size_bytes for step in schedule.order for b in step.buffers]
    return Plan(
        schema_version=SCHEMA_VERSION,
        generator=generator,
        source=source,
        hardware=hardware,
        capacity_bytes=problem.memory.capacity_bytes,
        alignment_bytes=problem.memory.alignment_bytes,
        solver=solver,
        claims=Claims(
            status="optimal" if placed.cost_bytes == bound_bytes else "feasible",
            compulsory_bytes=problem.compulsory_bytes,
            non_compulsory_bytes=placed.cost_bytes,
            bound_bytes=bound_bytes,
            peak_use_bytes=max(tops, default=0),
        ),
        order=schedule.order,
        residencies=schedule.residencies,
        moves=schedule.moves,
    )


def schedule_of(placed: Placed) -> Schedule:
    """What a placed decision does, in names."""
    residencies = placed.timeline.residencies(placed.evicted, placed.offsets)
    order = _steps(placed, len(residencies))
    return Schedule(order, residencies, derive_moves(placed.timeline.problem, order, residencies))


def _steps(placed: Placed, residencies: int) -> tuple[Step, ...]:
    """The schedule with the addresses of its buffers, which come after those of that many residencies."""
    timeline, graph = placed.timeline, placed.timeline.problem.graph
    buffers: dict[int, list[Buffer]] = {}
    for (t, a, size), offset in zip(timeline.buffers(), placed.offsets[residencies:], strict=True):
        buffers.setdefault(t, []).append(Buffer(None if a is None else graph.tensors[a].name, offset, size))
    return tuple(
        Step(graph.operators[v].name, timeline.runs[v].mode, tuple(buffers.get(t, ())))
        for t, v in enumerate(timeline.order)
    )


def violations(placed: Placed) -> tuple[str, ...]:
    """What the verifier finds wrong with a decision that came from outside."""
    found = replay(schedule_of(placed), placed.timeline.problem)
    if found.violations or found.non_compulsory_bytes == placed.cost_bytes:
        return found.violations
    return (f"it is said to move {placed.cost_bytes} B, the replay counts {found.non_compulsory_bytes}",)


def cheapest(candidates: Iterable[Placed]) -> Placed:
    """The first of the candidates with the least traffic."""
    return min(candidates, key=lambda placed: placed.cost_bytes)
