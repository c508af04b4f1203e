"""One solver's word is no proof: false bounds, false infeasibility and false packings are caught, and named."""

import itertools
import random
from fractions import Fraction

import pytest

from cosma.compile import Settings, prepare
from cosma.compile import solve as compile_problem
from cosma.milp import backends, cp_sat, ortools_backend, pulp_backend
from cosma.milp.backends import BUNDLED
from cosma.milp.dual_bound import dual_bound, exact_bound
from cosma.milp.programme import Programme, Solved
from cosma.milp.second_opinion import EXACT
from cosma.problem import Memory, Problem
from cosma.schedule import packing, replacement
from cosma.schedule.timeline import Timeline
from cosma.solvers import registry
from cosma.solvers.options import Options, SearchOptions
from cosma.solvers.outcome import Outcome
from cosma.solvers.search import portfolio
from cosma.target.hardware import Hardware
from tests import oracle
from tests.conftest import ROOT
from tests.solvers.test_programmes import run, switches
from tests.solvers.test_search import FOREVER, tight

# What claims proofs: search, both programmes by each solver that comes along, divide and conquer by each of the exact.
PROVERS = (
    "auto", *(f"{programme}:{backend}" for programme in ("joint", "paper") for backend in BUNDLED),
    "divide:search", "divide:joint", "divide:paper", "compact",
)  # fmt: skip


def false_bound() -> Problem:
    """On this one CP-SAT 9.12 to 9.15 loses the optimum of 5 in its presolve and claims 12."""
    return prepare(
        ROOT / "tests" / "cases" / "cpsat_false_bound.onnx", Hardware("h", 25), Settings(None, "none", False)
    ).problem


def knapsack() -> Programme:
    """Maximise 3 a + 4 b + 5 c with a + 2 b + 3 c <= 3 as a minimisation: -7, with a and b; relaxed -7 too."""
    model = Programme("knapsack", FOREVER)
    x = [model.binary(name, -worth) for name, worth in (("a", 3), ("b", 4), ("c", 5))]
    model.at_most("room", zip(x, (1, 2, 3), strict=True), 3)
    return model


def odd() -> Programme:
    """x + y + z >= 2 in pairs: each pair has one. Least 2, relaxed 1.5, so that rounding up makes 2."""
    model = Programme("odd", FOREVER)
    x = [model.binary(name, 1) for name in "xyz"]
    for pair in itertools.combinations(x, 2):
        model.at_least("pair", ((c, 1) for c in pair), 1)
    return model


def weak() -> Programme:
    """2 x + 2 y = 3 z, z >= 1: least x + y is 3 with z = 2; relaxed 1.5, which rounds up to 2 only."""
    model = Programme("weak", FOREVER)
    x, y, z = (model.integer(name, 0, 9, cost) for name, cost in (("x", 1), ("y", 1), ("z", 0)))
    model.equal("even", [(x, 2), (y, 2), (z, -3)], 0)
    model.at_least("some", [(z, 1)], 1)
    return model


MODELS = {"knapsack": (knapsack, -7, -7), "odd": (odd, 2, 2), "weak": (weak, 3, 2)}


@pytest.mark.parametrize("solver", [*(f"paper:{backend}" for backend in BUNDLED), "joint", "auto"])
def test_the_false_bound(solver: str) -> None:
    problem = false_bound()
    assert oracle.least_traffic(problem) == 5
    outcome = run(problem, solver)
    assert outcome.best is not None
    assert (outcome.best.cost_bytes, outcome.bound_bytes) == (5, 5)


@pytest.mark.parametrize("name", MODELS)
def test_dual_bounds(name: str) -> None:
    make, best, bound = MODELS[name]
    assert dual_bound(make(), FOREVER) == bound <= best
    assert dual_bound(make(), FOREVER.after(-1)) is None


@pytest.mark.parametrize("backend", BUNDLED)
def test_a_constant_in_the_objective_is_part_of_the_bound(backend: str) -> None:
    """The least of `weak` less 10 is -7, in what the backend itself says. CBC tells no bound."""
    model = weak()
    model.offset = -10
    ask = ortools_backend.minimise if backend in ortools_backend.NAMES else pulp_backend.minimise
    claimed = ask(model, backend, FOREVER, False)
    assert claimed.status == "optimal"
    assert claimed.bound == (None if backend == "cbc" else -7)


