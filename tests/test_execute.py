"""Plans on real tensors: bit-exact for every network and solver, byte-exact traffic, and refusals that help."""

import json
import resource
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from cosma.compare import at_budgets
from cosma.compile import Prepared, Settings, prepare, solve
from cosma.errors import InputError, VerificationError
from cosma.execute.constants import read_constants
from cosma.execute.machine import POISON, Machine
from cosma.execute.reference import ulps
from cosma.execute.run import Network, execute, run
from cosma.execute.runtime import Value
from cosma.execute.trace import to_json
from cosma.frontend.program import read_program
from cosma.hardware import Hardware
from cosma.plan import Plan
from cosma.report.text import execution_rows
from cosma.solvers.base import Deadline, Options
from cosma.solvers.registry import SOLVERS
from tests.conftest import MODELS, model, node, save, spawn, value
from tests.mutations import KINDS, tally

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
NETWORKS = sorted(MODELS.glob("*.onnx")) + sorted(LIGHT.glob("light_*.onnx"))
QUICK = ["tiny_branches", "tiny_chain", "lraspp_mobilenet_v3_large", "densenet121", "transformer", "light_shufflenet"]


def compiled(
    path: Path, weights: bool = False, fusion: str = "pointwise", solver: str = "auto", budget: str = "M_R",
    alignment: int = 1, limit_s: float = 20.0,
) -> tuple[Plan | None, Prepared]:  # fmt: skip
    hardware = Hardware("h", 2**40, alignment_bytes=alignment)
    prepared = prepare(path, hardware, Settings(None, fusion, weights))
    _, prepared = next(at_budgets(prepared, [budget], Deadline.after(60)))
    hardware = replace(hardware, capacity_bytes=prepared.problem.capacity_bytes)
    options = Options(solver, limit_s, memory_limit_bytes=2 * 2**30)
    return solve(prepared, hardware, options).plan, prepared


def network_of(path: Path) -> Network:
    return Network.read(path, {})


@pytest.mark.parametrize("weights", [False, True], ids=["activations", "parameters"])
@pytest.mark.parametrize("name", QUICK)
def test_networks_run_bit_exactly(name: str, weights: bool) -> None:
    path = next(p for p in NETWORKS if p.stem == name)
    fusion = "none" if weights else "pointwise"
    plan, prepared = compiled(path, weights, fusion, solver="compact", alignment=64)
    assert plan is not None
    found = execute(plan, prepared.problem, network_of(path))
    assert found.difference is None
    assert found.compulsory_bytes == prepared.problem.compulsory_bytes
    assert found.non_compulsory_bytes == plan.claims.non_compulsory_bytes
    assert (found.loads, found.stores) == tuple(sum(m.kind == k for m in plan.moves) for k in ("load", "store"))
    assert found.steps == len(prepared.problem.graph.operators)


@pytest.mark.slow
@pytest.mark.parametrize("path", NETWORKS, ids=lambda p: p.stem)
def test_every_network_and_solver_runs_bit_exactly(path: Path) -> None:
    network = network_of(path)
    for budget in ("M_R", "M_H"):
        for solver in SOLVERS:
            try:
                plan, prepared = compiled(path, solver=solver, budget=budget, limit_s=5)
            except InputError:  # a programme too large to state
                assert solver in ("paper", "paper-peak", "joint")
                continue
            if plan is not None:
                assert execute(plan, prepared.problem, network).difference is None, (budget, solver)
        plan, prepared = compiled(path, weights=True, budget=budget)
        assert plan is not None
        assert execute(plan, prepared.problem, network).difference is None, budget


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r2plus1d_18", "s3d", "light_vgg19"])
def test_large_networks_run_in_four_gigabytes(name: str, tmp_path: Path) -> None:
    path = next(p for p in NETWORKS if p.stem == name)
    flags = ["--scratchpad", "600MiB", "--weights", "--fusion", "none"]
    assert spawn("compile", path, *flags, "--check").returncode == 0
    # The largest of all processes that this one has started, in KiB.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4 * 2**20


