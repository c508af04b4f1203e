"""What reading a model gives: plain data, which takes no library to look at."""

from dataclasses import dataclass
from typing import Literal

from cosma.graph import Graph

DType = Literal["int8", "float16", "float32"]
DTYPE_BITS: dict[DType, int] = {"int8": 8, "float16": 16, "float32": 32}
Names = tuple[tuple[str, str], ...]  # (name, operator type)


@dataclass(frozen=True, slots=True)
class Imported:
    """A graph and how it came about: (name, operator type) of every node that is no operator of it.

    folded: computed from constants and shapes alone; views: move no data; dead: no output needs them.
    notes: what the file declares and the operators make otherwise, one line each.
    """

    graph: Graph
    folded: Names
    views: Names
    dead: Names
    notes: tuple[str, ...] = ()
