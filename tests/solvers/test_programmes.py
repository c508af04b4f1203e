"""The paper's programme and the joint one, with every strengthening on and off, through every API that is there."""

import itertools
import random
import sys

import pytest

from cosma.deadline import Deadline
from cosma.errors import InputError
from cosma.graph import Graph, Operator, Tensor
from cosma.milp import backends, ortools_backend, pulp_backend
from cosma.milp.backends import BUNDLED
from cosma.milp.programme import Programme, Solved
from cosma.modes import Mode
from cosma.problem import Memory, Problem
from cosma.schedule.placed import violations
from cosma.solvers import registry
from cosma.solvers.options import Options, ProgrammeOptions
from cosma.solvers.outcome import Outcome
from cosma.solvers.programmes.joint import Joint
from cosma.solvers.programmes.paper.extract import decode, encode, order
from cosma.solvers.programmes.paper.indices import STRENGTHENINGS, index
from cosma.solvers.programmes.paper.rules import TimeIndexed, least_peak, least_traffic
from tests import oracle
from tests.schedule.test_replacement import fragmenting_problem
from tests.solvers.test_search import FOREVER, tight

EXACT = ("auto", "joint", "paper")


def run(problem: Problem, solver: str, without: frozenset[str] = frozenset(), seconds: float = 60.0) -> Outcome:
    options = Options(solver, seconds, programme=ProgrammeOptions(without))
    outcome = registry.find(options).solve(problem, options, Deadline.after(seconds))
    if outcome.best is not None:
        assert not violations(outcome.best)
        assert outcome.bound_bytes <= outcome.best.cost_bytes
    return outcome


def hard(seeds: range, operators: int) -> list[tuple[int, Problem, int]]:
    """Random problems at M_R or close that cannot do without traffic: (seed, problem, optimum)."""
    found = ((seed, problem, oracle.least_traffic(problem)) for seed in seeds for problem in [tight(seed, operators)])
    return [(seed, problem, best) for seed, problem, best in found if best]


def switches(seed: int) -> frozenset[str]:
    """A set of strengthenings to leave out: none, each, all, or some, in turn."""
    names = sorted(STRENGTHENINGS)
    if seed % 12 < len(names):
        return frozenset({names[seed % 12]})
    return frozenset(random.Random(seed).sample(names, {8: 0, 9: len(names)}.get(seed % 12, 4)))


@pytest.mark.parametrize("start", range(0, 2100, 100))
def test_exact_solvers_agree(start: int) -> None:
    """2,100 graphs of up to 8 operators: search, joint programme and the paper's find what brute force finds.

    Four in five can do without traffic, and then no programme is stated.
    """
    for seed in range(start, start + 100):
        agree(seed, tight(seed, 8))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(10_000, 30_000, 1_000))
def test_exact_solvers_agree_where_traffic_is_needed(start: int) -> None:
    """2,000 graphs more, on each of which both programmes are stated."""
    graphs = ((seed, tight(seed, 8)) for seed in range(start, start + 1_000))
    needy = itertools.islice(((seed, problem) for seed, problem in graphs if run(problem, "auto").best.cost_bytes), 100)
    assert sum(agree(seed, problem) > 0 for seed, problem in needy) == 100


def agree(seed: int, problem: Problem) -> int:
    """The optimum by brute force, which all exact solvers find."""
    best = oracle.least_traffic(problem)
    assert best is not None
    for solver in EXACT:
        outcome = run(problem, solver, switches(seed) if solver == "paper" else frozenset())
        assert outcome.best is not None
        assert (outcome.best.cost_bytes, outcome.bound_bytes) == (best, best), (seed, solver, outcome.why)
    return best


