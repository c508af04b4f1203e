"""The rules by which quantisation joins operators, one by one: sizes worked out by hand, runs bit-exact."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from cosma.compile import Prepared
from tests.conftest import model, node, save, value
from tests.planned import compiled, network_of, run_plan, weight

RNG = np.random.default_rng(11)
IMAGE = (1, 4, 8, 8)  # 256 elements
SCALES = (weight("s", np.float32(0.1)), weight("t", np.float32(0.3)), weight("z", np.int8(3)))


def normal(name: str, *shape: int):
    return weight(name, RNG.standard_normal(shape).astype(np.float32))


def quantise(source: Path, shapes: dict[str, tuple[int, ...]], **options: object) -> Path:
    """The model as ONNX Runtime's quantiser writes it, with normally distributed calibration data."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        left = 2

        def get_next(self):
            self.left -= 1
            draw = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
            return draw if self.left >= 0 else None

    target = source.with_suffix(".qdq.onnx")
    quantize_static(source, target, Reader(), quant_format=QuantFormat.QDQ, **options)
    return target


def planned(path: Path, fusion: str = "none", weights: bool = False) -> Prepared:
    """The problem at M_R, of which a plan has been run with the results of an ordinary run, bit for bit."""
    plan, prepared = compiled(path, weights, fusion)
    assert run_plan(plan, prepared, path).difference is None
    return prepared


def hand_made(folder: Path, nodes, inputs=None, outputs=("y",), constants=(), **options: object) -> Path:
    """A model of an int8 input q of IMAGE; outputs get their type from inference. s, t, z: scales, a zero point."""
    inputs = [value("q", IMAGE, TensorProto.INT8)] if inputs is None else inputs
    outputs = [helper.make_empty_tensor_value_info(o) if isinstance(o, str) else o for o in outputs]
    return save(folder, model(nodes, inputs, outputs, [*SCALES, *constants], **options))


def steps(prepared: Prepared) -> list[tuple[str, list[int], list[int]]]:
    """(type, bytes read, bytes written) of each operator."""
    tensors = prepared.problem.graph.tensors
    return [
        (v.op_type, [tensors[a].size_bytes for a in v.inputs], [tensors[a].size_bytes for a in v.outputs])
        for v in prepared.problem.graph.operators
    ]


def types(prepared: Prepared) -> list[str]:
    return [v.op_type for v in prepared.problem.graph.operators]


# What follows a 1x1 Conv of four channels (c, 256 elements) and the number of elements of its result.
NETS = {
    "Conv": ([node("Conv", "c w", "y", "op", pads=[1, 1, 1, 1])], [normal("w", 6, 4, 3, 3)], 384),
    "ConvTranspose": ([node("ConvTranspose", "c w", "y", "op", strides=[2, 2])], [normal("w", 4, 2, 2, 2)], 512),
    "Gemm": (
        [node("Flatten", "c", "f"), node("Gemm", "f w b", "y", "op", transB=1)],
        [normal("w", 5, 256), normal("b", 5)],
        5,
    ),
    "MatMul": ([node("MatMul", "c w", "y", "op")], [normal("w", 8, 3)], 96),
    "Add": ([node("Add", "c x", "y", "op")], [], 256),
    "Concat": ([node("Concat", "c x", "y", "op", axis=1)], [], 512),
    "MaxPool": ([node("MaxPool", "c", "y", "op", kernel_shape=[2, 2], strides=[2, 2])], [], 64),
    "GlobalAveragePool": ([node("GlobalAveragePool", "c", "y", "op")], [], 4),
    "Sigmoid": ([node("Sigmoid", "c", "y", "op")], [], 256),
    "Softmax": ([node("Softmax", "c", "y", "op")], [], 256),
}


