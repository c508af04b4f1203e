"""What reading a model gives: plain data, which takes no library to look at."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosma.graph import DType as DType  # noqa: PLC0414, exported
from cosma.graph import Graph

if TYPE_CHECKING:
    import onnx

DTYPE_BITS: dict[DType, int] = {"int8": 8, "float16": 16, "float32": 32}
Names = tuple[tuple[str, str], ...]  # (name, operator type)


@dataclass(frozen=True, slots=True)
class FoldedModel:
    """The model that a graph was made from, for running: shape arithmetic folded, types inferred, weights without data.

    proto: weights are inputs; its node and value names are those of the plan. constants: names of the values that
    depend on constants alone, except those that show others in more bits. random: names of the values that differ
    in every run.
    """

    proto: "onnx.ModelProto"
    constants: frozenset[str]
    random: frozenset[str]


@dataclass(frozen=True, slots=True)
class Imported:
    """A graph and how it came about: (name, operator type) of every node that is no operator of it.

    folded: computed from constants and shapes alone; views: move no data; dead: no output needs them.
    notes: what the file declares and the operators make otherwise, one line each.
    folded_model: only where the model was read for running.
    """

    graph: Graph
    folded: Names
    views: Names
    dead: Names
    notes: tuple[str, ...] = ()
    folded_model: FoldedModel | None = None
