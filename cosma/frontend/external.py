"""External data: read the tensors that may be read, report for the others which file was not read and why.

A model file names other files and is not trusted. The rule is that of ONNX Runtime 1.24.2 and later, without the '..'
that the ONNX format forbids: a location is relative to the folder of the model's path; after following links, the
file must lie in that folder or in the folder of the model's real path. So snapshots/R/model.onnx -> ../../blobs/A
may have its data in blobs/B, the layout of download caches; no other file outside is opened.
(The onnx package follows no link at all, onnx_ir takes locations from the working directory.)
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import onnx

from cosma.errors import InputError
from cosma.frontend import structure

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class Unread:
    """A tensor whose data were not read. is_absent: the file could lie there, but does not; `why` ends in a remedy."""

    tensor: str
    location: str
    is_absent: bool
    why: str

    def __str__(self) -> str:
        return f"the data of tensor {self.tensor!r} lie in {self.location[:200]!r}, {self.why}"


class _RefusedError(Exception):
    """Reason why a file is not read."""


def attach(proto: onnx.ModelProto, path: Path, limit: int | None = None) -> dict[str, Unread]:
    """Read external data into the model of the file `path`; return the tensors that could not be read, by name.

    Covers all tensors, including those of attributes, branches and functions; tensors of more than `limit` elements
    are not read. Afterwards no tensor has a location, so that no library opens a file: unread tensors have no data.
    Raises InputError for data in the model itself that do not fill their tensor's shape.
    """
    unread = {}
    for name, tensor in list(_tensors(proto)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            for field in ("raw", "float", "int32", "int64", "double", "uint64", "string"):
                tensor.ClearField(f"{field}_data")
            if limit is None or prod(tensor.dims) <= limit:
                found = _attach(name, tensor, path)
                if found is not None:
                    unread[name] = found
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
        elif tensor.HasField("raw_data"):
            _check_size(name, tensor)
    return unread


def _attach(name: str, tensor: onnx.TensorProto, path: Path) -> Unread | None:
    keys = [entry.key for entry in tensor.external_data]
    given = {entry.key: entry.value for entry in tensor.external_data}
    location = given.get("location", "")
    try:
        for key in ("location", "offset", "length"):
            if keys.count(key) > 1:
                raise _RefusedError(f"but say {key} twice; export the model again")
        offset, length = (_number(key, given.get(key)) for key in ("offset", "length"))
        size = _size(tensor)
        if length and length != size:
            raise _RefusedError(
                f"of which {length} bytes for shape {list(tensor.dims)}, which takes {size}; export again"
            )
        if size:
            tensor.raw_data = _slice(_locate(location, path), offset, size)
    except _RefusedError as refusal:
        return Unread(name, location, False, str(refusal))
    except (FileNotFoundError, NotADirectoryError):
        return Unread(name, location, True, "which is not there; put that file beside the model")
    except OSError as error:
        return Unread(name, location, False, f"which cannot be read ({error.strerror}); make it readable")
    return None


def _check_size(name: str, tensor: onnx.TensorProto) -> None:
    try:
        size = _size(tensor)
    except _RefusedError as refusal:
        raise InputError(f"tensor {name!r} has data, {refusal}") from None
    if len(tensor.raw_data) != size:
        raise InputError(
            f"the data of weight {name!r} do not fill its shape {list(tensor.dims)}; export the model again"
        )


def _number(key: str, text: str | None) -> int:
    """A count of bytes, 0 where none is given."""
    if text is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise _RefusedError(f"at {key} {text[:50]!r}, which is no count of bytes; export the model again")
    return int(text)


def _size(tensor: onnx.TensorProto) -> int:
    """Size in bytes of a tensor; elements of less than a byte are packed."""
    if tensor.data_type == onnx.TensorProto.STRING or min(tensor.dims, default=0) < 0:
        what = "strings" if tensor.data_type == onnx.TensorProto.STRING else f"shape {list(tensor.dims)}"
        raise _RefusedError(f"which cannot hold {what}; export the model again")
    bits = structure.element_bits(tensor.data_type)
    if bits is None:
        raise _RefusedError(f"but their element type {tensor.data_type} is none; export the model again")
    return -(-int(prod(tensor.dims)) * bits // 8)


def _locate(location: str, path: Path) -> str:
    """Real path of a data file of the model at `path`; opens no file."""
    parts = PurePath(location)
    if not location or "\0" in location or parts.is_absolute() or ".." in parts.parts:
        raise _RefusedError("which is no path within the model's folder; nothing else is read: export the model again")
    real = os.path.realpath(path.parent / parts)
    folders = {os.path.realpath(path.parent), os.path.dirname(os.path.realpath(path))}  # noqa: PTH120
    if not any(Path(real).is_relative_to(folder) for folder in folders):
        raise _RefusedError("a link out of the model's folder, where nothing is read; put the file itself there")
    return real


def _slice(path: str, offset: int, size: int) -> bytes:
    """Read `size` bytes at `offset` of a regular file; devices and pipes are refused."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb", buffering=0, closefd=True) as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _RefusedError("which is no regular file; put the file itself beside the model")
        if offset + size > status.st_size:
            raise _RefusedError(
                f"which ends at byte {status.st_size}, before byte {offset + size}: it is cut off or belongs to "
                "another model; download it again"
            )
        file.seek(offset)
        return file.read(size)


