"""What random changes of models (frontend/test_structure_fuzz.py) and files of packages found, each worked out by hand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cosma.errors import InputError
from cosma.frontend.load import load
from tests.conftest import model, node, save, value

FLOAT, INT64, BOOL, INT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.INT8


def shapes(folder: Path, proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    return {t.name: t.shape for t in load(save(folder, proto)).graph.tensors}


def refused(folder: Path, proto: onnx.ModelProto, match: str) -> None:
    path = save(folder, proto)
    with pytest.raises(InputError, match=match):
        load(path)


def loop(nodes, carried: int, said: tuple[int, ...] | None) -> onnx.NodeProto:
    """A Loop of n rounds that carries a0, a1, ... into b0, b1, ..., said to have one shape in the body."""
    body = helper.make_graph(
        [*nodes, node("Identity", "go", "on")], "body",
        [value("i", (), INT64), value("go", (), BOOL), *(value(f"a{k}", said) for k in range(carried))],
        [value("on", (), BOOL), *(value(f"b{k}", said) for k in range(carried))],
    )  # fmt: skip
    starts, ends = (" ".join(f"{letter}{k}" for k in range(carried)) for letter in "xy")
    return node("Loop", f"n yes {starts}", ends, "loop", body=body)


def looping(made: onnx.NodeProto, inputs, outputs) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(np.array(3), "n"), numpy_helper.from_array(np.array(True), "yes")]
    return model([made], inputs, outputs, constants)


@pytest.mark.parametrize("said", [None, (4, 8), (1, 8)])
@pytest.mark.parametrize("outside", [None, (1, 8), (4, 8, 1)])
def test_what_a_loop_carries_keeps_its_shape(tmp_path: Path, said, outside) -> None:
    """It enters with four rows of eight, whatever the body and the model say."""
    proto = looping(loop([node("Tanh", "a0", "b0")], 1, said), [value("x0", (4, 8))], [value("y0", outside)])
    assert shapes(tmp_path, proto) == {"x0": (4, 8), "y0": (4, 8)}


def test_what_a_loop_extends_is_as_long_as_the_file_says(tmp_path: Path) -> None:
    """b0 has one row more each round: 4 after three; b1 keeps its shape, b2 takes the shape of b0."""
    nodes = [node("Concat", "a0 a1", "b0", axis=0), node("Tanh", "a1", "b1"), node("Relu", "a0", "b2")]
    inputs = [value(f"x{k}", (1, 8)) for k in range(3)]
    proto = looping(loop(nodes, 3, None), inputs, [value("y0", (4, 8)), value("y1", None), value("y2", (3, 8))])
    found = shapes(tmp_path, proto)
    assert (found["y0"], found["y1"], found["y2"]) == ((4, 8), (1, 8), (3, 8))
    proto = looping(loop(nodes, 3, None), inputs, [value("y0", None), value("y1", None), value("y2", (3, 8))])
    refused(tmp_path, proto, "'y0'")


def test_operators_are_written_as_their_version_has_them(tmp_path: Path) -> None:
    reduced = node("ReduceMean", "x", "y", "mean", axes=[1])
    assert shapes(tmp_path, model([reduced], outputs=[value("y", (1, 1))], opset=17))["y"] == (1, 1)
    proto = model([reduced], outputs=[value("y", (1, 1))], opset=18)
    refused(
        tmp_path,
        proto,
        r"operator 'mean' \(ReduceMean\) is not written as opset 18 has it: Unrecognized attribute: axes",
    )
    refused(
        tmp_path, model([node("Add", "x", "y", "add")]), r"operator 'add' \(Add\) is not .*input size 1 not in range"
    )
    branch = helper.make_graph([helper.make_node("Add", ["x", ""], ["b"], name="in")], "b", [], [value("b")])
    choice = node("If", "c", "y", "choice", then_branch=branch, else_branch=branch)
    refused(tmp_path, model([choice], ["x", value("c", (), BOOL)]), r"operator 'in' \(Add\) is not .*input 1")


@pytest.mark.parametrize("place", ["output", "value_info"])
def test_element_types_in_branches(tmp_path: Path, place: str) -> None:
    """A Tanh of floats makes floats."""
    branch = helper.make_graph([node("Tanh", "x", "p"), node("Relu", "p", "b")], "b", [], [value("b")])
    wrong = value("b" if place == "output" else "p", (1, 8), INT8)
    other = onnx.GraphProto()
    other.CopyFrom(branch)
    (other.output[0].CopyFrom if place == "output" else other.value_info.add().CopyFrom)(wrong)
    choice = node("If", "c", "y", "choice", then_branch=branch, else_branch=other)
    refused(tmp_path, model([choice], ["x", value("c", (), BOOL)]), r"operator '(choice|)'.*(type|tensor\(int8\))")


def test_element_types_of_what_is_folded_away(tmp_path: Path) -> None:
    """The Dropout is looked through; that its operand is declared int8 is wrong all the same."""
    nodes = [node("Tanh", "x", "a", "t"), node("Dropout", "a", "y", "d")]
    proto = model(nodes, value_info=[value("a", (1, 8), INT8)])
    refused(
        tmp_path, proto, "tensor 'a' is declared int8, but operator 't' .Tanh. makes float; correct its declaration"
    )


def test_data_that_do_not_fill_their_shape(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((8, 4), np.float32), "w")
    weight.dims[1] = 5
    proto = model([node("MatMul", "x w", "y")], outputs=[value("y", (1, 5))], initializers=[weight])
    refused(tmp_path, proto, r"the data of weight 'w' do not fill its shape \[8, 5\]; export the model again")


def test_declared_ranks_that_cannot_be(tmp_path: Path) -> None:
    """r has as many axes as s has numbers, three; how long they are is known in a run only."""
    nodes = [node("Reshape", "x s", "r", "reshape"), node("Relu", "r", "y")]
    inputs = ["x", value("s", (3,), INT64)]
    proto = model(nodes, inputs, [value("y", None)], value_info=[value("r", (2, 4))])
    refused(
        tmp_path, proto, r"'r' is declared float \[2, 4\], but the operators make it float \[.*\] and its sizes depend"
    )
    proto = model(nodes, inputs, [value("y", None)], value_info=[value("r", (2, 4, 1))])
    assert shapes(tmp_path, proto)["y"] == (2, 4, 1)


def test_folded_shapes_before_constants_could_hold_integers(tmp_path: Path) -> None:
    """Opset 11: Shape, Slice and Concat become a constant, which is then a tensor. x is 2 x 3 x 4, y 2 x 12."""
    ints = {"zero": [0], "one": [1], "rest": [-1]}
    nodes = [node("Shape", "x", "s"), node("Slice", "s zero one", "n"), node("Concat", "n rest", "t", axis=0),
             node("Reshape", "x t", "r"), node("Relu", "r", "y")]  # fmt: skip
    constants = [numpy_helper.from_array(np.array(numbers, np.int64), name) for name, numbers in ints.items()]
    proto = model(nodes, [value("x", (2, 3, 4))], [value("y", None)], constants, opset=11)
    assert shapes(tmp_path, proto)["y"] == (2, 12)
