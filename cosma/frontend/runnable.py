"""ONNX file -> RunnableModel: the model as planned and the model as it stands, both ready to be run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from cosma.frontend import external
from cosma.frontend.dimensions import Dimensions
from cosma.frontend.load import naming, parse, tidy, understand
from cosma.frontend.lower import is_random, sort_nodes, static_shape
from cosma.frontend.roles import merge_twins


@dataclass(frozen=True, slots=True)
class RunnableModel:
    """What it takes to run a model.

    whole: the file's own graph: functions inlined, dimensions set, sorted; weights as they are there, data
    in other files read. unread: those that were not, by tensor name. folded: the graph that plans are made
    of, its weights turned into inputs without data; its node and value names are those of the plan.
    constants: names of the values of `folded` that depend on constants alone, but for those that show others in
    more bits. random: of those that differ
    in every run.
    """

    whole: onnx.ModelProto
    unread: Mapping[str, external.Unread]
    folded: onnx.ModelProto
    constants: frozenset[str]
    random: frozenset[str]


def read_runnable(path: Path, dims: Mapping[str, int]) -> RunnableModel:
    """Read a model for running, as `frontend.onnx_.load` reads it for planning. Raises InputError."""
    with naming(path):
        whole, _ = tidy(parse(path))
        unread = external.attach(whole, path)
        _densify(whole.graph)
        detached = onnx.ModelProto()
        detached.CopyFrom(whole)
        Dimensions(dims).apply(whole.graph)
        model, weights, _ = understand(detached, dims, unread)
        merge_twins(model.graph)
        nodes = sort_nodes(model.graph, weights)
        constants = nodes.constant
        shapes = _known_shapes(model.graph, constants)
        folded = ir.serde.serialize_model(model)
        kept = [node for node in folded.graph.node if not set(node.output) & set(shapes)]
        del folded.graph.node[:]
        folded.graph.node.extend(kept)
        folded.graph.initializer.extend(onnx.numpy_helper.from_array(v, name) for name, v in shapes.items())
        random = {v for node in model.graph if is_random(node) for v in node.outputs}
        return RunnableModel(whole, unread, folded, _names(constants - nodes.root.keys()), _names(random))


def _densify(graph: onnx.GraphProto) -> None:
    """Turn sparse constants into dense ones, as runtimes do."""
    graph.initializer.extend(_dense(sparse) for sparse in graph.sparse_initializer)
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                dense = _dense(attribute.sparse_tensor)
                attribute.CopyFrom(onnx.helper.make_attribute("value", dense))


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """The tensor with its zeros. Indices count elements, or are one row of coordinates an element."""
    values, indices = (onnx.numpy_helper.to_array(t) for t in (sparse.values, sparse.indices))
    dims = tuple(sparse.dims)
    array = np.zeros(dims, values.dtype)
    places = np.ravel_multi_index(tuple(indices.T), dims) if indices.ndim == 2 else indices
    array.reshape(-1)[places] = values
    return onnx.numpy_helper.from_array(array, sparse.values.name)


def _names(values: set[ir.Value]) -> frozenset[str]:
    return frozenset(v.name for v in values if v.name)


def _known_shapes(graph: ir.Graph, constants: set[ir.Value]) -> dict[str, np.ndarray]:
    """What the Shape and Size nodes give that folding has left, though their answer is known."""
    found = {}
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        if node.op_type in ("Shape", "Size") and node.outputs[0] in constants and source is not None:
            shape = static_shape(source)
            if shape is None:
                continue
            sizes = np.array(shape, np.int64)
            start, end = (node.attributes.get(key) for key in ("start", "end"))
            part = sizes[start.as_int() if start else None : end.as_int() if end else None]
            found[node.outputs[0].name or ""] = part if node.op_type == "Shape" else np.array(sizes.prod(), np.int64)
    return found
