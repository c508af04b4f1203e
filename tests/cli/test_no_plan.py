"""What people are told when there is no plan, or when a plan cannot be run."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper

import cosma
from cosma.compile import Settings, prepare
from cosma.deadline import Deadline
from cosma.errors import InputError
from cosma.plan import read_plan
from cosma.solvers.options import Options
from cosma.solvers.search import portfolio
from cosma.target.hardware import Hardware
from tests.conftest import MODELS, model, node, save, value
from tests.strategies import random_problem

BRANCHES = MODELS / "tiny_branches.onnx"  # its operators need 20,480 B and less


def test_every_operator_that_is_too_large_is_listed(run, tmp_path: Path) -> None:
    problem = prepare(BRANCHES, Hardware("h", 2**30), Settings()).problem
    sizes = {v.name: size for v, size in zip(problem.graph.operators, problem.working_sets, strict=True)}
    large = {name: size for name, size in sizes.items() if size > 6_000}
    assert 1 < len(large) < len(sizes)
    page = tmp_path / "page.html"
    outcome = run("compile", BRANCHES, "--scratchpad", "6000B", "--modes", "paper", "--json", "--report", page)
    assert outcome.code == 3
    found = outcome.json["too_large"]
    assert {row["operator"]: row["needed_bytes"] for row in found} == large
    assert [row["needed_bytes"] for row in found] == sorted(large.values(), reverse=True)
    assert {row["operator"]: row["missing_bytes"] for row in found} == {n: s - 6_000 for n, s in large.items()}
    assert outcome.json["earlier_files"] == []
    text = page.read_text()
    assert all(name in text for name in large)
    assert f"{len(large)} of {len(sizes)} operators need more than the 6,000 B of the scratchpad" in text
    shown = run("compile", BRANCHES, "--scratchpad", "6000B", "--modes", "paper", "--report", page).out
    assert all(name in shown for name in large)
    assert f"written to {page}" in " ".join(shown.split())


def test_old_files_are_not_passed_off_as_new_ones(run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert run("compile", BRANCHES, "--scratchpad", "64KiB", "-o", plan).code == 0
    before = plan.read_bytes()
    outcome = run("compile", BRANCHES, "--scratchpad", "6000B", "--modes", "paper", "-o", plan)
    assert outcome.code == 3
    assert outcome.err == f"cosma: warning: there is no plan; {plan} is an earlier file and was not touched\n"
    assert run("compile", BRANCHES, "--scratchpad", "6000B", "--modes", "paper", "-o", plan, "--json").json[
        "earlier_files"
    ] == [str(plan)]
    assert plan.read_bytes() == before
    assert run("compile", BRANCHES, "--scratchpad", "6000B", "--modes", "paper", "-o", tmp_path / "new.json").err == ""


def test_a_comparison_without_any_plan_is_infeasible(run) -> None:
    assert run("compare", BRANCHES, "--solvers", "auto", "--budgets", "6000B", "--modes", "paper").code == 3
    assert run("compare", BRANCHES, "--solvers", "auto", "--budgets", "6000B,64KiB", "--modes", "paper").code == 0


def test_a_limit_that_strikes_is_not_called_a_search_of_everything() -> None:
    problem = random_problem(37)
    outcome = portfolio.solve(problem, Options(), Deadline.after(-1))
    assert outcome.best is not None
    assert outcome.best.cost_bytes > outcome.bound_bytes
    assert outcome.why[0].startswith("a limit struck before all schedules were searched: 1 independent parts")
    assert not any("searched all schedules" in line for line in outcome.why)
    assert portfolio.solve(problem, Options(), Deadline.after(60)).why[0].startswith("searched all schedules: ")


def random_model(folder: Path) -> Path:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"], name="dice"), node("Add", "x r", "y")]
    return save(folder, model(nodes))


def test_what_cannot_be_run_is_found_before_anything_is_solved(run, tmp_path: Path, monkeypatch) -> None:
    path = random_model(tmp_path)
    monkeypatch.setattr("cosma.compile.solve", lambda *_: pytest.fail("solved"))
    outcome = run("compile", path, "--scratchpad", "1KiB", "--check")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "operator 'dice' (RandomNormalLike) draws random numbers" in outcome.err


def test_what_cannot_be_run_is_planned_and_written_all_the_same(run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    outcome = run("compile", random_model(tmp_path), "--scratchpad", "1KiB", "--check", "-o", plan)
    warning, error = outcome.err.splitlines()
    assert outcome.code == 2
    assert "warning: the plan will be written, but cannot be run: operator 'dice' (RandomNormalLike)" in warning
    assert error == f"cosma: error: model.onnx cannot be run, see the warning; {plan} written all the same"
    assert [step.operator for step in read_plan(plan).order] == ["dice", "Add:y"]


def test_a_check_takes_no_time_from_the_search(run, monkeypatch) -> None:
    """Nor does it run a model for which there is no plan."""
    import cosma.cli.compile

    looks = iter((0.0, 0.0, 0.0, 1000.0))  # at the clock, before and after the checks of two commands
    clock = SimpleNamespace(monotonic=lambda: next(looks), perf_counter=time.perf_counter)
    monkeypatch.setattr(cosma.cli.compile, "time", clock)
    seen = []

    def stop(prepared: object, hardware: object, options: object, deadline: Deadline) -> None:
        seen.append(deadline)
        raise InputError("seen")

    monkeypatch.setattr("cosma.execute.run.ready", lambda *_: None)
    assert run("compile", BRANCHES, "--scratchpad", "6000B", "--modes", "paper", "--check").code == 3
    monkeypatch.setattr("cosma.compile.solve", stop)
    assert run("compile", BRANCHES, "--scratchpad", "64KiB", "--check", "--time-limit", "60").code == 2
    assert 1000 < seen[0].remaining_s <= 1060
    assert seen[0].elapsed_s < 0


def test_a_plan_that_is_not_valid_is_not_run_at_all(run, tmp_path: Path, monkeypatch) -> None:
    plan = tmp_path / "plan.json"
    assert run("compile", BRANCHES, "--scratchpad", "64KiB", "-o", plan).code == 0
    monkeypatch.setattr("cosma.execute.run.ready", lambda *_: pytest.fail("run"))
    assert run("run", plan, BRANCHES, "--scratchpad", "6000B").code == 4


@pytest.mark.parametrize(
    ("op", "drawn"), [("Relu", None), ("Log", "from 0.01 to 1"), ("Acos", "normally distributed, a tenth as large")]
)
def test_inputs_that_make_nan_are_drawn_again(run, tmp_path: Path, op: str, drawn: str | None) -> None:
    path = save(tmp_path, model([node(op, "x", "y")], [value("x", (4, 64))], [value("y", (4, 64))]))
    outcome = run("compile", path, "--scratchpad", "64KiB", "--check", "--json")
    assert outcome.json["run"]["bit_exact"]
    assert outcome.json["run"]["inputs_drawn"] == drawn
    text = run("compile", path, "--scratchpad", "64KiB", "--check").out
    assert (f"drawn {drawn}: in a larger range they make NaN" in text) == (drawn is not None)


def test_inputs_that_always_make_nan(run, tmp_path: Path) -> None:
    nodes = [node("Neg", "x", "m"), node("Abs", "m", "n"), node("Neg", "n", "o"), node("Log", "o", "y", "log")]
    outcome = run("compile", save(tmp_path, model(nodes)), "--scratchpad", "1KiB", "--check")
    assert outcome.code == 2
    assert "operator 'log' (Log) makes NaN" in outcome.err


def test_integers_that_no_draw_can_guess(run, tmp_path: Path) -> None:
    """A length that has to be 5: 0 and 1, which are drawn, are refused by the runtime."""
    nodes = [node("Expand", "x i", "y", "wide")]
    path = save(tmp_path, model(nodes, [value("x", (1,)), value("i", (1,), TensorProto.INT64)], [value("y", (5,))]))
    outcome = run("compile", path, "--scratchpad", "1KiB", "--check")
    assert (outcome.code, outcome.err.count("\n")) == (2, 2)  # the shape that had to be believed is told as well
    assert "makes result 0 of shape [1]" in outcome.err or "integer inputs (i) were drawn" in outcome.err
    plan, inputs = tmp_path / "p.json", tmp_path / "x.npz"
    assert run("compile", path, "--scratchpad", "1KiB", "-o", plan).code == 0
    np.savez(inputs, x=np.ones(1, np.float32), i=np.array([5]))
    assert "bit-exact" in run("run", plan, path, "--inputs", inputs).out


def test_a_branch_that_makes_another_shape_is_the_models_fault(run, tmp_path: Path) -> None:
    def branch(name: str) -> object:
        nodes = [node("NonZero", "x", f"{name}i"), node("Cast", f"{name}i", f"{name}o", to=1)]
        return helper.make_graph(nodes, name, [], [value(f"{name}o", (2, 5))])

    choose = helper.make_node("If", ["c"], ["r"], name="choose", then_branch=branch("t"), else_branch=branch("e"))
    proto = model(
        [choose, node("Relu", "r", "y")],
        ["x", value("c", (), TensorProto.BOOL)],
        [value("y", (2, 5))],
        value_info=[value("r", (2, 5))],
    )
    outcome = run("compile", save(tmp_path, proto), "--scratchpad", "1KiB", "--check")
    assert outcome.code == 2
    assert (
        "operator 'choose' makes result 0 of shape [2, 8] of these inputs, where the model declares [2, 5]"
        in outcome.err
    )


def test_public_names_are_shown_at_a_prompt() -> None:
    assert set(cosma.__all__) < set(dir(cosma))
    assert "importlib" not in dir(cosma)


def test_results_are_json(run) -> None:
    assert json.loads(run("compile", BRANCHES, "--scratchpad", "64KiB", "--json").out)["too_large"] == []