@pytest.mark.parametrize("op", NETS)
def test_operators_read_and_write_integers(tmp_path: Path, op: str) -> None:
    """x of 1,024 B becomes 256 B first; the last integers become floats, four times their bytes."""
    nodes, constants, count = NETS[op]
    first = node("Conv", "x v", "c", "first")
    proto = model([first, *nodes], [value("x", IMAGE)], [value("y", None)], [normal("v", 4, 4, 1, 1), *constants])
    prepared = planned(quantise(save(tmp_path, proto), {"x": IMAGE}))
    reads = [256, 256] if op in ("Add", "Concat") else [256]
    assert steps(prepared) == [
        ("QuantizeLinear", [1024], [256]),
        ("Conv", [256], [256]),
        (op, reads, [count]),
        ("DequantizeLinear", [count], [4 * count]),
    ]
    assert prepared.problem.working_set_bytes == max(1024 + 256, count + 4 * count)
    if op == "Sigmoid":  # joins what makes its operand, as in a float network
        assert types(planned(tmp_path / "model.qdq.onnx", "pointwise")) == [
            "QuantizeLinear",
            "Conv",
            "DequantizeLinear",
        ]


def test_weights_are_integers_and_scales_of_channels_constants(tmp_path: Path) -> None:
    """Kernels: 16 elements. A bias: int32. A scale for each of four channels: 16 B, its zero points 4 or 16 B."""
    conv = node("Conv", "x v b", "y", "conv")
    proto = model([conv], [value("x", IMAGE)], [value("y", None)], [normal("v", 4, 4, 1, 1), normal("b", 4)])
    path = save(tmp_path, proto)
    one = steps(planned(quantise(path, {"x": IMAGE}), weights=True))
    assert one[1] == ("Conv", [256, 16, 16], [256])
    each = steps(planned(quantise(path, {"x": IMAGE}, per_channel=True), weights=True))
    assert each[1] == ("Conv", [256, 16, 16, 4, 16, 16, 16], [256])


@pytest.mark.parametrize("kind", ["stored", "written", "computed"])
def test_weights_that_move_after_dequantising_are_integers(tmp_path: Path, kind: str) -> None:
    """w of 8 x 3 is transposed on its way; "computed": quantised in the file from floats, as training writes it."""
    integers = weight("wq", RNG.integers(-9, 9, (3, 8)).astype(np.int8))
    if kind == "stored":
        constants, first = [integers], []
    elif kind == "written":
        constants, first = [], [node("Constant", "", "wq", value=integers)]
    else:
        constants, first = [normal("w", 3, 8)], [node("QuantizeLinear", "w s z", "wq")]
    nodes = [
        *first, node("DequantizeLinear", "wq s z", "wf"), node("Transpose", "wf", "wt", perm=[1, 0]),
        node("DequantizeLinear", "q s z", "f"), node("MatMul", "f wt", "y"),
    ]  # fmt: skip
    path = hand_made(tmp_path, nodes, constants=constants)
    prepared = planned(path, weights=True)
    assert steps(prepared) == [("MatMul", [256, 24], [4 * 96])]
    (kernel,) = network_of(path).ordinary(prepared.problem).kernels.kernels
    assert {*kernel.inputs} == {*prepared.problem.graph.operators[0].inputs}  # from where the plan has put them


def test_contributed_operators_are_the_same(tmp_path: Path) -> None:
    """Of 16 bits, before ONNX had them: 512 B instead of 256."""
    short, domain = [weight("k", np.uint16(32768))], "com.microsoft"
    nodes = [
        node("DequantizeLinear", "p s k", "f", domain=domain), node("Sigmoid", "f", "g"),
        node("QuantizeLinear", "g s k", "h", domain=domain), node("DequantizeLinear", "h s k", "i", domain=domain),
        node("Softmax", "i", "y"),
    ]  # fmt: skip
    inputs, imports = [value("p", IMAGE, TensorProto.UINT16)], [helper.make_opsetid(domain, 1)]
    prepared = planned(hand_made(tmp_path, nodes, inputs, constants=short, imports=imports))
    assert steps(prepared) == [("Sigmoid", [512], [512]), ("Softmax", [512], [1024])]


