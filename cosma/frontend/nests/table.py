"""Rules by operator type: from one ONNX node to the nest of the operator, or None."""

from collections.abc import Callable

import onnx_ir as ir

from cosma.frontend.nests import elements, moves, products, windows
from cosma.frontend.nests.site import NoRuleError, Operand, Site
from cosma.frontend.operators import label
from cosma.frontend.sized import Sizes
from cosma.nest import Nest

Rule = Callable[[Site], None]


def nest_of(
    node: ir.Node,
    version: int,
    shape: Callable[[ir.Value], Sizes | None],
    operand: Callable[[ir.Value], Operand | None],
) -> Nest | None:
    """The nest of a node; None where no rule is known, or it needs what is not.

    version: of the domain's opset. shape: the sizes of a value. operand: number of the tensor that a value shows and
    the bits of its elements; None for what takes no residency.
    """
    rule = _RULES.get(label(node.domain, node.op_type))
    if rule is None:
        return None
    site = Site(node, version, shape, operand)
    try:
        rule(site)
    except (NoRuleError, LookupError, ValueError, ZeroDivisionError):  # not known, or of another rank
        return None
    return site.nest()


_UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "com.microsoft.FastGelu",
    "com.microsoft.Gelu", "com.microsoft.QLinearLeakyRelu", "com.microsoft.QLinearSigmoid", "com.microsoft.QuickGelu",
)  # fmt: skip
_BROADCAST = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
    "com.microsoft.BiasGelu",
)  # fmt: skip
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY, elements.elementwise(0)),
    "CastLike": elements.elementwise(0),
    "Expand": elements.elementwise(0),
    **dict.fromkeys(_BROADCAST, elements.elementwise()),
    **dict.fromkeys(("com.microsoft.QLinearAdd", "com.microsoft.QLinearMul"), elements.elementwise(0, 3)),
    "BatchNormalization": elements.by_channel(1, 2, 3, 4),
    **dict.fromkeys(
        [p + name for p in ("", "com.microsoft.") for name in ("DequantizeLinear", "QuantizeLinear")],
        elements.by_channel(1, 2),
    ),
    "LRN": elements.by_channel(whole=True),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "com.microsoft.QLinearSoftmax"), elements.softmax),
    "CumSum": elements.along_axis(operand=1),
    "LpNormalization": elements.along_axis(),
    "MeanVarianceNormalization": elements.over_axes((0, 2, 3)),
    "LayerNormalization": elements.layer_norm(1, 2),
    **dict.fromkeys(("RMSNormalization", "SimplifiedLayerNormalization"), elements.layer_norm(1)),
    "com.microsoft.SkipLayerNormalization": elements.layer_norm(2, 3, 4, skip=1),
    "com.microsoft.SkipSimplifiedLayerNormalization": elements.layer_norm(2, 3, skip=1),
    "InstanceNormalization": elements.instance_norm,
    "GroupNormalization": elements.group_norm,
    **{
        f"Reduce{name}": elements.reduction()
        for name in ("L1", "L2", "LogSum", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    },
    "ReduceLogSumExp": elements.reduction(whole=True),
    **dict.fromkeys(("ArgMax", "ArgMin"), elements.reduction(whole=True, single=True)),
    "Conv": windows.convolution(1, 2),
    "ConvInteger": windows.convolution(1, 3),
    "QLinearConv": windows.convolution(3, 4, 5, 8),
    "com.microsoft.QLinearConv": windows.convolution(3, 4, 5, 8),
    "com.microsoft.FusedConv": windows.convolution(1, 2, like_output=3),
    "ConvTranspose": windows.transposed_convolution,
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool", "com.microsoft.QLinearAveragePool"), windows.pool),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "com.microsoft.QLinearGlobalAveragePool"),
        windows.global_pool,
    ),
    **dict.fromkeys(("Gemm", "com.microsoft.FusedGemm"), products.gemm(1, 2)),
    "com.microsoft.QGemm": products.gemm(3, 6),
    "MatMul": products.matmul(1),
    "com.microsoft.FusedMatMul": products.matmul(1),
    "MatMulInteger": products.matmul(1, columns=(3,), rows=(2,)),
    "QLinearMatMul": products.matmul(3, columns=(4, 5), rows=(1, 2)),
    "com.microsoft.MatMulIntegerToFloat": products.matmul(1, columns=(3, 5, 6)),
    "Einsum": products.einsum,
    "Concat": moves.concat(),
    "com.microsoft.QLinearConcat": moves.concat(2, 3),
    "Split": moves.split,
    "Slice": moves.slice_,
    "Pad": moves.pad,
    "Transpose": moves.transpose,
    "Tile": moves.tile,
    "Gather": moves.gather,
    "DepthToSpace": moves.depth_to_space,
    "SpaceToDepth": moves.space_to_depth,
    **dict.fromkeys(("Resize", "Upsample"), moves.resize),
}
