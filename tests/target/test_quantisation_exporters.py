"""Other ways in which exporters write quantised networks: a pair for each reader, and Pads before pools."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.conftest import model, node, save, value
from tests.planned import weight
from tests.target.test_quantisation_rules import DQ, IMAGE, hand_made, normal, planned, quantise, steps, types

AROUND = np.array([0, 0, 1, 1, 0, 0, 1, 1])  # one more row and column at each end


def pair(source: str, result: str, scale: str = "s z"):
    """QuantizeLinear -> DequantizeLinear, the integers called after the result."""
    quantised = node("QuantizeLinear", f"{source} {scale}", f"{result}_q", f"{result}_quant")
    return [quantised, node("DequantizeLinear", f"{result}_q {scale}", result)]


def test_a_pair_for_each_reader_is_one_tensor(tmp_path: Path) -> None:
    """The first Conv writes 256 B of integers once, which the two others read: as without the option."""
    nodes = [node("Conv", "x v", "c"), node("Conv", "c w", "a"), node("Conv", "c u", "b"), node("Add", "a b", "y")]
    kernels = [normal(name, 4, 4, 1, 1) for name in "vwu"]
    path = save(tmp_path, model(nodes, [value("x", IMAGE)], [value("y", None)], kernels))
    prepared = planned(quantise(path, {"x": IMAGE}, extra_options={"DedicatedQDQPair": True}))
    conv = ("Conv", [256], [256])
    ends = ("QuantizeLinear", [1024], [256]), ("DequantizeLinear", [256], [1024])
    assert steps(prepared) == [ends[0], conv, conv, conv, ("Add", [256, 256], [256]), ends[1]]
    assert len({v.inputs for v in prepared.problem.graph.operators[2:4]}) == 1
    assert prepared.imported.dead == (("c_QuantizeLinear_2", "QuantizeLinear"),)


@pytest.mark.parametrize(("scale", "alike"), [("s z", True), ("s2 z2", True), ("t z", False), ("s u", False)])
def test_pairs_are_alike_where_their_numbers_are(tmp_path: Path, scale: str, alike: bool) -> None:
    """s2, z2: other constants of the same value. Of another scale or type the integers are others: g stays wide."""
    nodes = [
        DQ, node("Sin", "f", "g", "sin"), *pair("g", "a"), *pair("g", "b", scale), node("Cos", "a", "y", "cos"),
        node("Neg", "b", "v", "neg"),
    ]  # fmt: skip
    constants = [weight("s2", np.float32(0.1)), weight("z2", np.int8(3)), weight("u", np.uint8(3))]
    found = steps(planned(hand_made(tmp_path, nodes, outputs=("y", "v"), constants=constants)))
    assert found[0] == ("Sin", [256], [256 if alike else 1024])
    assert sum(op == "QuantizeLinear" for op, *_ in found) == (0 if alike else 2)


def test_integers_that_the_model_returns_keep_their_name(tmp_path: Path) -> None:
    """Both are returned: two tensors, though equal."""
    nodes = [DQ, node("Sin", "f", "g"), node("QuantizeLinear", "g s z", "y"), node("QuantizeLinear", "g s z", "v")]
    found = types(planned(hand_made(tmp_path, nodes, outputs=("y", "v"))))
    assert found == ["Sin", "QuantizeLinear", "QuantizeLinear"]


def test_a_body_reads_the_one_that_is_left(tmp_path: Path) -> None:
    then, otherwise = (
        helper.make_graph([node("DequantizeLinear", "b_q s z", op)], op, [], [value(op, IMAGE)]) for op in ("yes", "no")
    )  # fmt: skip
    nodes = [
        DQ, node("Sin", "f", "g"), *pair("g", "a"), pair("g", "b")[0], node("Cos", "a", "v"),
        node("If", "c", "y", then_branch=then, else_branch=otherwise),
    ]  # fmt: skip
    inputs = [value("q", IMAGE, TensorProto.INT8), value("c", (), TensorProto.BOOL)]
    assert steps(planned(hand_made(tmp_path, nodes, inputs, outputs=("y", "v")))) == [
        ("Sin", [256], [256]), ("Cos", [256], [1024]), ("If", [1, 256], [1024]),
    ]  # fmt: skip


UNSIGNED = weight("zero", np.uint8(0))  # every integer stands for a number of zero or more
POOLS = {  # what the Pad reads, attributes of the MaxPool, whether zeros can be padding
    "relu": ([DQ, node("Relu", "f", "r")], {}, True),
    "relu, quantised": ([DQ, node("Relu", "f", "g"), *pair("g", "r")], {}, True),
    "relu, other zero": ([DQ, node("Relu", "f", "g"), node("QuantizeLinear", "g s z", "h"), node("DequantizeLinear", "h s two", "r")], {}, False),
    "unsigned": ([node("DequantizeLinear", "q s z", "f"), *pair("f", "r", "s zero")], {}, True),
    "signed": ([DQ, *pair("f", "r")], {}, False),
    "rounded up": ([DQ, node("Relu", "f", "r")], {"ceil_mode": 1, "strides": [2, 2]}, False),
    "holes": ([DQ, node("Relu", "f", "r")], {"dilations": [2, 2]}, False),
    "padding only": ([DQ, node("Relu", "f", "r")], {"kernel_shape": [1, 1]}, False),
    "padding of its own": ([DQ, node("Relu", "f", "r")], {"pads": [1, 1, 1, 1]}, True),
    "too much with its own": ([DQ, node("Relu", "f", "r")], {"pads": [2, 2, 2, 2]}, False),
    "as is": ([DQ, node("Relu", "f", "r")], {"auto_pad": "SAME_UPPER"}, False),
}  # fmt: skip


@pytest.mark.parametrize("case", POOLS)
def test_zeros_around_what_is_not_below_zero_suit_a_maximum(tmp_path: Path, case: str) -> None:
    """As ResNets are written that come from Keras. A window of nothing but padding has a maximum only in the Pad."""
    before, attributes, belongs = POOLS[case]
    pool = node("MaxPool", "p", "m", **{"kernel_shape": [3, 3]} | attributes)
    nodes = [*before, node("Pad", "r pads", "p"), pool, node("QuantizeLinear", "m s z", "y")]
    path = hand_made(tmp_path, nodes, constants=[weight("pads", AROUND), UNSIGNED, weight("two", np.int8(2))])
    assert ("Pad" not in types(planned(path))) is belongs


def test_what_a_branch_reads_is_padded_before(tmp_path: Path) -> None:
    """The Conv that reads the Pad stands in a branch: the If takes the padded tensor as it is."""
    then, otherwise = (
        helper.make_graph([node("Conv", "p w", op)], op, [], [value(op, (1, 2, 8, 8))]) for op in ("yes", "no")
    )  # fmt: skip
    otherwise.node[0].CopyFrom(node("Slice", "r low high axis", "no"))
    nodes = [
        DQ, node("Relu", "f", "r"), node("Pad", "r pads", "p"),
        node("If", "c", "y", then_branch=then, else_branch=otherwise),
    ]  # fmt: skip
    numbers = [weight(name, np.array([number])) for name, number in (("low", 0), ("high", 2), ("axis", 1))]
    constants = [normal("w", 2, 4, 3, 3), weight("pads", AROUND), *numbers]
    inputs = [value("q", IMAGE, TensorProto.INT8), value("c", (), TensorProto.BOOL)]
    assert types(planned(hand_made(tmp_path, nodes, inputs, constants=constants))) == ["Relu", "Pad", "If"]
