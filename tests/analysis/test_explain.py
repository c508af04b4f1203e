"""Reasons and remedies against brute force: every set that could go instead, every capacity."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings

from cosma.analysis.explain import Explanation, explain
from cosma.analysis.why import resident_bytes
from cosma.compile import Settings, prepare
from cosma.deadline import Deadline
from cosma.graph import Graph, Operator, Tensor
from cosma.instructions import stays_of
from cosma.modes import Mode, Overwrite
from cosma.plan import Plan, Source
from cosma.problem import Memory, Problem
from cosma.schedule.eviction import belady
from cosma.schedule.placed import Placed, schedule_of, to_plan
from cosma.schedule.replacement import settle
from cosma.schedule.timeline import Timeline
from cosma.target.hardware import Hardware
from cosma.verify import require_valid
from tests import oracle
from tests.strategies import problems, random_problem


def planned(problem: Problem, evicted: frozenset[int] | None = None) -> tuple[Plan, Placed]:
    """A verified plan of the exported order: Belady's evictions, or the given ones."""
    timeline = Timeline.of(problem, range(len(problem.graph.operators)))
    placed, _ = settle(timeline, belady(timeline) if evicted is None else evicted, Deadline.after(60))
    source = Source("test.onnx", problem.fingerprint(), None, "none", True, {})
    plan = to_plan(placed, 0, source, "test", "belady", "cosma")
    require_valid(plan, problem)
    return plan, placed


def explained(plan: Plan, problem: Problem) -> Explanation:
    return explain(plan, problem, Deadline.after(60))


def cheapest_instead(placed: Placed, gap: int, steps: range) -> int | None:
    """The least extra bytes of any set of other gaps whose eviction makes room for this one."""
    timeline, evicted = placed.timeline, placed.evicted
    kept = [g for g in range(len(timeline.gaps)) if g not in evicted]
    best = None
    for size in range(len(kept) + 1):
        for chosen in itertools.combinations(kept, size):
            then = evicted - {gap} | set(chosen)
            if not oracle.overfull_steps(timeline, then) & set(steps):
                extra = timeline.cost(then) - timeline.cost(evicted)
                best = extra if best is None else min(best, extra)
    return best


@settings(deadline=None)
@given(problems)
def test_reasons_are_those_of_brute_force(problem: Problem) -> None:
    plan, placed = planned(problem)
    found = explained(plan, problem).evictions
    assert sum(e.cost_bytes for e in found) == plan.claims.non_compulsory_bytes
    taken = resident_bytes(stays_of(schedule_of(placed), problem), placed.timeline)
    index = {t.name: a for a, t in enumerate(problem.graph.tensors)}
    assert len(found) == len(placed.evicted)
    for e in found:
        a, steps = index[e.tensor], range(e.leaves, e.returns)
        gap = next(
            g
            for g in placed.evicted
            if placed.timeline.gaps[g].tensor == a and placed.timeline.gaps[g].second == e.returns
        )
        excess = {t: taken[t] + e.size_bytes - problem.memory.capacity_bytes for t in steps}
        assert e.why
        if e.binding is None:
            assert max(excess.values(), default=0) <= 0
            assert e.alternatives == ()
            continue
        assert e.binding.missing_bytes == max(excess.values()) == excess[e.binding.step]
        assert e.binding.steps == tuple(t for t in steps if excess[t] > 0)
        assert sum(o.size_bytes for o in e.binding.occupants) + e.binding.workspace_bytes == e.binding.resident_bytes
        best = cheapest_instead(placed, gap, steps)
        assert (e.alternatives[0].extra_bytes if e.alternatives else None) == best
        assert e.binding.alone == (best is None)
        costs = [other.extra_bytes for other in e.alternatives]
        assert costs == sorted(costs)


@settings(deadline=None)
@given(problems)
def test_traffic_adds_up(problem: Problem) -> None:
    """By tensor and by step to what the plan claims, which the verifier has recomputed."""
    plan, _ = planned(problem)
    found = explain(plan, problem, Deadline.after(-1))
    claims = plan.claims
    assert sum(t.compulsory_bytes for t in found.tensors) == claims.compulsory_bytes
    assert sum(t.non_compulsory_bytes for t in found.tensors) == claims.non_compulsory_bytes
    total = claims.compulsory_bytes + claims.non_compulsory_bytes
    assert sum(s.loaded_bytes + s.stored_bytes for s in found.steps) == total


