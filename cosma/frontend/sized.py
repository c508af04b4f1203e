"""An ONNX node whose operands and results have sizes: what rules by operator type ask of it."""

from collections.abc import Callable

import onnx_ir as ir

Sizes = tuple[int, ...]


class UnknownError(LookupError):
    """What a rule needs is not known."""


class Sized:
    """A node. sizes_of: the sizes of a value, None where they are not known; then UnknownError is raised."""

    def __init__(self, node: ir.Node, sizes_of: Callable[[ir.Value], Sizes | None]) -> None:
        self.node, self.sizes_of = node, sizes_of

    def value(self, position: int) -> ir.Value | None:
        """An operand, None if it is left out."""
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    def operand(self, position: int) -> Sizes:
        """The sizes of an operand."""
        return self._sizes(self.value(position))

    def result(self, position: int = 0) -> Sizes:
        """The sizes of a result."""
        return self._sizes(self.node.outputs[position] if position < len(self.node.outputs) else None)

    def number(self, attribute: str, default: int = 0) -> int:
        """An integer attribute."""
        return self.node.attributes.get_int(attribute, default)

    def _sizes(self, value: ir.Value | None) -> Sizes:
        sizes = None if value is None else self.sizes_of(value)
        if sizes is None:
            raise UnknownError
        return sizes
