"""Why operands are streamed, and evictions beside streams, against brute force over modes, streams and residencies."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cosma.analysis.explain import Explanation, explain
from cosma.analysis.streaming import Instead, _useful, streamed_operands
from cosma.analysis.why import resident_bytes
from cosma.compile import Settings, prepare, solve
from cosma.deadline import Deadline
from cosma.instructions import stays_of
from cosma.nest import Tiler
from cosma.plan import Plan, Source
from cosma.problem import Problem
from cosma.schedule.placed import Placed, schedule_of, to_plan
from cosma.schedule.replacement import optimise
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from cosma.target.mode_sets import Modes, problem_of
from cosma.verify import require_valid
from tests import oracle
from tests.conftest import MODELS
from tests.strategies import modal_problem


def planned(problem: Problem) -> tuple[Plan, Placed]:
    """A verified plan of the exported order, with modes."""
    timeline = Timeline.of(problem, range(len(problem.graph.operators)))
    placed = optimise(timeline, "cp-sat", Deadline.after(60))
    plan = to_plan(placed, 0, Source("", problem.fingerprint(), None, "none", True, {}), "test", "test", "cosma")
    require_valid(plan, problem)
    return plan, placed


def explained(plan: Plan, problem: Problem) -> Explanation:
    return explain(plan, problem, Deadline.after(60))


def with_tensor(placed: Placed, a: int, first: int, last: int) -> Problem:
    """The problem in which tensor a is an operand that is not streamed at these steps; operators elsewhere keep modes."""
    problem, order = placed.timeline.problem, placed.timeline.order
    operators = list(problem.graph.operators)
    modes = [(own[run.mode],) for own, run in zip(problem.modes, placed.timeline.runs, strict=True)]
    for v in order[first : last + 1]:
        if a not in problem.operands[v]:
            operators[v] = replace(operators[v], inputs=(*operators[v].inputs, a))
        modes[v] = tuple(replace(m, streams=tuple(s for s in m.streams if s.tensor != a)) for m in problem.modes[v])
    return Problem(replace(problem.graph, operators=tuple(operators)), problem.memory, tuple(modes))


def cases(seeds: range) -> Iterator[tuple[Problem, Plan, Placed]]:
    for seed in seeds:
        problem = modal_problem(seed, 5, in_place=False)
        if not problem.on_host:
            yield problem, *planned(problem)


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_what_would_go_instead_is_that_of_brute_force(start: int) -> None:
    solved, impossible = 0, 0
    for problem, plan, placed in cases(range(start, start + 100)):
        total = plan.claims.compulsory_bytes + plan.claims.non_compulsory_bytes
        index = {t.name: a for a, t in enumerate(problem.graph.tensors)}
        for stream in explained(plan, problem).streams:
            forced = with_tensor(placed, index[stream.tensor], stream.first, stream.last)
            then = oracle.least_traffic(forced, placed.timeline.order)
            if stream.instead is None:
                alone = stream.first == stream.last
                assert then is None or (alone and stream.moved_bytes <= stream.size_bytes), stream
                impossible += then is None
            else:
                assert then is not None
                assert stream.instead.extra_bytes == then + forced.compulsory_bytes - total
                solved += 1
    assert solved > 5
    assert impossible > 3


@pytest.mark.parametrize("start", range(0, 60, 30))
def test_modes_that_are_left_out_change_nothing(start: int) -> None:
    left_out = 0
    for problem, plan, placed in cases(range(start, start + 30)):
        stays = stays_of(schedule_of(placed), problem)
        total = plan.claims.compulsory_bytes + plan.claims.non_compulsory_bytes
        taken = resident_bytes(stays, placed.timeline)
        facts = (stays, taken, placed.timeline, total, Deadline.after(60))
        for few, all_ in zip(streamed_operands(*facts), streamed_operands(*facts, False), strict=True):
            assert (few.instead is None) == (all_.instead is None)
            assert few.instead is None or few.instead.extra_bytes == all_.instead.extra_bytes
        for v, modes in enumerate(problem.modes):
            left_out += len(modes) - len(_useful(problem, modes, set(problem.operands[v]), ()))
    assert left_out > 0


def test_what_is_missing_is_counted_from_the_plan() -> None:
    short = 0
    for problem, plan, _ in cases(range(60)):
        for stream in explained(plan, problem).streams:
            missing = []
            for t in range(stream.first, stream.last + 1):
                there = {r.tensor: r.size_bytes for r in plan.residencies if r.start <= t < r.end}
                there[stream.tensor] = stream.size_bytes
                buffers = sum(b.size_bytes for b in plan.order[t].buffers if b.tensor != stream.tensor)
                missing.append(sum(there.values()) + buffers - problem.memory.capacity_bytes)
            assert stream.missing_bytes == max(missing) == missing[stream.short_step - stream.first]
            said = f"{stream.missing_bytes:,} B more would be needed at step {stream.short_step}" in stream.why
            assert said == (stream.missing_bytes > 0)
            short += said
    assert short > 20


def test_traffic_adds_up_with_streams() -> None:
    for problem, plan, _ in cases(range(60)):
        found = explained(plan, problem)
        claims = plan.claims
        moved = [(s.loaded_bytes + s.stored_bytes, s.streamed_in_bytes + s.streamed_out_bytes) for s in found.steps]
        assert sum(b for _, b in moved) == claims.streamed_bytes == sum(t.streamed_bytes for t in found.tensors)
        assert sum(a + b for a, b in moved) == claims.compulsory_bytes + claims.non_compulsory_bytes
        assert sum(s.tiles for s in found.steps) == claims.tiles
        assert sum(s.transfers for s in found.steps) == claims.transfers
        assert sum(s.moved_bytes for s in found.streams) == claims.streamed_bytes


def cheapest_instead(placed: Placed, a: int, steps: range) -> int | None:
    """The least extra bytes of other gaps evicted so that tensor a stays at these steps, and is not streamed there."""
    now, old = placed.timeline, placed.evicted | placed.timeline.lost
    runs = list(now.runs)
    for v in (now.order[t] for t in steps):
        runs[v] = replace(runs[v], streamed=runs[v].streamed - {a})
    then = now.with_runs(tuple(runs))
    kept = {gap for g, gap in enumerate(now.gaps) if g not in old}
    mine = {gap for gap in then.gaps if gap.tensor == a and steps.start - 1 <= gap.first < steps.stop}
    best = None
    others = sorted((gap for gap in kept if gap.tensor != a), key=lambda gap: (gap.tensor, gap.first))
    for count in range(len(others) + 1):
        for out in itertools.combinations(others, count):
            stays = kept - set(out) | mine
            evicted = {g for g, gap in enumerate(then.gaps) if gap not in stays}
            if not oracle.overfull_steps(then, evicted) & set(steps):
                extra = then.cost(evicted) - now.cost(placed.evicted)
                best = extra if best is None else min(best, extra)
    return best


def test_evictions_beside_streams_are_those_of_brute_force() -> None:
    with_streams = 0
    for problem, plan, placed in cases(range(400)):
        index = {t.name: a for a, t in enumerate(problem.graph.tensors)}
        if len(placed.timeline.gaps) > 12:
            continue
        for e in explained(plan, problem).evictions:
            if e.binding is None:
                continue
            best = cheapest_instead(placed, index[e.tensor], range(e.leaves, e.returns))
            assert (e.alternatives[0].extra_bytes if e.alternatives else None) == best, e
            with_streams += plan.claims.streamed_bytes > 0
    assert with_streams > 10


def test_past_the_deadline_nothing_is_made_up() -> None:
    for problem, plan, _ in cases(range(20)):
        for stream in explain(plan, problem, Deadline.after(-1)).streams:
            assert stream.instead is None
            assert stream.why


def test_a_network_on_a_small_chip() -> None:
    """Streams of a real network, in words and the same every time."""
    hardware = Hardware("h", 16 * 1024)
    prepared = prepare(
        MODELS / "small" / "resnet8.onnx", hardware, Settings("int8", "pointwise", True, modes=("tile",))
    )
    plan = solve(prepared, hardware, Options()).plan
    assert plan is not None
    found = explained(plan, prepared.problem)
    assert found == explained(plan, prepared.problem)
    assert "all schedules in the modes declared (tile)" in found.proof
    assert {stream.direction for stream in found.streams} == {"in", "out"}
    texts = " ".join(stream.why for stream in found.streams)
    assert "more would be needed at step" in texts
    instead = [stream.instead for stream in found.streams if isinstance(stream.instead, Instead)]
    assert instead
    if plan.claims.status == "optimal":
        assert min(other.extra_bytes for other in instead) >= 0
    assert any("tiles of" in step.mode for step in found.steps)


@pytest.mark.parametrize(
    ("name", "capacity", "modes", "buffers", "change"),
    [
        ("small/smollm2_decoder", 886_848, (), 1, "--modes all, in any order"),
        ("small/resnet8", 4096, ("tile",), 2, "double buffering off, in any order"),
    ],
)
def test_levers_offer_modes_and_single_buffers(
    name: str, capacity: int, modes: Modes, buffers: int, change: str
) -> None:
    hardware = Hardware("h", capacity, tiler=Tiler(buffers))
    prepared = prepare(MODELS / f"{name}.onnx", hardware, Settings("int8", "pointwise", True, modes=modes))
    plan = solve(prepared, hardware, Options()).plan
    assert plan is not None
    (lever,) = (lever for lever in explained(plan, prepared.problem).levers if lever.kind == "modes")
    then = problem_of(prepared.problem.graph, hardware.memory, ("tile",), Tiler())
    total = plan.claims.compulsory_bytes + plan.claims.non_compulsory_bytes
    assert lever.change == change
    assert total - lever.saved_bytes == then.compulsory_bytes + lever.non_compulsory_bytes
    assert lever.saved_bytes > 0
