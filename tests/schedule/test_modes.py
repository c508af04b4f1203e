"""Modes honoured: streams, workspaces and outputs over inputs, against brute force over modes, orders and residencies."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosma.compile import Prepared, Settings, prepare, solve
from cosma.deadline import Deadline
from cosma.errors import InputError, VerificationError
from cosma.execute.run import execute
from cosma.graph import Graph, Operator, Tensor
from cosma.modes import Effects, Mode, Overwrite, Run, Stream, effects
from cosma.plan import Execute, Named, Plan, Source, Streaming
from cosma.problem import Memory, Problem
from cosma.schedule import replacement
from cosma.schedule.placed import to_plan, violations
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.solvers.registry import SOLVERS
from cosma.target.hardware import Hardware
from cosma.verify import check
from tests import oracle
from tests.conftest import model, node, save, value
from tests.planned import network_of, weight
from tests.strategies import modal_problem, random_graph, random_problem, with_modes


def source(problem: Problem) -> Source:
    return Source("", problem.fingerprint(), None, "none", True, {})


def planned(problem: Problem, order) -> replacement.Placed:
    return replacement.optimise(Timeline.of(problem, order), "cp-sat", Deadline.after(60))


def is_right(seed: int, operators: int = 5, in_place: bool = True) -> bool:
    """One problem, in every order; whether anything moves that need not."""
    problem = modal_problem(seed, operators, in_place)
    least = []
    for order in oracle.topological_orders(problem):
        best = oracle.least_traffic(problem, order)
        assert best is not None
        placed = planned(problem, order)
        assert placed.bound_bytes <= best <= placed.cost_bytes, (seed, order)
        assert placed.cost_bytes == best or placed.bound_bytes < placed.cost_bytes, (seed, order)
        assert placed.bound_bytes == best or not placed.rests_on, (seed, order)
        assert placed.cost_bytes == placed.timeline.cost(placed.evicted)
        assert not violations(placed), (seed, order)
        least.append(placed.bound_bytes)
        if len(least) == 6:
            return best > 0
    assert min(least) <= oracle.least_traffic(problem)
    return best > 0


@pytest.mark.parametrize("start", range(0, 200, 25))
def test_replacement_is_that_of_brute_force(start: int) -> None:
    assert sum(is_right(seed) for seed in range(start, start + 25)) > 5


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 4000, 100))
def test_replacement_is_that_of_brute_force_on_3000_graphs(start: int) -> None:
    for seed in range(start, start + 100):
        is_right(seed, 6)


def chain(*sizes: int) -> Graph:
    tensors = [Tensor(f"t{i}", n, "activation") for i, n in enumerate(sizes)]
    tensors[0] = Tensor("t0", sizes[0], "input")
    tensors[-1] = Tensor(f"t{len(sizes) - 1}", sizes[-1], "output")
    operators = tuple(Operator(f"op{v}", "Op", (v,), (v + 1,)) for v in range(len(sizes) - 1))
    return Graph("chain", tuple(tensors), operators)


def test_a_streamed_input_and_output() -> None:
    """8 B in, 8 B out, through buffers of 2 and 3 B: 5 B of scratchpad suffice, and nothing but compulsory bytes moves."""
    problem = Problem(chain(8, 8), Memory(5), modes=((Mode((Stream(0, 2, 8), Stream(1, 3, 8))),),))
    assert (problem.working_set_bytes, problem.smallest_capacity_bytes, problem.compulsory_bytes) == (16, 5, 16)
    placed = planned(problem, range(1))
    assert (placed.cost_bytes, placed.bound_bytes) == (0, 0)
    assert not violations(placed)
    plan = to_plan(placed, 0, source(problem), "", "", "")
    assert plan.moves == () == plan.residencies
    assert {(b.tensor, b.size_bytes) for b in plan.order[0].buffers} == {("t0", 2), ("t1", 3)}
    assert not problem.with_capacity(5).shortages()
    assert problem.with_capacity(4).shortage().operands == (("buffer of t1", 3), ("buffer of t0", 2))


def test_a_streamed_activation_is_stored_once_and_read_twice() -> None:
    """The middle tensor fits nowhere: written 10 B, read in two passes 20 B; 30 B besides the compulsory ones."""
    modes = ((Mode((Stream(1, 1, 10),)),), (Mode((Stream(1, 1, 20),)),))
    problem = Problem(chain(4, 10, 4), Memory(6), modes=modes)
    placed = planned(problem, range(2))
    assert (placed.cost_bytes, placed.bound_bytes) == (30, 30)
    assert placed.timeline.runs == (Run(0, frozenset({1})), Run(0, frozenset({1})))
    assert not violations(placed)


def test_an_output_over_its_input() -> None:
    """In place a chain of equal tensors needs one of them, and all lie at one address."""
    over = tuple((Mode(overwrites=(Overwrite(v + 1, v),)),) for v in range(3))
    problem = Problem(chain(8, 8, 8, 8), Memory(8), modes=over)
    placed = planned(problem, range(3))
    assert (problem.working_set_bytes, placed.cost_bytes, set(placed.offsets)) == (8, 0, {0})
    assert not violations(placed)
    assert planned(Problem(chain(8, 8, 8, 8), Memory(16)), range(3)).cost_bytes == 0


def test_what_is_overwritten_is_stored_before_if_it_is_read_again() -> None:
    """a is written over by b, and c reads both: 4 B stored, 4 B loaded. Without a mode that does not overwrite, always."""
    tensors = (
        Tensor("x", 1, "input"),
        Tensor("a", 4, "activation"),
        Tensor("b", 4, "activation"),
        Tensor("y", 1, "output"),
    )
    graph = Graph(
        "g", tensors, (Operator("p", "", (0,), (1,)), Operator("q", "", (1,), (2,)), Operator("r", "", (1, 2), (3,)))
    )
    over = Mode(overwrites=(Overwrite(2, 1),))
    paper = (Mode(),)
    for modes, least in (((over,), 8), ((over, Mode()), 0)):
        problem = Problem(graph, Memory(100), modes=(paper, modes, paper))
        placed = planned(problem, range(3))
        assert placed.cost_bytes == placed.bound_bytes == oracle.least_traffic(problem) == least
        assert not violations(placed)


def test_a_distance_between_an_output_and_its_input() -> None:
    """An output of 6 B that begins 2 B before its input of 6 B: 8 B in all."""
    problem = Problem(chain(6, 6), Memory(8), modes=((Mode(overwrites=(Overwrite(1, 0, 2),)),),))
    placed = planned(problem, range(1))
    assert problem.working_set_bytes == 8
    assert placed.offsets == (2, 0)
    assert not violations(placed)


def test_effects() -> None:
    operator = Operator("v", "", (0, 1), (2, 3))
    mode = Mode((Stream(0, 2, 9), Stream(3, 1, 4)), 5)
    assert effects(operator, mode) == Effects((0, 1), (), (2, 3), (), (), ((None, 5),), ())
    assert effects(operator, mode, {0, 3}) == Effects(
        (1,), (0,), (2,), (3,), (), ((0, 2), (3, 1), (None, 5)), ((0, 9), (3, 4))
    )
    with pytest.raises(ValueError, match="tensor 1 cannot be streamed"):
        effects(operator, mode, {1})


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (Mode((Stream(7, 0, 0),)), "no operand"),
        (Mode((Stream(0, 1, 8), Stream(0, 2, 8))), "in two ways"),
        (Mode((Stream(0, -1, 8),)), "negative"),
        (Mode(workspace_bytes=-1), "negative"),
        (Mode(overwrites=(Overwrite(0, 1),)), "no input, or with what is no output"),
        (Mode(overwrites=(Overwrite(1, 0, 8),)), "no byte in common"),
        (Mode((Stream(0, 1, 8),), overwrites=(Overwrite(1, 0),)), "streams an operand that"),
    ],
)
def test_modes_that_are_none(mode: Mode, why: str) -> None:
    with pytest.raises(ValueError, match=f"mode 0 of operator 'op0': .*{why}"):
        Problem(chain(8, 8), Memory(20), modes=((mode,),))


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_solver_that_cannot_choose_modes_is_refused_by_name(solver: str) -> None:
    problem = modal_problem(3)
    assert problem.has_choices
    prepared = Prepared(None, problem, source(problem))  # type: ignore[arg-type]
    if solver in ("auto", "compact"):
        assert solve(prepared, Hardware("h", problem.memory.capacity_bytes), Options(solver)).plan is not None
    else:
        with pytest.raises(
            InputError, match=f"solver '{solver}' cannot choose how operators run; use one of auto, compact"
        ):
            solve(prepared, Hardware("h", problem.memory.capacity_bytes), Options(solver))
    assert SOLVERS[solver].supports(random_problem(3))


def test_what_fits_in_no_mode_runs_on_the_host() -> None:
    """The second of three operators needs 30 B; the host takes it where there is less, with all of its operands."""
    problem = Problem(chain(4, 10, 20, 4), Memory(24), uses_host=True)
    assert problem.on_host == (1,)
    assert problem.smallest_capacity_bytes == 30
    assert not problem.shortages()
    assert [len(modes) for modes in problem.modes] == [1, 2, 1]
    placed = planned(problem, range(3))
    assert placed.timeline.runs[1] == Run(1, frozenset({1, 2}))
    assert placed.cost_bytes == placed.bound_bytes == 10 + 10 + 20 + 20 == oracle.least_traffic(problem)
    assert not violations(placed)
    with pytest.raises(ValueError, match="all its operands"):
        problem.effects(1, Run(1, frozenset({1})))
    roomy = problem.with_capacity(30)
    assert (roomy.on_host, [len(modes) for modes in roomy.modes]) == ((), [1, 1, 1])
    assert roomy.fingerprint() == problem.fingerprint() != Problem(problem.graph, Memory(24)).fingerprint()


@pytest.mark.parametrize("seed", [26, 126, 216, 242, 452])
def test_what_the_host_has_made_is_not_stored_again(seed: int) -> None:
    """The host sends a tensor that is loaded, leaves, and is loaded again: no store, for which a bound once asked."""
    problem = with_modes(Problem(random_graph(seed, 6), Memory(2**40)), seed, in_place=seed % 2 == 0)
    problem = replace(problem, uses_host=True)
    capacity = random.Random(seed).randint(1, max(1, problem.smallest_capacity_bytes + 3))
    problem = problem.with_capacity(max(1, capacity))
    order = range(len(problem.graph.operators))
    placed = planned(problem, order)
    assert problem.on_host
    assert placed.bound_bytes <= oracle.least_traffic(problem, order) <= placed.cost_bytes


# --- the verifier


def streamed_plan() -> tuple[Plan, Problem]:
    modes = ((Mode((Stream(1, 1, 10),)),), (Mode((Stream(1, 1, 20),), 1),))
    problem = Problem(chain(4, 10, 4), Memory(6), modes=modes)
    return to_plan(planned(problem, range(2)), 30, source(problem), "", "", ""), problem


def moved_buffer(plan: Plan, t: int, what: str | None, **changes: int | str) -> Plan:
    """The plan with the buffer of a tensor, or the workspace, of step t changed, left out where nothing is given."""
    changed: list[Named] = []
    for step, i in plan.with_steps():
        if step == t and isinstance(i, Streaming) and i.tensor == what:
            changed += [replace(i, **changes)] if changes else []
        elif step == t and isinstance(i, Execute) and what is None:
            work = [replace(p, **changes) for p in i.places if p.tensor is None and changes]
            changed.append(replace(i, places=(*(p for p in i.places if p.tensor), *work)))
        else:
            changed.append(i)
    return replace(plan, instructions=tuple(changed))


def test_a_valid_plan_with_streams_survives_json(tmp_path: Path) -> None:
    from cosma.plan import read_plan

    plan, problem = streamed_plan()
    assert not check(plan, problem).violations
    assert plan._repr_html_().count("<title>buffer of t1: step ") == 2
    (tmp_path / "plan.json").write_text(plan.to_json())
    assert read_plan(tmp_path / "plan.json") == plan
    assert [line.split()[1] for line in plan.listing()] == [
        "LOAD",
        "STREAM",
        "EXEC",
        "DROP",
        "STREAM",
        "WORK",
        "EXEC",
        "STORE",
        "DROP",
    ]


def test_wrong_streams_are_named() -> None:
    plan, problem = streamed_plan()
    at = {b.tensor: b.offset_bytes for b in plan.order[1].buffers}
    taken = next(r for r in plan.residencies if r.start == 1)
    for wrong, why in (
        (moved_buffer(plan, 0, "t1"), "step 0: operator 'op0' writes 't1', which has no place here"),
        (moved_buffer(plan, 1, "t1"), "step 1: operator 'op1' needs 't1', which is not resident"),
        (moved_buffer(plan, 1, None), "step 1: operator 'op1' needs 1 B for the workspace, which it does not have"),
        (moved_buffer(plan, 1, None, size_bytes=2), "step 1: execute of 'op1': places is (Place(tensor='t2'"),
        (moved_buffer(plan, 1, "t1", offset_bytes=at[None]), "overlaps a buffer at"),
        (moved_buffer(plan, 1, "t1", offset_bytes=taken.offset_bytes), "overlaps a buffer at"),
        (moved_buffer(plan, 1, "t1", offset_bytes=6), "the buffer of 't1' at [6, 7) lies outside the 6 B scratchpad"),
        (moved_buffer(plan, 1, "t1", tensor="t2"), "step 1: operator 'op1' cannot stream 't2' in mode 0"),
        (moved_buffer(plan, 1, "t1", tensor="nothing"), "step 1: operator 'op1' cannot stream 'nothing' in mode 0"),
        (replace(plan, claims=replace(plan.claims, non_compulsory_bytes=0, status="feasible", bound_bytes=0)), "the replay counts 30"),
    ):  # fmt: skip
        assert any(why in found for found in check(wrong, problem).violations), (why, check(wrong, problem).violations)


def test_an_output_beside_the_input_that_it_overwrites() -> None:
    problem = Problem(chain(8, 8), Memory(16), modes=((Mode(overwrites=(Overwrite(1, 0),)),),))
    plan = to_plan(planned(problem, range(1)), 0, source(problem), "", "", "")
    beside = tuple(
        replace(i, places=(replace(i.places[0], offset_bytes=8),)) if isinstance(i, Execute) else i
        for i in plan.instructions
    )
    found = check(replace(plan, instructions=beside), problem).violations
    assert any("'t1' at 8 overwrites 't0' from 0 on" in why for why in found)


# --- on real tensors


def small_network(folder: Path) -> Path:
    weights = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    nodes = [
        node("MatMul", "x w", "a", "m"),
        node("Relu", "a", "b", "r"),
        node("Tanh", "b", "c", "t"),
        node("Add", "c a", "y", "s"),
    ]
    return save(folder, model(nodes, ["x"], [value("y")], [weight("w", weights)]))


def test_plans_with_modes_run_bit_exactly(tmp_path: Path) -> None:
    """w through 32 B, b over a or not, c over b, y streamed out; a poisoned scratchpad in between."""
    path = small_network(tmp_path)
    prepared = prepare(path, Hardware("h", 2**20), Settings(None, "none", True))
    number = {t.name: a for a, t in enumerate(prepared.problem.graph.tensors)}
    x, w, a, b, c, y = (number[name] for name in "xwabcy")
    modes = (
        (Mode((Stream(w, 32, 256),)),),
        (Mode(overwrites=(Overwrite(b, a),)), Mode((Stream(b, 8, 32),))),
        (Mode(overwrites=(Overwrite(c, b),)), Mode((Stream(b, 8, 32), Stream(c, 8, 32)), 4)),
        (Mode((Stream(c, 8, 32), Stream(a, 8, 64), Stream(y, 16, 32))),),
    )
    problem = replace(prepared.problem, modes=modes)
    assert x == 0
    network, seen = network_of(path), set()
    for capacity in range(problem.smallest_capacity_bytes, 400, 8):
        placed = planned(problem.with_capacity(capacity), range(4))
        source = replace(prepared.source, fingerprint=problem.fingerprint())
        plan = to_plan(placed, placed.bound_bytes, source, "", "", "")
        assert placed.bound_bytes == oracle.least_traffic(problem.with_capacity(capacity), range(4))
        assert not check(plan, problem.with_capacity(capacity)).violations
        found = execute(plan, problem.with_capacity(capacity), network)
        assert found.difference is None
        assert found.non_compulsory_bytes == plan.claims.non_compulsory_bytes
        seen |= {(step.mode, len(step.buffers)) for step in plan.order}
    assert len(seen) == 4


def test_the_machine_notices_a_buffer_over_a_resident(tmp_path: Path) -> None:
    path = small_network(tmp_path)
    prepared = prepare(path, Hardware("h", 2**20), Settings(None, "none", True))
    number = {t.name: a for a, t in enumerate(prepared.problem.graph.tensors)}
    streamed = Mode((Stream(number["w"], 32, 256),))
    problem = replace(prepared.problem.with_capacity(200), modes=((streamed,), (Mode(),), (Mode(),), (Mode(),)))
    plan = to_plan(
        planned(problem, range(4)), 0, replace(prepared.source, fingerprint=problem.fingerprint()), "", "", ""
    )
    x = next(r for r in plan.residencies if r.tensor == "x")
    over = moved_buffer(plan, 0, "w", offset_bytes=x.offset_bytes)
    assert any("overlaps" in why for why in check(over, problem).violations)
    with pytest.raises(VerificationError):
        execute(over, problem, network_of(path))
