"""Multiply-accumulates of one ONNX node, from shapes alone.

Counted are convolutions and matrix products under all their names, padding included: masks, lengths that are known in
a run only and caches that are not full are not looked at. Not counted are biases and what works element by element.
"""

from collections.abc import Callable, Iterator
from math import prod

import onnx
import onnx_ir as ir

from cosma.frontend.einsum import count_products
from cosma.frontend.operators import STANDARD, label
from cosma.frontend.sized import Sized, Sizes, UnknownError


def count_macs(node: ir.Node, shape: Callable[[ir.Value], Sizes | None]) -> tuple[int, tuple[str, ...]]:
    """Multiply-accumulates of a node, and the name of the node if they cannot be counted (then they are 0).

    shape: the sizes of a value, None where they are not known. An If counts as its larger branch, a loop as often as
    it runs. What cannot be counted: products of unknown shapes, operators that nothing is known of, and loops around
    products that run an unknown number of times.
    """
    count = _count(node, shape)
    return (0, (node.name or node.op_type,)) if count is None else (count, ())


def _count(node: ir.Node, shape: Callable[[ir.Value], Sizes | None]) -> int | None:
    rule = _RULES.get(label(node.domain, node.op_type))
    if rule is None:
        return 0 if _has_no_products(node) else None
    try:
        count = rule(_Counted(node, shape))
    except (LookupError, ValueError):  # not known, or of another rank than the operator takes
        return None
    return count if count >= 0 else None


class _Counted(Sized):
    """A node that is counted, with the nodes of its bodies."""

    def body(self, graph: ir.Graph) -> int:
        """The multiply-accumulates of a branch or body. Raises LookupError where one operator cannot be counted."""
        counts = [_count(node, self.sizes_of) for node in graph]
        if None in counts:
            raise UnknownError
        return sum(count or 0 for count in counts)


_Rule = Callable[[_Counted], int]


def _convolution(kernel: int) -> _Rule:
    """A kernel is [out, in / groups, ...]: an element of the result takes all but its first dimension."""
    return lambda node: prod(node.result()) * prod(node.operand(kernel)[1:])


def _transposed_convolution(node: _Counted) -> int:
    """A kernel is [in, out / groups, ...]: an element of the input spreads to all but its first dimension."""
    return prod(node.operand(0)) * prod(node.operand(1)[1:])


def _product(node: _Counted) -> int:
    """Matrix products by the length that is summed over: the last dimension of the first operand."""
    first = node.operand(0)
    summed = -1
    if node.number("transA") and len(first) > 1:
        summed = 0 if node.number("transBatchA") else -2  # [summed, batch..., rows] or [batch..., summed, rows]
    return prod(node.result()) * first[summed]


def _products(results: int, times: int = 1) -> _Rule:
    """Products of the first operand with packed weights, `times` for each of the first `results` results."""
    return lambda node: times * node.operand(0)[-1] * sum(prod(node.result(i)) for i in range(results))


def _experts(node: _Counted) -> int:
    """Each row of the input goes through k experts, each of two or three matrices [expert, out, in]."""
    matrices = [node.operand(i) for i in (2, 4, 6) if node.value(i) is not None]
    return prod(node.operand(0)[:-1]) * node.number("k", 1) * sum(prod(sizes[1:]) for sizes in matrices)


def _einsum(node: _Counted) -> int:
    equation = node.node.attributes.get_string("equation", "")
    return count_products(equation or "", [node.operand(i) for i in range(len(node.node.inputs))])


def _recurrent(node: _Counted) -> int:
    """LSTM, GRU, RNN: W and R, [directions, gates * hidden, ...], once for each step of each sequence."""
    steps, sequences, _ = node.operand(0)[:3]
    return steps * sequences * (prod(node.operand(1)) + prod(node.operand(2)))


# Attention: every query meets every key, and the weights found meet every value. So with T keys, cached ones
# included, it takes T for each element of the queries and T for each element of the result.


def _attention(node: _Counted) -> int:
    """Attention of ONNX: queries, keys, values [batch, length, heads * size] or [batch, heads, length, size]."""
    keys = node.operand(1)[-2] + _cached(node, 4)
    return keys * (prod(node.operand(0)) + prod(node.result()))


