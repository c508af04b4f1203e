"""Random models with one thing changed: refused in one line, or read as ONNX and ONNX Runtime read them."""

import copy
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from cosma.errors import InputError
from cosma.frontend.load import Imported, load
from tests.model_changes import mutate
from tests.random_models import random_model, subgraphs

onnxruntime.set_default_logger_severity(4)
DIMS = {"n": 2, "unk__0": 2}
DTYPES = {"float": "float32", "double": "float64"}

Type = tuple[tuple[int | None, ...] | None, int]  # sizes as far as they are known, ONNX element type


def plain(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without dead operators, and with its nodes in an order that can be run."""
    proto = copy.deepcopy(proto)
    needed = {value.name for value in proto.graph.output}
    nodes: list[onnx.NodeProto] = []
    waiting = list(proto.graph.node)
    ready = {value.name for value in proto.graph.input} | {tensor.name for tensor in proto.graph.initializer}
    while found := next((node for node in waiting if reads(node) <= ready), None):
        waiting.remove(found)
        nodes.append(found)
        ready |= set(found.output)
    live = []
    for node in [*nodes, *waiting][::-1]:
        if needed & set(node.output):
            live.append(node)
            needed |= reads(node)
    del proto.graph.node[:]
    proto.graph.node.extend(live[::-1])
    return proto


def undeclared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without declared shapes, of which those that operators make count.

    What is declared of operators that ONNX does not know stays, and so do element types.
    """
    proto = copy.deepcopy(proto)
    _undeclare(proto.graph, {opset.domain: opset.version for opset in proto.opset_import})
    return proto


def _undeclare(graph: onnx.GraphProto, versions: dict[str, int]) -> None:
    known = {name for node in graph.node if _is_known(node, versions) for name in node.output}
    for value in (*graph.value_info, *graph.output):
        if value.name in known:
            value.type.tensor_type.ClearField("shape")
    for sub in (sub for node in graph.node for sub in subgraphs(node)):
        _undeclare(sub, versions)


def _is_known(node: onnx.NodeProto, versions: dict[str, int]) -> bool:
    try:
        onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return False
    return True


def undecided(proto: onnx.ModelProto) -> set[str]:
    """Values whose shape depends on which branch is taken or how often a loop goes round: the file is believed."""
    found: set[str] = set()
    inferred = onnx.shape_inference.infer_shapes(undeclared(proto), data_prop=True).graph
    types = {value.name: _type(value)[0] for value in (*inferred.input, *inferred.value_info)}
    for node in inferred.node:
        made = [[_type(value)[0] for value in graph.output] for graph in subgraphs(node)]
        entering = [_type(value)[0] for graph in subgraphs(node) for value in graph.input[1:]]
        differs = node.op_type == "If" and (made[0] != made[1] or any(s is None or None in s for s in made[0]))
        if node.op_type == "Loop":
            differs = made[0] != entering or any(
                types.get(name, shape) != shape for name, shape in zip(node.input[2:], entering[1:], strict=False)
            )
        if differs or reads(node) & found:
            found |= set(node.output)
    return found


def infer_strictly(proto: onnx.ModelProto) -> dict[str, Type] | None:
    """Types of the values of a model after the checker and strict shape inference, or None if either refuses it."""
    try:
        onnx.checker.check_model(proto)
        proto = onnx.shape_inference.infer_shapes(undeclared(proto), check_type=True, strict_mode=True, data_prop=True)
    except Exception:
        return None
    return {value.name: _type(value) for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output)}


def _type(value: onnx.ValueInfoProto) -> Type:
    tensor = value.type.tensor_type
    known = tensor.HasField("shape")
    sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return (sizes if known else None), tensor.elem_type


@dataclass
class Executed:
    """What ONNX Runtime makes of a model. values: every value of the main graph that a run could be asked for."""

    loads: bool
    values: dict[str, Type] | None