@pytest.mark.slow
def test_paper_with_every_strengthening_on_and_off() -> None:
    """Every strengthening alone, all others, none and all, on graphs that need traffic."""
    names = frozenset(STRENGTHENINGS)
    choices = [frozenset(), names, *(frozenset({name}) for name in names), *(names - {name} for name in names)]
    for seed, problem, best in hard(range(600), 7):
        for without in choices:
            outcome = run(problem, "paper", without)
            assert outcome.best is not None
            assert (outcome.best.cost_bytes, outcome.bound_bytes) == (best, best), (seed, without)


@pytest.mark.parametrize("backend", BUNDLED)
@pytest.mark.parametrize("solver", ["paper", "joint"])
def test_backends_agree(solver: str, backend: str) -> None:
    for seed, problem, best in hard(range(60), 6):
        outcome = run(problem, f"{solver}:{backend}")
        assert outcome.best is not None
        assert (outcome.best.cost_bytes, outcome.bound_bytes) == (best, best), (seed, outcome.why)


@pytest.mark.parametrize("without", [frozenset(), frozenset(STRENGTHENINGS)], ids=["strong", "literal"])
def test_paper_finds_the_smallest_peak(without: frozenset[str]) -> None:
    for seed in range(40):
        problem = tight(seed, 6)
        roomy = problem.with_capacity(problem.peak_bytes(range(len(problem.graph.operators))))
        stated = TimeIndexed(index(roomy, without), Programme("peak", FOREVER))
        least_peak(stated)
        solved = backends.minimise(stated.programme, "cp-sat", FOREVER)
        assert solved.values is not None
        peak = stated.programme.objective(solved.values) * stated.index.unit
        assert peak == oracle.least_peak(problem) == problem.peak_bytes(order(stated, solved.values))


def test_plans_survive_encoding() -> None:
    """A plan's values satisfy the programme in exact arithmetic, and stand for the same plan."""
    for _, problem, best in hard(range(200), 7):
        placed = run(problem, "auto").best
        stated = TimeIndexed(index(problem, frozenset({"symmetry"})), Programme("m", FOREVER))
        least_traffic(stated, None)
        hint = encode(stated, placed)
        values = [hint.get(column, 0) for column in range(len(stated.programme.names))]
        assert stated.programme.broken_rule(values) is None
        assert stated.programme.objective(values) * stated.index.unit == best
        again = decode(stated, values)
        assert (again.timeline.order, again.evicted, again.offsets) == (
            placed.timeline.order, placed.evicted, placed.offsets,
        )  # fmt: skip


def test_addresses_are_part_of_the_paper_programme() -> None:
    """Where one order fragments, the programme pays for it; over all schedules nothing need be paid."""
    outcome = run(fragmenting_problem(), "paper", frozenset({"cutoff", "warm-start"}))
    assert (outcome.best.cost_bytes, outcome.bound_bytes) == (0, 0)
    graph = fragmenting_problem().graph
    links = tuple(Tensor(f"link{v}", 0, "activation" if v < 8 else "output") for v in range(9))
    operators = tuple(
        Operator(v.name, "Op", (*v.inputs, *([9 + i - 1] if i else [])), (*v.outputs, 9 + i))
        for i, v in enumerate(graph.operators)
    )
    chained = Problem(Graph("chained", graph.tensors + links, operators), Memory(8))
    best = run(chained, "auto").best.cost_bytes
    assert best > 0
    for solver in ("paper", "joint"):
        outcome = run(chained, solver)
        assert (outcome.best.cost_bytes, outcome.bound_bytes) == (best, best), (solver, outcome.why)


def test_workspaces_are_part_of_the_programmes() -> None:
    """Working bytes of a mode take room like a tensor that lives for one step."""
    compared = 0
    for seed in range(120):
        problem = tight(seed, 6)
        rng = random.Random(seed)
        modes = tuple((Mode(workspace_bytes=rng.choice((0, 0, 1, 3))),) for _ in problem.modes)
        problem = Problem(problem.graph, Memory(problem.memory.capacity_bytes + 3, 1), modes)
        best = oracle.least_traffic(problem)
        for solver in EXACT:
            outcome = run(problem, solver)
            assert outcome.best.cost_bytes == outcome.bound_bytes >= best, (seed, solver)
        compared += best > 0
    assert compared > 3


