"""Matrix products under other names, in bodies, and what cannot be counted; counted by hand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cosma.frontend.einsum import count_products
from cosma.frontend.load import load
from cosma.graph import Graph
from tests.conftest import model, node, save, value

CONTRIB = helper.make_opsetid("com.microsoft", 1)
I64, BOOL = TensorProto.INT64, TensorProto.BOOL
Shapes = dict[str, tuple[int, ...]]


def graph_of(folder: Path, nodes, inputs: Shapes, outputs: Shapes, *weights, **options) -> Graph:
    imports = [CONTRIB, helper.make_opsetid("acme", 1), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = model(
        nodes,
        [value(name, shape) for name, shape in inputs.items()],
        [value(name, shape) for name, shape in outputs.items()],
        weights,
        imports=imports,
        **options,
    )
    return load(save(folder, proto)).graph


def contrib(op: str, inputs: str, outputs: str, **attributes):
    """Operands that are left out are called "-"."""
    made = node(op, inputs, outputs, op, **attributes)
    made.input[:] = ["" if name == "-" else name for name in made.input]
    made.domain = "com.microsoft"
    return made


def count(folder: Path, one, inputs: Shapes, outputs: Shapes, **options) -> int:
    graph = graph_of(folder, [one], inputs, outputs, **options)
    assert graph.uncounted == ()
    return graph.macs


# Each is x [2, 3, 8] times eight rows of five, packed in whatever way: 2 * 3 * 5 * 8.
@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "operands"),
    [
        ("MatMulNBits", "x b s", {"K": 8, "N": 5, "bits": 4, "block_size": 16}, {"b": (5, 1, 8), "s": (5, 1)}),
        ("MatMulBnb4", "x b s", {"K": 8, "N": 5, "block_size": 16, "quant_type": 1}, {"b": (20,), "s": (3,)}),
        ("MatMulFpQ4", "x b s", {"blk_quant_type": 1}, {"b": (40,), "s": (2,)}),
        ("DynamicQuantizeMatMul", "x b s", {}, {"b": (8, 5), "s": (1,)}),
        ("MatMulIntegerToFloat", "x b s s", {}, {"b": (8, 5), "s": (1,)}),
        ("MatMulInteger16", "x b", {}, {"b": (8, 5)}),
        ("FusedMatMul", "x b", {"transB": 1, "alpha": 0.5}, {"b": (5, 8)}),
        ("TransposeMatMul", "x b", {}, {"b": (8, 5)}),
        ("FusedMatMulActivation", "x b", {"activation": "Relu"}, {"b": (8, 5)}),
    ],
)
def test_packed_and_quantised_products(tmp_path: Path, op: str, inputs: str, attributes, operands: Shapes) -> None:
    one = contrib(op, inputs, "y", **attributes)
    assert count(tmp_path, one, {"x": (2, 3, 8), **operands}, {"y": (2, 3, 5)}) == 2 * 3 * 5 * 8


def test_transposed_first_operands(tmp_path: Path) -> None:
    # [batch 2, summed 8, rows 3] and, with its batch in the middle, [summed 8, batch 2, rows 3]: 2 * 3 * 5 * 8.
    for x, attributes in (((2, 8, 3), {}), ((8, 2, 3), {"transBatchA": 1})):
        one = contrib("FusedMatMul", "x b", "y", transA=1, **attributes)
        assert count(tmp_path, one, {"x": x, "b": (2, 8, 5)}, {"y": (2, 3, 5)}) == 2 * 3 * 5 * 8
    # [rows 3, batch 2, summed 8] with its batch in the middle.
    one = contrib("FusedMatMul", "x b", "y", transBatchA=1)
    assert count(tmp_path, one, {"x": (3, 2, 8), "b": (2, 8, 5)}, {"y": (2, 3, 5)}) == 2 * 3 * 5 * 8


def test_the_runtime_reads_transposed_batches_like_this() -> None:
    """The sizes of the test above are those that ONNX Runtime takes and makes."""
    runtime = pytest.importorskip("onnxruntime")
    for x, attributes in (((8, 2, 3), {"transA": 1, "transBatchA": 1}), ((3, 2, 8), {"transBatchA": 1})):
        one = contrib("FusedMatMul", "x b", "y", **attributes)
        proto = model([one], [value("x", x), value("b", (2, 8, 5))], [value("y", None)], imports=[CONTRIB])
        session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        [y] = session.run(None, {"x": np.ones(x, np.float32), "b": np.ones((2, 8, 5), np.float32)})
        assert y.shape == (2, 3, 5)
        assert (y == 8).all()  # so many were summed


def test_products_with_several_matrices(tmp_path: Path) -> None:
    # Gate and up projection, each 3 rows * 8 * 5.
    mlp = contrib("MatMulNBitsMlp", "x - - g gs - u us", "y", K=8, N=5, block_size=16, activation="silu")
    packed = {"g": (5, 1, 8), "gs": (5, 1), "u": (5, 1, 8), "us": (5, 1)}
    assert count(tmp_path, mlp, {"x": (1, 3, 8), **packed}, {"y": (1, 3, 5)}) == 2 * 3 * 8 * 5
    # 3 rows * 8 to queries of 6 and to keys and values of 2 each.
    qkv = contrib("MatMulNBitsQkv", "x - n q qs - k ks - v vs", "a b c", K=8, Nq=6, Nkv=2, block_size=16)
    packed = {"n": (8,), **dict.fromkeys("qkv", (6, 1, 8)), **{f"{name}s": (6, 1) for name in "qkv"}}
    made = {"a": (1, 3, 6), "b": (1, 3, 2), "c": (1, 3, 2)}
    assert count(tmp_path, qkv, {"x": (1, 3, 8), **packed}, made) == 3 * 8 * (6 + 2 + 2)
    # Each of 7 tokens goes through 2 of 4 experts: 8 to 5 and back.
    moe = contrib("MoE", "x r f - g", "y", k=2)
    operands = {"x": (7, 8), "r": (7, 4), "f": (4, 5, 8), "g": (4, 8, 5)}
    assert count(tmp_path, moe, operands, {"y": (7, 8)}) == 7 * 2 * (8 * 5 + 5 * 8)


def test_convolutions_of_the_runtime(tmp_path: Path) -> None:
    # Channels last: 6 * 6 places of 5 channels, each of 3 x 3 x 4.
    nhwc = contrib("NhwcFusedConv", "x w", "y", activation="Relu")
    assert count(tmp_path, nhwc, {"x": (1, 8, 8, 4), "w": (5, 4, 3, 3)}, {"y": (1, 6, 6, 5)}) == 36 * 5 * 36
    deform = node("DeformConv", "x w o", "y")  # 1 x 1, with two offsets a place
    operands = {"x": (1, 4, 6, 6), "w": (5, 4, 1, 1), "o": (1, 2, 6, 6)}
    assert count(tmp_path, deform, operands, {"y": (1, 5, 6, 6)}, opset=19) == 36 * 5 * 4


# B = 2 sequences of S = 3 queries of width 8 (2 heads of 4), values of width 6 (2 heads of 3). With T keys the weights
# take B * S * T * 8, their products with the values B * S * T * 6.
@pytest.mark.parametrize(
    ("inputs", "operands", "result", "keys"),
    [
        ("q k v", {"q": (2, 3, 8), "k": (2, 5, 8), "v": (2, 5, 6)}, {"y": (2, 3, 6)}, 5),
        ("q k v", {"q": (2, 2, 3, 4), "k": (2, 2, 5, 4), "v": (2, 2, 5, 3)}, {"y": (2, 2, 3, 3)}, 5),
        (
            "q k v - p r",
            {"q": (2, 3, 8), "k": (2, 3, 8), "v": (2, 3, 6), "p": (2, 2, 10, 4), "r": (2, 2, 10, 3)},
            {"y": (2, 3, 6), "pk": (2, 2, 13, 4), "pv": (2, 2, 13, 3)},
            13,
        ),
    ],
)
def test_attention(tmp_path: Path, inputs: str, operands: Shapes, result: Shapes, keys: int) -> None:
    one = node("Attention", inputs, " ".join(result))
    one.input[:] = ["" if name == "-" else name for name in one.input]
    if len(operands["q"]) == 3:
        one.attribute.extend([helper.make_attribute("q_num_heads", 2), helper.make_attribute("kv_num_heads", 2)])
    assert count(tmp_path, one, operands, result, opset=23) == 2 * 3 * keys * (8 + 6)


def test_grouped_queries_in_onnx(tmp_path: Path) -> None:
    # 4 heads of queries share 2 of keys, each of size 4: the products are those of 4 heads, 3 queries by 5 keys.
    one = node("Attention", "q k v", "y", q_num_heads=4, kv_num_heads=2)
    operands = {"q": (1, 3, 16), "k": (1, 5, 8), "v": (1, 5, 8)}
    assert count(tmp_path, one, operands, {"y": (1, 3, 16)}, opset=23) == 4 * 3 * 5 * (4 + 4)


@pytest.mark.parametrize(
    ("op", "inputs", "operands", "result", "expected"),
    [
        # Weights 7 -> 8 + 8 + 6 for each of 2 * 3 rows, then 3 keys for each.
        ("Attention", "x w b", {"x": (2, 3, 7), "w": (7, 22), "b": (22,)}, {"y": (2, 3, 6)}, 6 * (7 * 22 + 3 * 14)),
        # 10 keys are in the cache.
        (
            "Attention", "x w b - p",
            {"x": (2, 3, 7), "w": (7, 24), "b": (24,), "p": (2, 2, 2, 10, 4)},
            {"y": (2, 3, 8), "n": (2, 2, 2, 13, 4)}, 6 * (7 * 24 + 13 * 16),
        ),
        (
            "QAttention", "x w b s s - - - p",
            {"x": (2, 3, 7), "w": (7, 24), "b": (24,), "s": (1,), "p": (2, 2, 2, 10, 4)},
            {"y": (2, 3, 8)}, 6 * (7 * 24 + 13 * 16),
        ),
        # Cross attention: 2 * 3 queries, 5 keys.
        (
            "MultiHeadAttention", "q k v",
            {"q": (2, 3, 8), "k": (2, 5, 8), "v": (2, 5, 6)}, {"y": (2, 3, 6)}, 6 * 5 * 14,
        ),
        # Keys from a cache of another operator.
        (
            "MultiHeadAttention", "q k v",
            {"q": (2, 3, 8), "k": (2, 2, 5, 4), "v": (2, 2, 5, 4)}, {"y": (2, 3, 8)}, 6 * 5 * 16,
        ),
        # Queries, keys and values in one; keys and values in one.
        ("MultiHeadAttention", "q", {"q": (2, 3, 2, 3, 4)}, {"y": (2, 3, 8)}, 6 * 3 * 16),
        ("MultiHeadAttention", "q k", {"q": (2, 3, 8), "k": (2, 5, 2, 2, 4)}, {"y": (2, 3, 8)}, 6 * 5 * 16),
        # One more token after 10 in the cache.
        (
            "MultiHeadAttention", "q k v - - - p r",
            {"q": (2, 1, 8), "k": (2, 1, 8), "v": (2, 1, 8), "p": (2, 2, 10, 4), "r": (2, 2, 10, 4)},
            {"y": (2, 1, 8), "pk": (2, 2, 11, 4), "pv": (2, 2, 11, 4)}, 2 * 11 * 16,
        ),
        # A cache with room for 20 counts whole; queries, keys and values of one token in one, 8 + 8 + 6.
        (
            "DecoderMaskedMultiHeadAttention", "q - - - - p r",
            {"q": (2, 1, 22), "p": (2, 2, 20, 4), "r": (2, 2, 20, 3)},
            {"y": (2, 1, 6), "pk": (2, 2, 20, 4), "pv": (2, 2, 20, 3)}, 2 * 20 * 14,
        ),
        # 4 heads of queries share 2 of keys, all of size 4: 3 queries, 10 keys before and 3 new ones.
        (
            "GroupQueryAttention", "q k v p r l t",
            {
                "q": (1, 3, 16), "k": (1, 3, 8), "v": (1, 3, 8), "p": (1, 2, 10, 4), "r": (1, 2, 10, 4), "l": (1,),
                "t": (1,),
            },
            {"y": (1, 3, 16), "pk": (1, 2, 13, 4), "pv": (1, 2, 13, 4)}, 4 * 3 * 13 * 8,
        ),
        # All in one, no cache read.
        (
            "GroupQueryAttention", "q - - - - l t", {"q": (1, 3, 32), "l": (1,), "t": (1,)},
            {"y": (1, 3, 16), "pk": (1, 2, 3, 4), "pv": (1, 2, 3, 4)}, 4 * 3 * 3 * 8,
        ),
    ],
)  # fmt: skip
def test_attention_of_the_runtime(tmp_path: Path, op: str, inputs: str, operands, result, expected: int) -> None:
    heads = {"num_heads": 4, "kv_num_heads": 2} if op.startswith("Group") else {"num_heads": 2}
    assert count(tmp_path, contrib(op, inputs, " ".join(result), **heads), operands, result) == expected


# 5 steps of 2 sequences; each multiplies an input of 3 and a state of 4 with `gates` matrices of 4 rows.
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layout", [0, 1])
def test_recurrent_layers(tmp_path: Path, op: str, gates: int, directions: int, layout: int) -> None:
    direction = "bidirectional" if directions == 2 else "reverse"
    one = node(op, "x w r", "y", hidden_size=4, direction=direction, layout=layout)
    operands = {
        "x": (2, 5, 3) if layout else (5, 2, 3),
        "w": (directions, gates * 4, 3),
        "r": (directions, gates * 4, 4),
    }
    result = {"y": (2, 5, directions, 4) if layout else (5, directions, 2, 4)}
    assert count(tmp_path, one, operands, result) == 5 * 2 * directions * gates * 4 * (3 + 4)


def test_peepholes_are_no_products(tmp_path: Path) -> None:
    one = node("LSTM", "x w r b - h c p", "y", hidden_size=4)
    one.input[4] = ""
    operands = {
        "x": (5, 2, 3), "w": (1, 16, 3), "r": (1, 16, 4), "b": (1, 32), "h": (1, 2, 4), "c": (1, 2, 4), "p": (1, 12),
    }  # fmt: skip
    assert count(tmp_path, one, operands, {"y": (5, 1, 2, 4)}) == 5 * 2 * 16 * 7


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,jk->ik", [(2, 3), (3, 5)], 2 * 3 * 5),
        ("ij,jk", [(2, 3), (3, 5)], 2 * 3 * 5),
        ("bhqd,bhkd->bhqk", [(2, 4, 3, 8), (2, 4, 5, 8)], 2 * 4 * 3 * 5 * 8),
        (" i j , k j -> k i ", [(2, 3), (5, 3)], 2 * 3 * 5),
        ("i,j->ij", [(2,), (3,)], 6),
        ("i,i", [(4,), (4,)], 4),
        ("ij,ij->ij", [(2, 3), (2, 3)], 6),
        ("ii->i", [(4, 4)], 0),
        ("ij->", [(2, 3)], 0),
        ("...ij,...jk->...ik", [(7, 2, 3), (3, 5)], 7 * 2 * 3 * 5),
        ("...ij,...jk->...ik", [(7, 2, 3), (1, 3, 5)], 7 * 2 * 3 * 5),  # broadcast
        ("...ij,...jk->...ik", [(9, 1, 2, 3), (7, 3, 5)], 9 * 7 * 2 * 3 * 5),
        ("a...,...->a", [(6, 2, 3), (2, 3)], 6 * 2 * 3),
        ("ij,kl->ik", [(2, 3), (5, 7)], 2 * 5),  # j and l are summed before anything is multiplied
        ("ij,jk,kl->il", [(2, 3), (3, 5), (5, 7)], 2 * 3 * 5 + 2 * 5 * 7),  # from left to right
        ("ij,jk,kl", [(2, 3), (3, 5), (5, 7)], 2 * 3 * 5 + 2 * 5 * 7),
        ("iij,j->i", [(2, 2, 3), (3,)], 2 * 3),  # the diagonal
    ],
)
def test_einsum(equation: str, shapes, expected: int) -> None:
    assert count_products(equation, shapes) == expected


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3)]), ("ij->ij", [(2, 3, 4)]), ("ijk->ij", [(2, 3)]), ("i1->i", [(2, 3)]), ("ij->k", [(2, 3)]),
        ("...ij->ij", [(2,)]),
    ],
)  # fmt: skip
def test_equations_that_do_not_fit(equation: str, shapes) -> None:
    with pytest.raises(LookupError):
        count_products(equation, shapes)


def test_einsum_in_a_model(tmp_path: Path) -> None:
    one = node("Einsum", "a b", "y", equation="bqd,bkd->bqk")
    assert count(tmp_path, one, {"a": (2, 3, 8), "b": (2, 5, 8)}, {"y": (2, 3, 5)}) == 2 * 3 * 5 * 8


# Bodies: a [3, 4] state times a [4, 4] weight, 3 * 4 * 4 = 48 each time.
WEIGHT = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
EACH = 3 * 4 * 4


def scalar(name: str, content: object, kind: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(content, kind), name)


def loop_body(condition: onnx.NodeProto, shape: tuple[int, ...] | None = (3, 4)) -> onnx.GraphProto:
    return helper.make_graph(
        [node("MatMul", "s w", "t"), condition],
        "body",
        [value("i", (), I64), value("c", (), BOOL), value("s", shape)],
        [value("go", (), BOOL), value("t", shape)],
    )


def loop(folder: Path, inputs: str, body: onnx.GraphProto, *constants, **more: tuple[int, ...]) -> Graph:
    one = node("Loop", inputs, "y", "loop", body=body)
    one.input[:] = ["" if name == "-" else name for name in one.input]
    proto = model([one], [value("x", (3, 4))], [value("y", (3, 4))], [WEIGHT, *constants])
    for name, kind in (("n", I64), ("b", BOOL)):
        if name in inputs.split():
            proto.graph.input.append(value(name, (), kind))
    return load(save(folder, proto)).graph


SAME, ALWAYS = node("Identity", "c", "go"), node("Constant", "", "go", value=scalar("go", True, bool))
BELOW = helper.make_node("Less", ["i", "three"], ["go"])


def test_loops_of_constant_length(tmp_path: Path) -> None:
    five, yes, no = scalar("m", 5, np.int64), scalar("k", True, bool), scalar("k", False, bool)
    for inputs, condition in (("m k x", SAME), ("m - x", SAME), ("m k x", ALWAYS)):
        graph = loop(tmp_path, inputs, loop_body(condition), five, *([yes] if "k" in inputs else []))
        assert (graph.macs, graph.uncounted) == (5 * EACH, ())
    assert loop(tmp_path, "m k x", loop_body(SAME), five, no).macs == 0  # never begins
    assert loop(tmp_path, "m k x", loop_body(SAME), scalar("m", -1, np.int64), yes).uncounted == ()


def test_loops_of_unknown_length_are_not_counted(tmp_path: Path) -> None:
    five, yes, three = scalar("m", 5, np.int64), scalar("k", True, bool), scalar("three", 3, np.int64)
    for inputs, condition, *constants in (
        ("n k x", SAME, yes),  # how often is an input
        ("- k x", SAME, yes),  # for ever
        ("m b x", SAME, five),  # whether is an input
        ("m k x", BELOW, five, yes, three),  # ends before
    ):
        graph = loop(tmp_path, inputs, loop_body(condition), *constants)
        assert (graph.macs, graph.uncounted) == (0, ("loop",))
    assert loop(tmp_path, "m k x", loop_body(SAME, None), five, yes).uncounted == ("loop",)  # its state has no shape


def test_loops_without_products_are_zero(tmp_path: Path) -> None:
    body = loop_body(SAME)
    body.node[0].op_type = "Relu"
    del body.node[0].input[1]
    graph = loop(tmp_path, "n k x", body, scalar("k", True, bool))
    assert (graph.macs, graph.uncounted) == (0, ())


def test_scans_run_as_often_as_their_sequence_is_long(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("MatMul", "e w", "t"), node("Add", "s t", "u"), node("Identity", "u", "z")],
        "body",
        [value("s", (3, 4)), value("e", (3, 4))],
        [value("u", (3, 4)), value("z", (3, 4))],
    )
    # 7 along axis 1 of [3, 7, 4].
    one = node("Scan", "s0 x", "y z0", "scan", body=body, num_scan_inputs=1, scan_input_axes=[1])
    graph = graph_of(tmp_path, [one], {"s0": (3, 4), "x": (3, 7, 4)}, {"y": (3, 4), "z0": (7, 3, 4)}, WEIGHT)
    assert (graph.macs, graph.uncounted) == (7 * EACH, ())


def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph([*nodes], name, [], [value(name, (3, 4))])


def test_an_if_counts_as_its_larger_branch(tmp_path: Path) -> None:
    once = branch("p", node("MatMul", "x w", "p"))
    twice = branch("q", node("MatMul", "x w", "t"), node("MatMul", "t w", "q"))
    inputs = [value("x", (3, 4)), value("c", (), BOOL)]
    one = node("If", "c", "y", "if", then_branch=once, else_branch=twice)
    graph = load(save(tmp_path, model([one], inputs, [value("y", (3, 4))], [WEIGHT]))).graph
    assert (graph.macs, graph.uncounted) == (2 * EACH, ())
    # An If in a Loop that runs five times.
    body = loop_body(SAME)
    inner = node(
        "If",
        "c",
        "t",
        then_branch=branch("p", node("MatMul", "s w", "p")),
        else_branch=branch("q", node("Relu", "s", "q")),
    )
    body.node[0].CopyFrom(inner)
    graph = loop(tmp_path, "m k x", body, scalar("m", 5, np.int64), scalar("k", True, bool))
    assert (graph.macs, graph.uncounted) == (5 * EACH, ())
    unknown = node("Conv", "x", "q")
    unknown.domain = "acme"
    one = node("If", "c", "y", "if", then_branch=once, else_branch=branch("q", unknown))
    proto = model([one], inputs, [value("y", (3, 4))], [WEIGHT], imports=[helper.make_opsetid("acme", 1)])
    assert load(save(tmp_path, proto)).graph.uncounted == ("if",)


@pytest.mark.parametrize(
    ("domain", "op", "known"),
    [
        ("acme", "Conv", False),
        ("acme", "Relu", False),
        ("com.microsoft", "MatMul", False),  # there is none
        ("com.microsoft", "SparseAttention", False),
        ("com.microsoft", "MatMulOfTomorrow", False),
        ("com.microsoft", "FusedConv", False),  # without a kernel
        ("com.microsoft", "LongformerAttention", False),
        ("com.microsoft", "BiasGelu", True),
        ("com.microsoft", "SkipLayerNormalization", True),
        ("ai.onnx.ml", "Scaler", True),
        ("ai.onnx.ml", "LinearRegressor", False),
        ("", "SimplifiedLayerNormalization", True),
        ("", "OfTomorrow", False),
    ],
)
def test_what_is_known_of_operators(tmp_path: Path, domain: str, op: str, known: bool) -> None:
    one = helper.make_node(op, ["x"], ["y"], "it", domain=domain)
    graph = graph_of(tmp_path, [one], {"x": (3, 4)}, {"y": (3, 4)})
    assert (graph.macs, graph.uncounted) == (0, () if known else ("it",))
