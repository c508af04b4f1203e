"""Multiply-accumulates of one ONNX node, from shapes alone."""

from collections.abc import Callable
from math import prod

import onnx_ir as ir

Shape = tuple[int, ...] | None

# Operator -> which of its inputs is the second factor (a convolution's kernel).
_CONVOLUTIONS = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1}
_PRODUCTS = frozenset(["Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "FusedGemm", "QGemm"])
_DOMAINS = ("", "com.microsoft")


def count_macs(node: ir.Node, shape: Callable[[ir.Value], Shape]) -> int:
    """Multiply-accumulates of a convolution or matrix product, padding included; biases are not counted.

    0 for every other operator, for the subgraphs of If, Loop and Scan, and where `shape` (the sizes of a
    value, or None) does not know enough.
    """
    if node.domain not in _DOMAINS or not node.outputs:
        return 0

    def sizes(position: int) -> Shape:
        value = node.inputs[position] if position < len(node.inputs) else None
        return None if value is None else shape(value)

    first, result = sizes(0), shape(node.outputs[0])
    if node.op_type in _CONVOLUTIONS:
        kernel = sizes(_CONVOLUTIONS[node.op_type])
        # A kernel is [out, in / groups, ...], transposed [in, out / groups, ...]: beyond its first
        # dimension it has what one element of the result takes, or one element of the input spreads to.
        each = first if node.op_type == "ConvTranspose" else result
        return 0 if kernel is None or each is None else prod(each) * prod(kernel[1:])
    if node.op_type in _PRODUCTS and first and result is not None:
        transposed = node.attributes.get_int("transA", 0) != 0 and len(first) > 1
        return prod(result) * first[-2 if transposed else -1]
    return 0