def test_joint_root_bound_exceeds_the_papers() -> None:
    """The paper's relaxation is zero where the joint one is not."""
    better = 0
    for _, problem, best in hard(range(150), 7):
        joint = Joint(problem, Options(), FOREVER)
        joint.build()
        joint.add_windows(range(joint.count), FOREVER)
        ours = backends.relaxation(joint.programme, FOREVER) * joint.index.unit
        literal = TimeIndexed(index(problem, frozenset(STRENGTHENINGS)), Programme("m", FOREVER))
        least_traffic(literal, None)
        theirs = backends.relaxation(literal.programme, FOREVER) * literal.index.unit
        assert theirs <= best + 1e-6
        assert ours <= best + 1e-6
        assert literal.programme.size.terms > joint.programme.size.terms
        better += ours > theirs + 1e-6
    assert better > 5


def test_time_and_memory_bound_the_building() -> None:
    problem = tight(3, 8)
    outcome = run(problem, "paper", frozenset(STRENGTHENINGS), seconds=0.0)
    assert outcome.best is not None
    options = Options("paper", memory_limit_bytes=1000, programme=ProgrammeOptions(frozenset({"cutoff"})))
    outcome = registry.find(options).solve(tight(5, 40), options, FOREVER)
    assert "outgrew the memory limit" in outcome.why[0]
    assert not violations(outcome.best)


