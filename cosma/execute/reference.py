"""Reference runs: the whole model, and operator by operator in host memory; differences in ULPs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from cosma.errors import InputError
from cosma.execute.constants import Constants, is_small
from cosma.execute.kernels import Kernels
from cosma.execute.machine import digest
from cosma.execute.runtime import Bytes, Session, Value, allocate, dtype_of
from cosma.execute.submodel import ir_version
from cosma.frontend.runnable import RunnableModel

_CHUNK_BYTES = 2**28  # intermediate results of a whole run that are looked at together


@dataclass(frozen=True, slots=True)
class Difference:
    """A result of an operator that differs between two runs. ulps: largest distance of two elements; for integers
    their difference.
    """

    operator: str
    op_type: str
    tensor: str
    ulps: int


def whole_model(
    runnable: RunnableModel, constants: Constants, extra: Sequence[tuple[str, int]] = ()
) -> onnx.ModelProto:
    """The file's model with large constants as inputs, which avoids copies of them.

    extra: (name, element type) of inner values to return too.
    """
    fed = {name: value for name, value in constants.values.items() if not is_small(value)}
    fed |= {name: constants.values[name] for name in constants.stripped}
    graph = runnable.whole.graph
    model = onnx.ModelProto(ir_version=ir_version(runnable.whole), opset_import=runnable.whole.opset_import)
    model.graph.name = graph.name or "model"
    model.graph.node.extend(node for node in graph.node if not fed.keys() & set(node.output))
    weights = {t.name for t in graph.initializer}
    model.graph.initializer.extend(t for t in graph.initializer if t.name not in fed)
    model.graph.input.extend(v for v in graph.input if v.name not in weights)
    model.graph.input.extend(onnx.helper.make_tensor_value_info(name, v.elem_type, v.shape) for name, v in fed.items())
    model.graph.output.extend(graph.output)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in extra)
    return model


def run_whole(runnable: RunnableModel, constants: Constants, inputs: Mapping[str, Value]) -> list[Bytes]:
    """Run the file's whole model; return its outputs in order."""
    session = Session(whole_model(runnable, constants))
    return [value.data for value in session.run(constants.values | dict(inputs))]


def run_operators(kernels: Kernels, home: Mapping[int, Bytes]) -> Iterator[tuple[int, dict[int, Value]]]:
    """Run the operators in file order; yields each operator index with the values still needed.

    Every tensor has its own host memory; no plan is involved.
    """
    graph = kernels.graph
    last = {a: v for v, operator in enumerate(graph.operators) for a in (*operator.inputs, *operator.outputs)}
    values = {a: Value(*kernels.types[a], data) for a, data in home.items()}
    for v, operator in enumerate(graph.operators):
        for a in operator.outputs:
            values[a] = Value(*kernels.types[a], allocate(graph.tensors[a].size_bytes))
        kernels.kernels[v].run(values)
        yield v, values
        for a in {*operator.inputs, *operator.outputs}:
            if last[a] == v and graph.tensors[a].kind == "activation":
                del values[a]


class NotANumberError(InputError):
    """A reference run makes NaN, which cannot be told from poisoned bytes of the scratchpad."""


def operator_digests(kernels: Kernels, home: Mapping[int, Bytes]) -> dict[int, int]:
    """Digests of the results of each operator run alone in host memory, by tensor index.

    Raises NotANumberError naming the first operator that makes a NaN: poisoned bytes are NaN too.
    """
    found: dict[int, int] = {}
    for v, values in run_operators(kernels, home):
        operator = kernels.graph.operators[v]
        for a in operator.outputs:
            if _has_nan(values[a]):
                raise NotANumberError(
                    f"operator {operator.name!r} ({operator.op_type}) makes NaN of these inputs and weights, in an "
                    "ordinary run as well; NaN would hide stale bytes: give other --inputs, another --seed or the "
                    "weights that the model was trained with"
                )
            found[a] = digest(values[a].data)
    return found


def _has_nan(value: Value) -> bool:
    """Whether any element is NaN, for all floating-point types."""
    with np.errstate(invalid="ignore"):  # which signalling NaNs of less than 32 bits are
        return bool(np.isnan(value.array()).any())


def first_difference(
    runnable: RunnableModel,
    constants: Constants,
    inputs: Mapping[str, Value],
    kernels: Kernels,
    home: Mapping[int, Bytes],
) -> Difference | None:
    """The first operator, in the file's order, whose result differs between the whole run and a run on its own.

    Compares the inner tensors that exist in the file, in chunks of `_CHUNK_BYTES`; None if all are equal.
    """
    graph = kernels.graph
    written = {name for node in runnable.whole.graph.node for name in node.output}
    single = run_operators(kernels, home)
    for chunk in _chunks(kernels, written):
        names = [(graph.tensors[a].name, kernels.types[a][0]) for a in chunk]
        known = {v.name for v in runnable.whole.graph.output}
        session = Session(whole_model(runnable, constants, [n for n in names if n[0] not in known]))
        results = session.run(constants.values | dict(inputs))
        whole = dict(zip(session.outputs, results, strict=True))
        todo = set(chunk)
        while todo:
            v, values = next(single)
            operator = graph.operators[v]
            for a in todo & set(operator.outputs):
                other = whole[graph.tensors[a].name]
                if not np.array_equal(values[a].data, other.data):
                    return difference_of(kernels, a, values[a].data, other.data)
            todo -= set(operator.outputs)
    return None


def difference_of(kernels: Kernels, a: int, one: Bytes, other: Bytes) -> Difference:
    """Difference of two results of the operator that writes tensor a."""
    graph = kernels.graph
    operator = graph.operators[graph.producer[a] or 0]
    distance = ulps(Value(*kernels.types[a], one), Value(*kernels.types[a], other))
    return Difference(operator.name, operator.op_type, graph.tensors[a].name, distance)


def _chunks(kernels: Kernels, written: set[str]) -> Iterator[list[int]]:
    chunk: list[int] = []
    size = 0
    for operator in kernels.graph.operators:
        found = [a for a in operator.outputs if kernels.graph.tensors[a].name in written]
        chunk += found
        size += sum(kernels.graph.tensors[a].size_bytes for a in found)
        if size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def ulps(one: Value, other: Value) -> int:
    """The largest distance of two tensors of one type, in units in the last place (integers: in ones)."""
    if not one.data.size or one.data.size != other.data.size:
        return 0
    dtype = dtype_of(one.elem_type)
    if "float" in dtype.name:  # numpy knows what ml_dtypes adds by name only
        left, right = (_ordered(value.data, dtype.itemsize) for value in (one, other))
    else:
        left, right = (value.array() for value in (one, other))
    # The difference of the larger and the smaller fits an unsigned integer, whatever the type.
    distance = np.maximum(left, right).astype(np.uint64) - np.minimum(left, right).astype(np.uint64)
    return int(distance.max())


def _ordered(data: Bytes, width: int) -> npt.NDArray[np.int64]:
    """Floating-point numbers as integers in the same order, neighbours one apart, both zeros 0."""
    bits = data.view(f"i{width}").astype(np.int64)
    return np.where(bits < 0, np.int64(-(2 ** (8 * width - 1))) - bits, bits)
