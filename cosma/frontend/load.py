"""ONNX file -> Graph: read, check, strip the weights' data, fold shape arithmetic, infer shapes, lower.

Only names, shapes and element types matter to a scratchpad plan, so weights lose their data first;
then ONNX Script folds the shape and padding arithmetic and ONNX infers the shapes.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from cosma.errors import CosmaError, InputError
from cosma.files import read_input
from cosma.frontend import external, structure
from cosma.frontend.bodies import check_bodies, hoist_constants
from cosma.frontend.dimensions import Dimensions
from cosma.frontend.functions import inline
from cosma.frontend.imported import DType, Imported, Names
from cosma.frontend.lower import lower
from cosma.frontend.operators import STANDARD, check_nodes, label
from cosma.frontend.roles import merge_twins
from cosma.frontend.shapes import infer
from cosma.kinds import complain


def load(path: str | Path, dims: Mapping[str, int] | None = None, dtype: DType | None = None) -> Imported:
    """Read an ONNX model, opset 7 or later.

    `dims` sets open dimensions, by symbol ("batch") or by place ("input:0"); `dtype` replaces the
    element type of every tensor. External weight files need not be there: shapes suffice.
    Raises InputError with one line naming what is wrong and what would help.
    """
    path = Path(path)
    with naming(path):
        proto, dead = tidy(parse(path))
        unread = external.attach(proto, path, structure.SMALL_ELEMENTS)
        nodes = {node.name: label(node.domain, node.op_type) for node in proto.graph.node}
        model, weights, notes = understand(proto, dims or {}, unread)
        twins = merge_twins(model.graph)
        nodes = {name: kind for name, kind in nodes.items() if (name, kind) not in twins}
        graph, views, folded = lower(path.stem, model, nodes, weights, dtype)
        return Imported(graph, folded, views, dead + twins, notes)


def understand(
    proto: onnx.ModelProto, dims: Mapping[str, int], unread: Mapping[str, external.Unread]
) -> tuple[ir.Model, set[str], tuple[str, ...]]:
    """A tidy model with its shapes known as far as can be, the names of its weights, and notes on what it declares.

    unread: tensors of which the file's data are not known. `proto` is changed. Raises InputError.
    """
    given = Dimensions(dims)
    given.apply(proto.graph)
    given.refuse_unused()
    weights = structure.detach_weights(proto.graph)
    proto.ir_version = max(4, proto.ir_version)  # before 4, every initializer had to be an input as well
    external.refuse_in_bodies(proto.graph, unread)
    model, notes = infer(proto, given)
    external.refuse_needed(proto.graph, model, unread)
    return model, weights, notes


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
        data = read_input(path)
    except OSError as error:
        raise InputError(f"cannot read the model ({error.strerror}); give the path of an ONNX file") from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:
        complain(path, "ONNX model", before="")
        raise InputError(f"not an ONNX file, or truncated ({len(data)} bytes); export or download it again") from None
    if not proto.HasField("graph"):
        complain(path, "ONNX model", before="")
        raise InputError(f"not an ONNX model: it holds no graph ({len(data)} bytes); export or download it again")
    return proto


def tidy(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Names]:
    """A checked model: functions inlined, nodes sorted and named, without the dead ones, constants out of bodies.

    Returns it with the dead nodes. Raises InputError.
    """
    proto = inline(proto)
    structure.show_names(proto.graph)
    for named in (*proto.opset_import, *structure.all_nodes(proto.graph)):
        named.domain = "" if named.domain in STANDARD else named.domain
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    check_nodes(proto.graph.node, versions)
    _refuse_sequences(proto.graph)
    structure.check_graph(proto.graph)
    structure.name_nodes(proto.graph)
    check_bodies(proto.graph)
    dead = structure.remove_dead(proto.graph)
    hoist_constants(proto.graph, versions)
    return proto, dead


def _refuse_sequences(graph: onnx.GraphProto) -> None:
    for value in [*graph.input, *graph.output]:
        kind = value.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            what = kind.removesuffix("_type")
            raise InputError(f"{value.name!r} is of type {what}, not a tensor; only tensors can be planned")
