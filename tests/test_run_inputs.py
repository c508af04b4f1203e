"""Models and inputs that are easily run wrongly: each runs on what it holds, or is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from cosma.errors import InputError
from cosma.execute.run import run
from tests.conftest import model, node, save, value
from tests.planned import compiled, network_of, weight

RANDOM = np.random.default_rng(0)


def floats(name: str, *shape: int):
    return weight(name, RANDOM.standard_normal(shape, np.float32))


def executed(path: Path):
    plan, prepared = compiled(path)
    return run(plan, prepared, path)


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
