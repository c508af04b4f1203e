"""A plan explained, as plain data: what it moves, what is proved, why tensors leave early, what would help."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cosma.analysis.levers import Lever, would_help
from cosma.analysis.streaming import Streamed, streamed_operands
from cosma.analysis.why import Eviction, evictions, resident_bytes
from cosma.binding import to_numbers
from cosma.deadline import Deadline
from cosma.graph import Kind
from cosma.instructions import Schedule, runs_of, stays_of, with_steps
from cosma.modes import Mode
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.schedule.timeline import Timeline

_SHARE = 0.25  # of the time, for what would go instead of streams; the rest is for what would help


@dataclass(frozen=True, slots=True)
class TensorTraffic:
    """What one tensor moves: how often, and its bytes, of which `compulsory_bytes` move in every plan.

    streamed_bytes: of all that it moves, what goes through buffers.
    """

    name: str
    kind: Kind
    size_bytes: int
    loads: int
    stores: int
    compulsory_bytes: int
    non_compulsory_bytes: int
    streamed_bytes: int


@dataclass(frozen=True, slots=True)
class StepTraffic:
    """One step: its operator, the bytes that this needs, those taken meanwhile, and those moved.

    taken_bytes include buffers_bytes, of streamed operands and the workspace. Loaded and stored is what comes or goes
    as a whole, streamed_in and streamed_out what goes through buffers. mode: how the operator runs, in words.
    """

    operator: str
    op_type: str
    working_set_bytes: int
    taken_bytes: int
    loaded_bytes: int
    stored_bytes: int
    streamed_in_bytes: int
    streamed_out_bytes: int
    buffers_bytes: int
    mode: str
    tiles: int
    transfers: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is shown of a plan, beside the plan itself.

    capacity_bytes, alignment_bytes: of the scratchpad that it is explained for. working_set_bytes: what any plan needs;
    peak_bytes: what this order needs to evict nothing. proof: what is proved and by whom; order: whether another order
    could help. evictions: by the step at which the tensor leaves. streams: by step. tensors: as in the graph. steps: as
    they run. has_choices: whether operators may run otherwise than with every operand where it lies.
    """

    plan: Plan
    capacity_bytes: int
    alignment_bytes: int
    working_set_bytes: int
    peak_bytes: int
    proof: str
    order: str
    has_choices: bool
    evictions: tuple[Eviction, ...]
    streams: tuple[Streamed, ...]
    levers: tuple[Lever, ...]
    tensors: tuple[TensorTraffic, ...]
    steps: tuple[StepTraffic, ...]


def explain(plan: Plan, problem: Problem, deadline: Deadline) -> Explanation:
    """Everything there is to say of a plan that is valid for the problem.

    What would help, and what would go instead of streams, takes integer programmes; those that are not solved by the
    deadline are left out.
    """
    problem, schedule, _ = to_numbers(plan, problem)
    timeline, stays = _timeline(schedule, problem), stays_of(schedule, problem)
    reasons, taken = evictions(stays, schedule, timeline), resident_bytes(stays, timeline)
    total = plan.claims.compulsory_bytes + plan.claims.non_compulsory_bytes
    streams = streamed_operands(stays, taken, timeline, total, deadline.share(_SHARE))
    return Explanation(
        plan=plan,
        capacity_bytes=problem.memory.capacity_bytes,
        alignment_bytes=problem.memory.alignment_bytes,
        working_set_bytes=problem.working_set_bytes,
        peak_bytes=max(timeline.footprint()),
        proof=_about_proof(plan),
        order=_about_order(plan),
        has_choices=problem.has_choices,
        evictions=reasons,
        streams=streams,
        levers=would_help(plan, timeline, reasons, deadline),
        tensors=_by_tensor(schedule, timeline),
        steps=_by_step(schedule, taken, timeline),
    )