def test_any_prices_give_a_bound() -> None:
    """The floating-point solver cannot do harm: whatever its prices are, the bound is no larger than the optimum."""
    rng = random.Random(0)
    for make, best, _ in MODELS.values():
        model = make()
        for _ in range(500):
            prices = [rng.uniform(-4, 4) for _ in model.rules]
            assert exact_bound(model, prices) <= best
    half = Fraction(1, 2)
    assert exact_bound(odd(), [half, half, half]) == 3 * half  # what is left of each variable costs nothing
    assert exact_bound(odd(), [1, 1, 1]) == 3 - 3  # 3 x 1, and -1 for each of three variables that may be 1
    assert exact_bound(odd(), [-1, -1, -1]) == 0  # the rows have no upper side


@pytest.mark.parametrize(("name", "relaxed"), [("knapsack", -7.0), ("odd", 1.5), ("weak", 1.5)])
def test_root_bounds_are_exact_too(name: str, relaxed: float) -> None:
    model = MODELS[name][0]()
    model.offset = 4
    assert backends.relaxation(model, FOREVER) == pytest.approx(relaxed + 4, abs=1e-6)


@pytest.mark.parametrize("backend", BUNDLED)
@pytest.mark.parametrize("name", MODELS)
def test_what_a_bound_rests_on(name: str, backend: str) -> None:
    make, best, bound = MODELS[name]
    solved = backends.minimise(make(), backend, FOREVER)
    assert (solved.status, solved.bound) == ("optimal", best)
    assert solved.rests_on == f"{backend}, confirmed by {EXACT if bound == best else 'cp-sat without presolve'}"


def lying(monkeypatch: pytest.MonkeyPatch, claim: Solved) -> None:
    monkeypatch.setattr(ortools_backend, "_cp_sat", lambda *_: claim)


@pytest.mark.parametrize("hinted", [False, True])
def test_a_bound_above_the_optimum(monkeypatch, hinted: bool) -> None:
    model = weak()
    worse = (4, 2, 4)  # 2 x 4 + 2 x 2 = 3 x 4
    lying(monkeypatch, Solved("optimal", worse, 6))
    if hinted:
        model.hint = {0: 3, 1: 0, 2: 2}
    solved = backends.minimise(model, "cp-sat", FOREVER)
    assert (solved.status, solved.bound) == ("feasible", None if hinted else 2)
    assert model.objective(solved.values) < 6  # the solution that contradicts it is taken
    assert solved.why.startswith("cp-sat claims a bound of 6, but a solution of ")


def test_a_bound_that_a_known_plan_contradicts(monkeypatch) -> None:
    model = weak()
    model.known = 3
    lying(monkeypatch, Solved("optimal", (4, 2, 4), 6))
    assert (
        "cp-sat claims a bound of 6, but a solution of 3 is at hand" in backends.minimise(model, "cp-sat", FOREVER).why
    )


def test_infeasibility_that_is_none(monkeypatch) -> None:
    lying(monkeypatch, Solved("infeasible"))
    solved = backends.minimise(weak(), "cp-sat", FOREVER)
    assert (solved.status, solved.values is not None) == ("feasible", True)
    assert solved.why.startswith("cp-sat claims that there is no solution, but ")


def test_infeasibility_that_holds() -> None:
    model = weak()
    model.at_most("none", [(2, 1)], 1)  # z = 1 makes 2 x + 2 y odd
    solved = backends.minimise(model, "cp-sat", FOREVER)
    assert (solved.status, solved.rests_on) == ("infeasible", "cp-sat, confirmed by cp-sat without presolve")


def test_a_bound_that_nothing_confirms(monkeypatch) -> None:
    lying(monkeypatch, Solved("optimal", (3, 0, 2), 3))
    monkeypatch.setattr(ortools_backend, "look_below", lambda *_: Solved("unknown"))
    solved = backends.minimise(weak(), "cp-sat", FOREVER)
    assert (solved.status, solved.bound, solved.rests_on) == ("feasible", 2, EXACT)
    assert "which nothing confirmed in time" in solved.why


def test_a_false_packing_proof(monkeypatch) -> None:
    """That residencies cannot be placed makes a cut, and so a bound: CP-SAT has to say so without presolve as well."""
    from ortools.sat.python import cp_model

    honest = cp_sat.search

    def lie(program, deadline, **options):
        solver, status = honest(program, deadline, **options)
        return solver, cp_model.INFEASIBLE if options.get("presolve", True) else status

    monkeypatch.setattr(cp_sat, "search", lie)
    blocks = [packing.Block(0, 2, 4), packing.Block(1, 3, 4)]
    assert not packing.proved_unplaceable(blocks, Memory(8), FOREVER)
    assert packing.proved_unplaceable([*blocks, packing.Block(1, 2, 4)], Memory(8), FOREVER)


