"""Constants of a model: those of the file, random ones for stripped data, and values computed from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from cosma.errors import InputError
from cosma.execute.runtime import Session, Value, dtype_of
from cosma.execute.submodel import Nodes
from cosma.frontend.operators import label
from cosma.frontend.runnable import RunnableModel
from cosma.frontend.structure import SMALL_ELEMENTS, has_data, subgraphs, tensors

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_NORMALIZATIONS = frozenset(["BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization"])
_POSITIVE = frozenset(["Mul", "Div", "Pow", "Sqrt", "Log", "Reciprocal"])
_QUANTISED = frozenset(
    [
        "QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul",
        "com.microsoft.QuantizeLinear", "com.microsoft.DequantizeLinear",
    ]
)  # fmt: skip
_RELAYS = frozenset(["Reshape", "Unsqueeze", "Squeeze", "Transpose", "Identity", "Flatten", "Cast"])


@dataclass(frozen=True, slots=True)
class Constants:
    """values: data of the file or random data in its place, by name. stripped: names of the constants with random data.

    absent: missing external data files, as named in the model.
    """

    values: dict[str, Value]
    stripped: tuple[str, ...]
    absent: tuple[str, ...]


def read_constants(runnable: RunnableModel, seed: int) -> Constants:
    """Read the constants of `runnable.whole`; draw those without data from a range that suits their use.

    The draw of a weight depends only on the seed and on its place in the file. Raises InputError for string constants,
    data that do not fill their shape, constants without data in branches and loops, and for an existing file of
    weights that may not or cannot be read.
    """
    for unread in runnable.unread.values():
        if not unread.is_absent:
            raise InputError(str(unread))
    graph = runnable.whole.graph
    for tensor in (t for node in graph.node for sub in subgraphs(node) for t in tensors(sub)):
        if not has_data(tensor):
            why = runnable.unread.get(tensor.name, f"weight {tensor.name!r} has no data")
            raise InputError(f"constants in a branch or a loop cannot be made up: {why}")
    uses = _uses(graph)
    values: dict[str, Value] = {}
    stripped = []
    for place, (name, tensor, given) in enumerate(_tensors(graph)):
        if tensor.data_type == TensorProto.STRING:
            raise InputError(f"constant {name!r} holds strings, which have no place in a scratchpad; it cannot be run")
        if given:
            values[name] = _value(name, tensor)
        else:
            stripped.append(name)
            random = np.random.default_rng([seed, place])
            values[name] = _draw(random, tensor.data_type, tuple(tensor.dims), uses.get(name, ("", 0, 0)))
    absent = {runnable.unread[name].location for name in stripped if name in runnable.unread}
    return Constants(values, tuple(stripped), tuple(sorted(absent)))


def _value(name: str, tensor: TensorProto) -> Value:
    try:
        return Value.of(numpy_helper.to_array(tensor))
    except ValueError:
        shape = list(tensor.dims)
        raise InputError(f"the data of weight {name!r} do not fill its shape {shape}; export the model again") from None


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto, bool]]:
    """Name, tensor, and whether its data are at hand."""
    sizes = {t.name: t for t in graph.initializer}
    for tensor in graph.initializer:
        yield tensor.name, tensor, has_data(tensor)
    for node in graph.node:
        attribute = next((a for a in node.attribute if a.name == "value"), None)
        if node.domain:  # an operator of the same name, perhaps
            continue
        if node.op_type == "Constant" and attribute is not None:
            yield node.output[0], attribute.t, has_data(attribute.t)
        elif node.op_type == "ConstantOfShape" and attribute and node.input[0] in sizes and _is_filler(attribute.t):
            dims = numpy_helper.to_array(sizes[node.input[0]]).tolist()
            yield node.output[0], TensorProto(data_type=attribute.t.data_type, dims=dims), False


def _is_filler(tensor: TensorProto) -> bool:
    """Whether a ConstantOfShape stands in for a stripped weight: the scripts that strip models write 0.02."""
    return tensor.data_type == TensorProto.FLOAT and numpy_helper.to_array(tensor).item() == np.float32(0.02)


Use = tuple[str, int, int]  # operator type, position of the operand there, whether a Gemm has it transposed


def _uses(graph: onnx.GraphProto) -> dict[str, Use]:
    """The first operator that uses each value, reshapes skipped."""
    uses: dict[str, Use] = {}
    for node in reversed(graph.node):
        for position, name in enumerate(node.input):
            if not node.domain and node.op_type in _RELAYS and position == 0 and node.output[0] in uses:
                uses[name] = uses[node.output[0]]
            else:
                transposed = any(a.name == "transB" and a.i for a in node.attribute)
                uses[name] = (label(node.domain, node.op_type), position, int(transposed))
    return uses


def _draw(random: np.random.Generator, elem_type: int, shape: tuple[int, ...], use: Use) -> Value:
    """Draw a weight of variance 1 / fan-in for products, so that activations neither grow nor vanish."""
    dtype = dtype_of(elem_type)
    if elem_type not in _FLOATS:
        if dtype.kind not in "iub":
            raise InputError(
                f"a weight of element type {dtype} has no data and cannot be made up; give the file's data"
            )
        bits = np.iinfo(dtype) if dtype.kind != "b" else None
        low, high = (0, 1) if bits is None or dtype.itemsize > 1 else (bits.min, bits.max)
        return Value.of(random.integers(low, high, shape, np.int64, endpoint=True).astype(dtype))
    array = _draw_float(random, shape, *use)
    return Value.of(array.astype(dtype))


def _draw_float(
    random: np.random.Generator, shape: tuple[int, ...], op_type: str, position: int, transposed: int
) -> npt.NDArray[np.float32]:
    positive = (op_type in _NORMALIZATIONS and position == 1) or (op_type == "BatchNormalization" and position == 4)
    if positive or op_type in _POSITIVE:
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if op_type in _QUANTISED:
        return random.uniform(0.01, 0.05, shape).astype(np.float32)
    array = random.standard_normal(shape, np.float32)
    fan_in = 100  # biases and the like: a tenth of what they are added to
    if len(shape) >= 2 and position <= 1 and op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        fan_in = prod(shape[1:]) if op_type.startswith("Conv") or transposed else shape[-2]
    return array * np.float32(1 / sqrt(max(1, fan_in)))


def evaluate(nodes: Nodes, runnable: RunnableModel, given: dict[str, Value], needed: Sequence[str]) -> dict[str, Value]:
    """Constants `needed` of the folded model: taken from `given` or computed from them, once."""
    known = given | {t.name: Value.of(numpy_helper.to_array(t)) for t in runnable.folded.proto.graph.initializer}
    missing = [name for name in needed if name not in known]
    if missing:
        part = nodes.cut(missing, known.__contains__)
        baked = {name: known[name] for name in part.reads if is_small(known[name])}
        inputs = {name: (known[name].elem_type, known[name].shape) for name in part.reads if name not in baked}
        outputs = {name: nodes.types[name] for name in missing}
        session = Session(nodes.model("constants", part.nodes, inputs, outputs, baked))
        known |= zip(missing, session.run(known), strict=True)
    return {name: known[name] for name in needed}


def is_small(value: Value) -> bool:
    """Whether a constant stays in the model: some operators need shapes, axes and scales at load time."""
    return prod(value.shape) <= SMALL_ELEMENTS
