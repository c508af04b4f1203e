"""Constant folding of shape and padding arithmetic."""

import numpy as np
import onnx
import onnx_ir as ir

from cosma.frontend import structure
from cosma.frontend.lower import is_random, static_count


def folded(proto: onnx.ModelProto, with_shapes: bool) -> ir.Model:
    """Fold the values that depend on small constants alone.

    with_shapes: infer shapes during folding. A model that the library cannot fold is returned unchanged.
    """
    from onnxscript.optimizer import fold_constants

    model = ir.serde.deserialize_model(proto)
    limit = structure.SMALL_ELEMENTS
    try:
        fold_constants(
            model,
            onnx_shape_inference=with_shapes,
            input_size_limit=limit,
            output_size_limit=limit,
            should_fold=_should_fold,
        )
    except Exception:  # an operator that it evaluates wrongly must not cost us the model
        return ir.serde.deserialize_model(proto)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        _write_as_tensor(node)
    return model


def _write_as_tensor(node: ir.Node) -> None:
    """Rewrite the scalars and lists of a Constant as a tensor: before opset 12 no other attribute is allowed."""
    if node.op_type == "Constant" and node.domain == "":
        for key, dtype in (("value_int", np.int64), ("value_float", np.float32)):
            for attribute in [node.attributes.pop(name) for name in (key, f"{key}s") if name in node.attributes]:
                node.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.array(attribute.value, dtype)))


def _should_fold(node: ir.Node) -> bool:
    """Whether to evaluate a node: only if its results are known to be small, and never for weights."""
    if is_random(node) or node.op_type in ("DequantizeLinear", "QuantizeLinear"):  # weights, and never shapes
        return False
    for value in node.outputs:
        count = static_count(value)
        if count is None or count > structure.SMALL_ELEMENTS:
            return False
        if node.op_type == "ConstantOfShape" and not (value.dtype and value.dtype.is_integer()):
            return False  # a stripped weight
    return True
