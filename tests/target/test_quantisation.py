"""Quantised networks whose quantisation stands in nodes of its own need what eight bits need, and run bit-exactly."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from cosma.compile import Prepared, Settings, prepare
from cosma.target.hardware import Hardware
from cosma.target.quantisation import join_quantisation
from tests.conftest import model, node, save, value
from tests.planned import compiled, run_plan, weight

ANY = Hardware("h", 2**40)
INT8, UINT8 = TensorProto.INT8, TensorProto.UINT8
SCALE = [weight("s", np.float32(0.05)), weight("z", np.int8(0))]


def read(path: Path, fusion: str = "none", weights: bool = True, dtype: str | None = None) -> Prepared:
    return prepare(path, ANY, Settings(dtype, fusion, weights))  # type: ignore[arg-type]


def types(prepared: Prepared) -> list[str]:
    return [v.op_type for v in prepared.problem.graph.operators]


def sizes(prepared: Prepared) -> dict[str, int]:
    return {t.name: t.size_bytes for t in prepared.problem.graph.tensors}


def chain(*nodes: onnx.NodeProto, inputs=None, outputs=None, extra=()) -> onnx.ModelProto:
    return model(nodes, inputs or [value("q", (4, 8), INT8)], outputs or [value("y", (4, 8), INT8)], [*SCALE, *extra])


def dq(source: str, result: str) -> onnx.NodeProto:
    return node("DequantizeLinear", f"{source} s z", result, f"dq_{result}")


def q(source: str, result: str) -> onnx.NodeProto:
    return node("QuantizeLinear", f"{source} s z", result, f"q_{result}")


def exact(path: Path, fusion: str = "none") -> None:
    for weights in (False, True):
        plan, prepared = compiled(path, weights, fusion)
        assert plan is not None
        assert run_plan(plan, prepared, path).difference is None


def test_a_pair_around_an_operator_belongs_to_it(tmp_path: Path) -> None:
    path = save(tmp_path, chain(dq("q", "a"), node("Sigmoid", "a", "b", "act"), q("b", "y")))
    found = read(path)
    [operator] = found.problem.graph.operators
    assert (operator.name, operator.op_type, operator.members) == ("act", "Sigmoid", ("dq_a", "act", "q_y"))
    assert sizes(found) == {"q": 32, "y": 32}
    exact(path)


def test_every_reader_widens_for_itself(tmp_path: Path) -> None:
    nodes = [dq("q", "a"), node("Sigmoid", "a", "b", "v"), q("b", "i"), node("Tanh", "a", "c", "w"), q("c", "j")]
    nodes += [dq("i", "d"), dq("j", "e"), node("Add", "d e", "f", "plus"), q("f", "y")]
    path = save(tmp_path, chain(*nodes))
    found = read(path)
    assert [v.members for v in found.problem.graph.operators] == [
        ("dq_a", "v", "q_i"), ("dq_a", "w", "q_j"), ("dq_e", "dq_d", "plus", "q_y")
    ]  # fmt: skip
    assert set(sizes(found).values()) == {32}
    exact(path)


def test_what_the_model_returns_stays_wide(tmp_path: Path) -> None:
    """a is stored in 32 bits: it has to exist."""
    nodes = [dq("q", "a"), node("Sigmoid", "a", "b"), q("b", "y")]
    path = save(tmp_path, chain(*nodes, outputs=[value("y", (4, 8), INT8), value("a", (4, 8))]))
    found = read(path)
    assert types(found) == ["DequantizeLinear", "Sigmoid"]
    assert sizes(found) == {"q": 32, "a": 128, "y": 32}
    exact(path)


def test_a_wide_result_with_another_reader_exists(tmp_path: Path) -> None:
    """Quantising it in its writer would leave Neg without what it reads."""
    nodes = [dq("q", "a"), node("Sigmoid", "a", "b"), q("b", "y"), node("Neg", "b", "n")]
    path = save(tmp_path, chain(*nodes, outputs=[value("y", (4, 8), INT8), value("n", (4, 8))]))
    found = read(path)
    assert types(found) == ["Sigmoid", "QuantizeLinear", "Neg"]
    assert sizes(found)["b"] == 128
    exact(path)


def test_a_quantised_result_may_have_several_readers(tmp_path: Path) -> None:
    nodes = [
        dq("q", "a"),
        node("Sigmoid", "a", "b"),
        q("b", "i"),
        dq("i", "c"),
        node("Neg", "c", "m"),
        node("Abs", "c", "n"),
    ]
    path = save(tmp_path, chain(*nodes, outputs=[value("m", (4, 8)), value("n", (4, 8))]))
    assert types(read(path)) == ["Sigmoid", "Neg", "Abs"]
    exact(path)


def test_scales_that_are_computed_stay_operands(tmp_path: Path) -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "i t p"),
        node("DequantizeLinear", "i t p", "a", "late"),
        node("Neg", "a", "y"),
    ]
    path = save(tmp_path, model(nodes, [value("x", (4, 8))], [value("y", (4, 8))]))
    assert types(read(path)) == ["DynamicQuantizeLinear", "DequantizeLinear", "Neg"]
    exact(path)


def test_one_scale_after_another_is_an_operator(tmp_path: Path) -> None:
    path = save(
        tmp_path, chain(dq("q", "a"), node("QuantizeLinear", "a s2 z", "y"), extra=[weight("s2", np.float32(0.1))])
    )
    found = read(path)
    assert types(found) == ["QuantizeLinear"]
    assert sizes(found) == {"q": 32, "y": 32}
    exact(path)


def test_the_input_and_the_output_of_a_model_are_quantised_by_operators(tmp_path: Path) -> None:
    nodes = [q("x", "i"), dq("i", "a"), node("Sigmoid", "a", "b"), q("b", "j"), dq("j", "y")]
    path = save(tmp_path, chain(*nodes, inputs=[value("x", (4, 8))], outputs=[value("y", (4, 8))]))
    found = read(path)
    assert types(found) == ["QuantizeLinear", "Sigmoid", "DequantizeLinear"]
    assert sizes(found) == {"x": 128, "i": 32, "j": 32, "y": 128}
    exact(path)


def test_weights_stay_narrow_transposed_or_not(tmp_path: Path) -> None:
    """8 x 6 weights of eight bits are 48 bytes; a scale for each of 6 columns is 24, their zero points 6."""
    extra = [
        weight("w", np.arange(48, dtype=np.int8).reshape(8, 6)),
        weight("wt", np.arange(48, dtype=np.int8).reshape(6, 8)),
    ]
    extra += [weight("cs", np.full(6, 0.1, np.float32)), weight("cz", np.zeros(6, np.int8))]
    nodes = [
        dq("q", "a"), node("DequantizeLinear", "w cs cz", "wf", axis=1), node("MatMul", "a wf", "b", "mm"), q("b", "i"),
        dq("q", "c"), dq("wt", "wtf"), node("Transpose", "wtf", "t", perm=[1, 0]), node("MatMul", "c t", "d", "mt"), q("d", "j"),
    ]  # fmt: skip
    path = save(tmp_path, chain(*nodes, outputs=[value("i", (4, 6), INT8), value("j", (4, 6), INT8)], extra=extra))
    found = read(path)
    assert types(found) == ["MatMul", "MatMul"]
    assert sizes(found) == {"q": 32, "w": 48, "cs": 24, "cz": 6, "i": 24, "wt": 48, "j": 24}
    exact(path)


def test_pointwise_fusion_goes_on_with_quantised_operators(tmp_path: Path) -> None:
    """Conv -> Relu -> Q and Conv -> Q -> DQ -> Relu -> Q alike. Without fusion, the former has no bits to write before Q."""
    w = weight("w", np.arange(16, dtype=np.int8).reshape(4, 4, 1, 1))
    image = [value("q", (1, 4, 8, 8), INT8)]
    for middle in ([node("Relu", "c", "r")], [q("c", "i"), dq("i", "d"), node("Relu", "d", "r")]):
        nodes = [dq("q", "a"), dq("w", "wf"), node("Conv", "a wf", "c"), *middle, q("r", "y")]
        path = save(tmp_path, chain(*nodes, inputs=image, outputs=[value("y", (1, 4, 8, 8), INT8)], extra=[w]))
        assert types(read(path, "pointwise")) == ["Conv"]
        assert types(read(path, "none")) == (["Conv"] if len(middle) == 1 else ["Conv", "Relu"])
        exact(path, "pointwise")


def test_a_padding_of_zeros_goes_into_the_convolution(tmp_path: Path) -> None:
    extra = [weight("w", np.ones((2, 4, 3, 3), np.int8)), weight("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1]))]
    nodes = [
        dq("q", "a"),
        node("Pad", "a pads", "p", "pad"),
        q("p", "i"),
        dq("i", "b"),
        dq("w", "wf"),
        node("Conv", "b wf", "c"),
        q("c", "y"),
    ]
    image, result = [value("q", (1, 4, 6, 6), INT8)], [value("y", (1, 2, 6, 6), INT8)]
    path = save(tmp_path, chain(*nodes, inputs=image, outputs=result, extra=extra))
    found = read(path, "pointwise", weights=False)
    assert types(found) == ["Conv"]
    assert sizes(found) == {"q": 144, "y": 72}
    exact(path, "pointwise")


def test_graphs_without_quantisation_are_left_alone(tiny: Path) -> None:
    graph = read(tiny).imported.graph
    assert join_quantisation(graph) is graph


def test_inspect_says_what_became_of_the_nodes(run, tmp_path: Path) -> None:
    path = save(tmp_path, chain(dq("q", "a"), node("Sigmoid", "a", "b", "act"), q("b", "y")))
    assert "2 of 2 nodes that quantise belong to the operators around them" in run("inspect", path).out


# --- as ONNX Runtime's quantiser writes them


class _Calibration:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self._left = [{"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)} for seed in range(2)]

    def get_next(self):
        return self._left.pop() if self._left else None


def quantised(folder: Path, proto: onnx.ModelProto, shape: tuple[int, ...], **options: object) -> tuple[Path, Path]:
    """The file in floating point, and as QDQ."""
    from onnxruntime.quantization import QuantFormat, quantize_static

    before, after = save(folder, proto, "float.onnx"), folder / "qdq.onnx"
    quantize_static(before, after, _Calibration(shape), quant_format=QuantFormat.QDQ, **options)
    return before, after


def floats(name: str, *shape: int) -> onnx.TensorProto:
    random = np.random.default_rng(len(name) + sum(shape))
    return numpy_helper.from_array((random.standard_normal(shape) / 4).astype(np.float32), name)


NETWORKS = {
    "convolutions": [
        node("Conv", "x w1 b1", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "b"), node("MaxPool", "b", "c", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "c w2", "d"), node("Conv", "c w3", "e", pads=[1, 1, 1, 1]), node("Concat", "d e", "f", axis=1),
        node("Add", "f f2", "g"), node("GlobalAveragePool", "g", "h"), node("Flatten", "h", "i"), node("Gemm", "i w4 b4", "j", transB=1),
        node("Softmax", "j", "y"),
    ],
    "the way up": [
        node("Conv", "x w1 b1", "a", strides=[2, 2]), node("Sigmoid", "a", "b"), node("ConvTranspose", "b w5", "c", strides=[2, 2]),
        node("Transpose", "c", "d", perm=[0, 2, 3, 1]), node("MatMul", "d w6", "y"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_the_quantiser_writes(tmp_path: Path, name: str, per_channel: bool) -> None:
    constants = [
        floats("w1", 8, 3, 3, 3), floats("b1", 8), floats("w2", 8, 8, 1, 1), floats("w3", 8, 8, 3, 3), floats("f2", 1, 16, 8, 8),
        floats("w4", 10, 16), floats("b4", 10), floats("w5", 8, 4, 2, 2), floats("w6", 4, 5),
    ]  # fmt: skip
    used = {i for n in NETWORKS[name] for i in n.input}
    proto = model(
        NETWORKS[name],
        [value("x", (1, 3, 16, 16))],
        [value("y", None)],
        [c for c in constants if c.name in used],
        opset=13,
    )
    before, after = quantised(tmp_path, proto, (1, 3, 16, 16), per_channel=per_channel)
    narrow, found = read(before, "pointwise", False, "int8"), read(after, "pointwise", False)
    wide = {t.name for t in found.problem.graph.tensors if t.kind == "activation" and t.dtype == "float"}
    assert len(wide) <= 1  # what stands before the output
    # The largest working set is that of the network in eight bits, or of what turns the float input or output into them.
    ends = [5 * np.prod(t.shape) for t in narrow.problem.graph.tensors if t.kind != "activation"]
    assert (
        narrow.problem.working_set_bytes
        <= found.problem.working_set_bytes
        <= max(narrow.problem.working_set_bytes, *ends)
    )
    exact(after, "pointwise")


def squeezenet() -> onnx.ModelProto:
    """SqueezeNet 1.1, 224 x 224, with random weights."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def conv(x: str, name: str, inner: int, outer: int, kernel: int, pad: int = 0, stride: int = 1) -> str:
        constants.extend([floats(f"{name}.w", outer, inner, kernel, kernel), floats(f"{name}.b", outer)])
        attributes = {"kernel_shape": [kernel] * 2, "pads": [pad] * 4, "strides": [stride] * 2}
        nodes.append(node("Conv", f"{x} {name}.w {name}.b", name, name, **attributes))
        nodes.append(node("Relu", name, f"{name}.r", f"{name}.relu"))
        return f"{name}.r"

    x, channels = conv("x", "first", 3, 64, 3, stride=2), 64
    for i, (squeeze, expand) in enumerate(
        [(0, 0), (16, 64), (16, 64), (0, 0), (32, 128), (32, 128), (0, 0), (48, 192), (48, 192), (64, 256), (64, 256)]
    ):
        if not squeeze:
            nodes.append(node("MaxPool", x, f"p{i}", f"p{i}", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1))
            x = f"p{i}"
            continue
        s = conv(x, f"s{i}", channels, squeeze, 1)
        sides = [conv(s, f"e{i}", squeeze, expand, 1), conv(s, f"d{i}", squeeze, expand, 3, pad=1)]
        nodes.append(node("Concat", " ".join(sides), f"f{i}", f"f{i}", axis=1))
        x, channels = f"f{i}", 2 * expand
    x = conv(x, "last", channels, 1000, 1)
    nodes += [node("GlobalAveragePool", x, "g", "g"), node("Flatten", "g", "y", "flat")]
    return model(nodes, [value("x", (1, 3, 224, 224))], [value("y", (1, 1000))], constants)


@pytest.mark.slow
def test_squeezenet_needs_what_eight_bits_need(tmp_path: Path) -> None:
    before, after = quantised(tmp_path, squeezenet(), (1, 3, 224, 224))
    for fusion in ("none", "pointwise"):
        narrow, found = read(before, fusion, False, "int8").problem, read(after, fusion, False).problem
        order = range(len(found.graph.operators))
        # The first pool reads 64 x 111 x 111 and writes 64 x 55 x 55 bytes; without fusion Relu reads and writes the former.
        assert found.working_set_bytes == 64 * (111 * 111 + 55 * 55) == 982_144
        assert narrow.working_set_bytes == (2 * 64 * 111 * 111 if fusion == "none" else 982_144)
        assert found.peak_bytes(order) == 982_144
        # Input and output are floats in the quantised file: 4 bytes for 1.
        assert found.compulsory_bytes == 4 * narrow.compulsory_bytes == 4 * (3 * 224 * 224 + 1000)
    exact(after, "pointwise")
