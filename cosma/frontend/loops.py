"""Shapes of loop-carried values, for which ONNX infers only the element type.

A value that enters a body and leaves it with the same shape has that shape after any number of iterations.
"""

from collections.abc import Iterable, Mapping

import onnx

from cosma.frontend.operators import STANDARD
from cosma.frontend.structure import subgraphs

Opsets = Iterable[onnx.OperatorSetIdProto]


def size_carried(graph: onnx.GraphProto, opsets: Opsets) -> bool:
    """Write the proven shapes of loop-carried values to the graph's value_info; return whether there was any.

    graph: has the types of its values as far as known. opsets: the model's opset_import.
    """
    types = {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output) if v.HasField("type")}
    for tensor in graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    declared = {v.name: v for v in (*graph.value_info, *graph.output)}
    changed = False
    for node in graph.node:
        if node.op_type != "Loop" or node.domain not in STANDARD:
            continue
        for name, kind in _invariant(node, graph, types, opsets).items():
            value = declared.get(name) or graph.value_info.add(name=name)
            if not value.type.tensor_type.HasField("shape"):
                value.type.CopyFrom(kind)
                changed = True
    return changed


def _invariant(
    node: onnx.NodeProto, outer: onnx.GraphProto, types: Mapping[str, onnx.TypeProto], opsets: Opsets
) -> dict[str, onnx.TypeProto]:
    """Results of a Loop that have the type of the value that enters it -> that type."""
    body = next(a.g for a in node.attribute if a.name == "body")
    entering = {i: types[name] for i, name in enumerate(node.input[2:]) if name in types and _is_sized(types[name])}
    while entering:  # what does not keep its shape may be why another does: start again without it
        leaving = _infer(_standalone(body, outer, types), entering, opsets)
        kept = {i: kind for i, kind in entering.items() if leaving[i] == kind}
        if len(kept) == len(entering):
            break
        entering = kept
    return {node.output[i]: kind for i, kind in entering.items() if i < len(node.output) and node.output[i]}


def _is_sized(kind: onnx.TypeProto) -> bool:
    """Whether a type is that of a tensor whose sizes are all known."""
    shape = kind.tensor_type.shape
    return kind.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in shape.dim)


def _standalone(body: onnx.GraphProto, outer: onnx.GraphProto, types: Mapping[str, onnx.TypeProto]) -> onnx.GraphProto:
    """Copy of a body with the values of the enclosing graph as inputs and initializers of its own."""
    graph = onnx.GraphProto()
    graph.CopyFrom(body)
    _forget(graph)
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own |= {name for inner in graph.node for name in inner.output}
    graph.input.extend(onnx.ValueInfoProto(name=name, type=kind) for name, kind in types.items() if name not in own)
    graph.initializer.extend(tensor for tensor in outer.initializer if tensor.name not in own)
    return graph


def _forget(body: onnx.GraphProto) -> None:
    """Remove the declared shapes of a body, which follow from the declared shapes of its inputs."""
    del body.value_info[:]
    for value in body.output:
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")
    for sub in (sub for node in body.node for sub in subgraphs(node)):
        _forget(sub)


def _infer(body: onnx.GraphProto, entering: Mapping[int, onnx.TypeProto], opsets: Opsets) -> list[onnx.TypeProto]:
    """Infer the types of carried values at the end of a body. entering: their types at its start; others: any shape."""
    for i, value in enumerate(body.input[2 : len(body.output) + 1]):
        if i in entering:
            value.type.CopyFrom(entering[i])
        elif value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")
    model = onnx.ModelProto(ir_version=onnx.IR_VERSION, graph=body, opset_import=opsets)
    return [value.type for value in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output[1:]]