def execute(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Executed:
    """Run a model without optimisations, all its values as outputs. feeds: of inputs that are not to be drawn."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    proto = undeclared(proto)
    try:
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return Executed(False, None)
    known = {value.name for value in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name and name not in known]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(None, {v.name: _feed(v) for v in session.get_inputs()} | feeds)
    except Exception:
        return Executed(True, None)
    named = zip((value.name for value in session.get_outputs()), found, strict=True)
    return Executed(
        True, {n: (a.shape, onnx.helper.np_dtype_to_tensor_dtype(a.dtype)) for n, a in named if hasattr(a, "shape")}
    )


def _feed(value: object) -> np.ndarray:
    kind = re.search(r"\((.*)\)", value.type).group(1)
    dtype = {"float": np.float32, "double": np.float64}.get(kind) or np.dtype(kind)
    shape = [d if isinstance(d, int) and d >= 0 else 2 for d in value.shape]
    return np.random.default_rng(0).integers(0, 2, shape).astype(dtype)


def compare(imported: Imported, types: dict[str, Type], what: str) -> list[str]:
    """Tensors of a graph that are of another shape or element type than in `types`."""
    wrong = []
    for tensor in imported.graph.tensors:
        shape, elem_type = types.get(tensor.name, (None, 0))
        if shape is not None and (
            len(shape) != len(tensor.shape) or any(d not in (None, e) for d, e in zip(shape, tensor.shape, strict=True))
        ):
            wrong.append(f"{tensor.name}: {list(tensor.shape)}, {what} says {list(shape)}")
        if elem_type:
            name = onnx.TensorProto.DataType.Name(elem_type).lower()
            if name != tensor.dtype:
                wrong.append(f"{tensor.name}: {tensor.dtype}, {what} says {name}")
    return wrong


def unordered(imported: Imported, proto: onnx.ModelProto) -> list[str]:
    """Pairs of operators of which the file has one compute what the other needs, but the graph lets both go first."""
    graph = imported.graph
    index = {operator.name: v for v, operator in enumerate(graph.operators)}
    before: list[set[int]] = []
    for v in range(len(graph.operators)):
        before.append(set().union(*({p} | before[p] for p in graph.predecessors[v])))
    folded = {name for name, _ in imported.folded}
    writers = {out: node for node in proto.graph.node for out in node.output if out}

    def sources(node: onnx.NodeProto, seen: set[str]) -> set[int]:
        found = set()
        for name in reads(node):
            writer = writers.get(name)
            if writer is None or writer.output[0] in seen or writer.name in folded or writer.op_type == "Constant":
                continue
            seen.add(writer.output[0])
            found |= {index[writer.name]} if writer.name in index else sources(writer, seen)
        return found

    return [
        f"{graph.operators[p].name} is no predecessor of {node.name}"
        for node in proto.graph.node
        if node.name in index
        for p in sources(node, set())
        if p not in before[index[node.name]]
    ]


def reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node and its bodies read from the graph around it."""
    names = set(filter(None, node.input))
    for graph in subgraphs(node):
        own = {name for inner in graph.node for name in inner.output} | {
            v.name for v in (*graph.input, *graph.initializer)
        }
        names |= ({n for inner in graph.node for n in reads(inner)} | {v.name for v in graph.output}) - own
    return names


def judge(path: Path, reference: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> tuple[str, list[str]]:
    """Read a model; whether it was accepted, refused or (with reasons) read in another way than the reference says."""
    try:
        imported = load(path, {name: size for name, size in DIMS.items() if _has(reference, name)})
    except InputError as error:
        return "refused", [] if "\n" not in str(error) and len(str(error)) < 1000 else [f"not one line: {error}"]
    proto = plain(reference)
    inferred, executed = infer_strictly(proto), execute(proto, feeds)
    named = len({node.name for node in proto.graph.node}) == len(proto.graph.node)
    wrong = unordered(imported, proto) if named else []
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    if inferred is None and executed.values is None and all(_is_known(node, versions) for node in proto.graph.node):
        wrong.append("accepted, but ONNX and ONNX Runtime refuse it")
    if executed.values is not None:
        believed = undecided(proto)
        wrong += compare(imported, {n: t for n, t in executed.values.items() if n not in believed}, "a run")
    if inferred is not None:
        wrong += compare(imported, inferred, "strict inference")
    return "accepted", wrong


def _has(proto: onnx.ModelProto, name: str) -> bool:
    return any(d.dim_param == name for v in proto.graph.input for d in v.type.tensor_type.shape.dim)


def examine(seed: int, folder: Path, changed: bool) -> tuple[str, list[str], str]:
    """One model: how it was judged, what is wrong with that, and what was changed."""
    rng = random.Random(seed)
    proto = random_model(rng)
    before = copy.deepcopy(proto)
    what = mutate(proto, rng, folder) if changed else "nothing"
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in before.graph.initializer}
    kept = {tensor.name for tensor in proto.graph.initializer}
    feeds = {
        v.name: np.resize(weights[v.name], _type(v)[0] or ())
        for v in proto.graph.input
        if v.name in weights and v.name not in kept
    }
    # Weights may be missing, since shapes suffice: what is read then is the model as it was.
    return *judge(path, before if what.startswith("external") else proto, feeds), what


def test_valid_models_are_read_as_they_run(tmp_path: Path) -> None:
    for seed in range(40):
        verdict, wrong, _ = examine(seed, tmp_path, changed=False)
        assert (verdict, wrong) == ("accepted", []), seed


@pytest.mark.parametrize("seeds", [range(200), pytest.param(range(200, 20_000), marks=pytest.mark.slow)], ids=str)
def test_changed_models_are_refused_or_read_as_they_run(tmp_path: Path, seeds: range) -> None:
    verdicts = []
    wrong = {}
    for seed in seeds:
        verdict, faults, what = examine(seed, tmp_path, changed=True)
        verdicts.append(verdict)
        if faults:
            wrong[seed] = (what, faults)
    assert not wrong
    assert verdicts.count("accepted") > len(verdicts) / 5  # changes neither all fatal ...
    assert verdicts.count("refused") > len(verdicts) / 5  # ... nor all without effect
