"""Divide and conquer: stretches as problems, carried residency, stitching, the same answer on any number of cores."""

import itertools
import multiprocessing
import os
import random
import time
from functools import partial
from pathlib import Path

import pytest

from cosma.compile import Settings, prepare
from cosma.deadline import Deadline
from cosma.problem import Memory, Problem
from cosma.schedule import replacement
from cosma.schedule.placed import violations
from cosma.schedule.timeline import Timeline
from cosma.solvers import registry
from cosma.solvers.decompose import divide
from cosma.solvers.decompose.stretch import Ledger, stretch
from cosma.solvers.options import DivideOptions, Options, SearchOptions
from cosma.solvers.outcome import Outcome
from cosma.target.hardware import Hardware
from tests import oracle
from tests.conftest import MODELS
from tests.solvers.test_bad_luck import at_m_r, tangle
from tests.solvers.test_search import FOREVER, tight
from tests.strategies import random_graph


def run(problem: Problem, solver: str = "divide", **more: object) -> Outcome:
    options = Options(solver, **more)  # type: ignore[arg-type]
    outcome = registry.find(options).solve(problem, options, FOREVER)
    assert outcome.best is not None
    assert not violations(outcome.best)
    assert outcome.bound_bytes <= outcome.best.cost_bytes
    return outcome


def some_order(problem: Problem, seed: int) -> tuple[int, ...]:
    orders = list(itertools.islice(oracle.topological_orders(problem), 50))
    return random.Random(seed).choice(orders)


def test_a_plans_stretch_is_a_solution_that_costs_what_the_plan_pays() -> None:
    """The stretch in the plan's own order can be had for what the plan pays there; all stretches add up to the plan."""
    paid = 0
    for seed in range(250):
        problem = tight(seed, 7)
        order = some_order(problem, seed)
        ledger = Ledger.of(replacement.optimise(Timeline.of(problem, order), "cp-sat", FOREVER))
        cuts = sorted({0, len(order), *random.Random(seed).sample(range(len(order)), min(2, len(order)))})
        total = 0
        for start, end in itertools.pairwise(cuts):
            part = stretch(ledger, start, end)
            count = len(part.problem.graph.operators)
            assert part.problem.working_set_bytes <= problem.memory.capacity_bytes
            assert oracle.least_traffic(part.problem, range(count)) <= part.cost_bytes, (seed, start, end)
            total += part.cost_bytes
        assert total == ledger.placed.cost_bytes
        paid += total > 0
    assert paid > 30


def test_a_cheaper_stretch_makes_a_cheaper_plan() -> None:
    """What a stretch's optimum saves, the whole plan saves at least, once its replacement is optimised again."""
    improved = 0
    for seed in range(250):
        problem = tight(seed, 7)
        order = some_order(problem, seed)
        placed = replacement.optimise(Timeline.of(problem, order), "cp-sat", FOREVER)
        start = random.Random(seed).randint(0, len(order) - 1)
        end = random.Random(seed + 1).randint(start + 1, len(order))
        part = stretch(Ledger.of(placed), start, end)
        found = run(part.problem, "auto").best
        saved = part.cost_bytes - found.cost_bytes
        assert saved >= 0, seed
        inner = [part.operators[v - 1] for v in found.timeline.order if 0 < v <= len(part.operators)]
        assert sorted(inner) == sorted(part.operators)
        new = replacement.optimise(Timeline.of(problem, [*order[:start], *inner, *order[end:]]), "cp-sat", FOREVER)
        assert new.bound_bytes <= placed.cost_bytes - saved, seed
        improved += saved > 0
    assert improved > 3


@pytest.mark.parametrize("inner", divide.PART_SOLVERS)
def test_small_problems_are_solved_like_any(inner: str) -> None:
    for seed in range(60):
        problem = tight(seed, 7)
        best = oracle.least_traffic(problem)
        outcome = run(problem, f"divide:{inner}")
        assert outcome.bound_bytes <= best <= outcome.best.cost_bytes
        assert outcome.best.cost_bytes == best, seed  # the whole fits into one window


def network(name: str, fusion: str, capacity: int) -> Problem:
    hardware = Hardware("h", capacity)
    return prepare(MODELS / f"{name}.onnx", hardware, Settings("int8", fusion, False)).problem  # type: ignore[arg-type]


# Optima proved by the exact search (results/proofs.csv).
NAS = [
    ("amoebanet_d", 2_408_448, 3_512_320), ("amoebanet_d", 2_784_768, 2_408_448),
    ("nasnetalarge_224", 1_921_365, 658_560), ("pnasnet5large_224", 2_365_632, 338_688),
]  # fmt: skip


