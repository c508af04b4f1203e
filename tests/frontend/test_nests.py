"""Nests of ONNX operators: what they say is not touched may hold anything, and the tile's results stay the same."""

import random
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cosma.frontend.load import load
from cosma.graph import Graph, Operator
from cosma.nest import Access, Nest
from cosma.target.fusion import fuse
from cosma.target.quantisation import join_quantisation
from tests.conftest import model, node, save, value

F, I8, U8, I32, I64 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64
MS = [("com.microsoft", 1)]


def read(folder: Path, nodes, inputs: dict, constants: dict, outputs=("y",), opset: int = 17) -> tuple[Path, Graph]:
    """inputs: name -> shape, or (shape, element type); constants: name -> array; outputs: names, or (name, shape)."""
    typed = {name: s if s and isinstance(s[0], tuple) else (s, F) for name, s in inputs.items()}
    proto = model(
        nodes,
        [value(name, shape, dtype) for name, (shape, dtype) in typed.items()],
        [value(*o) if isinstance(o, tuple) else helper.make_empty_tensor_value_info(o) for o in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
        opset=opset,
        imports=[helper.make_opsetid(*x) for x in MS],
    )
    path = save(folder, proto)
    return path, load(path).graph


def mask(nest: Nest, access: Access, tile: list[range]) -> np.ndarray:
    """The elements of an operand, in the shape that the operator sees, that the rounds of a tile touch."""
    touched = np.zeros([i.size for i in access.indices], bool)
    axes = []
    for index in access.indices:
        found = {
            index.offset + sum(s * i for (_, s), i in zip(index.terms, at, strict=True))
            for at in product(*(tile[a] for a, _ in index.terms))
        }
        axes.append(sorted(x for x in found if 0 <= x < index.size))
    touched[np.ix_(*axes)] = True
    return touched


def tiles(nest: Nest, rng: random.Random, count: int) -> list[list[range]]:
    """Random tiles along the axes that may be cut and that index an output."""
    shown = {a for x in nest.accesses if x.written for i in x.indices for a, _ in i.terms}
    found = []
    for _ in range(count):
        tile = []
        for a, axis in enumerate(nest.axes):
            low = rng.randrange(axis.extent)
            cut = a in shown and not axis.whole
            tile.append(range(low, rng.randint(low + 1, axis.extent)) if cut else range(axis.extent))
        found.append(tile)
    return found


def data(rng: np.random.Generator, session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    kinds = {
        "tensor(float)": np.float32,
        "tensor(int8)": np.int8,
        "tensor(uint8)": np.uint8,
        "tensor(int32)": np.int32,
        "tensor(int64)": np.int64,
    }
    drawn = {}
    for x in session.get_inputs():
        integers = rng.integers(0, 2 if x.type == "tensor(int64)" else 100, x.shape)
        drawn[x.name] = (rng.standard_normal(x.shape) if x.type == "tensor(float)" else integers).astype(kinds[x.type])
    return drawn


def check(path: Path, graph: Graph, operator: Operator) -> None:
    """Poison what a tile does not touch; its results stay, to the last bit."""
    nest = operator.nest
    assert nest is not None
    assert {a.tensor for a in nest.accesses} == {*operator.inputs, *operator.outputs}
    for access in nest.accesses:
        assert access.lookup or prod(i.size for i in access.indices) == prod(graph.tensors[access.tensor].shape)
        if access.written:
            assert mask(nest, access, [range(axis.extent) for axis in nest.axes]).all()
    session = onnxruntime.InferenceSession(path)
    rng = np.random.default_rng(1)
    given = data(rng, session)
    expected = dict(zip([y.name for y in session.get_outputs()], session.run(None, given), strict=True))
    for tile in tiles(nest, random.Random(2), 6):
        poisoned = {}
        for name, array in given.items():
            reads = [a for a in nest.accesses if graph.tensors[a.tensor].name == name and not a.written]
            kept = np.zeros(array.shape, bool)
            for a in reads:
                kept |= np.ones(array.shape, bool) if a.lookup else mask(nest, a, tile).reshape(array.shape)
            poisoned[name] = np.where(kept, array, data(rng, session)[name])
        found = dict(zip(expected, session.run(None, poisoned), strict=True))
        for a in nest.accesses:
            if a.written:
                name = graph.tensors[a.tensor].name
                at = mask(nest, a, tile).reshape(expected[name].shape)
                assert np.array_equal(
                    expected[name][at], found[name][at], equal_nan=expected[name].dtype == np.float32
                ), tile


def c(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


ONE = np.float32(0.1)
CASES = {
    "conv": (node("Conv", "x w b", "y", pads=[1, 1, 1, 1]), {"x": (2, 3, 7, 6), "w": (4, 3, 3, 3), "b": (4,)}, {}),
    "conv stride": (node("Conv", "x w", "y", pads=[0, 2, 1, 0], strides=[2, 3]), {"x": (1, 3, 9, 8), "w": (4, 3, 3, 2)}, {}),
    "conv dilated": (node("Conv", "x w", "y", dilations=[2, 3], pads=[2, 2, 2, 2]), {"x": (1, 2, 9, 11), "w": (3, 2, 3, 3)}, {}),
    "conv upper": (node("Conv", "x w", "y", auto_pad="SAME_UPPER", strides=[2, 2]), {"x": (1, 2, 8, 7), "w": (3, 2, 3, 2)}, {}),
    "conv lower": (node("Conv", "x w", "y", auto_pad="SAME_LOWER", strides=[2, 2]), {"x": (1, 2, 8, 7), "w": (3, 2, 3, 2)}, {}),
    "conv groups": (node("Conv", "x w b", "y", group=2), {"x": (1, 6, 5, 5), "w": (4, 3, 2, 2), "b": (4,)}, {}),
    "conv depthwise": (node("Conv", "x w", "y", group=4), {"x": (1, 4, 5, 5), "w": (8, 1, 3, 3)}, {}),
    "conv 1d": (node("Conv", "x w", "y", strides=[2]), {"x": (1, 4, 9), "w": (8, 4, 3)}, {}),
    "conv 3d": (node("Conv", "x w", "y", pads=[1, 0, 0, 1, 0, 0]), {"x": (1, 2, 4, 4, 5), "w": (3, 2, 3, 1, 2)}, {}),
    "conv integer": (node("ConvInteger", "x w", "y"), {"x": ((1, 2, 5, 5), U8), "w": ((3, 2, 3, 3), U8)}, {}),
    "deconv": (node("ConvTranspose", "x w b", "y", strides=[2, 2], pads=[1, 0, 0, 1]), {"x": (1, 3, 5, 4), "w": (3, 2, 3, 3), "b": (2,)}, {}),
    "deconv groups": (node("ConvTranspose", "x w", "y", strides=[3, 1], group=2, dilations=[2, 1], output_padding=[1, 0]), {"x": (1, 4, 4, 4), "w": (4, 2, 2, 3)}, {}),
    "gemm": (node("Gemm", "a b c", "y"), {"a": (5, 7), "b": (7, 3), "c": (3,)}, {}),
    "gemm turned": (node("Gemm", "a b c", "y", transA=1, transB=1), {"a": (7, 5), "b": (3, 7), "c": (5, 1)}, {}),
    "matmul": (node("MatMul", "a b", "y"), {"a": (2, 1, 3, 4), "b": (5, 4, 6)}, {}),
    "matmul vector": (node("MatMul", "a b", "y"), {"a": (4,), "b": (3, 4, 6)}, {}),
    "matmul by vector": (node("MatMul", "a b", "y"), {"a": (3, 5, 4), "b": (4,)}, {}),
    "matmul integer": (node("MatMulInteger", "a b o z", "y"), {"a": ((5, 4), U8), "b": ((4, 6), U8), "z": ((6,), U8)}, {"o": np.uint8(3)}),
    "matmul turned": (node("FusedMatMul", "a b", "y", domain="com.microsoft", transA=1, transB=1), {"a": (4, 3), "b": (5, 4)}, {}, (("y", (3, 5)),)),
    "einsum": (node("Einsum", "a b", "y", equation="bik,bjk->bij"), {"a": (2, 3, 4), "b": (2, 5, 4)}, {}),
    "max pool": (node("MaxPool", "x", "y i", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]), {"x": (1, 3, 7, 6)}, {}, ("y", "i")),
    "pool ceil": (node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {"x": (1, 3, 8, 6)}, {}),
    "average pool": (node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {"x": (1, 3, 8, 6)}, {}),
    "lp pool": (node("LpPool", "x", "y", kernel_shape=[2, 2]), {"x": (1, 3, 8, 6)}, {}),
    "global": (node("GlobalAveragePool", "x", "y"), {"x": (2, 3, 4, 4)}, {}),
    "add": (node("Add", "a b", "y"), {"a": (2, 3, 4), "b": (3, 1)}, {}),
    "twice": (node("Mul", "a a", "y"), {"a": (2, 3, 4)}, {}),
    "with its transpose": (node("Einsum", "a a", "y", equation="ik,jk->ij"), {"a": (3, 4)}, {}),
    "expand": (node("Expand", "a s", "y"), {"a": (3, 1)}, {"s": c(2, 3, 4)}),
    "tile": (node("Tile", "a s", "y"), {"a": (3, 1)}, {"s": c(1, 4)}),
    "prelu": (node("PRelu", "x s", "y"), {"x": (2, 3, 4), "s": (3, 1)}, {}),
    "batch norm": (node("BatchNormalization", "x a b m v", "y"), {"x": (2, 3, 4), "a": (3,), "b": (3,), "m": (3,), "v": (3,)}, {}),
    "lrn": (node("LRN", "x", "y", size=3), {"x": (1, 5, 3, 3)}, {}),
    "instance norm": (node("InstanceNormalization", "x a b", "y"), {"x": (2, 3, 4, 4), "a": (3,), "b": (3,)}, {}),
    "layer norm": (node("LayerNormalization", "x a b", "y m v"), {"x": (2, 3, 4), "a": (4,), "b": (4,)}, {}, ("y", "m", "v")),
    "skip norm": (node("SkipLayerNormalization", "x s a b", "y", domain="com.microsoft"), {"x": (2, 3, 4), "s": (2, 3, 4), "a": (4,), "b": (4,)}, {}, (("y", (2, 3, 4)),)),
    "softmax": (node("Softmax", "x", "y", axis=1), {"x": (2, 3, 4)}, {}),
    "reduce": (node("ReduceSum", "x a", "y", keepdims=0), {"x": (2, 3, 4)}, {"a": c(1)}),
    "reduce all": (node("ReduceMean", "x", "y"), {"x": (2, 3, 4)}, {}),
    "arg max": (node("ArgMax", "x", "y", axis=1), {"x": (2, 3, 4)}, {}),
    "concat": (node("Concat", "a b d", "y", axis=1), {"a": (2, 3, 2), "b": (2, 1, 2), "d": (2, 4, 2)}, {}),
    "split": (node("Split", "x s", "y z", axis=1), {"x": (2, 5, 2)}, {"s": c(2, 3)}, ("y", "z")),
    "slice": (node("Slice", "x s e a t", "y"), {"x": (7, 9)}, {"s": c(1, -1), "e": c(6, -100), "a": c(0, 1), "t": c(2, -3)}),
    "pad": (node("Pad", "x p", "y"), {"x": (3, 4)}, {"p": c(1, -1, 2, 3)}),
    "pad edge": (node("Pad", "x p", "y", mode="reflect"), {"x": (3, 4)}, {"p": c(0, 2, 0, 1)}),
    "transpose": (node("Transpose", "x", "y", perm=[2, 0, 1]), {"x": (2, 3, 4)}, {}),
    "gather one": (node("Gather", "x i", "y", axis=1), {"x": (2, 3, 4)}, {"i": np.array(-1)}),
    "gather range": (node("Gather", "x i", "y", axis=1), {"x": (2, 5, 4)}, {"i": c(1, 2, 3)}),
    "gather": (node("Gather", "x i", "y", axis=1), {"x": (2, 5, 4), "i": ((2, 3), I64)}, {}),
    "depth to space": (node("DepthToSpace", "x", "y", blocksize=2), {"x": (1, 12, 2, 3)}, {}),
    "depth to space crd": (node("DepthToSpace", "x", "y", blocksize=2, mode="CRD"), {"x": (1, 12, 2, 3)}, {}),
    "space to depth": (node("SpaceToDepth", "x", "y", blocksize=2), {"x": (1, 3, 4, 6)}, {}),
    "resize": (node("Resize", "x r s", "y", mode="linear"), {"x": (1, 2, 4, 5)}, {"r": np.zeros(0, np.float32), "s": np.float32([1, 1, 2, 3])}),
    "resize cubic": (node("Resize", "x r s", "y", mode="cubic"), {"x": (1, 2, 5, 5)}, {"r": np.zeros(0, np.float32), "s": np.float32([1, 1, 3, 1])}),
    "resize nearest": (node("Resize", "x r s", "y", mode="nearest"), {"x": (1, 2, 4, 5)}, {"r": np.zeros(0, np.float32), "s": np.float32([1, 1, 2, 3])}),
    "resize floor": (node("Resize", "x r s", "y", nearest_mode="floor"), {"x": (1, 2, 4, 5)}, {"r": np.zeros(0, np.float32), "s": np.float32([1, 1, 2, 3])}),
    "resize asymmetric": (node("Resize", "x r s", "y", nearest_mode="floor", coordinate_transformation_mode="asymmetric"), {"x": (1, 2, 4, 5)}, {"r": np.zeros(0, np.float32), "s": np.float32([1, 1, 2, 3])}),
    "resize down": (node("Resize", "x r s", "y", mode="linear"), {"x": (1, 2, 6, 6)}, {"r": np.zeros(0, np.float32), "s": np.float32([1, 1, 0.5, 0.5])}),
    "dequantise": (node("DequantizeLinear", "x s z", "y", axis=1), {"x": ((2, 3, 4), U8), "s": (3,), "z": ((3,), U8)}, {}),
    "qlinear conv": (
        node("QLinearConv", "x o z w s v o z b", "y", pads=[1, 1, 1, 1]),
        {"x": ((1, 2, 5, 5), U8), "w": ((3, 2, 3, 3), U8), "s": (3,), "b": ((3,), I32)},
        {"o": ONE, "z": np.uint8(3), "v": np.uint8(0)},
    ),
    "qlinear matmul": (
        node("QLinearMatMul", "a o z b o z o z", "y"),
        {"a": ((5, 4), U8), "b": ((4, 6), U8)},
        {"o": ONE, "z": np.uint8(3)},
    ),
    "qlinear add": (
        node("QLinearAdd", "a o z b o z o z", "y", domain="com.microsoft"),
        {"a": ((2, 3, 4), U8), "b": ((3, 4), U8)},
        {"o": ONE, "z": np.uint8(3)},
    ),
    "qlinear concat": (
        node("QLinearConcat", "o z a o z b o z", "y", domain="com.microsoft", axis=1),
        {"a": ((2, 3, 4), U8), "b": ((2, 2, 4), U8)},
        {"o": ONE, "z": np.uint8(3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_touched_does_not_matter(tmp_path: Path, case: str) -> None:
    made, inputs, constants, *outputs = CASES[case]
    path, graph = read(tmp_path, [made], inputs, constants, *outputs)
    [operator] = graph.operators
    check(path, graph, operator)


CHAINS = {
    "relu after conv": ([node("Conv", "x w", "t", pads=[1, 1, 1, 1]), node("Relu", "t", "y")], {"x": (1, 3, 6, 6), "w": (4, 3, 3, 3)}, {}),
    "norm after groups": (
        [node("Conv", "x w", "t", group=2), node("BatchNormalization", "t a b m v", "y")],
        {"x": (1, 4, 6, 6), "w": (6, 2, 3, 3)},
        {name: np.float32([0.5, 1, 2, 3, 4, 5]) for name in "abmv"},
    ),
    "lrn after conv": ([node("Conv", "x w", "t"), node("LRN", "t", "y", size=3)], {"x": (1, 3, 6, 6), "w": (4, 3, 3, 3)}, {}),
    "pad before conv": ([node("Pad", "x p", "t"), node("Conv", "t w", "y", strides=[2, 2])], {"x": (1, 3, 6, 6)}, {"p": c(0, 0, 1, 2, 0, 0, 1, 0), "w": np.ones((4, 3, 3, 3), np.float32)}),
    "mirror before conv": ([node("Pad", "x p", "t", mode="reflect"), node("Conv", "t w", "y")], {"x": (1, 3, 6, 6), "w": (2, 3, 3, 3)}, {"p": c(0, 0, 1, 0, 0, 0, 1, 0)}),
    "crop before pool": ([node("Pad", "x p", "t"), node("AveragePool", "t", "y", kernel_shape=[1, 1], strides=[2, 2])], {"x": (1, 3, 6, 6)}, {"p": c(0, 0, -1, -1, 0, 0, 1, 1)}),
    "relu before pool": ([node("Relu", "x", "t"), node("MaxPool", "t", "y", kernel_shape=[3, 3], strides=[2, 2])], {"x": (1, 3, 7, 7)}, {}),
    "pad, then one axis more": ([node("Pad", "x p", "t"), node("Unsqueeze", "t a", "u"), node("Conv", "u w", "y", strides=[3])], {"x": (2, 9)}, {"p": c(0, 2, 0, 1), "a": c(1), "w": np.ones((4, 1, 3), np.float32)}),
    "relu after reshape": ([node("Gemm", "x w", "t"), node("Reshape", "t s", "u"), node("Relu", "u", "y")], {"x": (4, 6), "w": (6, 6)}, {"s": c(2, 2, 6)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS)
def test_nests_of_joined_operators(tmp_path: Path, case: str) -> None:
    nodes, inputs, constants = CHAINS[case]
    path, plain = read(tmp_path, nodes, inputs, constants)
    graph = fuse(plain, "pointwise").without_weights()
    [operator] = graph.operators
    check(path, graph, operator)


def test_a_quantised_convolution(tmp_path: Path) -> None:
    """DequantizeLinear, Conv, Relu and QuantizeLinear have the nest of one convolution of bytes."""
    nodes = [
        node("DequantizeLinear", "x o z", "d"),
        node("DequantizeLinear", "v o z", "w"),
        node("Conv", "d w", "t", pads=[1, 1, 1, 1]),
        node("Relu", "t", "r"),
        node("QuantizeLinear", "r o z", "y"),
    ]
    constants = {"v": np.arange(108, dtype=np.uint8).reshape(4, 3, 3, 3), "o": ONE, "z": np.uint8(3)}
    path, plain = read(tmp_path, nodes, {"x": ((1, 3, 6, 6), U8)}, constants)
    graph = join_quantisation(plain)
    [operator] = graph.operators
    assert operator.nest is not None
    assert [(a.bits, graph.tensors[a.tensor].name) for a in operator.nest.accesses] == [(8, "v"), (8, "x"), (8, "y")]
    bare = graph.without_weights()
    check(path, bare, bare.operators[0])


def test_scales_along_the_channels_of_a_weight(tmp_path: Path) -> None:
    """The weight is read in bytes; what widens them is read beside it, as far as its channels are."""
    nodes = [node("DequantizeLinear", "v s z", "w", axis=0), node("Conv", "x w", "y")]
    constants = {"v": np.ones((4, 3, 3, 3), np.uint8), "s": np.ones(4, np.float32), "z": np.zeros(4, np.uint8)}
    _, graph = read(tmp_path, nodes, {"x": (1, 3, 6, 6)}, constants)
    [operator] = graph.operators
    assert operator.nest is not None
    found = {graph.tensors[a.tensor].name: a for a in operator.nest.accesses}
    assert {name: a.bits for name, a in found.items()} == {"x": 32, "v": 8, "s": 32, "z": 8, "y": 32}
    assert found["s"].indices == found["z"].indices == found["v"].indices[:1]


def test_what_has_no_rule(tmp_path: Path) -> None:
    for made, inputs, constants in (
        (node("Tile", "a s", "y"), {"a": (3, 2)}, {"s": c(2, 1)}),
        (node("ScatterElements", "a i u", "y"), {"a": (3, 2), "i": ((1, 2), I64), "u": (1, 2)}, {}),
    ):
        _, graph = read(tmp_path, [made], inputs, constants)
        assert graph.operators[0].nest is None


def test_element_types_are_those_of_the_plan(tmp_path: Path) -> None:
    path, graph = read(tmp_path, [node("Relu", "x", "y")], {"x": (3, 4)}, {})
    assert [a.bits for v in (graph, load(path, dtype="int8").graph) for a in v.operators[0].nest.accesses] == [
        32,
        32,
        8,
        8,
    ]