@pytest.mark.parametrize("solver", SOLVERS)
def test_plans_of_every_solver_run_bit_exactly(solver: str) -> None:
    path = MODELS / "tiny_branches.onnx"
    for budget in ("M_R", "M_H"):
        plan, prepared = compiled(path, solver=solver, budget=budget, fusion="none")
        if plan is not None:  # the arena of a baseline may not fit
            assert execute(plan, prepared.problem, network_of(path)).difference is None


@pytest.mark.parametrize("alignment", [1, 64])
@pytest.mark.parametrize("weights", [False, True], ids=["activations", "parameters"])
@pytest.mark.parametrize(
    ("name", "budget"), [("tiny_branches", "M_R"), ("tiny_branches", "M_P"), ("tiny_chain", "M_R")]
)
def test_the_verifier_is_right_about_every_mutation(name: str, budget: str, weights: bool, alignment: int) -> None:
    path = MODELS / f"{name}.onnx"
    plan, prepared = compiled(path, weights, budget=budget, alignment=alignment)
    found = tally(plan, prepared.problem, network_of(path))
    assert {kind for kind, _ in found} == set(KINDS)
    # All but overlaps of a few bytes show in the data as well; those may hit bytes that happen to be equal or read.
    assert {kind for kind, verdict in found if verdict == "harmless"} <= {"offset shifted"}
    assert found["offset shifted", "accepted"] > 0


@pytest.mark.parametrize(("name", "every"), [("light_squeezenet", 9), ("lraspp_mobilenet_v3_large", 25)])
def test_the_verifier_is_right_about_mutations_of_networks(name: str, every: int) -> None:
    path = next(p for p in NETWORKS if p.stem == name)
    plan, prepared = compiled(path)
    found = tally(plan, prepared.problem, network_of(path), every)
    assert found["offset shifted", "accepted"] > 0
    assert {kind for kind, verdict in found if verdict == "harmless"} <= {"offset shifted"}


@pytest.fixture(scope="module")
def branches() -> tuple[Plan, Prepared, Network]:
    path = MODELS / "tiny_branches.onnx"
    plan, prepared = compiled(path, alignment=64)
    assert plan is not None
    return plan, prepared, network_of(path)


def machine_of(branches, kind: type[Machine] = Machine, **changes: object) -> Machine:
    plan, prepared, network = branches
    ordinary = network.ordinary(prepared.problem)
    return kind(replace(plan, **changes), prepared.problem, ordinary.kernels, ordinary.home)


def test_what_is_free_is_poisoned(branches) -> None:
    class Leaky(Machine):
        def _drop(self, t: int, a: int) -> None:
            offset = self._where[a]
            Machine._drop(self, t, a)
            self._scratchpad[offset] = 0

    machine = machine_of(branches)
    machine.run()
    assert machine._scratchpad.size == branches[1].problem.capacity_bytes
    assert (machine._scratchpad == POISON).all()  # nothing is left after the last step
    with pytest.raises(VerificationError, match=r"step 0: bytes in .* changed, though nothing resides there"):
        machine_of(branches, Leaky).run()


def test_stale_bytes_do_not_pass_unnoticed(branches) -> None:
    class Forgetful(Machine):
        def _load(self, t: int, a: int, offset: int) -> None:
            self._host[a] = np.full_like(self._host[a], POISON)
            Machine._load(self, t, a, offset)

    found = machine_of(branches, Forgetful).run()
    digests = branches[2].ordinary(branches[1].problem).digests
    assert any(found.digests[a] != digests[a] for a in digests)


def test_an_overwritten_tensor_is_named(branches) -> None:
    plan, prepared, network = branches
    wide = next(r for r in plan.residencies if r.tensor == "wide_a")
    moved = tuple(replace(r, offset_bytes=wide.offset_bytes) if r.tensor == "small_a" else r for r in plan.residencies)
    moves = tuple(replace(m, offset_bytes=wide.offset_bytes) if m.tensor == "small_a" else m for m in plan.moves)
    # Small enough a MaxPool to run in place, but the end of the wide tensor poisons what it wrote.
    with pytest.raises(VerificationError, match=r"'joined' writes other bytes of .* than in an ordinary run"):
        execute(replace(plan, residencies=moved, moves=moves), prepared.problem, network)


