"""Models that unfold to more than anybody has time or memory for: refused in one line, within the limits."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cosma.deadline import Deadline
from cosma.errors import InputError
from cosma.frontend.limited import Reading
from tests.conftest import MODELS, model, node, save, spawn, value


def number(name: str, count: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(count, np.int64), name)


def long_range() -> onnx.ModelProto:
    """A Range of 2^40 numbers, whose values propagate through a Cast."""
    nodes = [node("Range", "zero many one", "r"), node("Cast", "r", "c", to=7), node("Add", "c one", "y")]
    consts = [number("zero", 0), number("many", 2**40), number("one", 1)]
    return model(nodes, outputs=[value("y", None, 7)], initializers=consts)


def doubling() -> onnx.ModelProto:
    """A constant vector laid beside itself sixty times."""
    nodes = [node("Concat", f"t{i} t{i}", f"t{i + 1}", axis=0) for i in range(60)]
    proto = model([*nodes, node("Add", "t60 x", "y")], ["x"], [value("y", None)])
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(8, np.int64), "t0"))
    proto.graph.input[0].type.tensor_type.elem_type = 7
    proto.graph.output[0].type.tensor_type.elem_type = 7
    return proto


def calls(depth: int) -> onnx.ModelProto:
    """Functions each of which calls the one before twice: 2^depth operators in all."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = [helper.make_function("f", "F0", ["a"], ["b"], [node("Relu", "a", "b")], opsets)]
    for i in range(1, depth):
        body = [helper.make_node(f"F{i - 1}", [a], [b], domain="f") for a, b in (("a", "m"), ("m", "b"))]
        functions.append(helper.make_function("f", f"F{i}", ["a"], ["b"], body, opsets))
    call = helper.make_node(f"F{depth - 1}", ["x"], ["y"], domain="f")
    return model([call], imports=[helper.make_opsetid("f", 1)], functions=functions)


@pytest.mark.parametrize("make", [long_range, doubling])
def test_what_unfolds_is_refused_or_planned(tmp_path: Path, make) -> None:
    done = spawn(
        "compile", save(tmp_path, make()), "--scratchpad", "1MiB", "--time-limit", "3", "--memory-limit", "1GiB"
    )
    assert done.returncode in (2, 3), done
    assert "Traceback" not in done.stderr
    assert done.returncode == 3 or done.stderr.count("\n") == 1


def test_functions_that_call_each_other_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"functions come to more than 1,000,000 operators when they are called"):
        Reading(save(tmp_path, calls(25)), {}, None, Deadline.after(60), 2**32).result()
    assert len(Reading(save(tmp_path, calls(5)), {}, None, Deadline.after(60), 2**32).result().graph.operators) == 16


def test_functions_that_call_themselves(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    body = [helper.make_node("F", ["a"], ["b"], domain="f")]
    proto = model(
        [helper.make_node("F", ["x"], ["y"], domain="f")], imports=[helper.make_opsetid("f", 1)],
        functions=[helper.make_function("f", "F", ["a"], ["b"], body, opsets)],
    )  # fmt: skip
    with pytest.raises(InputError, match="function 'F' calls itself"):
        Reading(save(tmp_path, proto), {}, None, Deadline.after(60), 2**32).result()


def test_the_limits_are_named(tmp_path: Path) -> None:
    path = MODELS / "resnet50.onnx"
    with pytest.raises(InputError, match=r"was not done in 0.001 s and was stopped; give a larger --time-limit"):
        Reading(path, {}, None, Deadline.after(0.001), 2**32).result()
    with pytest.raises(
        InputError, match=r"took more than 1,048,576 B of memory and was stopped; give a larger --memory"
    ):
        Reading(path, {}, None, Deadline.after(60), 2**20).result()
    assert len(Reading(path, {}, None, Deadline.after(60), 2**32).result().graph.operators) == 121


@pytest.mark.parametrize("command", ["compile", "inspect", "check", "compare", "whatif"])
def test_every_command_that_reads_has_the_limits(run, command: str) -> None:
    extra = {"check": ["--max-peak", "1MiB"], "compare": ["--budgets", "1MiB"]}.get(command, [])
    pad = [] if command == "compare" else ["--scratchpad", "1MiB"]
    outcome = run(command, MODELS / "resnet50.onnx", *pad, *extra, "--memory-limit", "1MiB")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "resnet50.onnx: reading the model took more than 1,048,576 B" in outcome.err
