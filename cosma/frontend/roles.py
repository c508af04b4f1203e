"""What nodes are in a quantised network that their operator types do not tell."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import numpy as np
import onnx_ir as ir

from cosma.frontend.operators import label
from cosma.qdq import DEQUANTIZE, INTO_PADDING, QUANTIZE, UNDOING


def role(node: ir.Node, constant: AbstractSet[ir.Value], root: Mapping[ir.Value, ir.Value]) -> str | None:
    """The label of a node that undoes or pads, None for all others. root: view -> what it shows."""
    if _undoes(node, constant, root):
        return UNDOING
    return INTO_PADDING if _goes_into_padding(node, constant) else None


def _undoes(node: ir.Node, constant: AbstractSet[ir.Value], root: Mapping[ir.Value, ir.Value]) -> bool:
    """Whether a node quantises what was dequantised by the same one scale, at most seen in another shape since.

    It gives back the integers, as exporters write it around a Reshape. Scales along an axis mean something else after.
    """
    source = node.inputs[0] if label(node.domain, node.op_type) in QUANTIZE else None
    before = None if source is None else root.get(source, source).producer()
    if before is None or label(before.domain, before.op_type) not in DEQUANTIZE or before.inputs[0] is None:
        return False
    if len(before.inputs) != len(node.inputs) or before.inputs[0].dtype != node.outputs[0].dtype:
        return False
    return all(_is_same_number(a, b, constant) for a, b in zip(before.inputs[1:], node.inputs[1:], strict=True))


def _is_same_number(a: ir.Value | None, b: ir.Value | None, constant: AbstractSet[ir.Value]) -> bool:
    if a is None or b is None:
        return a is b
    one, other = (ir.convenience.get_const_tensor(v) if v in constant else None for v in (a, b))
    return one is not None and other is not None and one.size == 1 and bool(np.array_equal(one.numpy(), other.numpy()))


def _goes_into_padding(node: ir.Node, constant: AbstractSet[ir.Value]) -> bool:
    """Whether a node is a Pad whose only reader could pad just so, past what quantises with `constant` scales.

    Zeros serve a Conv and an AveragePool that counts padding. They may be more than what a MaxPool looks at: it takes
    the lowest number. Only spatial axes are padded, by known amounts.
    """
    if label(node.domain, node.op_type) != "Pad" or node.attributes.get_string("mode", "constant") != "constant":
        return False
    fill, reader = _fill(node), _reader(node.outputs[0], constant)
    if fill is None or reader is None or not _is_spatial(node):
        return False
    match label(reader.domain, reader.op_type):
        case "Conv":
            return fill == 0
        case "AveragePool":  # which does not count what lies beyond the padding
            counts = reader.attributes.get_int("count_include_pad", 0) and not reader.attributes.get_int("ceil_mode", 0)
            return fill == 0 and bool(counts)
        case "MaxPool":  # its second result says where in the padded tensor
            return fill <= float(np.finfo(np.float32).min) and len(reader.outputs) == 1
    return False


def _reader(value: ir.Value, constant: AbstractSet[ir.Value]) -> ir.Node | None:
    """The one node whose first operand a value is."""
    uses = tuple(value.uses())
    if len(uses) != 1 or uses[0].idx != 0 or value.is_graph_output():
        return None
    reader = uses[0].node
    if label(reader.domain, reader.op_type) not in QUANTIZE | DEQUANTIZE:
        return reader
    steady = all(v is None or v in constant for v in reader.inputs[1:])
    return _reader(reader.outputs[0], constant) if steady else None


def _fill(node: ir.Node) -> float | None:
    """What is written around the data; None if that is not known, or an integer that stands for another number."""
    data = node.inputs[0]
    if data is None or data.dtype is None or not data.dtype.is_floating_point():
        return None
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return node.attributes.get_float("value", 0.0)  # an attribute before opset 11
    known = ir.convenience.get_const_tensor(value)
    return None if known is None else float(known.numpy().reshape(-1)[0])


def _is_spatial(node: ir.Node) -> bool:
    """Whether nothing is cut off, and the batch and the channels stay as they are."""
    data = node.inputs[0]
    rank = len(data.shape) if data is not None and data.shape is not None else 0
    pads, axes = (_numbers(node, position, name) for position, name in ((1, "pads"), (3, "axes")))
    if not pads or (axes is None and len(node.inputs) > 3 and node.inputs[3] is not None):
        return False
    padded = range(rank) if axes is None else [a % rank for a in axes]
    ends = np.reshape(pads, (2, -1)).T
    return bool((ends >= 0).all()) and all(a >= 2 or not any(end) for a, end in zip(padded, ends, strict=True))


def _numbers(node: ir.Node, position: int, attribute: str) -> list[int] | None:
    """An operand of integers, or the attribute that it was before opset 11; None if it is not known or not there."""
    value = node.inputs[position] if position < len(node.inputs) else None
    known = None if value is None else ir.convenience.get_const_tensor(value)
    if known is None:
        return [*node.attributes.get_ints(attribute, ())] or None
    return [int(n) for n in known.numpy()]
