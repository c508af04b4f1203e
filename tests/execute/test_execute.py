"""Plans on real tensors: bit-exact for every network and solver, byte-exact traffic, and refusals that help."""

import json
import resource
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, numpy_helper

from cosma.compile import Prepared
from cosma.errors import InputError, VerificationError
from cosma.execute.constants import read_constants
from cosma.execute.machine import POISON, Event, Machine
from cosma.execute.reference import ulps
from cosma.execute.run import Network, execute
from cosma.execute.runtime import Value
from cosma.execute.trace import to_json
from cosma.frontend.load import load_runnable
from cosma.plan import Plan
from cosma.reports.text import execution_rows
from cosma.solvers.registry import SOLVERS
from tests.conftest import MODELS, model, node, save, spawn, value
from tests.edits import relocated, without
from tests.mutations import KINDS, tally
from tests.planned import compiled, network_of, run_plan, weight

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
NETWORKS = sorted(MODELS.rglob("*.onnx")) + sorted(LIGHT.glob("light_*.onnx"))
QUICK = ["tiny_branches", "tiny_chain", "lraspp_mobilenet_v3_large", "densenet121", "transformer", "light_shufflenet"]


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
    assert machine._scratchpad.size == branches[1].problem.memory.capacity_bytes
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
    moved = relocated(plan, "small_a", lambda _: wide.offset_bytes)
    # Small enough a MaxPool to run in place, but what it writes to is poisoned before it reads.
    with pytest.raises(VerificationError, match=r"'small_a' writes other bytes of .* than in an ordinary run"):
        execute(moved, prepared.problem, network)


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
    left = without(branches[0], lambda _, i: i.op == kind)
    with pytest.raises(VerificationError, match=words):
        machine_of(branches, instructions=left.instructions).run()


def with_weights(path: Path) -> onnx.ModelProto:
    """The model with its seeded weights as initializers."""
    _, runnable = load_runnable(path)
    constants, proto = read_constants(runnable, 0), runnable.whole
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
        found = run_plan(plan, prepared, path)
        assert (found.difference, found.stripped) == (None, 0)


def test_seeded_weights_keep_activations_in_range() -> None:
    for name in ("densenet121", "light_squeezenet"):
        path = next(p for p in NETWORKS if p.stem == name)
        one, other = network_of(path), network_of(path, seed=1)
        first, second = (n.whole()[0].view(np.float32) for n in (one, other))
        assert np.isfinite(first).all()
        assert 1e-6 < np.abs(first).max() < 1e3
        assert not np.array_equal(first, second)
        assert np.array_equal(first, network_of(path).whole()[0].view(np.float32))


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
    execution = run_plan(plan, prepared, path)
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
        found = run_plan(plan, prepared, path)
        assert found.difference is None
        assert dict(found.outputs) == {"y": 384, "z": 384}


def test_shapes_that_folding_left(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        "cosma.frontend.shapes.folded", lambda proto, with_shapes: onnx_ir.serde.deserialize_model(proto)
    )
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
    assert {n.op_type for n in load_runnable(path)[1].folded.proto.graph.node}.isdisjoint({"Shape", "Size"})
    assert run_plan(plan, prepared, path).difference is None


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
        assert run_plan(plan, prepared, path).difference is None


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
    assert run_plan(plan, prepared, path).steps == 2


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
    assert run_plan(plan, prepared, path).difference is None


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
        assert 0 < max(counter) <= prepared.problem.memory.capacity_bytes
        for track in tracks:
            assert_no_overlap([r for r in rows if r["ph"] == "X" and r["tid"] == track])


def assert_no_overlap(slices: list[dict]) -> None:
    """As Perfetto reads them, in nanoseconds, cut off."""
    spans = [(int(1000.0 * r["ts"]), int(1000.0 * r["dur"])) for r in slices]
    assert all(start + duration <= after for (start, duration), (after, _) in pairwise(spans))


@pytest.mark.parametrize("number", [3, 6, 7, 300])
def test_slices_that_share_a_slot_do_not_overlap(number: int) -> None:
    events = [Event(step, "load", "x", 4, 4, 0.0, 0.0) for step in range(50) for _ in range(number)]
    slices = [r for r in json.loads(to_json(events, wall_time=False))["traceEvents"] if r["ph"] == "X"]
    assert len(slices) == len(events)
    assert_no_overlap(slices)
    assert slices[-1]["ts"] + slices[-1]["dur"] == 49_250