@pytest.mark.parametrize("solver", ["paper", "joint", "compact"])
def test_wrong_values_are_the_solvers_fault(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that claims nonsense is caught, named, and costs nothing but its time."""
    monkeypatch.setattr(
        ortools_backend, "minimise", lambda model, *_: Solved("optimal", (1,) * len(model.names), -(10**6), None)
    )
    for seed, problem, best in hard(range(40), 7):
        outcome = run(problem, solver)
        assert outcome.best.cost_bytes >= best, seed
        assert outcome.bound_bytes <= best
        if solver != "compact":
            assert "break the programme" in " ".join(outcome.why)


def test_a_plan_that_does_not_replay_is_the_solvers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier has the last word, even on values that satisfy the model."""
    import cosma.solvers.programmes.stating as shared

    seed, problem, _ = hard(range(200), 8)[3]
    cheap = run(problem, "auto").best
    dear = run(problem.with_capacity(2**40), "auto").best
    assert dear.cost_bytes < cheap.cost_bytes
    crooked = type(dear)(type(dear.timeline).of(problem, dear.timeline.order), dear.evicted, dear.offsets, 0, 0)
    best, why = shared.better_of(cheap, crooked, "some solver")
    assert best is cheap, seed
    assert "plan of some solver does not replay" in why


def test_statuses_are_mapped_honestly_at_the_time_limit() -> None:
    """PuLP calls an incumbent optimal; here it is feasible, or nothing, and the bound is none of its making."""
    rng = random.Random(1)
    for backend in BUNDLED:
        model = Programme("knapsack", FOREVER)
        columns = [model.binary(f"x{i}", -rng.randint(10**6, 2 * 10**6)) for i in range(400)]
        for _ in range(120):
            weights = [rng.randint(1, 10**6) for _ in columns]
            model.at_most("row", list(zip(columns, weights, strict=True)), sum(weights) // 3)
        solved = backends.minimise(model, backend, Deadline.after(1.5))
        assert solved.status in ("feasible", "unknown"), (backend, solved.status)
        if solved.values is not None and solved.bound is not None:
            assert solved.bound < model.objective(solved.values)


def test_infeasible_is_told_from_unknown() -> None:
    for backend in BUNDLED:
        model = Programme("impossible", FOREVER)
        x, y = model.binary("x", 1), model.binary("y", 1)
        model.at_least("a", [(x, 1), (y, 1)], 2)
        model.at_most("b", [(x, 1), (y, 1)], 1)
        assert backends.minimise(model, backend, FOREVER).status == "infeasible", backend


def test_missing_solvers_are_named_with_a_remedy() -> None:
    problem = hard(range(200), 8)[0][1]
    missing = [name for name in pulp_backend.INSTALL if name not in BUNDLED and not available(name)]
    for backend in missing[:3]:
        with pytest.raises(InputError, match=rf"solver '{backend}' is not available .* to install it: "):
            run(problem, f"paper:{backend}")


def available(backend: str) -> bool:
    module = {"gurobi": "gurobipy", "scip": "pyscipopt", "xpress": "xpress", "cplex": "cplex", "copt": "coptpy"}
    import importlib.util

    return importlib.util.find_spec(module.get(backend, backend)) is not None


def test_a_solver_without_a_licence_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """PuLP raises what the solver says, e.g. a size-limited licence; that is a reason, no crash."""

    class Refusing:
        def available(self) -> bool:
            return True

        def actualSolve(self, *_: object, **__: object) -> None:  # noqa: N802 - PuLP's name
            raise RuntimeError("Model too large for size-limited license;\nvisit the vendor")

    monkeypatch.setattr(pulp_backend, "_find", lambda *_: Refusing())
    model = Programme("m", FOREVER)
    model.at_least("r", [(model.binary("x", 1), 1)], 1)
    solved = in_a_process(model)
    assert (solved.status, solved.values) == ("unknown", None)
    assert "gurobi failed: Model too large for size-limited license; visit the vendor" in solved.why


def in_a_process(model: Programme) -> Solved:
    """PuLP's side of things in a child that keeps this process's patches; it must not meet OR-Tools here."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(pulp_backend._solve_here(model, "gurobi", False)))
    process.start()
    solved = queue.get(timeout=60)
    process.join()
    return solved


@pytest.mark.parametrize("suffix", [".lp", ".mps"])
def test_written_models_can_be_read_and_solved(suffix: str, tmp_path) -> None:
    """HiGHS reads the file and finds the optimum that brute force finds."""
    import subprocess

    _, problem, best = hard(range(200), 7)[0]
    path = tmp_path / f"model{suffix}"
    options = Options("paper", programme=ProgrammeOptions(frozenset({"cutoff"}), write_model=path))
    outcome = registry.find(options).solve(problem, options, FOREVER)
    assert outcome.best.cost_bytes == best
    script = (
        "import highspy, sys; h = highspy.Highs(); h.silent(); h.readModel(sys.argv[1]); h.run(); "
        "print(h.getInfo().objective_function_value)"
    )
    out = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout
    unit = index(problem, frozenset()).unit
    assert round(float(out.split()[-1])) * unit == best
    assert f"in units of {unit} B" in path.read_text().splitlines()[0]


def test_writing_stops_with_the_clock(tmp_path) -> None:
    _, problem, _ = hard(range(200), 7)[0]
    stated = TimeIndexed(index(problem, frozenset()), Programme("cosma", FOREVER))
    least_traffic(stated, None)
    target = tmp_path / "m.lp"
    assert "had no time left" in backends.write(stated.programme, target, 1, Deadline.after(0))
    assert not target.exists()
    assert backends.write(stated.programme, target, 1, FOREVER) == ""


def test_exact_arithmetic_beyond_64_bits() -> None:
    model = Programme("large", FOREVER)
    x, y = model.integer("x", 0, 2**40), model.integer("y", 0, 2**40)
    model.at_most("row", [(x, 2**40), (y, -(2**40))], 0)
    assert model.broken_rule([2**40, 2**40]) is None
    assert model.broken_rule([2**40, 2**40 - 1]) == f"row: {2**40} lies outside [None, 0]"
    assert model.broken_rule([2**41, 0]).startswith("x = ")
