"""Models and inputs that are easily run wrongly: each runs on what it holds, or is refused in one line."""

import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cosma.errors import InputError
from cosma.execute.inputs import read_inputs
from cosma.frontend.load import load_runnable
from tests.conftest import model, node, save, value
from tests.planned import compiled, network_of, run_plan, weight

RANDOM = np.random.default_rng(0)


def floats(name: str, *shape: int):
    return weight(name, RANDOM.standard_normal(shape, np.float32))


def executed(path: Path):
    plan, prepared = compiled(path)
    return run_plan(plan, prepared, path)


def branches(then: list, otherwise: list, initializers=()):
    """x -> Relu -> a -> If(c) -> b -> Neg -> y; the branches make `b` of `a`."""
    made = [helper.make_graph(then, "then", [], [value("b", None)], initializers)]
    made.append(helper.make_graph(otherwise, "else", [], [value("b", None)]))
    choice = helper.make_node("If", ["c"], ["d"], "if", then_branch=made[0], else_branch=made[1])
    nodes = [node("Relu", "x", "a", "relu"), choice, node("Neg", "d", "y", "neg")]
    return model(nodes, ["x", value("c", (1,), TensorProto.BOOL)], value_info=[value("d")])


def test_random_numbers_in_a_branch_are_refused(tmp_path: Path) -> None:
    dice = [node("RandomNormalLike", "a", "r"), node("Add", "a r", "b")]
    with pytest.raises(InputError, match=r"'if' \(If\) draws random numbers"):
        executed(save(tmp_path, branches(dice, [node("Tanh", "a", "b")])))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_in_training_is_no_view(tmp_path: Path, training: bool) -> None:
    nodes = [node("Relu", "x", "a"), node("Dropout", "a ratio mode", "b", "drop"), node("Sqrt", "b", "y")]
    constants = [weight("ratio", np.float32(0.5)), weight("mode", np.array(training))]
    path = save(tmp_path, model(nodes, initializers=constants))
    if training:
        with pytest.raises(InputError, match=r"'drop' \(Dropout\) draws random numbers"):
            executed(path)
    else:
        assert executed(path).steps == 1  # Relu and Sqrt, fused through the view


@pytest.mark.parametrize(("fill", "stripped"), [(0.02, 1), (-10000.0, 0), (-np.inf, 0), (1.0, 0)])
def test_only_fillers_stand_in_for_weights(tmp_path: Path, fill: float, stripped: int) -> None:
    filled = helper.make_tensor("", TensorProto.FLOAT, [1], [fill])
    nodes = [node("ConstantOfShape", "shape", "mask", value=filled), node("Max", "x mask", "y")]
    path = save(tmp_path, model(nodes, initializers=[weight("shape", np.array([1, 8]))]))
    network = network_of(path)
    assert len(network.constants.stripped) == stripped
    if not stripped:
        least = np.maximum(network.inputs["x"].array(), np.float32(fill))
        assert network.whole()[0].tobytes() == least.tobytes()
    assert executed(path).stripped == stripped


@pytest.mark.parametrize(
    "proto",
    [
        model([node("Concat", "x e", "a", axis=0), node("Relu", "a", "y")], ["x", value("e", (0, 8))]),
        model([node("Relu", "x", "y")], ["x", value("e", (0, 4))]),
        model(
            [node("MatMul", "x w", "y")], [value("x", (2, 0))], [value("y", (2, 3))],
            [weight("w", np.zeros((0, 3), np.float32))],
        ),
    ],
    ids=["read", "unread", "contracted"],
)  # fmt: skip
def test_empty_inputs_stay_empty(tmp_path: Path, proto) -> None:
    path = save(tmp_path, proto)
    empty = network_of(path).inputs[{"MatMul": "x"}.get(proto.graph.node[0].op_type, "e")]
    assert (0 in empty.shape, empty.data.size) == (True, 0)
    assert executed(path).difference is None


@pytest.mark.parametrize(("kind", "said"), [("STRING", "holds strings"), ("UNDEFINED", "has no element type")])
def test_unread_inputs_that_cannot_be_given_are_named(tmp_path: Path, kind: str, said: str) -> None:
    path = save(tmp_path, model([node("Relu", "x", "y")], ["x", value("s", (3,), getattr(TensorProto, kind))]))
    plan, prepared = compiled(path)
    np.savez(tmp_path / "inputs.npz", x=np.zeros((1, 8), np.float32))
    for inputs in (None, tmp_path / "inputs.npz"):
        with pytest.raises(InputError, match=f"input 's' {said}"):
            run_plan(plan, prepared, path, inputs)


def npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones((1, 8), np.float32))


def text_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", "hello")


def damaged(path: Path) -> None:
    np.savez_compressed(path, x=RANDOM.standard_normal((1, 8), np.float32))
    data = bytearray(path.read_bytes())
    data[55] = 0xFF  # where the compressed stream begins: no such kind of block
    path.write_bytes(data)


def flagged(byte: int, flag: int):
    """A file whose entries claim something of their members that this Python cannot read."""

    def make(path: Path) -> None:
        np.savez(path, x=np.ones((1, 8), np.float32))
        data = bytearray(path.read_bytes())
        data[byte] = data[data.find(b"PK\x01\x02") + byte + 2] = flag
        path.write_bytes(data)

    return make


@pytest.mark.parametrize(
    "make",
    [npy, text_member, damaged, flagged(8, 99), flagged(6, 1)],
    ids=["npy", "text", "damaged", "unknown compression", "encrypted"],
)
def test_files_that_hold_no_arrays(tmp_path: Path, make) -> None:
    path = save(tmp_path, model([node("Relu", "x", "y")]))
    make(tmp_path / "inputs.npz")
    with pytest.raises(InputError, match=r"inputs.npz: no .npz file of plain arrays; write one with numpy.savez"):
        read_inputs(tmp_path / "inputs.npz", load_runnable(path)[1])


@pytest.mark.parametrize(
    ("elem_type", "given"),
    [
        (TensorProto.BFLOAT16, np.arange(8).reshape(1, 8).astype(ml_dtypes.bfloat16)),
        (TensorProto.FLOAT, np.arange(8).reshape(1, 8).astype(">f4")),
    ],
    ids=["bfloat16", "big-endian"],
)
def test_arrays_as_files_keep_them(tmp_path: Path, elem_type: int, given: np.ndarray) -> None:
    path = save(
        tmp_path, model([node("Neg", "x", "y")], [value("x", (1, 8), elem_type)], [value("y", (1, 8), elem_type)])
    )
    np.savez(tmp_path / "inputs.npz", x=given)
    found = read_inputs(tmp_path / "inputs.npz", load_runnable(path)[1])["x"]
    assert found.elem_type == elem_type
    assert found.array().astype(int).tolist() == [list(range(8))]


def test_bytes_are_not_taken_for_numbers_that_numpy_knows(tmp_path: Path) -> None:
    half = TensorProto.FLOAT16
    path = save(tmp_path, model([node("Neg", "x", "y")], [value("x", (1, 8), half)], [value("y", (1, 8), half)]))
    np.savez(tmp_path / "inputs.npz", x=np.zeros((1, 8), ml_dtypes.bfloat16))
    with pytest.raises(InputError, match=r"'x' is \|V2 of shape \[1, 8\], not float16"):
        read_inputs(tmp_path / "inputs.npz", load_runnable(path)[1])


@pytest.mark.parametrize("rows", [1, 256])
def test_weights_without_data_are_made_up(tmp_path: Path, rows: int) -> None:
    bare = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rows, 8])
    path = save(tmp_path, model([node("Mul", "x w", "y")], outputs=[value("y", (rows, 8))], initializers=[bare]))
    assert executed(path).stripped == 1


def test_data_that_do_not_fill_their_shape(tmp_path: Path) -> None:
    short = floats("w", 256, 8)
    short.raw_data = short.raw_data[:-4]
    path = save(tmp_path, model([node("Mul", "x w", "y")], outputs=[value("y", (256, 8))], initializers=[short]))
    with pytest.raises(InputError, match=r"the data of weight 'w' do not fill its shape \[256, 8\]"):
        network_of(path)


def test_constants_in_other_files_are_read(tmp_path: Path) -> None:
    """Those of operators and of branches too."""
    constant = node("Constant", "", "k", value=floats("k", 64, 64))
    product = model([constant, node("MatMul", "x k", "y")], [value("x", (4, 64))], [value("y", (4, 64))])
    branch = branches([node("Add", "a k", "b")], [node("Tanh", "a", "b")], [floats("k", 1, 8)])
    for proto in (product, branch):
        within = save(tmp_path, proto)
        outputs = network_of(within).whole()
        path = tmp_path / "external.onnx"
        onnx.save(
            proto, path, save_as_external_data=True, location="data.bin", size_threshold=0, convert_attribute=True
        )
        assert executed(path).stripped == 0
        assert [o.tobytes() for o in network_of(path).whole()] == [o.tobytes() for o in outputs]
        (tmp_path / "data.bin").unlink()
    assert executed(path).stripped == 1
