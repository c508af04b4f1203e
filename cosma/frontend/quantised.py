"""Shapes of ONNX Runtime's quantised operators (com.microsoft), which ONNX's shape inference does not know."""

import onnx

# Operator -> an ONNX operator whose result has the same shape, and which of the inputs to give it: each is followed
# by its scale and zero point. The results are of the element type of the data.
_ALIKE = {
    **{op: (op, slice(None)) for op in ("QuantizeLinear", "DequantizeLinear")},  # of more element types
    "QLinearAdd": ("Add", slice(0, 4, 3)),
    "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QGemm": ("Gemm", slice(0, 4, 3)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QLinearSigmoid": ("Identity", slice(1)),
    "QLinearLeakyRelu": ("Identity", slice(1)),
    "QLinearSoftmax": ("Identity", slice(1)),
    "QLinearAveragePool": ("AveragePool", slice(1)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(1)),
    "DynamicQuantizeLSTM": ("LSTM", slice(8)),  # its scales and zero points come last
}


def add_shapes(proto: onnx.ModelProto) -> None:
    """Write the types and shapes of the results of these operators to the model's value_info, as far as known."""
    names = {name for node in proto.graph.node if _has_known_shape(node) for name in node.output if name}
    if not names:
        return
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for node in filter(_has_known_shape, model.graph.node):
        node.op_type, inputs = _ALIKE[node.op_type][0], node.input[_ALIKE[node.op_type][1]]
        node.domain = ""
        node.input[:] = inputs
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    kept = [value for value in proto.graph.value_info if value.name not in names]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend([*kept, *(value for value in known.value_info if value.name in names)])
    for value, found in zip(proto.graph.output, known.output, strict=True):
        if value.name in names:
            value.CopyFrom(found)


def _has_known_shape(node: onnx.NodeProto) -> bool:
    """Whether a node is such an operator; not with channels last, nor a QGemm with a float result."""
    if node.domain != "com.microsoft" or node.op_type not in _ALIKE:
        return False
    if any(a.name == "channels_last" and a.i for a in node.attribute):
        return False
    return node.op_type != "QGemm" or (len(node.input) > 8 and node.input[8] != "")
