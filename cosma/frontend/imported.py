"""The result of reading a model: plain data that needs no library."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosma.graph import DType, Graph

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
    """A graph, and (name, operator type) of every node of the file that is no operator of the graph.

    folded: computed from constants and shapes alone; views: move no data; dead: no output needs them.
    notes: declared shapes that differ from the inferred ones, one line each.
    folded_model: only where the model was read for running.
    """

    graph: Graph
    folded: Names
    views: Names
    dead: Names
    notes: tuple[str, ...] = ()
    folded_model: FoldedModel | None = None
