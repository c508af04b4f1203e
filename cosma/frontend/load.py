"""ONNX file -> Graph: read, check, strip the weights' data, fold shape arithmetic, infer shapes, lower.

Only names, shapes and element types matter to a scratchpad plan, so weights lose their data first;
then ONNX Script folds the shape and padding arithmetic and ONNX infers the shapes.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from cosma.frontend import external, structure
from cosma.frontend.dimensions import Dimensions
from cosma.frontend.imported import FoldedModel, Imported, Names
from cosma.frontend.lower import Sorted, is_random, lower, sort_nodes, static_shape
from cosma.frontend.operators import label
from cosma.frontend.parse import naming, read_tidy
from cosma.frontend.roles import merge_twins
from cosma.frontend.runnable import RunnableModel, with_data
from cosma.frontend.shapes import infer
from cosma.graph import DType


def load(
    path: str | Path, dims: Mapping[str, int] | None = None, dtype: DType | None = None, for_running: bool = False
) -> Imported:
    """Read an ONNX model, opset 7 or later.

    dims: sizes of open dimensions, by symbol ("batch") or by place ("input:0"). dtype: replaces the element type of
    every tensor. for_running: keep the folded model, which `runnable.read_runnable` takes. External weight files
    need not exist: shapes suffice. Raises InputError with one line that names the fault and the remedy.
    """
    path = Path(path)
    with naming(path):
        proto, dead = read_tidy(path)
        imported, model, nodes = _understand(proto, dead, path, dims or {}, dtype)
        return replace(imported, folded_model=_folded_model(model, nodes)) if for_running else imported


def load_runnable(
    path: str | Path, dims: Mapping[str, int] | None = None, dtype: DType | None = None
) -> tuple[Imported, RunnableModel]:
    """Read a model for planning, as `load` does, and for running: one parse, one inference."""
    path = Path(path)
    with naming(path):
        whole, dead = read_tidy(path)
        proto = onnx.ModelProto()
        proto.CopyFrom(whole)
        imported, model, nodes = _understand(proto, dead, path, dims or {}, dtype)
        return imported, with_data(whole, path, dims or {}, _folded_model(model, nodes))


def _understand(
    proto: onnx.ModelProto, dead: Names, path: Path, dims: Mapping[str, int], dtype: DType | None
) -> tuple[Imported, ir.Model, Sorted]:
    """The graph of a tidy model, the folded model that it was made from, and the classes of its nodes.

    `proto` loses its weights' data. Raises InputError.
    """
    unread = external.attach(proto, path, structure.SMALL_ELEMENTS)
    nodes = {node.name: label(node.domain, node.op_type) for node in proto.graph.node}
    given = Dimensions(dims)
    given.apply(proto.graph)
    given.refuse_unused()
    weights = structure.detach_weights(proto.graph)
    proto.ir_version = max(4, proto.ir_version)  # before 4, every initializer had to be an input as well
    external.refuse_in_bodies(proto.graph, unread)
    model, notes = infer(proto, given)
    external.refuse_needed(proto.graph, model, unread)
    twins = merge_twins(model.graph)
    nodes = {name: kind for name, kind in nodes.items() if (name, kind) not in twins}
    sorted_ = sort_nodes(model.graph, weights)
    graph, views, folded = lower(path.stem, model.graph, nodes, sorted_, dtype)
    return Imported(graph, folded, views, dead + twins, notes), model, sorted_


def _folded_model(model: ir.Model, nodes: Sorted) -> FoldedModel:
    shapes = _known_shapes(model.graph, nodes.constant)
    folded = ir.serde.serialize_model(model)
    structure.replace_all(folded.graph.node, [n for n in folded.graph.node if not set(n.output) & set(shapes)])
    folded.graph.initializer.extend(onnx.numpy_helper.from_array(v, name) for name, v in shapes.items())
    random = {v for node in model.graph if is_random(node) for v in node.outputs}
    return FoldedModel(folded, _names(nodes.constant - nodes.root.keys()), _names(random))


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
