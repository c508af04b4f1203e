"""ONNX IR with shapes -> Graph: what is constant, view, unused or an operator, and how large tensors are.

Views become aliases of the tensor that they look at; whatever depends on constants alone is a weight.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import onnx
import onnx_ir as ir

from cosma.errors import InputError
from cosma.frontend.macs import count_macs
from cosma.graph import MAX_BYTES, Graph, Kind, Operator, Tensor

DType = Literal["int8", "float16", "float32"]
DTYPE_BITS: dict[DType, int] = {"int8": 8, "float16": 16, "float32": 32}

_VIEWS = frozenset(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"])
_CONSTANTS = frozenset(("Constant", "ConstantOfShape"))
_RANDOM = frozenset(
    ["RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"]
)  # results that are new in every run are no constants
_SHOWN = 5  # names listed in one error message


Nodes = tuple[tuple[str, str], ...]  # (name, operator type)


def lower(
    name: str,
    model: ir.Model,
    nodes: dict[str, str],
    weights: set[str],
    dims: dict[str, int],
    used_dims: set[str],
    dtype: DType | None,
) -> tuple[Graph, Nodes, Nodes]:
    """Build the Graph `name` of a model; return it, the views and the nodes folded away.

    nodes: name -> operator type of each node in the file, to tell what became of it. weights: names of
    constants. dims: sizes of dynamic dimensions by name, of which `used_dims` have been applied.
    Raises InputError where a shape or an element type is missing or a dimension is left open.
    """
    sizer = _Sizer(dims, used_dims, dtype)
    sorted_ = sort_nodes(model.graph, weights)
    graph = _build(name, model.graph, sorted_, sizer)
    operators = {_name(n) for n in sorted_.operators}
    gone = [(n, t) for n, t in nodes.items() if n not in operators and t not in _CONSTANTS]
    views = tuple(node for node in gone if node[1] in _VIEWS)
    return graph, views, tuple(node for node in gone if node[1] not in _VIEWS)


@dataclass(slots=True)
class Sorted:
    """Every node in its class. root: view -> the value whose bytes it shows. constant: values that never change."""

    constant: set[ir.Value]
    root: dict[ir.Value, ir.Value] = field(default_factory=dict)
    operators: list[ir.Node] = field(default_factory=list)


def sort_nodes(graph: ir.Graph, weights: set[str]) -> Sorted:
    """Say of each node whether it is constant, a view or an operator; `weights` are names of constants."""
    constant = {v for v in graph.inputs if v.name in weights} | set(graph.initializers.values())
    result = Sorted(constant)
    live = _live_nodes(graph)
    for node in graph:
        if _is_constant(node, constant):
            constant.update(node.outputs)
        elif node not in live:
            continue  # left over from folding
        elif _is_view(node, constant):
            source = node.inputs[0]
            assert source is not None
            result.root[node.outputs[0]] = result.root.get(source, source)
        else:
            result.operators.append(node)
    return result


def _live_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that some model output depends on; all of them if the model declares no outputs."""
    outputs = list(graph.outputs)
    if not outputs:
        return set(graph)
    live: set[ir.Node] = set()
    stack = [p for v in outputs if (p := v.producer()) is not None]
    while stack:
        node = stack.pop()
        if node not in live:
            live.add(node)
            stack.extend(p for v in _reads(node) if (p := v.producer()) is not None and p.graph is graph)
    return live


def _is_constant(node: ir.Node, constant: set[ir.Value]) -> bool:
    if node.domain == "" and node.op_type in ("Shape", "Size") and node.inputs:
        source = node.inputs[0]
        if source is not None and static_count(source) is not None:
            return True
    reads = _reads(node)
    if not reads:
        return node.op_type in _CONSTANTS
    return not is_random(node) and all(v in constant for v in reads)


def is_random(node: ir.Node) -> bool:
    """Whether every run gives something else, be it in a branch of an If or in the body of a loop."""
    return node.op_type in _RANDOM or _is_training(node) or any(is_random(n) for sub in _subgraphs(node) for n in sub)