@pytest.mark.parametrize("seed", range(60))
def test_capacities_are_those_of_brute_force(seed: int) -> None:
    problem = random_problem(seed, 6)
    plan, _ = planned(problem)
    order = range(len(problem.graph.operators))
    peak = problem.peak_bytes(order)
    least = {
        c: oracle.least_traffic(problem.with_capacity(c), order) for c in range(problem.memory.capacity_bytes, peak + 1)
    }
    levers = [lever for lever in explained(plan, problem).levers if lever.kind == "capacity"]
    falls = [c for c in least if c - 1 in least and least[c] < least[c - 1]]
    expected = [*[c for c in falls[:3] if c < peak], *([peak] if falls else [])]
    found = [int(lever.change.split(": ")[1].removesuffix(" B").replace(",", "")) for lever in levers]
    assert found == expected
    for capacity, lever in zip(found, levers, strict=True):
        assert lever.non_compulsory_bytes == least[capacity]
        assert lever.saved_bytes == plan.claims.non_compulsory_bytes - least[capacity]


@pytest.mark.parametrize("seed", range(60))
def test_in_place_and_better_replacement_are_those_of_brute_force(seed: int) -> None:
    problem = random_problem(seed, 6)
    graph = replace(problem.graph, operators=tuple(replace(v, op_type="Add") for v in problem.graph.operators))
    problem = Problem(graph, Memory(problem.memory.capacity_bytes))
    plan, _ = planned(problem)
    order = range(len(graph.operators))
    modes = list(problem.modes)
    for v, operator in enumerate(graph.operators):
        if len(operator.outputs) == 1:
            output = problem.sizes[operator.outputs[0]]
            for a in operator.inputs:
                if graph.readers[a][-1] == v and graph.tensors[a].kind != "output" and problem.sizes[a] >= output > 0:
                    modes[v] = (Mode(overwrites=(Overwrite(operator.outputs[0], a),)),)
    here, then = oracle.least_traffic(problem, order), oracle.least_traffic(replace(problem, modes=tuple(modes)), order)
    levers = {lever.kind: lever for lever in explained(plan, problem).levers}  # the last of a kind
    if here < plan.claims.non_compulsory_bytes:
        assert levers.pop("addresses").non_compulsory_bytes == here
    if then < here:
        assert levers.pop("in-place").non_compulsory_bytes == then
    assert not {"addresses", "in-place"} & levers.keys()


def test_an_eviction_without_need_names_the_free_address() -> None:
    """b and c stay small; a could have stayed where it was."""
    tensors = (
        Tensor("x", 8, "input"), Tensor("a", 4, "activation"), Tensor("b", 4, "activation"), Tensor("y", 4, "output"),
    )  # fmt: skip
    operators = (Operator("p", "Op", (0,), (1,)), Operator("q", "Op", (0,), (2,)), Operator("r", "Op", (1, 2), (3,)))
    problem = Problem(Graph("g", tensors, operators), Memory(20))
    gap = next(g for g, gap in enumerate(Timeline.of(problem, range(3)).gaps) if gap.tensor == 1)
    plan, _ = planned(problem, frozenset([gap]))
    explanation = explained(plan, problem)
    (eviction,) = explanation.evictions
    assert (eviction.tensor, eviction.leaves, eviction.returns, eviction.cost_bytes) == ("a", 1, 2, 8)
    assert eviction.binding is None
    assert eviction.hole is not None
    assert "it could have stayed" in eviction.why
    (lever,) = explanation.levers
    assert (lever.kind, lever.non_compulsory_bytes, lever.saved_bytes) == ("addresses", 0, 8)


def test_smaller_elements(tiny) -> None:
    """x, a, b, c, y of 32 B in float32: b is out at 96 B while c is made; halves fit."""
    prepared = prepare(tiny, Hardware("h", 96), Settings(weights=False))
    plan, _ = planned(prepared.problem)
    assert plan.claims.non_compulsory_bytes == 0
    assert explained(plan, prepared.problem).levers == ()
    gap = next(g for g, gap in enumerate(Timeline.of(prepared.problem, range(4)).gaps) if gap.second - gap.first > 1)
    plan, _ = planned(prepared.problem, frozenset([gap]))
    assert plan.claims.non_compulsory_bytes == 64
    levers = explained(plan, prepared.problem).levers
    assert [lever.kind for lever in levers] == ["addresses"]  # smaller elements do no better than that
