"""Traffic against capacity: exact, with few probes."""

from itertools import pairwise

import pytest

from cosma.compile import Settings, prepare
from cosma.deadline import Deadline
from cosma.experiments.staircase import MOST_PROBES, Point, Step, grid_bytes, knee, staircase, steps, worth_of_next_kib
from cosma.problem import Problem
from cosma.solvers.options import Options, SearchOptions
from cosma.solvers.search import portfolio
from cosma.target.hardware import Hardware
from tests.conftest import MODELS
from tests.strategies import random_problem

TINY = MODELS / "tiny_branches.onnx"
FOREVER = Deadline.after(1e6)


def solve_at(problem: Problem, capacity: int, **known) -> Point:
    outcome = portfolio.solve(problem.with_capacity(capacity), Options(search=SearchOptions(**known)), FOREVER)
    best = outcome.best
    top = max(
        (
            o + problem.sizes[a]
            for (a, _, _), o in zip(best.timeline.intervals(best.evicted), best.offsets, strict=False)
        ),
        default=0,
    )
    return Point(best.cost_bytes, outcome.bound_bytes, top, best.timeline.order)


def climb(problem: Problem) -> dict[int, Point]:
    """All that the bisection asks for."""
    search, found = staircase(problem), {}
    probes = next(search)
    while True:
        for p in probes:
            found[p.capacity_bytes] = solve_at(
                problem, p.capacity_bytes, known_order=p.known_order, known_bound=p.known_bound
            )
        try:
            probes = search.send([found[p.capacity_bytes] for p in probes])
        except StopIteration:
            return found


@pytest.mark.parametrize("seed", range(60))
def test_the_staircase_is_the_optimum_at_every_capacity(seed: int) -> None:
    problem = random_problem(seed)
    found = climb(problem)
    corners = steps([(c, f.cost_bytes, f.bound_bytes) for c, f in found.items()])
    assert all(step.cost_bytes == step.bound_bytes for step in corners)
    assert corners[-1].cost_bytes == 0
    costs = []
    for capacity in range(problem.working_set_bytes, corners[-1].capacity_bytes + 2):
        here = [step for step in corners if step.capacity_bytes <= capacity]
        plain = solve_at(problem, capacity)
        assert plain.cost_bytes == here[-1].cost_bytes
        costs.append(plain.cost_bytes)
    assert costs == sorted(costs, reverse=True)  # monotone


def test_few_probes_find_the_steps_of_densenet() -> None:
    problem = prepare(MODELS / "densenet121.onnx", Hardware("any", 2**62), Settings("int8", "pointwise", False)).problem
    found = climb(problem)
    corners = steps([(c, f.cost_bytes, f.bound_bytes) for c, f in found.items()])
    assert corners == [Step(1605632, 401408, 401408), Step(1705984, 200704, 200704), Step(1806336, 0, 0)]
    assert len(found) <= 4 * len(corners)
    unit = grid_bytes(problem)
    for step in corners[1:]:
        assert solve_at(problem, step.capacity_bytes - unit).cost_bytes > step.cost_bytes


def test_points_of_unproved_plans_become_a_falling_band() -> None:
    points = [(10, 100, 40), (20, 120, 60), (30, 50, 50), (40, 50, 20)]
    assert steps(points) == [Step(10, 100, 60), Step(30, 50, 50)]
    line = [Step(0, 100, 100), Step(1024, 20, 20), Step(10240, 0, 0)]
    assert knee(line) == line[1]
    assert knee(line[:2]) is None
    assert knee([Step(0, 4, 4), Step(1, 2, 2), Step(2, 0, 0)]) is None  # a straight line has none
    assert worth_of_next_kib(line) == [80.0, 20 / 9]


def test_a_search_ends_where_probes_have_no_answer() -> None:
    problem = prepare(TINY, Hardware("any", 2**62), Settings("int8")).problem
    ends = (problem.working_set_bytes, sum(problem.sizes))
    search, asked = staircase(problem), []
    probes = next(search)
    while probes:
        capacities = [p.capacity_bytes for p in probes]
        assert not set(capacities) & set(asked)
        asked += capacities
        try:
            probes = search.send([solve_at(problem, c) if c in ends else None for c in capacities])
        except StopIteration:
            break
    assert set(ends) < set(asked)


def test_a_curve_with_modes_is_looked_at_where_it_falls_most() -> None:
    settings = Settings("int8", "pointwise", True, modes=("tile",))
    problem = prepare(MODELS / "small/resnet8.onnx", Hardware("any", 2**62), settings).problem
    found = climb(problem)
    capacities = sorted(found)
    assert len(capacities) == MOST_PROBES
    assert capacities[0] == problem.smallest_capacity_bytes
    costs = [found[c].cost_bytes for c in capacities]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == 0 < costs[0]
    # The largest falls are steps: no capacity lies between.
    _, low, high = max(
        (one - other, low, high) for (one, low), (other, high) in pairwise(zip(costs, capacities, strict=True))
    )
    assert high - low == grid_bytes(problem)
