"""A schedule with residencies and addresses, and the plan that it stands for."""

from collections.abc import Iterable
from dataclasses import dataclass

from cosma.binding import to_names
from cosma.instructions import Schedule, Stay, sequence
from cosma.plan import SCHEMA_VERSION, Claims, Plan, Source
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
    modes = [(problem.modes[v][run.mode], run.streamed) for v, run in enumerate(placed.timeline.runs)]
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
            peak_use_bytes=_peak(placed),
            streamed_bytes=sum(e.moved_bytes for e in placed.timeline.effects),
            tiles=sum(mode.tiles for mode, _ in modes),
            transfers=sum(i.op in ("load", "store") for i in schedule)
            + sum(s.transfers for mode, streamed in modes for s in mode.streams if s.tensor in streamed),
        ),
        instructions=to_names(schedule, problem),
    )


def _peak(placed: Placed) -> int:
    """One past the highest address in use."""
    timeline, offsets = placed.timeline, iter(placed.offsets)
    tops = [next(offsets) + timeline.problem.sizes[a] for a, _, _ in timeline.intervals(placed.evicted)]
    tops += [offset + size for offset, (_, _, size) in zip(offsets, timeline.buffers(), strict=True)]
    return max(tops, default=0)


def schedule_of(placed: Placed) -> Schedule:
    """What a placed decision does."""
    timeline, offsets = placed.timeline, placed.offsets
    intervals = timeline.intervals(placed.evicted)
    stays = [Stay(*interval, offset) for interval, offset in zip(intervals, offsets, strict=False)]
    buffers: dict[int, list[tuple[int | None, int]]] = {}
    for (t, a, _), offset in zip(timeline.buffers(), offsets[len(intervals) :], strict=True):
        buffers.setdefault(t, []).append((a, offset))
    return sequence(timeline.problem, [(v, timeline.runs[v]) for v in timeline.order], stays, buffers)


def violations(placed: Placed) -> tuple[str, ...]:
    """What the verifier finds wrong with a decision that came from outside."""
    found = replay(schedule_of(placed), placed.timeline.problem)
    if found.violations or found.non_compulsory_bytes == placed.cost_bytes:
        return found.violations
    return (f"it is said to move {placed.cost_bytes} B, the replay counts {found.non_compulsory_bytes}",)


def cheapest(candidates: Iterable[Placed]) -> Placed:
    """The first of the candidates with the least traffic."""
    return min(candidates, key=lambda placed: placed.cost_bytes)
