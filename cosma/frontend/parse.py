"""ONNX file -> tidy protobuf: parsed, functions inlined, nodes sorted and named, constants out of bodies."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import onnx

from cosma.errors import CosmaError, InputError
from cosma.files import read_input
from cosma.frontend import structure
from cosma.frontend.bodies import check_bodies, hoist_constants
from cosma.frontend.functions import inline
from cosma.frontend.imported import Names
from cosma.frontend.operators import STANDARD, check_nodes
from cosma.kinds import complain


def read_tidy(path: Path) -> tuple[onnx.ModelProto, Names]:
    """Read and check a model file; return the tidy model and its dead nodes, which are left out. Raises InputError."""
    return _tidy(_parse(path))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Convert any exception into an InputError of one line that names the model file."""
    try:
        yield
    except CosmaError as error:
        raise InputError(f"{path}: {error}") from None
    except (Exception, RecursionError) as error:  # the libraries raise anything at all on malformed models
        first = (str(error).splitlines() or [""])[0][:200]
        raise InputError(f"{path}: malformed ONNX model ({type(error).__name__}: {first}); export it again") from error


def _parse(path: Path) -> onnx.ModelProto:
    """Parse a model file. Raises InputError if it holds no model."""
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


def _tidy(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Names]:
    """Check a model, inline functions, sort and name nodes, remove dead ones, move constants out of bodies.

    Returns the model and its dead nodes. Raises InputError.
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