@pytest.mark.parametrize("claim", ["compulsory_bytes", "non_compulsory_bytes", "peak_use_bytes"])
def test_traffic_must_be_as_claimed(branches, claim: str) -> None:
    plan, prepared, network = branches
    claims = replace(plan.claims, **{claim: getattr(plan.claims, claim) + 64})
    with pytest.raises(VerificationError, match=f"claims {claim} = .*, the run counts"):
        execute(replace(plan, claims=claims), prepared.problem, network)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("load", "which is not resident"), ("store", "has no copy"), ("drop", "is resident already")],
)
def test_impossible_steps_are_named(branches, kind: str, words: str) -> None:
    left = tuple(m for m in branches[0].moves if m.kind != kind)
    with pytest.raises(VerificationError, match=words):
        machine_of(branches, moves=left).run()


def with_weights(path: Path) -> onnx.ModelProto:
    """The model with its seeded weights as initializers."""
    program = read_program(path, {})
    constants, proto = read_constants(program, 0), program.whole
    nodes = [n for n in proto.graph.node if n.output[0] not in constants.stripped]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(constants.values[n].array(), n) for n in constants.stripped)
    return proto


@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
def test_quantised_networks_run_bit_exactly(tmp_path: Path, form: str) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Once(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = [{"input": np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)}]

        def get_next(self):
            return self.batches.pop() if self.batches else None

    source = save(tmp_path, with_weights(MODELS / "lraspp_mobilenet_v3_large.onnx"), "float.onnx")
    path = tmp_path / "quantised.onnx"
    quantization.quantize_static(
        source, path, Once(), quant_format=quantization.QuantFormat[form], per_channel=True,
        op_types_to_quantize=["Conv", "MatMul"],
    )  # fmt: skip
    kinds = {n.op_type for n in onnx.load(path).graph.node}
    assert ("QLinearConv" if form == "QOperator" else "DequantizeLinear") in kinds
    for weights in (False, True):
        plan, prepared = compiled(path, weights, alignment=16)
        assert {t.dtype for t in prepared.problem.graph.tensors} >= {"int8"}
        found = run(plan, prepared, path)
        assert (found.difference, found.stripped) == (None, 0)


def test_seeded_weights_keep_activations_in_range() -> None:
    for name in ("densenet121", "light_squeezenet"):
        path = next(p for p in NETWORKS if p.stem == name)
        one, other = network_of(path), Network.read(path, {}, seed=1)
        first, second = (n.whole()[0].view(np.float32) for n in (one, other))
        assert np.isfinite(first).all()
        assert 1e-6 < np.abs(first).max() < 1e3
        assert not np.array_equal(first, second)
        assert np.array_equal(first, network_of(path).whole()[0].view(np.float32))


def weight(name: str, array: np.ndarray):
    return numpy_helper.from_array(array, name)


def test_a_kernel_that_differs_in_the_whole_run_is_named(tmp_path: Path) -> None:
    # ONNX Runtime computes float16 in float32 and rounds between operators only where the graph is cut.
    random = np.random.default_rng(0)
    half = TensorProto.FLOAT16
    nodes = [node("MatMul", "x w", "a", "mm"), node("Sigmoid", "a", "s", "sig"), node("MatMul", "s w", "y", "out")]
    proto = model(
        nodes, [value("x", (8, 64), half)], [value("y", (8, 64), half)],
        [weight("w", random.standard_normal((64, 64)).astype(np.float16))],
    )  # fmt: skip
    path = save(tmp_path, proto)
    plan, prepared = compiled(path, fusion="none")
    execution = run(plan, prepared, path)
    found = execution.difference
    assert found is not None
    rows = dict(execution_rows(execution))
    assert rows["bit-exact"].endswith("as in a run operator by operator")
    assert f"first in 'sig' (Sigmoid) by up to {found.ulps} ULPs in 's'" in rows["whole model"]
    assert (found.operator, found.op_type, found.tensor) == ("sig", "Sigmoid", "s")
    assert 0 < found.ulps < 100