def test_replacement_says_what_it_rests_on() -> None:
    problem = false_bound()
    placed = replacement.optimise(Timeline.of(problem, range(6)), "cp-sat", FOREVER)
    assert placed.cost_bytes == placed.bound_bytes == oracle.least_traffic(problem, range(6)) > 0
    assert placed.rests_on.startswith("cp-sat, confirmed by ")


def proofs_hold(seed: int, operators: int) -> None:
    """No solver proves more than brute force finds, and none finds less.

    Strengthenings are left out for CP-SAT alone: on the literal programme CBC and HiGHS claim nothing for a minute.
    """
    problem = tight(seed, operators)
    best = oracle.least_traffic(problem)
    assert best is not None
    for solver in PROVERS:
        outcome = run(problem, solver, switches(seed) if solver == "paper:cp-sat" else frozenset(), seconds=4.0)
        assert outcome.best is not None
        assert outcome.bound_bytes <= best <= outcome.best.cost_bytes, (seed, solver, outcome.why)


def test_a_solution_that_the_presolve_of_highs_loses() -> None:
    """HiGHS 1.16 says of this programme that it has no solution, and that the best one costs 4."""
    problem = tight(210_339, 7)
    assert oracle.least_traffic(problem) == 4
    outcome = run(problem, "paper:highs", frozenset({"liveness"}))
    assert outcome.best.cost_bytes == 4
    assert outcome.bound_bytes == 4 or outcome.why[0].startswith("highs claims that there is no solution, but ")


@pytest.mark.parametrize("start", range(0, 12, 3))
def test_proofs_hold(start: int) -> None:
    for seed in range(start, start + 3):
        proofs_hold(seed, 7)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100_000, 120_000, 500))
def test_proofs_hold_on_20_000_graphs(start: int) -> None:
    for seed in range(start, start + 500):
        proofs_hold(seed, 7)


@pytest.mark.parametrize("known_bound", [6, 100])
def test_a_bound_from_a_larger_scratchpad_that_is_false(known_bound: int) -> None:
    """It is dropped, and the search goes on to the proof that 5 B are the least."""
    problem = false_bound()
    outcome = portfolio.solve(problem, Options(search=SearchOptions(known_bound=known_bound)), FOREVER)
    assert (outcome.best.cost_bytes, outcome.bound_bytes) == (5, 5)
    assert outcome.bound_name == "best-first search"
    assert f"the bound of {known_bound} B from a larger scratchpad is not used: the plan moves less" in outcome.why


def test_a_bound_that_its_own_plan_contradicts(monkeypatch) -> None:
    """Were it lowered to what the plan costs, it would look like a proof."""
    prepared = prepare(ROOT / "tests" / "cases" / "cpsat_false_bound.onnx", Hardware("h", 25), Settings())
    order = tuple(range(6))
    dear = replacement.optimise(Timeline.of(prepared.problem, order), "cp-sat", FOREVER)

    def claim(*_: object) -> Outcome:
        return Outcome(dear, dear.cost_bytes + 1, "some programme, some solver", ("some solver: optimal",))

    monkeypatch.setattr(registry, "solver_for", lambda *_: claim)
    result = compile_problem(prepared, Hardware("h", 25), Options())
    assert (result.status, result.bound_bytes, result.bound_name) == ("feasible", 0, "trivial")
    assert result.why[0] == (
        f"some programme, some solver gave a bound of {dear.cost_bytes + 1} B, and the plan moves less: "
        "it is at fault, and not used"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "weights", "capacity", "best"),
    [("densenet121", False, 1_605_632, 401_408), ("vit_b_16", True, 3_115_776, 3_631_104)],
)
def test_proofs_of_large_programmes_are_confirmed(model: str, weights: bool, capacity: int, best: int) -> None:
    """More than 100,000 terms each. Without presolve the first goes faster without relaxations, the second with them."""
    settings = Settings("int8", "pointwise", weights)
    problem = prepare(ROOT / "models" / f"{model}.onnx", Hardware("h", capacity), settings).problem
    outcome = run(problem, "paper", seconds=300.0)
    assert (outcome.best.cost_bytes, outcome.bound_bytes) == (best, best), outcome.why