@pytest.mark.parametrize(("name", "capacity", "best"), NAS)
def test_networks_found_by_search_are_within_one_percent(name: str, capacity: int, best: int) -> None:
    outcome = run(network(name, "pointwise", capacity), divide=DivideOptions(2))
    assert best <= outcome.best.cost_bytes <= 1.01 * best
    assert 0 < outcome.bound_bytes <= best


def test_the_same_plan_on_any_number_of_processes() -> None:
    problem = network("amoebanet_d", "none", 3_211_264)
    plans = [run(problem, divide=DivideOptions(jobs)).best for jobs in (1, 2, 3)]
    assert len({(p.timeline.order, p.evicted, p.offsets) for p in plans}) == 1


def test_what_is_known_of_the_whole_is_not_taken_for_a_part() -> None:
    """A schedule and a bound from another capacity, as in a staircase where a limit strikes."""
    for seed in range(30):
        problem = tight(seed, 9)
        exact = run(problem, "auto")
        best = exact.best.cost_bytes
        assert exact.bound_bytes == best
        larger = problem.with_capacity(problem.memory.capacity_bytes + 1)
        known = run(larger, "auto")
        there = SearchOptions(known.best.timeline.order, known.bound_bytes)
        for solver in ("auto", "divide"):
            outcome = run(problem, solver, state_limit=3, search=there)
            assert outcome.bound_bytes <= best <= outcome.best.cost_bytes


def die(*_: object, **__: object) -> None:
    """In a process of the solver's; a single stretch is solved in this one."""
    if multiprocessing.parent_process() is not None:
        os._exit(7)


def test_a_process_that_dies_leaves_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divide, "_solve_stretch", die)
    outcome = divide.solve(at_m_r(tangle(300)), Options("divide", divide=DivideOptions(2)), Deadline.after(4.0))
    assert not violations(outcome.best)


def late(answer: Path, *_: object, **__: object) -> None:
    time.sleep(30)
    answer.touch()


def test_a_process_that_ignores_the_deadline_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(divide, "_solve_stretch", partial(late, tmp_path / "answer"))
    outcome = divide.solve(at_m_r(tangle(300)), Options("divide", divide=DivideOptions(2)), Deadline.after(1.0))
    assert not violations(outcome.best)
    assert not (tmp_path / "answer").exists()


def test_time_runs_out_with_a_plan() -> None:
    problem = network("nasnetalarge_224", "none", 2_365_632)
    for seconds in (0.0, 0.5):
        options = Options("divide", seconds, divide=DivideOptions(2))
        outcome = divide.solve(problem, options, Deadline.after(seconds))
        assert not violations(outcome.best)


def test_auto_goes_on_where_search_stops() -> None:
    """With few states the search does not end; windows of the plan it has are then solved again."""
    problem = network("amoebanet_d", "pointwise", 2_408_448)
    stopped = run(problem, "auto", state_limit=300)
    assert stopped.best.cost_bytes >= stopped.bound_bytes > 0
    assert stopped.best.cost_bytes <= 1.5 * 3_512_320


@pytest.mark.slow
def test_no_window_that_was_looked_at_improves_the_plan() -> None:
    """Also those that overlap others; they have their turn when nothing else improves."""
    unproved = 0
    for seed in (30007, 30014, 30030):
        graph = random_graph(seed, 60, (1, 2, 3, 4, 6, 8))
        problem = Problem(graph, Memory(2**40))
        problem = problem.with_capacity(problem.working_set_bytes)
        outcome = divide.solve(problem, Options("divide:paper", time_limit_s=300), Deadline.after(300))
        best = outcome.best
        if best.cost_bytes == outcome.bound_bytes:
            continue
        unproved += 1
        ledger = Ledger.of(best)
        for size in (8, 12):
            tried: set[tuple[int, int]] = set()
            while chosen := set(divide._worst_windows(best, size, tried)):
                tried |= chosen
            for start, end in sorted(tried):
                part = stretch(ledger, start, end)
                inner = divide._solve_stretch(part, "paper", Options("auto", state_limit=20_000), FOREVER)
                if inner is not None:
                    order = list(best.timeline.order)
                    order[start:end] = [part.operators[i] for i in inner]
                    there = replacement.optimise(Timeline.of(problem, order), "cp-sat", FOREVER)
                    assert there.cost_bytes >= best.cost_bytes
    assert unproved