def test_ulps() -> None:
    def floats(*numbers: float) -> Value:
        return Value.of(np.array(numbers, np.float32))

    one = np.float32(1)
    assert ulps(floats(1, 2), floats(1, 2)) == 0
    assert ulps(floats(1, 2), floats(np.nextafter(one, np.float32(2)), 2)) == 1
    assert ulps(floats(0.0), floats(-0.0)) == 0
    assert ulps(floats(np.float32(1e-45)), floats(np.float32(-1e-45))) == 2
    assert ulps(Value.of(np.array([3, -4], np.int8)), Value.of(np.array([3, 100], np.int8))) == 104


def test_views_constants_and_subgraphs(tmp_path: Path) -> None:
    # A reshaped operand, a weight computed from a weight, an output that is a view, an output that is an input's view.
    random = np.random.default_rng(0)
    nodes = [
        node("Transpose", "w", "wt", "transpose", perm=[1, 0]),
        node("Reshape", "x shape", "v", "view"),
        node("MatMul", "v wt", "m", "mm"),
        node("Shape", "m", "size", "shape"),
        node("Reshape", "m flat", "y", "last"),
        node("Expand", "one size", "ones", "expand"),
        node("Add", "m ones", "z", "plus"),
    ]
    constants = [
        weight("w", random.standard_normal((48, 32)).astype(np.float32)), weight("shape", np.array([2, 32])),
        weight("flat", np.array([96])), weight("one", np.ones((1, 1), np.float32)),
    ]  # fmt: skip
    proto = model(nodes, [value("x", (4, 16))], [value("y", (96,)), value("z", (2, 48))], constants)
    path = save(tmp_path, proto)
    for weights in (False, True):
        plan, prepared = compiled(path, weights, fusion="none")
        found = run(plan, prepared, path)
        assert found.difference is None
        assert dict(found.outputs) == {"y": 384, "z": 384}


