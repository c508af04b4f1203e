"""ONNX Runtime's quantised operators: their shapes, and that they run as planned."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from cosma.errors import InputError
from tests.conftest import model, node, save, value
from tests.planned import compiled, run_plan, weight

IMAGE = (1, 3, 4, 6)
CASES = {
    "QLinearAdd": ("a s z b s z s z", [(1, 3, 1, 1), IMAGE], {}, IMAGE),
    "QLinearMul": ("a s z b s z s z", [IMAGE, (6,)], {}, IMAGE),
    "QLinearConcat": ("s z a s z b s z", [IMAGE, (1, 2, 4, 6)], {"axis": 1}, (1, 5, 4, 6)),
    "QLinearSigmoid": ("a s z s z", [IMAGE], {}, IMAGE),
    "QLinearLeakyRelu": ("a s z s z", [IMAGE], {"alpha": 0.1}, IMAGE),
    "QLinearSoftmax": ("a s z s z", [IMAGE], {"axis": -1, "opset": 17}, IMAGE),
    "QLinearAveragePool": ("a s z s z", [IMAGE], {"kernel_shape": [2, 2], "strides": [2, 2]}, (1, 3, 2, 3)),
    "QLinearGlobalAveragePool": ("a s z s z", [IMAGE], {}, (1, 3, 1, 1)),
    "QGemm": ("a s z b s z bias s z", [(4, 8), (5, 8)], {"transB": 1}, (4, 5)),
}


def quantised(folder: Path, op: str, **more: int) -> Path:
    """q = op(a, b) -> DequantizeLinear -> y, of which nothing but the inputs' shapes is stated."""
    reads, shapes, attributes, _ = CASES[op]
    nodes = [
        node(op, reads, "q", "q", domain="com.microsoft", **attributes, **more),
        node("DequantizeLinear", "q s z", "y"),
    ]
    inputs = [value(name, shape, TensorProto.UINT8) for name, shape in zip("ab", shapes, strict=False)]
    constants = [weight("s", np.float32(0.1)), weight("z", np.uint8(7)), weight("bias", np.arange(5, dtype=np.int32))]
    imports = [helper.make_opsetid("com.microsoft", 1)]
    return save(folder, model(nodes, inputs, [value("y", None)], constants, imports=imports))


@pytest.mark.parametrize("op", CASES)
def test_shapes_are_those_of_a_run(tmp_path: Path, op: str) -> None:
    path = quantised(tmp_path, op)
    plan, prepared = compiled(path, fusion="none")
    shape = CASES[op][-1]
    found = next(t for t in prepared.problem.graph.tensors if t.name == "q")
    assert (found.shape, found.dtype) == (shape, "uint8")
    execution = run_plan(plan, prepared, path)
    assert execution.outputs == (("y", 4 * int(np.prod(shape))),)
    assert execution.difference is None


@pytest.mark.parametrize(("direction", "both"), [("forward", 1), ("bidirectional", 2)])
def test_a_dynamically_quantised_lstm_has_three_results(tmp_path: Path, direction: str, both: int) -> None:
    """Sequence 3, batch 2, 5 features, 4 hidden: y [3, d, 2, 4], its last row and the cell's state [d, 2, 4] each."""
    lstm = node("DynamicQuantizeLSTM", "x w r b  h0 c0  sw zw sr zr", "", "lstm", domain="com.microsoft",
                hidden_size=4, direction=direction)  # fmt: skip
    lstm.input[:] = ["x", "w", "r", "", "", "", "", "", "sw", "zw", "sr", "zr"]
    lstm.output[:] = ["y", "h", "c"]
    constants = [
        weight("w", np.ones((both, 5, 16), np.int8)), weight("r", np.ones((both, 4, 16), np.int8)),
        *(weight(f"s{name}", np.full(both, 0.1, np.float32)) for name in "wr"),
        *(weight(f"z{name}", np.zeros(both, np.int8)) for name in "wr"),
    ]  # fmt: skip
    outputs = [value("y", None), value("h", None), value("c", None)]
    proto = model(
        [lstm], [value("x", (3, 2, 5))], outputs, constants, imports=[helper.make_opsetid("com.microsoft", 1)]
    )
    path = save(tmp_path, proto)
    plan, prepared = compiled(path, fusion="none")
    shapes = {t.name: t.shape for t in prepared.problem.graph.tensors if t.kind == "output"}
    assert shapes == {"y": (3, both, 2, 4), "h": (both, 2, 4), "c": (both, 2, 4)}
    execution = run_plan(plan, prepared, path)
    assert execution.outputs == (("y", both * 96), ("h", both * 32), ("c", both * 32))
    assert execution.difference is None


def test_what_is_not_sure_is_left_open(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'q' of operator 'q' \(com.microsoft.QLinearAveragePool\) has no shape"):
        compiled(quantised(tmp_path, "QLinearAveragePool", channels_last=1))


def test_products_are_counted(tmp_path: Path) -> None:
    _, prepared = compiled(quantised(tmp_path, "QGemm"), fusion="none")
    assert prepared.problem.graph.macs == 4 * 5 * 8
