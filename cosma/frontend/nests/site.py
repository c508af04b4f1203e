"""One ONNX node while its nest is made: what rules ask for, and what they say."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from cosma.frontend.operators import label
from cosma.frontend.sized import Sized, Sizes
from cosma.nest import Access, Axis, AxisKind, Index, Nest, checked
from cosma.target.quantisation import DEQUANTIZE

Operand = tuple[int, int]  # number of the tensor, bits of an element
_LAYOUTS: dict[int, tuple[tuple[str, AxisKind], ...]] = {
    1: (("c", "channel"),),
    2: (("n", "batch"), ("c", "channel")),
    4: (("n", "batch"), ("c", "channel"), ("h", "row"), ("w", "column")),
    5: (("n", "batch"), ("c", "channel"), ("d", "other"), ("h", "row"), ("w", "column")),
}


class NoRuleError(LookupError):
    """What a rule needs is not known, or the node does what no affine index says."""


def at(*terms: int | tuple[int, int], offset: int = 0) -> Index:
    """An index: axes, or (axis, stride); `Site` fills in the size."""
    pairs = tuple((term, 1) if isinstance(term, int) else term for term in terms)
    return Index(0, tuple((axis, stride) for axis, stride in pairs if stride), offset)


class Site(Sized):
    """A node, and the nest that a rule makes of it."""

    def __init__(
        self,
        node: ir.Node,
        version: int,
        shape: Callable[[ir.Value], Sizes | None],
        operand: Callable[[ir.Value], Operand | None],
    ) -> None:
        super().__init__(node, shape)
        self.version, self._operand = version, operand
        self.axes: list[Axis] = []
        self.accesses: list[Access] = []

    def numbers(self, attribute: str, default: Sequence[int] = ()) -> list[int]:
        """An attribute of integers; the default where it is left out or empty."""
        return [*(self.node.attributes.get_ints(attribute, ()) or default)]

    def text(self, attribute: str, default: str) -> str:
        """An attribute that is a word."""
        return self.node.attributes.get_string(attribute, default)

    def constant(self, position: int) -> npt.NDArray[Any]:
        """The elements of a constant operand, in one row."""
        value = self.value(position)
        known = None if value is None else ir.convenience.get_const_tensor(value)
        if known is None:
            raise NoRuleError
        return known.numpy().reshape(-1)

    def integers(self, position: int, attribute: str) -> list[int] | None:
        """A constant operand of integers, or the attribute that it was once; None if it is left out."""
        if self.value(position) is not None:
            return [int(n) for n in self.constant(position)]
        return self.numbers(attribute) or None

    def axis(self, name: str, extent: int, kind: AxisKind = "other", whole: bool = False) -> int:
        """Add a loop; outer ones first."""
        self.axes.append(Axis(name, extent, kind, whole))
        return len(self.axes) - 1

    def loops(self, sizes: Sizes, whole: Sequence[int] = ()) -> list[int]:
        """Add a loop for each axis of a tensor; `whole`: the numbers of those that are not cut.

        Kinds are those of an image, but where axes are not cut: then rows may be tokens, and which axis has the
        channels is not known.
        """
        layout = _LAYOUTS.get(len(sizes), tuple((f"i{i}", "other") for i in range(len(sizes))))
        return [
            self.axis(name, extent, "other" if whole else kind, i in whole)
            for i, ((name, kind), extent) in enumerate(zip(layout, sizes, strict=True))
        ]

    def read(self, position: int, *indices: Index, rows: int | None = None) -> None:
        """Say how an operand is read; one that takes no residency is left out.

        rows: where which rows are read depends on data, the axis whose size is what its index counts.
        """
        value = self.value(position)
        operand = None if value is None else self._operand(value)
        if value is not None and operand is not None:
            self._access(operand, self.operand(position), indices, False, rows)
            self._read_scales(value, indices)

    def _read_scales(self, value: ir.Value, indices: Sequence[Index]) -> None:
        """A constant that is kept in few bits is widened here, with scales and zero points along an axis."""
        node = value.producer()
        if node is None or label(node.domain, node.op_type) not in DEQUANTIZE:
            return
        axis = node.attributes.get_int("axis", 1)
        for scale in node.inputs[1:]:
            operand, sizes = (None, None) if scale is None else (self._operand(scale), self.sizes_of(scale))
            if operand is not None and sizes is not None and len(sizes) == 1 and axis < len(indices):
                self._access(operand, sizes, [indices[axis]], False, None)

    def write(self, position: int, *indices: Index) -> None:
        """Say how a result is written; one that takes no memory is left out."""
        operand = self._operand(self.node.outputs[position]) if position < len(self.node.outputs) else None
        if operand is not None:
            self._access(operand, self.result(position), indices, True, None)

    def _access(
        self, operand: Operand, sizes: Sizes, indices: Sequence[Index], written: bool, rows: int | None
    ) -> None:
        if len(sizes) != len(indices):
            raise NoRuleError
        found = [Index(size, index.terms, index.offset) for index, size in zip(indices, sizes, strict=True)]
        if rows is not None:
            reach = sum(stride * (self.axes[axis].extent - 1) for axis, stride in indices[rows].terms)
            found[rows] = replace(found[rows], size=reach + 1)
        access = Access(operand[0], tuple(found), operand[1], written, rows is not None)
        if access not in self.accesses:
            self.accesses.append(access)

    def spread(self, position: int, axes: Sequence[int]) -> None:
        """Say that an operand is read element by element, repeated along axes that it does not have (broadcasting)."""
        if self.value(position) is None:
            return
        sizes = self.operand(position)
        if len(sizes) > len(axes):
            raise NoRuleError
        last = axes[len(axes) - len(sizes) :]
        self.read(position, *(at() if n == 1 else at(a) for a, n in zip(last, sizes, strict=True)))

    def along(self, position: int, axis: Index) -> None:
        """Say that an operand has one element, or one for each step of this index."""
        if self.value(position) is None:
            return
        sizes = self.operand(position)
        if len(sizes) > 1:
            raise NoRuleError
        self.read(position, *(at() if n == 1 else axis for n in sizes))

    def nest(self) -> Nest | None:
        """What has been said, as a nest."""
        return checked(self.axes, self.accesses)
