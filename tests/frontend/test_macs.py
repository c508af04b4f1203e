"""Multiply-accumulates, counted by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from cosma.frontend.load import load
from cosma.graph import Graph, Operator, Tensor
from cosma.problem import Memory, Problem
from cosma.target.fusion import fuse
from tests.conftest import MODELS, model, node, save, value

Q = TensorProto.UINT8


def weight(name: str, *shape: int, dtype=np.float32):
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def counted(folder: Path, nodes, inputs, outputs, *weights, **options) -> tuple[int, tuple[str, ...]]:
    graph = load(save(folder, model(nodes, inputs, outputs, weights, **options))).graph
    return graph.macs, graph.uncounted


def macs(folder: Path, *arguments, **options) -> int:
    count, uncounted = counted(folder, *arguments, **options)
    assert not uncounted
    return count


@pytest.mark.parametrize(
    ("x", "w", "y", "attributes", "expected"),
    [
        ((1, 3, 8, 8), (16, 3, 3, 3), (1, 16, 8, 8), {"pads": [1, 1, 1, 1]}, 16 * 8 * 8 * 3 * 3 * 3),
        ((2, 3, 8, 8), (16, 3, 3, 3), (2, 16, 3, 3), {"strides": [2, 2]}, 2 * 16 * 3 * 3 * 3 * 3 * 3),
        ((1, 8, 8, 8), (16, 2, 1, 1), (1, 16, 8, 8), {"group": 4}, 16 * 8 * 8 * 2),
        ((1, 8, 8, 8), (8, 1, 3, 3), (1, 8, 6, 6), {"group": 8}, 8 * 6 * 6 * 3 * 3),
        ((1, 4, 9), (5, 4, 3), (1, 5, 5), {"dilations": [2]}, 5 * 5 * 4 * 3),
    ],
)
def test_convolutions(tmp_path: Path, x, w, y, attributes, expected: int) -> None:
    conv = node("Conv", "x w", "y", **attributes)
    assert macs(tmp_path, [conv], [value("x", x)], [value("y", y)], weight("w", *w)) == expected


def test_transposed_convolution(tmp_path: Path) -> None:
    up = node("ConvTranspose", "x w", "y", strides=[2, 2], group=2)  # each input element meets 3 x 2 x 2 weights
    x, y = value("x", (1, 4, 5, 5)), value("y", (1, 6, 10, 10))
    assert macs(tmp_path, [up], [x], [y], weight("w", 4, 3, 2, 2)) == 4 * 5 * 5 * 3 * 2 * 2


@pytest.mark.parametrize(
    ("a", "b", "y", "expected"),
    [
        ((3, 4), (4, 5), (3, 5), 3 * 5 * 4),
        ((2, 1, 3, 4), (7, 4, 5), (2, 7, 3, 5), 2 * 7 * 3 * 5 * 4),  # both broadcast
        ((4,), (4, 5), (5,), 5 * 4),
        ((3, 4), (4,), (3,), 3 * 4),
        ((4,), (4,), (), 4),
    ],
)
def test_matrix_products(tmp_path: Path, a, b, y, expected: int) -> None:
    assert macs(tmp_path, [node("MatMul", "a b", "y")], [value("a", a), value("b", b)], [value("y", y)]) == expected


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(tmp_path: Path, trans_a: int, trans_b: int) -> None:
    a, b = ((7, 3) if trans_a else (3, 7)), ((5, 7) if trans_b else (7, 5))
    gemm = node("Gemm", "a b c", "y", transA=trans_a, transB=trans_b)
    assert macs(tmp_path, [gemm], [value("a", a), value("b", b)], [value("y", (3, 5))], weight("c", 5)) == 3 * 5 * 7


def test_quantised(tmp_path: Path) -> None:
    scale, zero, ones = weight("s"), weight("z", dtype=np.uint8), weight("w", 4, 2, 3, 3, dtype=np.uint8)
    x, conv = value("x", (1, 2, 5, 5), Q), (1, 4, 3, 3)
    qlinear = node("QLinearConv", "x s z w s z s z", "y")
    assert macs(tmp_path, [qlinear], [x], [value("y", conv, Q)], scale, zero, ones) == 36 * 18
    integer = node("ConvInteger", "x w", "y")
    assert macs(tmp_path, [integer], [x], [value("y", conv, TensorProto.INT32)], ones) == 36 * 18
    a, b, y = value("a", (3, 4), Q), value("b", (4, 5), Q), value("y", (3, 5), Q)
    assert macs(tmp_path, [node("QLinearMatMul", "a s z b s z s z", "y")], [a, b], [y], scale, zero) == 60
    product = node("MatMulInteger", "a b", "y")
    assert macs(tmp_path, [product], [a, b], [value("y", (3, 5), TensorProto.INT32)]) == 60


def test_dynamic_dimension_and_element_type(tmp_path: Path) -> None:
    x, y = value("x", ("batch", 3, 4)), value("y", ("batch", 3, 5))
    path = save(tmp_path, model([node("MatMul", "x w", "y")], [x], [y], [weight("w", 4, 5)]))
    assert load(path, {"batch": 6}).graph.macs == load(path, {"batch": 6}, "int8").graph.macs == 6 * 3 * 5 * 4


def test_everything_else_is_zero(tmp_path: Path) -> None:
    assert macs(tmp_path, [node("Relu", "x", "a"), node("Sigmoid", "a", "y")], ["x"], ["y"]) == 0


def test_networks() -> None:
    """ResNet-50: the 4.09 G of the literature. ViT-B/16: 17.56 G, attention included."""
    assert load(MODELS / "resnet50.onnx").graph.macs == 4_089_184_256
    assert load(MODELS / "vit_b_16.onnx").graph.macs == 17_563_828_224


def test_fusion_adds_and_plans_do_not_see() -> None:
    tensors = [
        Tensor("x", 4, "input"),
        Tensor("a", 4, "activation"),
        Tensor("p", 4, "activation"),
        Tensor("y", 4, "output"),
    ]
    operators = [
        Operator("pad", "Pad", (0,), (1,), ("pad",), 1),
        Operator("conv", "Conv", (1,), (2,), ("conv",), 10, ("conv",)),
        Operator("relu", "Relu", (2,), (3,), ("relu",), 100, ("relu",)),
    ]  # fmt: skip
    graph = Graph("g", tuple(tensors), tuple(operators))
    fused = fuse(graph, "pointwise")
    assert [(v.members, v.macs) for v in fused.operators] == [(("pad", "conv", "relu"), 111)]
    assert graph.macs == fused.macs == graph.without_weights().macs == 111
    assert graph.uncounted == fused.uncounted == graph.without_weights().uncounted == ("conv", "relu")
    bare = Graph("g", graph.tensors, tuple(replace(v, macs=0, uncounted=()) for v in operators))
    assert Problem(bare, Memory(100)).fingerprint() == Problem(graph, Memory(100)).fingerprint()


def test_inspect_shows_them(run) -> None:
    path = MODELS / "resnet50.onnx"
    assert "4,089,184,256 multiply-accumulates" in run("inspect", path).out
    assert run("inspect", path, "--json", "--fusion", "pointwise").json["macs"] == 4_089_184_256
