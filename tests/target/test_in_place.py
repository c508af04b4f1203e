"""Operators that write over an operand, and those that must not."""

from dataclasses import replace

import pytest

from cosma.graph import Graph, Kind, Operator, Tensor
from cosma.modes import Mode, Overwrite
from cosma.problem import Memory, Problem
from cosma.target.in_place import in_place


def problem(op_type: str, first: int = 8, second: int = 2, kind: Kind = "input", outputs: int = 1) -> Problem:
    """One operator that makes 8 B of two tensors of these bytes, on an alignment of 8 B."""
    made = tuple(Tensor(f"y{i}", 8, "output") for i in range(outputs))
    tensors = (Tensor("a", first, kind), Tensor("b", second, "input"), *made)
    makers = (Operator("p", "Conv", (), (0,)),) if kind == "output" else ()
    last = Operator("v", op_type, (0, 1), tuple(range(2, 2 + outputs)))
    return Problem(Graph("g", tensors, (*makers, last)), Memory(64, 8))


def tried(asked: Problem, dying: tuple[int, ...]) -> Mode | None:
    v = len(asked.graph.operators) - 1
    return in_place(asked, v, dying)


@pytest.mark.parametrize("op_type", ["Add", "Relu", "PRelu"])
def test_over_an_operand_that_dies(op_type: str) -> None:
    asked = problem(op_type)
    mode = tried(asked, (0, 1))
    assert mode == Mode(overwrites=(Overwrite(2, 0),))
    assert (asked.working_sets, replace(asked, modes=((mode,),)).working_sets) == ((24,), (16,))


@pytest.mark.parametrize(
    ("asked", "dying"),
    [
        (problem("Add"), ()),
        (problem("Add"), (1,)),  # it repeats the 2 B of b: only aligned is that as large as the output
        (problem("Conv"), (0, 1)),
        (problem("LRN"), (0, 1)),  # looks at other channels
        (problem("Add", kind="output"), (0,)),  # the host still has to get it
        (problem("Add", outputs=2), (0, 1)),
    ],
)
def test_not_in_place(asked: Problem, dying: tuple[int, ...]) -> None:
    assert tried(asked, dying) is None


def test_nothing_to_write() -> None:
    tensors = (Tensor("a", 0, "input"), Tensor("y", 0, "output"))
    asked = Problem(Graph("g", tensors, (Operator("v", "Add", (0,), (1,)),)), Memory(8))
    assert tried(asked, (0,)) is None