DQ = node("DequantizeLinear", "q s z", "f", "dq")


@pytest.mark.parametrize("fusion", ["none", "pointwise"])
def test_pointwise_operators_before_quantising_belong_to_it(tmp_path: Path, fusion: str) -> None:
    nodes = [
        DQ, node("Conv", "f w", "c", "conv"), node("BatchNormalization", "c g g g h", "b", "norm"),
        node("Relu", "b", "r", "relu"), node("QuantizeLinear", "r s z", "y", "quant"),
    ]  # fmt: skip
    constants = [normal("w", 2, 4, 1, 1), normal("g", 2), weight("h", np.ones(2, np.float32))]
    prepared = planned(hand_made(tmp_path, nodes, constants=constants), fusion)
    (operator,) = prepared.problem.graph.operators
    assert (operator.name, operator.members) == ("conv", ("dq", "conv", "norm", "relu", "quant"))
    assert steps(prepared) == [("Conv", [256], [128])]


def test_fused_readers_dequantise_once(tmp_path: Path) -> None:
    """The Relu streams into the Add, which reads q itself."""
    nodes = [DQ, node("Relu", "f", "r", "relu"), node("Add", "r f", "y", "add")]
    (operator,) = planned(hand_made(tmp_path, nodes), "pointwise").problem.graph.operators
    assert operator.members == ("dq", "relu", "add")


def test_scales_that_are_computed_are_waited_for(tmp_path: Path) -> None:
    nodes = [
        node("Abs", "u", "scale"), node("DequantizeLinear", "q scale z", "f"), node("Sin", "f", "g"),
        node("QuantizeLinear", "g scale z", "y"),
    ]  # fmt: skip
    inputs = [value("q", IMAGE, TensorProto.INT8), value("u", ())]
    prepared = planned(hand_made(tmp_path, nodes, inputs))
    assert types(prepared) == ["Abs", "DequantizeLinear", "Sin", "QuantizeLinear"]


@pytest.mark.parametrize("other", ["reader", "output"])
def test_floats_that_somebody_wants_are_written(tmp_path: Path, other: str) -> None:
    nodes = [DQ, node("Sin", "f", "g"), node("QuantizeLinear", "g s z", "y"), node("Cos", "g", "v")]
    path = hand_made(tmp_path, nodes[: 4 if other == "reader" else 3], outputs=("y", "v" if other == "reader" else "g"))
    assert steps(planned(path))[:2] == [("Sin", [256], [1024]), ("QuantizeLinear", [1024], [256])]


def test_pointwise_results_that_are_read_twice_end_the_chain(tmp_path: Path) -> None:
    """c is wanted as floats: the Relu takes the QuantizeLinear, the Conv stays."""
    nodes = [
        DQ, node("Conv", "f w", "c", "conv"), node("Relu", "c", "r", "relu"), node("QuantizeLinear", "r s z", "y"),
        node("Cos", "c", "v", "cos"),
    ]  # fmt: skip
    prepared = planned(hand_made(tmp_path, nodes, outputs=("y", "v"), constants=[normal("w", 4, 4, 1, 1)]))
    assert steps(prepared) == [("Conv", [256], [1024]), ("Relu", [1024], [256]), ("Cos", [1024], [1024])]


def test_branches_read_floats(tmp_path: Path) -> None:
    then, otherwise = (
        helper.make_graph([node(op, "f", op)], op, [], [value(op, IMAGE)]) for op in ("Sin", "Cos")
    )  # fmt: skip
    nodes = [
        DQ, node("If", "b", "g", "if", then_branch=then, else_branch=otherwise), node("QuantizeLinear", "g s z", "y")
    ]  # fmt: skip
    inputs = [value("q", IMAGE, TensorProto.INT8), value("b", (), TensorProto.BOOL)]
    prepared = planned(hand_made(tmp_path, nodes, inputs))
    assert types(prepared) == ["DequantizeLinear", "If", "QuantizeLinear"]


