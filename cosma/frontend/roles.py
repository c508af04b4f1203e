"""Roles of nodes in a quantised network: duplicates, nodes that undo a dequantisation, Pads that act as padding."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from cosma.frontend.imported import Names
from cosma.frontend.operators import label
from cosma.target.quantisation import DEQUANTIZE, INTO_PADDING, QUANTIZE, UNDOING

# Operators whose results are nowhere below zero.
_NON_NEGATIVE = frozenset(["Relu", "Sigmoid", "HardSigmoid", "Softmax"])


def merge_twins(graph: ir.Graph) -> Names:
    """Merge QuantizeLinear nodes with the same tensor, scale, zero point and attributes; return the removed ones.

    Exporters write one for each reader although the integers are the same. Model outputs keep their names. Changes
    `graph`.
    """
    first: dict[tuple[object, ...], ir.Value] = {}
    gone = []
    for node in list(graph):
        if label(node.domain, node.op_type) not in QUANTIZE:
            continue
        attributes = tuple(sorted((key, str(a.value)) for key, a in node.attributes.items()))
        (result,), operands = node.outputs, tuple(_what(v) for v in node.inputs[1:])
        # A zero point that is left out is a zero of the type that the result has.
        same = first.setdefault((node.inputs[0], result.dtype, operands, attributes), result)
        if same is not result and not result.is_graph_output():
            result.replace_all_uses_with(same)
            graph.remove(node, safe=True)
            gone.append((node.name or "", label(node.domain, node.op_type)))
    return tuple(gone)


def _what(value: ir.Value | None) -> object:
    """Key that is equal for equal values: the elements of a known constant, otherwise the value itself."""
    known = None if value is None else ir.convenience.get_const_tensor(value)
    return value if known is None else (known.dtype, tuple(known.shape.numpy()), known.numpy().tobytes())


def role(node: ir.Node, constant: AbstractSet[ir.Value], root: Mapping[ir.Value, ir.Value]) -> str | None:
    """Label of a node that undoes a dequantisation or acts as padding, None for others. root: view -> what it shows."""
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
    the lowest number, or zeros around what is nowhere below zero. Only spatial axes are padded, by known amounts.
    """
    if label(node.domain, node.op_type) != "Pad" or node.attributes.get_string("mode", "constant") != "constant":
        return False
    fill, reader = _fill(node), _reader(node.outputs[0], constant)
    pads = _spatial_pads(node)
    if fill is None or reader is None or not pads or reader.graph is not node.graph:  # in a body it is not read alone
        return False
    match label(reader.domain, reader.op_type):
        case "Conv":
            return fill == 0
        case "AveragePool":
            return fill == 0 and reader.attributes.get_int("count_include_pad", 0) != 0 and _may_pad(reader, pads)
        case "MaxPool":  # its second result says where in the padded tensor
            lowest = fill <= float(np.finfo(np.float32).min) or (fill == 0 and _is_non_negative(node.inputs[0]))
            return lowest and len(reader.outputs) == 1 and _may_pad(reader, pads)
    return False


def _may_pad(pool: ir.Node, pads: list[int]) -> bool:
    """Whether padding may do what a Pad does for a pool: each of its windows must hold data.

    Windows that reach beyond the padding (ceil_mode) or have holes (dilations) are left alone.
    """
    kernel = pool.attributes.get_ints("kernel_shape", ())
    own = pool.attributes.get_ints("pads", (0,))
    if pool.attributes.get_int("ceil_mode", 0) or any(d != 1 for d in pool.attributes.get_ints("dilations", ())):
        return False
    explicit = pool.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return explicit and max(pads) + max(own, default=0) < min(kernel, default=0)


def _is_non_negative(value: ir.Value | None) -> bool:
    """Whether no element can be below zero, past what quantises alike before."""
    node = None if value is None else value.producer()
    if node is None or label(node.domain, node.op_type) not in DEQUANTIZE:
        return node is not None and label(node.domain, node.op_type) in _NON_NEGATIVE
    integers, zero = node.inputs[0], _zero_point(node)
    if integers is None or integers.dtype is None or zero is None or not _is_positive(node.inputs[1]):
        return False
    if bool((zero == integers.dtype.min).all()):
        return True
    before = integers.producer()
    if before is None or label(before.domain, before.op_type) not in QUANTIZE or not _is_positive(before.inputs[1]):
        return False
    same = _zero_point(before)
    return same is not None and np.array_equal(zero, same) and _is_non_negative(before.inputs[0])


def _zero_point(node: ir.Node) -> npt.NDArray[Any] | None:
    """What stands for zero, 0 if that is left out; None if it is not known."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return np.zeros(1)
    known = ir.convenience.get_const_tensor(value)
    return None if known is None else np.array(known.numpy()).reshape(-1)


def _is_positive(scale: ir.Value | None) -> bool:
    known = None if scale is None else ir.convenience.get_const_tensor(scale)
    return known is not None and bool((known.numpy() > 0).all())


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


def _spatial_pads(node: ir.Node) -> list[int]:
    """How much a Pad adds at each end; none if it cuts anything off or adds to batch or channels."""
    data = node.inputs[0]
    rank = len(data.shape) if data is not None and data.shape is not None else 0
    pads, axes = (_numbers(node, position, name) for position, name in ((1, "pads"), (3, "axes")))
    if not pads or (axes is None and len(node.inputs) > 3 and node.inputs[3] is not None):
        return []
    padded = range(rank) if axes is None else [a % rank for a in axes]
    ends = np.reshape(pads, (2, -1)).T
    spatial = (ends >= 0).all() and all(a >= 2 or not any(end) for a, end in zip(padded, ends, strict=True))
    return pads if spatial else []


def _numbers(node: ir.Node, position: int, attribute: str) -> list[int] | None:
    """An operand of integers, or the attribute that it was before opset 11; None if it is not known or not there."""
    value = node.inputs[position] if position < len(node.inputs) else None
    known = None if value is None else ir.convenience.get_const_tensor(value)
    if known is None:
        return [*node.attributes.get_ints(attribute, ())] or None
    return [int(n) for n in known.numpy()]