def test_shapes_that_folding_left(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("cosma.frontend.onnx_._fold", lambda model: None)
    nodes = [
        node("Relu", "x", "a", "relu"),
        node("Shape", "a", "dims", "shape", start=1),
        node("Expand", "one dims", "ones", "expand"),
        node("Add", "a ones", "b", "plus"),
        node("Size", "a", "count", "size"),
        node("Reshape", "b count1", "y", "view"),
        node("Unsqueeze", "count axes", "count1", "up"),
    ]
    constants = [weight("one", np.ones(1, np.float32)), weight("axes", np.array([0]))]
    path = save(tmp_path, model(nodes, ["x"], [value("y", (8,))], constants))
    plan, prepared = compiled(path)
    assert {n.op_type for n in read_program(path, {}).folded.graph.node}.isdisjoint({"Shape", "Size"})
    assert run(plan, prepared, path).difference is None


def test_weights_of_four_bits_run(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = onnx.helper.make_tensor("w", TensorProto.INT4, (64, 32), random.integers(-8, 7, 2048))
    nodes = [
        node("DequantizeLinear", "w scale", "wf", "dequantise"), node("MatMul", "x wf", "a", "mm"),
        node("DequantizeLinear", "q scale", "b", "late"), node("Add", "a b", "y", "plus"),
    ]  # fmt: skip
    proto = model(
        nodes, [value("x", (5, 64)), value("q", (5, 32), TensorProto.INT8)], [value("y", (5, 32))],
        [codes, weight("scale", np.array(0.1, np.float32))], opset=21,
    )  # fmt: skip
    proto.ir_version = 10
    path = save(tmp_path, proto)
    for weights in (False, True):
        plan, prepared = compiled(path, weights)
        assert run(plan, prepared, path).difference is None


def test_functions_run(tmp_path: Path) -> None:
    twice = onnx.helper.make_function(
        "local", "Twice", ["a"], ["b"], [node("Add", "a a", "b", "sum")], [onnx.helper.make_opsetid("", 17)]
    )
    proto = model(
        [node("Twice", "x", "m", "first", domain="local"), node("Twice", "m", "y", "second", domain="local")],
        imports=[onnx.helper.make_opsetid("local", 1)], functions=[twice],
    )  # fmt: skip
    path = save(tmp_path, proto)
    plan, prepared = compiled(path)
    assert run(plan, prepared, path).steps == 2


def test_subgraphs_run(tmp_path: Path) -> None:
    branches = [
        onnx.helper.make_graph([node(op, "a", "b", op)], op, [], [value("b")]) for op in ("Sigmoid", "Tanh")
    ]  # both read a, of the graph around them
    nodes = [
        node("Relu", "x", "a", "relu"),
        onnx.helper.make_node("If", ["c"], ["y"], "if", then_branch=branches[0], else_branch=branches[1]),
    ]
    path = save(tmp_path, model(nodes, ["x", value("c", (1,), TensorProto.BOOL)]))
    plan, prepared = compiled(path)
    assert run(plan, prepared, path).difference is None


def test_trace_has_tracks_and_a_counter(branches) -> None:
    plan, prepared, network = branches
    events = execute(plan, prepared.problem, network).events
    again = execute(plan, prepared.problem, network).events
    assert to_json(events, wall_time=False) == to_json(again, wall_time=False)
    for wall_time in (False, True):
        rows = json.loads(to_json(events, wall_time))["traceEvents"]
        tracks = {r["tid"]: r["args"]["name"] for r in rows if r["name"] == "thread_name"}
        assert sorted(tracks.values()) == ["compute", "loads", "stores"]
        moved = {track: sum(r["args"]["bytes"] for r in rows if r["ph"] == "X" and tracks[r["tid"]] == track)
                 for track in tracks.values()}  # fmt: skip
        claims = plan.claims
        assert moved["loads"] + moved["stores"] == claims.compulsory_bytes + claims.non_compulsory_bytes
        assert [r["name"] for r in rows if r["ph"] == "X" and r["tid"] == 1] == [s.operator for s in plan.order]
        counter = [r["args"]["bytes"] for r in rows if r["ph"] == "C"]
        assert counter[-1] == 0
        assert 0 < max(counter) <= prepared.problem.capacity_bytes
        for track in tracks:
            spans = [(r["ts"], r["ts"] + r["dur"]) for r in rows if r["ph"] == "X" and r["tid"] == track]
            assert all(end <= start + 0.01 for (_, end), (start, _) in pairwise(spans))


# The command line.


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
    assert outcome.code == 2
    assert "compile without --dtype to run it" in outcome.err


def test_overridden_sizes(run, tmp_path: Path) -> None:
    source, plan = MODELS / "tiny_branches.onnx", tmp_path / "plan.json"
    flags = ["--scratchpad", "20KiB"]
    assert run("compile", source, *flags, "-o", plan, "--dtype", "int8").code == 0
    outcome = run("run", plan, source, *flags)
    assert outcome.code == 2
    assert "made with --dtype int8, but the model computes 'input' in float32; compile without --dtype" in outcome.err
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
        run(plan, prepared, path)


@pytest.mark.parametrize("op", ["RandomNormalLike", "Bernoulli"])
def test_random_operators_are_refused(tmp_path: Path, op: str) -> None:
    path = save(tmp_path, model([node("Sigmoid", "x", "a"), node(op, "a", "y", "dice")]))
    plan, prepared = compiled(path)
    with pytest.raises(InputError, match=r"'dice' .* draws random numbers"):
        run(plan, prepared, path)


def test_an_operator_that_onnxruntime_lacks_is_named(tmp_path: Path) -> None:
    proto = model(
        [node("Strange", "x", "y", "odd", domain="elsewhere")], imports=[onnx.helper.make_opsetid("elsewhere", 1)]
    )
    path = save(tmp_path, proto)
    plan, prepared = compiled(path)
    with pytest.raises(InputError, match=r"ONNX Runtime .* cannot load 'odd'"):
        run(plan, prepared, path)


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
    document["residencies"][0][-2 if isinstance(document["residencies"][0], list) else "offset_bytes"] += 4
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
    assert run(plan, prepared, path).outputs == (("y", 224),)


def test_weights_in_missing_files_are_made_up(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    proto = model(
        [node("MatMul", "x w", "y", "mm")], ["x"], [value("y", (1, 256))],
        [weight("w", random.standard_normal((8, 256)).astype(np.float32))],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    plan, prepared = compiled(path, weights=True)
    assert run(plan, prepared, path).stripped == 0
    (tmp_path / "data.bin").unlink()
    assert run(plan, prepared, path).stripped == 1
