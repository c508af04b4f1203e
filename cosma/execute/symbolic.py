"""A run without values: every byte stands for itself, so that plans can be run that no model computes.

A plan that was made with another element type than the model's has no data. What it can be wrong in are bytes and
places all the same: each byte of a tensor gets a value that tells it from its neighbours and from other tensors',
operators check that they are shown these bytes or poison, and write those of their outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from cosma.errors import VerificationError
from cosma.execute.runtime import Bytes, Value
from cosma.execute.tiles import POISON
from cosma.graph import Graph

_VALUES = 251  # a prime: tensors and rows of any size differ everywhere but in one byte of so many


def content(a: int, size_bytes: int) -> Bytes:
    """The bytes that stand for those of tensor a; none is poison."""
    at = np.arange(size_bytes, dtype=np.uint64)
    with np.errstate(over="ignore"):
        mixed = (at + np.uint64(a + 1) * np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed >> np.uint64(29)) % np.uint64(_VALUES)).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Symbolic:
    """A model that cannot be run as planned, in place of a network; `why` says so and how to get one that can."""

    why: str


@dataclass(frozen=True, slots=True)
class SymbolicKernel:
    """One operator: its inputs are looked at, its outputs written."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def run(self, where: Mapping[int, Value]) -> None:
        """Check what is shown of the inputs and write the outputs. Raises VerificationError for any other byte."""
        for a in self.inputs:
            shown = where[a].data
            other = (shown != content(a, shown.size)) & (shown != POISON)
            if other.any():
                raise VerificationError(f"operator {self.name!r} reads other bytes than those of its operand {a}")
        for a in self.outputs:
            where[a].data[:] = content(a, where[a].data.size)


class SymbolicKernels:
    """The operators of a graph. types[a]: as many bytes as tensor a has."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types = tuple((TensorProto.UINT8, (t.size_bytes,)) for t in graph.tensors)
        self.kernels = tuple(SymbolicKernel(v.name, v.inputs, v.outputs) for v in graph.operators)
