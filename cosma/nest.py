"""Nests: an operator as a perfect loop nest, and which elements of each operand one round of its loops touches.

```
for p in rows, for k in channels:            axes that index outputs
    for c in channels, for r in taps:        reduced axes
        y[k, p] += x[c, 2 p + r - 1] * w[k, c, r]     three accesses, one affine index for each of their axes
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

AxisKind = Literal["batch", "channel", "row", "column", "other"]
_LARGEST = 2**60  # of rounds times bits, so that what is counted fits into 64 bits
_HOLES = 2**20  # offsets of whole axes that leave holes


@dataclass(frozen=True, slots=True)
class Axis:
    """One loop: `extent` rounds. whole: never cut into tiles; kind: what granularity in a spec refers to."""

    name: str
    extent: int
    kind: AxisKind = "other"
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """One axis of an operand, `size` elements long: sum of stride x axis over `terms`, plus offset.

    What falls outside of [0, size) is not touched: padding, or another part of a Concat. No term: one element.
    """

    size: int
    terms: tuple[tuple[int, int], ...] = ()
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Access:
    """How one operand is read or written. `tensor` is its index in the graph, `bits` those of an element.

    The indices are those of the shape that the operator sees; it may be a view of the tensor. lookup: which rows of
    the tensor are read depends on data (Gather), and the indices count the rows that are read.
    """

    tensor: int
    indices: tuple[Index, ...]
    bits: int
    written: bool = False
    lookup: bool = False


@dataclass(frozen=True, slots=True)
class Nest:
    """The axes of an operator, outer first: those that index outputs, then reduced ones; and what it accesses.

    An operand that is missing among the accesses has no rule and has to be resident. Two accesses may be of one
    tensor, which is then read in two ways.
    """

    axes: tuple[Axis, ...]
    accesses: tuple[Access, ...]

    def renumbered(self, new: Mapping[int, int]) -> "Nest":
        """The nest with other tensor numbers; accesses to tensors that are not in `new` are left out."""
        kept = (replace(a, tensor=new[a.tensor]) for a in self.accesses if a.tensor in new)
        return Nest(self.axes, tuple(kept))

    def tileable(self, index: Index) -> list[tuple[int, int]]:
        """The terms of an index whose axes may be cut into tiles."""
        return [(a, s) for a, s in index.terms if not self.axes[a].whole and self.axes[a].extent > 1]

    def fault(self) -> str:
        """Why tiles of this nest cannot be counted axis by axis, or ""."""
        if min((a.extent for a in self.axes), default=1) < 1 or min(_sizes(self), default=1) < 1:
            return "it has no rounds or an operand without elements"
        if prod(a.extent for a in self.axes) * max((a.bits for a in self.accesses), default=1) > _LARGEST:
            return "it is too large"
        if len({a.name for a in self.axes}) < len(self.axes):
            return "two axes have one name"
        for access in self.accesses:
            cut = [a for index in access.indices for a, _ in self.tileable(index)]
            if len(set(cut)) < len(cut):
                return "an axis indexes two axes of an operand"
            if any(len(self.tileable(i)) > 1 and not self.is_digits(i) for i in access.indices):
                return "two axes with overlapping steps index one axis of an operand"
            if any(not self._is_dense(i) for i in access.indices):
                return "an index has too many holes"
        return ""

    def is_digits(self, index: Index) -> bool:
        """Whether an index is a number of which each axis is a digit: each round has its own element, all inside."""
        reach = 0
        for axis, stride in sorted(index.terms, key=lambda term: term[1]):
            if stride <= reach:
                return False
            reach += stride * (self.axes[axis].extent - 1)
        return index.offset >= 0 and index.offset + reach < index.size

    def _is_dense(self, index: Index) -> bool:
        whole = prod(self.axes[a].extent for a, _ in index.terms if self.axes[a].whole)
        return whole <= _HOLES or all(abs(s) == 1 for _, s in index.terms)


def _sizes(nest: Nest) -> list[int]:
    return [index.size for access in nest.accesses for index in access.indices]


def checked(axes: Sequence[Axis], accesses: Sequence[Access]) -> Nest | None:
    """The nest of these axes, those of one round left out of the terms; None where its tiles cannot be counted."""
    nest = Nest(tuple(axes), tuple(accesses))
    return None if nest.fault() else nest


@dataclass(frozen=True, slots=True)
class Tiler:
    """What a machine's tiles are like.

    buffers: of each streamed operand, 2 where the next tile is brought in meanwhile. accumulator_bytes: of an element
    of a sum that is not complete; None: as many as an element of the output has. burst_bytes: what a transfer moves
    a multiple of. granularity: by kind of axis, what a tile's extent is a multiple of, the last tile excepted.
    """

    buffers: int = 1
    accumulator_bytes: int | None = None
    burst_bytes: int = 1
    granularity: tuple[tuple[AxisKind, int], ...] = ()

    def step(self, axis: Axis) -> int:
        """The granularity of an axis."""
        return dict(self.granularity).get(axis.kind, 1)


PLAIN_TILES = Tiler()
Tiling = tuple[tuple[str, int], ...]  # (axis, extent of a tile), the outermost loop first; other axes are not cut
