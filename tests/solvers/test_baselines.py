"""The baselines against a second implementation that simulates them step by step, without the compiler's notions."""

import itertools
from collections.abc import Sequence

import pytest

from cosma.problem import Memory, Problem
from cosma.schedule.eviction import TooManySumsError, least_bytes
from cosma.schedule.placed import violations
from cosma.schedule.placement import Block
from cosma.schedule.timeline import Timeline
from cosma.solvers import baselines, registry
from cosma.solvers.options import Options
from cosma.solvers.programmes.compact import order_of_smallest_peak
from tests.solvers.test_search import FOREVER, tight

Interval = tuple[int, int, int]  # tensor, first step, last step


def simulate(problem: Problem, order: Sequence[int], rule: str) -> tuple[int, list[Interval]]:
    """Walk over the steps, holding a set of tensors: (non-compulsory bytes, intervals in the scratchpad)."""
    graph, sizes = problem.graph, problem.sizes
    operands = [set(graph.operators[v].inputs) | set(graph.operators[v].outputs) for v in order]
    held: dict[int, int] = {}  # tensor -> first step of its stay
    intervals, traffic, on_host, loaded = [], 0, set(), set()

    def next_use(a: int, t: int) -> int | None:
        return next((s for s in range(t, len(order)) if a in operands[s]), None)

    def leave(a: int, last: int) -> None:
        intervals.append((a, held.pop(a), last))

    last_used: dict[int, int] = {}
    for t, needed in enumerate(operands):
        room = problem.memory.capacity_bytes - sum(sizes[a] for a in needed)
        others = [a for a in held if a not in needed]
        shortage = sum(sizes[a] for a in others) - room
        if shortage > 0:
            for a in choose(rule, others, shortage, sizes, {a: next_use(a, t) for a in others}):
                if graph.tensors[a].kind == "activation" and a not in on_host:
                    traffic += sizes[a]
                on_host.add(a)
                leave(a, last_used[a])
        for a in sorted(needed):
            if a not in held:
                written = a in graph.operators[order[t]].outputs
                if not written and (not graph.tensors[a].is_home or a in loaded):
                    traffic += sizes[a]
                loaded.add(a)
                held[a] = t
            last_used[a] = t
        for a in list(held):
            if next_use(a, t + 1) is None:
                leave(a, t)
    return traffic, intervals


def choose(rule: str, others: list[int], shortage: int, sizes: Sequence[int], uses: dict[int, int | None]) -> list[int]:
    solid = sorted(a for a in others if sizes[a])
    if rule == "belady":
        gone = []
        for a in sorted(solid, key=lambda a: (-(uses[a] or 0), -sizes[a], a)):
            if sum(sizes[b] for b in gone) < shortage:
                gone.append(a)
        return gone
    sets = (s for k in range(1, len(solid) + 1) for s in itertools.combinations(solid, k))
    enough = (s for s in sets if sum(sizes[a] for a in s) >= shortage)
    return list(min(enough, key=lambda s: (sum(sizes[a] for a in s), len(s), s)))


def arena_bytes(intervals: list[Interval], sizes: Sequence[int], steps: int, by_size: bool) -> int:
    """The size of the arena: blocks one after the other, each at the lowest end of its tightest gap, byte by byte."""
    rows = sorted(i for i in intervals if sizes[i[0]])
    whole = [i for i in rows if (i[1], i[2]) == (0, steps - 1)] if by_size else []
    rest = [i for i in rows if i not in whole]
    rest.sort(key=lambda i: (-sizes[i[0]], i[1], i[0]) if by_size else (i[1], i[0]))
    placed: list[tuple[Interval, int]] = []
    for interval in whole + rest:
        size = sizes[interval[0]]
        taken = set()
        for other, at in placed:
            if other[1] <= interval[2] and interval[1] <= other[2]:
                taken |= set(range(at, at + sizes[other[0]]))
        top = max(taken, default=-1) + 1
        free = [at for at in range(top) if at not in taken and (at == 0 or at - 1 in taken)]
        gaps = [(next(b for b in range(at, top + 1) if b in taken) - at, at) for at in free]
        placed.append((interval, min([g for g in gaps if g[0] >= size], default=(0, top))[1]))
    return max((at + sizes[i[0]] for i, at in placed), default=0)


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_bytes_and_feasibility_are_reproduced(name: str) -> None:
    infeasible = paid = 0
    for seed in range(400):
        problem = tight(seed, 7)
        order: Sequence[int] = range(len(problem.graph.operators))
        if "peak" in name:
            order = order_of_smallest_peak(problem, Options(), FOREVER)
        traffic, intervals = simulate(problem, order, "greedy" if "greedy" in name else "belady")
        size = arena_bytes(intervals, problem.sizes, len(order), name != "best-fit")
        options = Options(name)
        outcome = registry.find(options).solve(problem, options, FOREVER)
        if size > problem.memory.capacity_bytes:
            assert outcome.best is None, seed
            assert f"the arena needs {size:,} B" in outcome.why[0]
            infeasible += 1
        else:
            assert outcome.best.cost_bytes == traffic, seed
            assert not violations(outcome.best)
            assert outcome.bound_bytes == 0
            paid += traffic > 0
    assert paid > 20
    assert infeasible > 3


def test_whole_horizon_blocks_come_first() -> None:
    blocks = [Block(0, 2, 9), Block(0, 5, 1), Block(1, 5, 9), Block(0, 5, 2), Block(2, 3, 20)]
    assert baselines.arena_order(blocks, 5) == [1, 3, 4, 0, 2]


def test_too_many_sums_are_a_reason() -> None:
    from tests.solvers.test_bad_luck import graph

    sizes = [2**30 + 2**i for i in range(26)]
    g = graph([*(([0], s) for s in sizes), (range(1, 27), 1), ([0], sum(sizes))], inputs=[1])
    problem = Problem(g, Memory(sum(sizes) + 2))
    timeline = Timeline.of(problem, (*range(26), 27, 26))
    with pytest.raises(TooManySumsError, match="different sums"):
        least_bytes(timeline.of(problem.with_capacity(problem.working_set_bytes + 2**34), timeline.order))


def test_a_baseline_without_a_plan_says_so(run) -> None:
    from tests.conftest import MODELS

    flags = ("--scratchpad", "1605632 B", "--dtype", "int8", "--fusion", "pointwise", "--no-weights")
    args = ("compile", MODELS / "densenet121.onnx", *flags, "--solver", "tflite-exported-belady")
    outcome = run(*args)
    assert outcome.code == 3
    assert "the arena needs 1,705,984 B, the scratchpad has 1,605,632 B: fragmentation" in " ".join(outcome.out.split())
    assert "another solver" in outcome.out
    result = run(*args, "--json")
    assert (result.code, result.json["status"], result.json["non_compulsory_bytes"]) == (3, "infeasible", None)
