"""cosma run and compile --check: what is printed, and refusals that help."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from cosma.compile import Settings, prepare, solve
from cosma.errors import InputError
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from tests.conftest import MODELS, model, node, save, value
from tests.planned import compiled, run_plan, weight


@pytest.fixture
def planned(run, tmp_path: Path) -> tuple[Path, Path]:
    target = tmp_path / "plan.json"
    source = MODELS / "tiny_branches.onnx"
    assert run("compile", source, "--scratchpad", "20KiB", "-o", target).code == 0
    return target, source


def test_run_command(run, planned, tmp_path: Path) -> None:
    plan, source = planned
    outcome = run("run", plan, source, "--scratchpad", "20KiB", "--trace", tmp_path / "trace.json")
    assert outcome.code == 0, outcome.err
    assert "as in an ordinary run" in outcome.out
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    report = run("run", plan, source, "--scratchpad", "20KiB", "--json", "--seed", 3).json
    assert (report["bit_exact"], report["difference"], report["stripped_weights"]) == (True, None, 0)
    assert report["outputs"] == {"joined": 1536, "sum": 1024}


def test_the_plan_knows_its_scratchpad(run, planned) -> None:
    assert "bit-exact" in run("run", *planned).out
    assert "of 20,480 B" in run("verify", *planned).out
    plan, source = planned
    plan.write_text(plan.read_text().replace('"capacity_bytes": 20480', '"capacity_bytes": 18432'))
    for command in ("run", "verify"):
        outcome = run(command, plan, source)
        assert outcome.code == 4
        assert "lies outside the 18432 B scratchpad" in outcome.err


def test_wall_time_needs_a_trace(run, planned, tmp_path: Path) -> None:
    flags = [*planned, "--scratchpad", "20KiB", "--wall-time"]
    assert "add --trace FILE" in run("run", *flags).err
    assert run("run", *flags, "--trace", tmp_path / "t.json").code == 0
    assert "would overwrite" in run("run", *planned, "--scratchpad", "20KiB", "--trace", planned[0]).err
    assert "use .json or .trace" in run("run", *planned, "--scratchpad", "20KiB", "--trace", tmp_path / "t.txt").err


def test_compile_checks_at_once(run) -> None:
    source = MODELS / "tiny_branches.onnx"
    assert "bit-exact" in run("compile", source, "--scratchpad", "20KiB", "--check").out
    assert run("compile", source, "--scratchpad", "20KiB", "--check", "--json").json["run"]["bit_exact"] is True
    assert run("compile", source, "--scratchpad", "20KiB", "--json").json["run"] is None
    outcome = run("compile", source, "--scratchpad", "20KiB", "--check", "--dtype", "int8")
    assert outcome.code == 0
    assert "symbolic every byte was where its reader expects it; no values: " in " ".join(outcome.out.split())


def test_overridden_sizes(run, tmp_path: Path) -> None:
    source, plan = MODELS / "tiny_branches.onnx", tmp_path / "plan.json"
    flags = ["--scratchpad", "20KiB"]
    assert run("compile", source, *flags, "-o", plan, "--dtype", "int8").code == 0
    found = run("run", plan, source, *flags, "--json").json
    assert found["bit_exact"] is None
    assert "for --dtype int8, and the model computes 'input' in float32; to run values, compile" in found["symbolic"]
    assert run("compile", source, *flags, "-o", plan, "--dtype", "float32").code == 0
    assert run("run", plan, source, *flags).code == 0  # the override changes nothing here


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, ["'input'", "missing", "float32 of shape [1, 4, 16, 16]"]),
        ({"image": np.zeros(3)}, ["no input 'image'", "'input'"]),
        ({"input": np.zeros((1, 4, 16, 16))}, ["is float64", "not float32"]),
        ({"input": np.zeros((4, 16, 16), np.float32)}, ["[4, 16, 16]", "[1, 4, 16, 16]"]),
        ({"input": np.full((1, 4, 16, 16), np.nan, np.float32)}, ["'stem' (Relu) makes NaN", "give other --inputs"]),
        ({"input": np.zeros((1, 4, 16, 16), np.float32), "x": np.zeros(1)}, ["no input 'x'"]),
    ],
    ids=["missing", "unknown", "type", "shape", "nan", "extra"],
)
def test_bad_inputs(run, planned, tmp_path: Path, arrays: dict[str, np.ndarray], words: list[str]) -> None:
    np.savez(tmp_path / "inputs.npz", **arrays)
    outcome = run("run", *planned, "--scratchpad", "20KiB", "--inputs", tmp_path / "inputs.npz")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err


@pytest.mark.parametrize("content", [None, b"", b"PK no zip", b"text"])
def test_bad_input_files(run, planned, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "inputs.npz"
    if content is not None:
        path.write_bytes(content)
    outcome = run("run", *planned, "--scratchpad", "20KiB", "--inputs", path)
    assert outcome.code == 2
    assert outcome.err.startswith("cosma: error: --inputs")


def test_inputs_are_used(run, planned, tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", input=np.ones((1, 4, 16, 16), np.float32))
    assert run("run", *planned, "--scratchpad", "20KiB", "--inputs", tmp_path / "inputs.npz").code == 0


def test_weights_that_make_nan_are_named(tmp_path: Path) -> None:
    nodes = [node("Mul", "x w", "a", "scale"), node("Sqrt", "a", "y", "root")]
    proto = model(nodes, initializers=[weight("w", np.full(8, -1, np.float32))])
    path = save(tmp_path, proto)
    plan, prepared = compiled(path)
    with pytest.raises(InputError, match=r"'root' \(Sqrt\) makes NaN .* in an ordinary run as well"):
        run_plan(plan, prepared, path)


@pytest.mark.parametrize("op", ["RandomNormalLike", "Bernoulli"])
def test_random_operators_are_refused(tmp_path: Path, op: str) -> None:
    path = save(tmp_path, model([node("Sigmoid", "x", "a"), node(op, "a", "y", "dice")]))
    plan, prepared = compiled(path)
    with pytest.raises(InputError, match=r"'dice' .* draws random numbers"):
        run_plan(plan, prepared, path)


def test_an_operator_that_onnxruntime_lacks_is_named(tmp_path: Path) -> None:
    proto = model(
        [node("Strange", "x", "y", "odd", domain="elsewhere")], imports=[onnx.helper.make_opsetid("elsewhere", 1)]
    )
    path = save(tmp_path, proto)
    plan, prepared = compiled(path)
    with pytest.raises(InputError, match=r"ONNX Runtime .* cannot load 'odd'"):
        run_plan(plan, prepared, path)


def test_a_scratchpad_beyond_memory_is_refused(run, tmp_path: Path) -> None:
    source, plan = MODELS / "tiny_chain.onnx", tmp_path / "plan.json"
    assert run("compile", source, "--scratchpad", "1PiB", "-o", plan).code == 0
    outcome = run("run", plan, source, "--scratchpad", "1PiB")
    assert outcome.code == 2
    assert "exceeds" in outcome.err
    assert "compile for a --scratchpad of that size" in outcome.err


def test_a_missing_package_says_how_to_get_it(run, planned, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    outcome = run("run", *planned, "--scratchpad", "20KiB")
    assert outcome.code == 2
    assert "pip install 'cosma-compiler[run]'" in outcome.err


def test_an_invalid_plan_does_not_run(run, planned) -> None:
    plan, source = planned
    document = json.loads(plan.read_text())
    document["instructions"][0]["offset_bytes"] += 4
    plan.write_text(json.dumps(document))
    outcome = run("run", plan, source, "--scratchpad", "20KiB")
    assert outcome.code == 4
    assert "violates" in outcome.err


def test_dynamic_dimensions_and_integer_inputs(tmp_path: Path) -> None:
    table = weight("table", np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32))
    proto = model(
        [node("Gather", "table ids", "e", "embed"), node("Relu", "e", "y", "relu")],
        [value("ids", ("n",), TensorProto.INT64)], [value("y", ("n", 8))], [table],
    )  # fmt: skip
    path = save(tmp_path, proto)
    hardware = Hardware("h", 2**20)
    prepared = prepare(path, hardware, Settings(None, "none", True, {"n": 7}))
    plan = solve(prepared, hardware, Options()).plan
    assert run_plan(plan, prepared, path).outputs == (("y", 224),)


def test_weights_in_missing_files_are_made_up(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    proto = model(
        [node("MatMul", "x w", "y", "mm")], ["x"], [value("y", (1, 256))],
        [weight("w", random.standard_normal((8, 256)).astype(np.float32))],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    plan, prepared = compiled(path, weights=True)
    assert run_plan(plan, prepared, path).stripped == 0
    (tmp_path / "data.bin").unlink()
    assert run_plan(plan, prepared, path).stripped == 1