def _is_training(node: ir.Node) -> bool:
    """Whether a Dropout may drop anything: its training mode is given, and not known to be off."""
    is_dropout = node.op_type == "Dropout" and node.domain == ""
    mode = node.inputs[2] if is_dropout and len(node.inputs) > 2 else None
    if mode is None:
        return False
    known = ir.convenience.get_const_tensor(mode)
    return known is None or bool(known.numpy().any())


def _is_view(node: ir.Node, constant: set[ir.Value]) -> bool:
    if node.op_type not in _VIEWS or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return False
    if _is_training(node):
        return False
    others_used = any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    return not others_used and node.inputs[0] not in constant


def _build(name: str, graph: ir.Graph, nodes: Sorted, sizer: "_Sizer") -> Graph:
    outputs = {nodes.root.get(v, v) for v in graph.outputs}
    tensors: list[Tensor] = []
    index: dict[ir.Value, int] = {}

    def number(value: ir.Value, kind: Kind) -> int:
        if value not in index:
            index[value] = len(tensors)
            tensors.append(sizer.tensor(value, kind))
        return index[value]

    operators = []
    for node in nodes.operators:
        reads = dict.fromkeys(nodes.root.get(v, v) for v in _operands(node, nodes.constant))
        inputs = tuple(number(v, "weight" if v in nodes.constant else "input") for v in reads)
        written = [v for v in node.outputs if _is_written(v, outputs, sizer)]
        operators.append(
            Operator(
                _name(node),
                node.op_type,
                inputs,
                tuple(number(v, "output" if v in outputs else "activation") for v in written),
                (_name(node),),
                count_macs(node, sizer.shape),
            )
        )
    sizer.refuse_unsized({v.name for v in graph.inputs if v.name})
    return Graph(name, tuple(tensors), tuple(operators))


def _is_written(value: ir.Value, outputs: set[ir.Value], sizer: "_Sizer") -> bool:
    """Unused second outputs without a shape (a Dropout's mask, say) take no memory."""
    if not value.name:
        return False
    return bool(value.uses()) or value in outputs or value.index() == 0 or sizer.shape(value) is not None