def _tensors(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor of a model, functions included, with the name under which nodes read it."""
    yield from _in_graph(proto.graph)
    for node in (node for function in proto.functions for node in function.node):
        yield from _in_node(node)


def _in_graph(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for sparse in graph.sparse_initializer:
        yield from ((sparse.values.name, part) for part in (sparse.values, sparse.indices))
    for node in graph.node:
        yield from _in_node(node)


def _in_node(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    name = next(iter(node.output), node.name)
    for attribute in node.attribute:
        # Fields that are not set read as empty messages; those change nothing here.
        sparse = [attribute.sparse_tensor, *attribute.sparse_tensors]
        parts = [part for tensor in sparse for part in (tensor.values, tensor.indices)]
        yield from ((name, tensor) for tensor in (attribute.t, *attribute.tensors, *parts))
    for graph in structure.subgraphs(node):
        yield from _in_graph(graph)


def refuse_in_bodies(graph: onnx.GraphProto, unread: Mapping[str, Unread]) -> None:
    """Raise InputError for a constant without data that is still in a branch or loop: it steers an operator."""
    for node in graph.node if unread else ():
        for sub in structure.subgraphs(node):
            for name, tensor in _in_graph(sub):
                if name in unread and not structure.has_data(tensor):
                    raise InputError(f"operator {node.name!r} ({node.op_type}) needs a constant: {unread[name]}")


def refuse_needed(graph: onnx.GraphProto, model: "ir.Model", unread: Mapping[str, Unread]) -> None:
    """Raise InputError if an open shape of `model` depends on unread data.

    graph: the sorted graph that `model` was made from.
    """
    behind = dict(unread)  # value -> what it was computed from
    for node in graph.node if unread else ():
        source = next((behind[name] for name in structure.read_names(node) if name in behind), None)
        if source is not None:
            behind |= dict.fromkeys(node.output, source)
    for value in (value for node in model.graph for value in node.outputs):
        if value.name in behind and (value.shape is None or any(_is_nameless(dim) for dim in value.shape)):
            raise InputError(f"the shape of {value.name!r} is open: {behind[value.name]}")


def _is_nameless(dim: "int | ir.SymbolicDim") -> bool:
    """Whether a dimension has neither a size nor a name of the file; ONNX names such dimensions unk__0, unk__1, ..."""
    return not isinstance(dim, int) and (dim.value is None or dim.value.startswith("unk__"))
