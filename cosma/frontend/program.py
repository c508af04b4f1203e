"""ONNX file -> Program: the model as planned and the model as it stands, both ready to be run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from cosma.frontend import structure
from cosma.frontend.lower import is_random, sort_nodes
from cosma.frontend.onnx_ import infer, naming, parse, read_data, tidy


@dataclass(frozen=True, slots=True)
class Program:
    """What it takes to run a model.

    whole: the file's own graph: functions inlined, dimensions set, sorted; weights as they are there,
    data in other files read where they could be. folded: the graph that plans are made of, its weights
    turned into inputs without data; its node and value names are those of the plan. constants: names
    of the values of `folded` that depend on constants alone. random: of those that differ in every run.
    """

    whole: onnx.ModelProto
    folded: onnx.ModelProto
    constants: frozenset[str]
    random: frozenset[str]


def read_program(path: Path, dims: Mapping[str, int]) -> Program:
    """Read a model for running, as `frontend.onnx_.load` reads it for planning. Raises InputError."""
    with naming(path):
        whole, _, _ = tidy(parse(path), dims)
        for tensor in structure.tensors(whole.graph):
            read_data(tensor, path.parent)
        detached = onnx.ModelProto()
        detached.CopyFrom(whole)
        weights = structure.detach_weights(detached.graph, structure.has_data)
        model = infer(detached)
        constants = sort_nodes(model.graph, weights).constant
        shapes = _known_shapes(model.graph, constants)
        folded = ir.serde.serialize_model(model)
        kept = [node for node in folded.graph.node if not set(node.output) & set(shapes)]
        del folded.graph.node[:]
        folded.graph.node.extend(kept)
        folded.graph.initializer.extend(onnx.numpy_helper.from_array(v, name) for name, v in shapes.items())
        random = {v for node in model.graph if is_random(node) for v in node.outputs}
        return Program(whole, folded, _names(constants), _names(random))


def _names(values: set[ir.Value]) -> frozenset[str]:
    return frozenset(v.name for v in values if v.name)


def _known_shapes(graph: ir.Graph, constants: set[ir.Value]) -> dict[str, np.ndarray]:
    """What the Shape and Size nodes give that folding has left, though their answer is known."""
    found = {}
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        if node.op_type in ("Shape", "Size") and node.outputs[0] in constants and source is not None:
            if source.shape is None or not source.shape.is_static():
                continue
            sizes = np.array(source.shape.numpy(), np.int64)
            start, end = (node.attributes.get(key) for key in ("start", "end"))
            part = sizes[start.as_int() if start else None : end.as_int() if end else None]
            found[node.outputs[0].name or ""] = part if node.op_type == "Shape" else np.array(sizes.prod(), np.int64)
    return found