class _Sizer:
    """Sizes of values, and a record of those whose size cannot be known."""

    def __init__(self, dims: dict[str, int], used_dims: set[str], dtype: DType | None) -> None:
        self.dims = dims
        self.used_dims = used_dims
        self.dtype = dtype
        self.unsized: list[str] = []
        self.open_dims: dict[str, str] = {}  # dimension -> the tensor that has it

    def tensor(self, value: ir.Value, kind: Kind) -> Tensor:
        self._refuse_unplannable(value)
        shape, bits = self.shape(value), self._bits(value)
        size = 0
        if shape is None or bits is None:
            self._note(value, shape)
        else:
            size = -(-prod(shape) * bits // 8)  # sub-byte elements are packed
            if size > MAX_BYTES or min(shape, default=0) < 0:
                raise InputError(
                    f"tensor {value.name!r} of shape {list(shape)} takes {size} bytes; "
                    "sizes must lie between 0 and 2^63 - 1"
                )
        return Tensor(value.name or "", size, kind, shape or (), self._dtype_name(value))

    def _refuse_unplannable(self, value: ir.Value) -> None:
        """Sequences, optional values and strings: how many bytes they take is known in a run only."""
        if not isinstance(value.type, ir.TensorType | None):
            what = type(value.type).__name__.removesuffix("Type").lower()
            raise InputError(f"{value.name!r} is of type {what}, not a tensor; only tensors can be planned")
        if value.dtype == ir.DataType.STRING and self.dtype is None:
            raise InputError(
                f"tensor {value.name!r} holds strings, whose size is not known; take what reads and writes them out of "
                "the model"
            )

    def shape(self, value: ir.Value) -> tuple[int, ...] | None:
        if value.shape is None:
            return None
        sizes = []
        for dim in value.shape:
            if isinstance(dim, int):
                sizes.append(dim)
            elif str(dim.value) in self.dims:
                self.used_dims.add(str(dim.value))
                sizes.append(self.dims[str(dim.value)])
            else:
                return None
        return tuple(sizes)

    def _bits(self, value: ir.Value) -> int | None:
        if self.dtype is not None:
            return DTYPE_BITS[self.dtype]
        with contextlib.suppress(TypeError):  # undefined types have no size
            return None if value.dtype is None else value.dtype.bitwidth
        return None

    def _dtype_name(self, value: ir.Value) -> str:
        return self.dtype or (value.dtype.name.lower() if value.dtype is not None else "")

    def _note(self, value: ir.Value, shape: tuple[int, ...] | None) -> None:
        if value.shape is None:
            producer = value.producer()
            where = f" of operator {_name(producer)!r} ({producer.op_type})" if producer is not None else ""
            self.unsized.append(f"tensor {value.name!r}{where} has no shape")
        elif shape is None:
            for axis, dim in enumerate(value.shape):
                if not isinstance(dim, int) and str(dim.value) not in self.dims:
                    key = f"{value.name}:{axis}" if dim.value is None else str(dim.value)
                    self.open_dims.setdefault(key, value.name or "")
        else:
            kind = self._dtype_name(value) or "none"
            self.unsized.append(f"tensor {value.name!r} has no sized element type ({kind})")

    def refuse_unsized(self, inputs: set[str]) -> None:
        # Open dimensions of model inputs explain those further down, so name them alone if there are any.
        named = sorted({d for d, tensor in self.open_dims.items() if tensor in inputs} or self.open_dims)
        unknown = sorted(set(self.dims) - self.used_dims)
        if unknown:
            known = ", ".join(named[:_SHOWN]) or "none is left"
            raise InputError(f"--dim {unknown[0]}: the model has no such dynamic dimension (open: {known})")
        if named:
            flags = " ".join(f"--dim {dim}=1" for dim in named[:_SHOWN])
            raise InputError(f"dynamic dimensions: {', '.join(named[:_SHOWN])}; set them, e.g. {flags}")
        if self.unsized:
            rest = f" (and {len(self.unsized) - 1} more)" if len(self.unsized) > 1 else ""
            raise InputError(
                f"{self.unsized[0]}{rest}; add its type and shape to the model's value_info, "
                "e.g. by exporting with shape inference"
            )


def _operands(node: ir.Node, constant: set[ir.Value]) -> Iterator[ir.Value]:
    """What a node reads as data.

    Constants that only steer it are part of the command stream and need no residency: single
    elements (a Clip's bounds, a quantisation scale), and operands that the operator's schema allows
    to be integers only (shapes, axes, pads, indices).
    """
    for i, value in enumerate(node.inputs):
        if value is not None and not (value in constant and (static_count(value) == 1 or _takes_integers(node, i))):
            yield value
    yield from _captured(node)


def _takes_integers(node: ir.Node, position: int) -> bool:
    version = node.graph.opset_imports.get(node.domain, 1) if node.graph is not None else 1
    try:
        formals = onnx.defs.get_schema(node.op_type, version, node.domain).inputs
    except onnx.defs.SchemaError:
        return False
    if not formals:
        return False
    return set(formals[min(position, len(formals) - 1)].types) <= {"tensor(int32)", "tensor(int64)"}


def _reads(node: ir.Node) -> list[ir.Value]:
    return [v for v in node.inputs if v is not None] + list(_captured(node))


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """Values of the outer graph that the subgraphs of If, Loop and Scan read."""
    for sub in _subgraphs(node):
        own = {*sub.inputs, *sub.initializers.values(), *(v for n in sub for v in n.outputs)}
        inner = [v for n in sub for v in _reads(n)] + list(sub.outputs)
        yield from (v for v in inner if v not in own)


def _subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def static_count(value: ir.Value) -> int | None:
    """Number of elements, or None while the shape is not fully known."""
    if value.shape is None or not value.shape.is_static():
        return None
    return prod(value.shape.numpy())


def _name(node: ir.Node) -> str:
    return node.name or node.op_type
