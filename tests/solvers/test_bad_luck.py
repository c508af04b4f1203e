"""Graphs that no search likes: a verified plan or a clear infeasible, within the limits, never an exception."""

import random
from collections.abc import Sequence

import pytest

from cosma.compile import Prepared, solve
from cosma.graph import Graph, Operator, Tensor
from cosma.plan import Source
from cosma.problem import Memory, Problem
from cosma.solvers.options import Options, Result
from cosma.solvers.search.space import whole
from cosma.solvers.search.strategies import smallest_peak
from cosma.target.hardware import Hardware
from cosma.verify import check
from tests.solvers.test_search import FOREVER, NO_LIMIT, tight


def graph(rows: Sequence[tuple[Sequence[int], int]], inputs: Sequence[int] = (4,)) -> Graph:
    """One operator a row: (tensors read, size of the tensor written); tensor 0 is the first input."""
    tensors = [Tensor(f"x{i}", size, "input") for i, size in enumerate(inputs)]
    read = {a for reads, _ in rows for a in reads}
    operators = []
    for v, (reads, size) in enumerate(rows):
        number = len(tensors)
        tensors.append(Tensor(f"t{number}", size, "activation" if number in read else "output"))
        operators.append(Operator(f"op{v}", "Op", tuple(dict.fromkeys(reads)), (number,)))
    return Graph("bad luck", tuple(tensors), tuple(operators))


def solve_at(problem: Problem, **limits: object) -> Result:
    source = Source("bad luck", problem.fingerprint(), None, "none", True, {})
    options = Options(**{"time_limit_s": 6.0, **limits})  # type: ignore[arg-type]
    result = solve(Prepared(None, problem, source), Hardware("h", problem.memory.capacity_bytes), options)  # type: ignore[arg-type]
    if result.plan is None:
        assert result.status == "infeasible"
        assert result.shortage is not None
    else:
        assert not check(result.plan, problem).violations
        assert result.bound_bytes <= result.non_compulsory_bytes
        assert (result.status == "optimal") == (result.bound_bytes == result.non_compulsory_bytes)
    return result


def at_m_r(g: Graph, extra: int = 0) -> Problem:
    problem = Problem(g, Memory(2**50))
    return problem.with_capacity(problem.working_set_bytes + extra)


def chains(count: int, length: int, size: int = 8) -> Graph:
    """Parallel chains from one input into one operator that reads all their ends."""
    rows: list[tuple[list[int], int]] = []
    ends = []
    for _ in range(count):
        last = 0
        for _ in range(length):
            rows.append(([last], size))
            last = len(rows)
        ends.append(last)
    return graph([*rows, (ends, size)])


def tangle(operators: int) -> Graph:
    """Every operator reads two of the sixty tensors before it; nearly every window of it fragments."""
    rng = random.Random(0)
    reads = ([max(0, v - rng.randint(0, 60)), max(0, v - rng.randint(0, 60))] for v in range(operators))
    return graph([(r, rng.randint(1, 50)) for r in reads])


GRAPHS = {
    "a tangle": tangle(2500),
    "thousands of unordered operators": graph([*(([0], 1 + i % 7) for i in range(3000)), (range(1, 3001), 5)]),
    "thousands of unordered pairs": graph([([i // 2 * 2], 3) if i % 2 else ([0], 5) for i in range(2000)]),
    "hundreds of parallel chains": chains(300, 5),
    "equal sizes everywhere": graph([([max(0, i - 7), max(0, i - 3), i], 8) for i in range(400)]),
    "500 inputs": graph([([*range(500)], 3)], inputs=[1 + i % 5 for i in range(500)]),
    "500 readers": graph([([0], 9), *(([1], 2) for _ in range(500)), ([*range(2, 502)], 1)]),
    "single operator": graph([([0], 1)]),
    "zero sizes": graph([([0], 0), ([1], 0), ([1, 2], 0)], inputs=[0]),
    "mixed zero sizes": graph([([0], 0), ([1], 5), ([0, 2], 0), ([1, 3], 2)]),
    "a ladder": graph([([max(0, i - 1), i], 1 + (5 * i) % 11) for i in range(1200)]),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("extra", [-1, 0, 1, 300])
def test_a_verified_plan_or_a_clear_infeasible(name: str, extra: int) -> None:
    problem = at_m_r(GRAPHS[name], max(extra, 1 - at_m_r(GRAPHS[name]).memory.capacity_bytes))
    result = solve_at(problem, state_limit=3000, time_limit_s=3.0)
    assert (result.status == "infeasible") == (problem.memory.capacity_bytes < problem.working_set_bytes)


@pytest.mark.parametrize("solver", ["auto", "divide", "joint", "paper", "paper-peak:cbc", "compact", "compact:highs"])
def test_no_time_at_all(solver: str) -> None:
    for name in ("hundreds of parallel chains", "equal sizes everywhere", "a ladder", "a tangle"):
        assert solve_at(at_m_r(GRAPHS[name]), solver=solver, time_limit_s=0.0).plan is not None


def test_one_byte_below_the_smallest_peak() -> None:
    for seed in range(60):
        problem = tight(seed)
        peak = smallest_peak(whole(problem), NO_LIMIT, FOREVER).cost
        if peak > problem.working_set_bytes:
            assert solve_at(problem.with_capacity(peak)).status == "optimal"
            below = solve_at(problem.with_capacity(peak - 1))
            assert below.status != "infeasible"
            assert below.non_compulsory_bytes > 0


def test_state_limit_gives_the_same_answer_every_time() -> None:
    problem = at_m_r(tangle(50))
    first, second = (solve_at(problem, state_limit=2000, time_limit_s=600.0) for _ in range(2))
    assert first.plan.to_json() == second.plan.to_json()
    assert (first.states, first.bound_bytes) == (second.states, second.bound_bytes)


def test_memory_limit_lowers_the_state_limit() -> None:
    problem = at_m_r(tangle(50))
    few = solve_at(problem, memory_limit_bytes=100_000, time_limit_s=600.0)
    many = solve_at(problem, memory_limit_bytes=2_000_000, time_limit_s=600.0)
    assert few.states < many.states
    assert few.bound_bytes <= many.bound_bytes <= many.non_compulsory_bytes