@pytest.mark.parametrize(
    ("scale", "found"),
    [("s z", ["Sin", "Cos"]), ("t z", ["Sin", "QuantizeLinear", "Cos"]), ("s u", ["Sin", "QuantizeLinear", "Cos"])],
)
def test_reshaped_integers_are_what_they_were(tmp_path: Path, scale: str, found: list[str]) -> None:
    """A QuantizeLinear behind a Reshape gives them back, unless scale or type are others: then it is a step."""
    nodes = [
        DQ, node("Sin", "f", "g"), node("QuantizeLinear", "g s z", "h"), node("DequantizeLinear", "h s z", "i"),
        node("Flatten", "i", "j"), node("QuantizeLinear", f"j {scale}", "k"),
        node("DequantizeLinear", f"k {scale}", "l"), node("Cos", "l", "m"), node("QuantizeLinear", "m s z", "y"),
    ]  # fmt: skip
    prepared = planned(hand_made(tmp_path, nodes, constants=[weight("u", np.uint8(3))]))
    assert steps(prepared) == [(op, [256], [256]) for op in found]


def test_reshaped_floats_that_the_model_returns_are_read(tmp_path: Path) -> None:
    """The integers are made of the floats, which are there: what follows would read four times as much of them."""
    nodes = [
        DQ, node("Flatten", "f", "g"), node("QuantizeLinear", "g s z", "h"), node("DequantizeLinear", "h s z", "i"),
        node("Sin", "i", "y"),
    ]  # fmt: skip
    found = steps(planned(hand_made(tmp_path, nodes, outputs=("f", "y"))))
    assert [(reads, writes) for _, reads, writes in found] == [([256], [1024]), ([1024], [256]), ([256], [1024])]


def test_scales_along_an_axis_are_others_after_a_reshape(tmp_path: Path) -> None:
    """Four channels of 64 elements; behind the Transpose's place stands a Reshape to [1, 4, 64], scaled along axis 1."""
    nodes = [
        node("DequantizeLinear", "q e o", "f"), node("Reshape", "f shape", "g"), node("QuantizeLinear", "g e o", "h"),
        node("DequantizeLinear", "h s z", "i"), node("Sin", "i", "y"),
    ]  # fmt: skip
    constants = [
        weight("e", np.array([0.1, 0.2, 0.3, 0.4], np.float32)), weight("o", np.zeros(4, np.int8)),
        weight("shape", np.array([1, 4, 64])),
    ]  # fmt: skip
    assert steps(planned(hand_made(tmp_path, nodes, constants=constants))) == [
        ("QuantizeLinear", [256], [256]),
        ("Sin", [256], [1024]),
    ]


def test_each_of_several_results_is_quantised(tmp_path: Path) -> None:
    nodes = [
        DQ, node("Split", "f", "a b", "split", axis=1), node("QuantizeLinear", "a s z", "y"),
        node("QuantizeLinear", "b t z", "v"),
    ]  # fmt: skip
    prepared = planned(hand_made(tmp_path, nodes, outputs=("y", "v")))
    assert steps(prepared) == [("Split", [256], [128, 128])]