def _timeline(schedule: Schedule, problem: Problem) -> Timeline:
    """The order of a schedule, and how its operators run."""
    runs = dict(runs_of(schedule))
    return Timeline(problem, tuple(runs), tuple(run for _, run in sorted(runs.items())))


def _about_proof(plan: Plan) -> str:
    claims = plan.claims
    replay = f"An independent replay of {len(plan.order):,} steps and {len(plan.moves):,} moves found no violation"
    if claims.status == "optimal":
        return (
            f"Optimal over {_scope(plan)}: the {claims.non_compulsory_bytes:,} B of non-compulsory traffic meet the "
            f"lower bound that solver {plan.solver} proved. {replay}; it recomputes everything but the bound."
        )
    gap = claims.non_compulsory_bytes - claims.bound_bytes
    return (
        f"Feasible, not proved optimal: the lower bound over {_scope(plan)} by solver {plan.solver} is "
        f"{claims.bound_bytes:,} B, a gap of {gap:,} B ({100 * gap / claims.non_compulsory_bytes:.1f} %). {replay}."
    )


def _scope(plan: Plan) -> str:
    """What a bound holds for."""
    modes = ", ".join(plan.source.modes)
    return f"all schedules in the modes declared ({modes})" if modes else "all schedules"


def _about_order(plan: Plan) -> str:
    """Whether another order could help: what the plan's bound says of it."""
    claims = plan.claims
    if claims.status == "optimal":
        return (
            "No other order and no other replacement helps: the plan meets its bound, "
            f"which holds for {_scope(plan)}, addresses included."
        )
    gap = claims.non_compulsory_bytes - claims.bound_bytes
    return f"Another order or replacement could save at most {gap:,} B: the rest is below the bound for every schedule."


def _by_tensor(schedule: Schedule, timeline: Timeline) -> tuple[TensorTraffic, ...]:
    problem, streamed = timeline.problem, Counter[int]()
    for effects in timeline.effects:
        for a, size in effects.moved:
            streamed[a] += size
    loads = Counter(i.number for i in schedule if i.op == "load")
    stores = Counter(i.number for i in schedule if i.op == "store")
    rows = []
    for a, tensor in enumerate(problem.graph.tensors):
        size, name, compulsory = problem.sizes[a], tensor.name, problem.compulsory(a)
        extra = size * (loads[a] + stores[a]) + streamed[a] - compulsory
        rows.append(TensorTraffic(name, tensor.kind, size, loads[a], stores[a], compulsory, extra, streamed[a]))
    return tuple(rows)


def _by_step(schedule: Schedule, taken: Sequence[int], timeline: Timeline) -> tuple[StepTraffic, ...]:
    moved = {op: Counter[int]() for op in ("load", "store", "in", "out")}
    transfers, problem = Counter[int](), timeline.problem
    for t, i in with_steps(schedule):
        if i.op in ("load", "store"):
            moved[i.op][t] += problem.sizes[i.number]
            transfers[t] += 1
    rows = []
    for t, v in enumerate(timeline.order):
        operator, effects = problem.graph.operators[v], timeline.effects[t]
        mode, streamed = problem.modes[v][timeline.runs[v].mode], timeline.runs[v].streamed
        for a, size in effects.moved:
            moved["out" if a in effects.sent else "in"][t] += size
        count = sum(s.transfers for s in mode.streams if s.tensor in streamed)
        rows.append(
            StepTraffic(
                operator.name,
                operator.op_type,
                problem.bytes_of(effects),
                taken[t],
                moved["load"][t],
                moved["store"][t],
                moved["in"][t],
                moved["out"][t],
                problem.buffer_bytes(effects),
                _about_mode(mode),
                mode.tiles,
                transfers[t] + count,
            )
        )
    return tuple(rows)


def _about_mode(mode: Mode) -> str:
    """How an operator runs: the sizes of its tiles, the outermost loop first."""
    if mode.on_host:
        return "on the host"
    return "tiles of " + ", ".join(f"{size} {axis}" for axis, size in mode.tiling) if mode.tiling else "at once"
