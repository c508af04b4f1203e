"""Checks of operand shapes that ONNX's shape inference does not make."""

from collections.abc import Callable
from math import prod

import onnx_ir as ir

from cosma.errors import InputError
from cosma.frontend.operators import STANDARD

Shape = tuple[int, ...] | None
_RESHAPES = frozenset(["Reshape", "Flatten", "Squeeze", "Unsqueeze"])
# Convolution -> positions of its data, kernel and bias.
_CONVOLUTIONS = {
    "Conv": (0, 1, 2), "ConvTranspose": (0, 1, 2), "ConvInteger": (0, 1, None), "QLinearConv": (0, 3, 8),
}  # fmt: skip


def check_operands(node: ir.Node, shape: Callable[[ir.Value], Shape]) -> None:
    """Check the element count of reshapes, and the channels and bias of convolutions. Raises InputError.

    shape: returns the sizes of a value, None if they are not known; then nothing is checked.
    """
    if node.domain not in STANDARD:
        return
    if node.op_type in _RESHAPES:
        _check_elements(node, shape)
    elif node.op_type in _CONVOLUTIONS:
        _check_channels(node, shape)


def _check_elements(node: ir.Node, shape: Callable[[ir.Value], Shape]) -> None:
    source, result = node.inputs[0], node.outputs[0]
    before, after = (None if source is None else shape(source)), shape(result)
    if source is not None and before is not None and after is not None and prod(before) != prod(after):
        raise InputError(
            f"operator {node.name!r} ({node.op_type}) makes {result.name!r} of shape {list(after)} from "
            f"{source.name!r} of shape {list(before)}, which has another number of elements; correct the model, or the "
            "sizes given with --dim"
        )


def _check_channels(node: ir.Node, shape: Callable[[ir.Value], Shape]) -> None:
    def sizes(position: int | None) -> Shape:
        value = node.inputs[position] if position is not None and position < len(node.inputs) else None
        return None if value is None else shape(value)

    data, kernel, bias = (sizes(position) for position in _CONVOLUTIONS[node.op_type])
    if data is None or kernel is None or len(data) < 3 or len(kernel) != len(data):
        return
    groups = node.attributes.get_int("group", 1)
    transposed = node.op_type == "ConvTranspose"
    wanted = kernel[0] if transposed else kernel[1] * groups
    made = kernel[1] * groups if transposed else kernel[0]
    if data[1] != wanted or (kernel[0] % groups if groups > 0 else True):
        raise InputError(
            f"operator {node.name!r} ({node.op_type}) reads data of shape {list(data)} with a kernel of shape "
            f"{list(kernel)} in {groups} groups: {data[1]} channels where the kernel takes {wanted}; correct the model"
        )
    if bias is not None and bias != (made,):
        raise InputError(
            f"operator {node.name!r} ({node.op_type}) makes {made} channels, but its bias has shape {list(bias)}; "
            "correct the model"
        )
