"""ONNX file -> Graph: read, check, strip the weights' data, fold shape arithmetic, infer shapes, lower.

Only names, shapes and element types matter to a scratchpad plan, so weights lose their data first;
then ONNX Script folds the shape and padding arithmetic and ONNX infers the shapes.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.external_data_helper
import onnx.inliner
import onnx_ir as ir
from onnx_ir.passes import common as passes

from cosma.errors import CosmaError, InputError
from cosma.frontend import structure
from cosma.frontend.lower import DType, is_random, lower, static_count
from cosma.frontend.quantised import add_shapes
from cosma.graph import Graph


@dataclass(frozen=True, slots=True)
class Imported:
    """A graph and how it came about: (name, operator type) of every node that is no operator of it.

    folded: computed from constants and shapes alone; views: move no data; dead: no output needs them.
    """

    graph: Graph
    folded: tuple[tuple[str, str], ...]
    views: tuple[tuple[str, str], ...]
    dead: tuple[tuple[str, str], ...]


def load(path: str | Path, dims: Mapping[str, int] | None = None, dtype: DType | None = None) -> Imported:
    """Read an ONNX model, opset 7 or later.

    `dims` sets dynamic dimensions, by symbol ("batch") or by place ("input:0"); `dtype` replaces the
    element type of every tensor. External weight files need not be there: shapes suffice.
    Raises InputError with one line naming what is wrong and what would help.
    """
    path, dims = Path(path), dict(dims or {})
    with naming(path):
        proto, dead, used = tidy(parse(path), dims)
        weights = structure.detach_weights(proto.graph, lambda tensor: read_data(tensor, path.parent))
        nodes = {node.name: node.op_type for node in proto.graph.node}
        graph, views, folded = lower(path.stem, infer(proto), nodes, weights, dims, used, dtype)
        return Imported(graph, folded, views, dead)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a model into an InputError of one line that names its file."""
    try:
        yield
    except CosmaError as error:
        raise InputError(f"{path}: {error}") from None
    except (Exception, RecursionError) as error:  # the libraries raise anything at all on malformed models
        first = (str(error).splitlines() or [""])[0][:200]
        raise InputError(f"{path}: malformed ONNX model ({type(error).__name__}: {first}); export it again") from error


def parse(path: Path) -> onnx.ModelProto:
    """The protobuf in a file. Raises InputError where there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the model ({error.strerror}); give the path of an ONNX file") from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:
        raise InputError(f"not an ONNX file, or truncated ({len(data)} bytes); export or download it again") from None
    if not proto.HasField("graph"):
        raise InputError(f"not an ONNX model: it holds no graph ({len(data)} bytes); export or download it again")
    return proto


def tidy(
    proto: onnx.ModelProto, dims: Mapping[str, int]
) -> tuple[onnx.ModelProto, tuple[tuple[str, str], ...], set[str]]:
    """A checked model: functions inlined, nodes sorted and named, without the dead ones, dimensions set.

    Returns it with the dead nodes and the names in `dims` that it has. Raises InputError.
    """
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    _refuse_sequences(proto.graph)
    structure.check_graph(proto.graph)
    structure.name_nodes(proto.graph)
    dead = structure.remove_dead(proto.graph)
    return proto, dead, structure.set_dimensions(proto.graph, dict(dims))


def _refuse_sequences(graph: onnx.GraphProto) -> None:
    for value in [*graph.input, *graph.output]:
        kind = value.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            what = kind.removesuffix("_type")
            raise InputError(f"{value.name!r} is of type {what}, not a tensor; only tensors can be planned")


def read_data(tensor: onnx.TensorProto, folder: Path) -> bool:
    """Fetch a tensor's data into it if they lie in another file; whether they are at hand now."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception:  # no such file, too short, outside the folder: then its shape has to do
            return False
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return structure.has_data(tensor)


def infer(proto: onnx.ModelProto) -> ir.Model:
    """Fold shape arithmetic and infer shapes; where folding fails, shape inference alone has to do."""
    with _quiet():
        add_shapes(proto)
        model = _fold(ir.serde.deserialize_model(proto)) or ir.serde.deserialize_model(proto)
        passes.ShapeInferencePass(check_type=False, strict_mode=False)(model)
        return model


def _fold(model: ir.Model) -> ir.Model | None:
    from onnxscript.optimizer import fold_constants

    limit = structure.SMALL_ELEMENTS
    try:
        fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=limit,
            output_size_limit=limit,
            should_fold=_should_fold,
        )
    except Exception:  # an operator that it evaluates wrongly must not cost us the model
        return None
    return model


def _should_fold(node: ir.Node) -> bool:
    """Evaluate only what is known to stay small, and no weights: those are never looked at."""
    if is_random(node):
        return False
    for value in node.outputs:
        count = static_count(value)
        if count is None or count > structure.SMALL_ELEMENTS:
            return False
        if node.op_type == "ConstantOfShape" and not (value.dtype and value.dtype.is_integer()):
            return False  # a stripped weight
    return True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The libraries log about what is reported here in one line."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
