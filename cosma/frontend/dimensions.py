"""Open dimensions: sizes given by name or place, sizes computed from others, error messages for the rest."""

import ast
import math
import operator
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import onnx

from cosma.errors import InputError

_LONGEST = 200  # characters of a dimension that is read as arithmetic
_SHOWN = 5  # dimensions listed in one error message
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_CALLS: dict[str, Callable[..., Any]] = {
    "floor": math.floor, "ceil": math.ceil, "ceiling": math.ceil, "int": int, "max": max, "min": min,
    "Max": max, "Min": min, "abs": abs,
}  # fmt: skip


@dataclass(slots=True)
class Dimensions:
    """Sizes given by the user for any tensor of the model, by name ("batch") or by tensor and axis ("input:0").

    used: the keys found in the model. placed: (tensor, axis) -> the size given for it.
    """

    given: Mapping[str, int]
    used: set[str] = field(default_factory=set)
    placed: dict[tuple[str, int], int] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)  # names and places that are open in the file

    def apply(self, graph: onnx.GraphProto) -> None:
        """Write sizes into the inputs, outputs and value_info of a GraphProto.

        A size below 0 counts as open, as in runtimes. Raises InputError if two sizes for one dimension differ.
        """
        inputs = {v.name for v in graph.input}
        for value in (*graph.input, *graph.output, *graph.value_info):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if dim.HasField("dim_value") and dim.dim_value >= 0:
                    continue
                if dim.HasField("dim_value"):
                    dim.ClearField("dim_value")
                place = f"{value.name}:{axis}"
                size = self._agreed(dim.dim_param, place)
                if value.name in inputs:
                    self.open.add(dim.dim_param or place)
                if size is not None:
                    dim.dim_value = size
                    self.placed[value.name, axis] = size
        names = {name for node in graph.node for name in node.output}
        for key, size in self.given.items():
            name, _, number = key.rpartition(":")
            if name in names and number.isascii() and number.isdigit():
                self.used.add(key)
                self.placed[name, int(number)] = size

    def _agreed(self, name: str, place: str) -> int | None:
        """The size of a dimension called `name` ("" if it has none) at `place`."""
        sizes = {}
        if place in self.given:
            self.used.add(place)
            sizes[f"--dim {place}={self.given[place]}"] = self.given[place]
        if name in self.given:
            self.used.add(name)
            sizes[f"--dim {name}={self.given[name]}"] = self.given[name]
        computed = self._compute(name)
        if computed is not None:
            sizes[f"{name} = {computed}, from the other sizes"] = computed
        if len(set(sizes.values())) > 1:
            raise InputError(f"{' and '.join(sizes)}: these contradict each other; give one of them")
        return next(iter(sizes.values()), None)

    def _compute(self, name: str) -> int | None:
        """Evaluate a name that is arithmetic over given names, e.g. 2*seq; None if it is not, or a name has no size."""
        if not name or name.isidentifier() or len(name) > _LONGEST:
            return None
        try:
            value, reads = _evaluate(name, self.given)
        except (SyntaxError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError, MemoryError):
            return None
        if not reads:
            return None
        if value.denominator != 1 or value < 0:
            raise InputError(
                f"dimension {name!r} would be {value} with "
                f"{', '.join(f'--dim {key}={self.given[key]}' for key in sorted(reads))}; "
                "give sizes that make it a whole number"
            )
        self.used |= reads
        return int(value)

    def refuse_unused(self) -> None:
        """Raise InputError for a key that the model does not have."""
        unknown = sorted(set(self.given) - self.used)
        if unknown:
            known = ", ".join(sorted(self.open)[:_SHOWN]) or "none"
            raise InputError(f"--dim {unknown[0]}: the model has no such dynamic dimension (open: {known})")


def _evaluate(text: str, names: Mapping[str, int]) -> tuple[Fraction, set[str]]:
    """The exact value of an arithmetic expression and the names that it reads.

    Raises one of the errors that `Dimensions._compute` catches if the text is no such expression.
    """
    reads: set[str] = set()

    def value(node: ast.AST) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return Fraction(node.value)
        if isinstance(node, ast.Name):
            reads.add(node.id)
            return Fraction(names[node.id])
        if isinstance(node, ast.BinOp):
            return Fraction(_BINARY[type(node.op)](value(node.left), value(node.right)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return Fraction(_CALLS[node.func.id](*map(value, node.args)))
        raise ValueError(type(node).__name__)

    return value(ast.parse(text.strip(), mode="eval").body), reads


@dataclass(frozen=True, slots=True)
class Open:
    """A dimension without a size: its tensor, axis, and name or "". writer: the operator that makes the tensor."""

    tensor: str
    axis: int
    name: str
    writer: str = ""

    @property
    def place(self) -> str:
        """The tensor and axis in the form of `--dim`."""
        return f"{self.tensor}:{self.axis}"


def explain_open(found: list[Open], inputs: set[str], outputs: list[Open]) -> str:
    """Error message for open dimensions. If model inputs have any, only those are named: they cause the others.

    outputs: the open dimensions of model outputs; a size given there also sets inner dimensions of the same name.
    """
    given = {o.name or o.place: o for o in sorted(found, key=lambda o: o.place) if o.tensor in inputs}
    if given:
        names = sorted(given)[:_SHOWN]
        # A batch of 1 is what people mean; any other size of 1 could be a wrong guess.
        flags = " ".join(f"--dim {shlex.quote(n)}={1 if given[n].axis == 0 else 'N'}" for n in names)
        return f"dynamic dimensions: {', '.join(names)}; set them, e.g. {flags}"
    first = next(iter(_origins(found)))
    where = f", which {first.writer} makes," if first.writer else ""
    same = [o.place for o in outputs if o.name and o.name == first.name and o.tensor != first.tensor]
    through = f", or --dim {shlex.quote(same[0])}=N, an output of that size" if same else ""
    rest = len({o.name or o.place for o in found}) - 1
    more = f" (and {rest} more like it)" if rest else ""
    return (
        f"axis {first.axis} of {first.tensor!r}{where} has a size that the model does not tell{more}; give the largest "
        f"that it can have: --dim {shlex.quote(first.place)}=N{through}"
    )


def _origins(found: list[Open]) -> Iterator[Open]:
    """The first place of each dimension, in the order of the model."""
    return iter({o.name or o.place: o for o in reversed(found)}.values().__reversed__())