LOWEST = float(np.finfo(np.float32).min)
POOL = {"kernel_shape": [3, 3]}
PADS = {  # fill, pads, reader, its attributes, whether the Pad belongs to it
    "conv": (0.0, [0, 0, 1, 1, 0, 0, 1, 1], "Conv", {}, True),
    "other-fill": (1.0, [0, 0, 1, 1, 0, 0, 1, 1], "Conv", {}, False),
    "channels": (0.0, [0, 1, 0, 0, 0, 0, 0, 0], "Conv", {}, False),
    "cut": (0.0, [0, 0, -1, 1, 0, 0, 1, 1], "Conv", {}, False),
    "average": (0.0, [0, 0, 1, 1, 0, 0, 1, 1], "AveragePool", {**POOL, "count_include_pad": 1}, True),
    "not-counted": (0.0, [0, 0, 1, 1, 0, 0, 1, 1], "AveragePool", POOL, False),
    "zero-max": (0.0, [0, 0, 1, 1, 0, 0, 1, 1], "MaxPool", POOL, False),
    "max": (LOWEST, [0, 0, 1, 1, 0, 0, 1, 1], "MaxPool", POOL, True),
}


@pytest.mark.parametrize("inner", ["floats", "integers"])
@pytest.mark.parametrize("case", PADS)
def test_pads_go_into_padding(tmp_path: Path, case: str, inner: str) -> None:
    """Between Pad and reader lie floats, or integers with a scale of their own."""
    fill, pads, reader, attributes, belongs = PADS[case]
    channels = 5 if case == "channels" else 4
    between = [node("QuantizeLinear", "p s z", "k"), node("DequantizeLinear", "k s z", "l")]
    last = node(reader, f"{'p' if inner == 'floats' else 'l'}{' w' * (reader == 'Conv')}", "c", "reader", **attributes)
    nodes = [
        DQ, node("Pad", "f pads fill", "p", "pad"), *(between if inner == "integers" else []), last,
        node("QuantizeLinear", "c s z", "y"),
    ]  # fmt: skip
    constants = [weight("pads", np.array(pads)), weight("fill", np.float32(fill)), normal("w", 2, channels, 3, 3)]
    found = types(planned(hand_made(tmp_path, nodes, constants=constants)))
    assert found == ([reader] if belongs else ["Pad", reader])


def test_pads_of_integers_stay(tmp_path: Path) -> None:
    """0 is not what stands for zero here: 3 is."""
    nodes = [node("Pad", "q pads", "p"), node("DequantizeLinear", "p s z", "f"), node("Conv", "f w", "y")]
    constants = [weight("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1])), normal("w", 2, 4, 3, 3)]
    assert types(planned(hand_made(tmp_path, nodes, constants=constants))) == ["Pad", "Conv"]


def test_pads_of_float_networks_stay_operators(tmp_path: Path) -> None:
    nodes = [node("Pad", "x pads", "p"), node("Conv", "p w", "y")]
    constants = [weight("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1])), normal("w", 2, 4, 3, 3)]
    prepared = planned(hand_made(tmp_path, nodes, [value("x", IMAGE)], constants=constants))
    assert types(prepared) == ["Pad", "Conv"]


def test_inspect_tells_what_belongs_to_what(run, tmp_path: Path) -> None:
    nodes = [
        DQ, node("Pad", "f pads", "p", "pad"), node("Conv", "p w", "c", "conv"), node("Relu", "c", "r", "relu"),
        node("QuantizeLinear", "r s z", "y", "quant"), node("Sin", "f", "v", "sin"),
    ]  # fmt: skip
    constants = [weight("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1])), normal("w", 2, 4, 3, 3)]
    path = hand_made(tmp_path, nodes, outputs=("y", "v"), constants=constants)
    lines = [" ".join(line.split()) for line in run("inspect", path, "-v").out.splitlines()]
    for line in (
        "quantised 2 of 2 nodes that quantise belong to the operators around them",
        "pads 1 of 1 Pads that suit padding belong to the operators around them", "fused 2 operators into 1",
        "quantised conv: dq + quant", "quantised sin: dq", "pads conv: pad", "fused conv: conv + relu",
    ):  # fmt: skip
        assert line in lines
    found = run("inspect", path, "--json").json
    assert found["quantised"] == {"conv": ["dq", "quant"], "sin": ["dq"]}
    assert (found["pads"], found["fused"]) == ({"conv": ["pad"]}, {"conv": ["conv", "relu"]})