def _projected_attention(past: int) -> _Rule:
    """Attention of ONNX Runtime that also makes queries, keys and values of its input: a product with all weights."""

    def count(node: _Counted) -> int:
        *rows, inner = node.operand(0)
        width, made = node.operand(1)[1], node.result()[-1]
        keys = _keys(node, rows[1], past, axis=3)
        return prod(rows) * (inner * width + keys * ((width - made) // 2 + made))

    return count


def _separate_attention(past: int) -> _Rule:
    """Attention of ONNX Runtime that reads queries, keys and values, or all in one, beside caches of keys and values.

    Queries, keys and values have [batch, length, heads * size], all in one [batch, length, heads, 3, size], keys and
    values [batch, length, heads, 2, size]; keys that come from a cache [batch, heads, length, size].
    """

    def count(node: _Counted) -> int:
        queries, made = node.operand(0), node.result()
        alone = node.value(1) is None
        first = queries if alone else node.operand(1)
        keys = _keys(node, first[2 if len(first) == 4 else 1], past, axis=2)
        width = prod(queries[2:])  # of a row, in which queries and keys have the same width
        width = (width - made[-1]) // 2 if alone else width
        return keys * prod(queries[:2]) * (width + made[-1])

    return count


def _grouped_attention(node: _Counted) -> int:
    """Several queries share a key; queries and results have the same size."""
    length = node.operand(0 if node.value(1) is None else 1)[1]
    return 2 * _keys(node, length, past=3, axis=2) * prod(node.result())


def _keys(node: _Counted, length: int, past: int, axis: int) -> int:
    """Keys in all: as many as the cache that is written has room for, else those of now and of the cache that is read.

    axis: which dimension of both caches is the length.
    """
    written = node.sizes_of(node.node.outputs[1]) if len(node.node.outputs) > 1 else None
    if written is not None:
        return written[axis]
    return length + _cached(node, past, axis)


def _cached(node: _Counted, past: int, axis: int = 2) -> int:
    return 0 if node.value(past) is None else node.operand(past)[axis]


def _branches(node: _Counted) -> int:
    return max((node.body(graph) for graph in _bodies(node.node)), default=0)


def _loop(node: _Counted) -> int:
    """The body of a Loop that no condition can end, times the constant number of its runs."""
    [body] = _bodies(node.node)
    each = node.body(body)
    runs = _constant(node.value(0))
    if not each or (runs is not None and runs <= 0):
        return 0
    starts = True if node.value(1) is None else _constant(node.value(1))
    if starts == 0:
        return 0
    goes_on = _origin(body.outputs[0])
    if runs is None or not starts or not (goes_on is body.inputs[1] or _constant(goes_on)):
        raise UnknownError
    return runs * each


def _scan(node: _Counted) -> int:
    """The body of a Scan times the length of its first scanned operand."""
    [body] = _bodies(node.node)
    each = node.body(body)
    scanned, inputs = node.number("num_scan_inputs"), len(node.node.inputs)
    if not each:
        return 0
    if len(body.inputs) != inputs or not 0 < scanned <= inputs:  # in opset 8 it has lengths and a batch besides
        raise UnknownError
    axes = node.node.attributes.get_ints("scan_input_axes") or [0]
    return each * node.operand(inputs - scanned)[axes[0]]


def _other_bodies(node: _Counted) -> int:
    """SequenceMap runs its body as often as a sequence is long."""
    if any(node.body(graph) for graph in _bodies(node.node)):
        raise UnknownError
    return 0


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    return (a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH)


def _origin(value: ir.Value) -> ir.Value:
    """The value itself, or that of which it is the Identity."""
    while (node := value.producer()) is not None and label(node.domain, node.op_type) == "Identity":
        source = node.inputs[0]
        if source is None:
            break
        value = source
    return value


def _constant(value: ir.Value | None) -> int | None:
    """The one element of a constant integer or truth value, None if it is not known."""
    known = None if value is None else ir.convenience.get_const_tensor(_origin(value))
    return int(known.numpy().item()) if known is not None and known.size == 1 else None


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(["Conv", "ConvInteger", "DeformConv", "CausalConvWithState"], _convolution(1)),
    **dict.fromkeys(["QLinearConv", "com.microsoft.QLinearConv"], _convolution(3)),
    **{
        f"com.microsoft.{name}": _convolution(1)
        for name in ("FusedConv", "NhwcConv", "NhwcFusedConv", "CausalConvWithState")
    },
    "ConvTranspose": _transposed_convolution,
    "com.microsoft.ConvTransposeWithDynamicPads": _transposed_convolution,
    **dict.fromkeys(["Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"], _product),
    **{
        f"com.microsoft.{name}": _product
        for name in (
            "DynamicQuantizeMatMul", "FusedGemm", "FusedMatMul", "FusedMatMulActivation", "GemmFastGelu",
            "GemmFloat8", "MatMulBlockQuantizedFp4Weight", "MatMulBlockQuantizedFp8Weight", "MatMulBnb4",
            "MatMulFpQ4", "MatMulInteger16", "MatMulIntegerToFloat", "MatMulNBits", "MatMulPacked", "QGemm",
            "QOrderedMatMul", "TransposeMatMul",
        )
    },
    "com.microsoft.MatMulNBitsMlp": _products(1, times=2),
    "com.microsoft.MatMulNBitsQkv": _products(3),
    "com.microsoft.MoE": _experts,
    "Einsum": _einsum,
    **dict.fromkeys(["LSTM", "GRU", "RNN", "com.microsoft.DynamicQuantizeLSTM"], _recurrent),
    "Attention": _attention,
    "com.microsoft.Attention": _projected_attention(past=4),
    "com.microsoft.DecoderMaskedSelfAttention": _projected_attention(past=4),
    "com.microsoft.QAttention": _projected_attention(past=8),
    "com.microsoft.MultiHeadAttention": _separate_attention(past=6),
    "com.microsoft.DecoderMaskedMultiHeadAttention": _separate_attention(past=5),
    "com.microsoft.GroupQueryAttention": _grouped_attention,
    "If": _branches,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _other_bodies,
}  # fmt: skip

# Transforms and other products of standard operators, which no rule counts.
_UNCOUNTED = frozenset(["AffineGrid", "Det", "DFT", "LinearAttention", "STFT"])
_UNCOUNTED_ML = frozenset(["LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor"])
# Operators of ONNX Runtime that work element by element, move data, pool, normalise or look up.
_CONTRIBUTED = frozenset(
    [
        "BiasAdd", "BiasDropout", "BiasGelu", "BiasSoftmax", "BiasSplitGelu", "BifurcationDetector",
        "BitmaskBiasDropout", "BitmaskDropout", "BranchwiseRMSNorm", "ComplexMul", "ComplexMulConj",
        "CropAndResize", "DequantizeBFP", "DequantizeLinear", "DequantizeWithOrder", "EmbedLayerNormalization",
        "ExpandDims", "FastGelu", "GatedAdd", "GatedRMSNorm", "GatherBlockQuantized", "GatherND", "Gelu",
        "GemmaRotaryEmbedding", "GridSample", "GroupNorm", "IsAllFinite", "MRotaryEmbedding", "MaxpoolWithMask",
        "MulInteger", "MurmurHash3", "NGramRepeatBlock", "NhwcMaxPool", "Pad", "QEmbedLayerNormalization",
        "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu",
        "QLinearMul", "QLinearReduceMean", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QOrderedGelu",
        "QOrderedLayerNormalization", "QuantizeBFP", "QuantizeLinear", "QuantizeWithOrder", "QuickGelu",
        "RMSNormRotary", "Range", "ReduceSumInteger", "RelativePositionBias", "RemovePadding", "RestorePadding",
        "RotaryEmbedding", "SampleOp", "ScaledSiLU", "SkipGroupNorm", "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization", "SwiGLU", "Tokenizer", "TorchEmbedding", "Trilu", "UnfoldTensor",
        "Unique",
    ]
)  # fmt: skip


def _has_no_products(node: ir.Node) -> bool:
    """Whether an operator without a rule is known to hold neither convolution nor matrix product."""
    if node.domain in STANDARD:  # ONNX Runtime puts one operator into it that ONNX does not define
        defined = onnx.defs.has(node.op_type) or node.op_type == "SimplifiedLayerNormalization"
        return defined and node.op_type not in _UNCOUNTED
    if node.domain == "ai.onnx.ml":
        return onnx.defs.has(node.op_type, node.domain) and node.op_type not in _UNCOUNTED_ML
    return node.domain == "com.microsoft" and node.op_type in _CONTRIBUTED
