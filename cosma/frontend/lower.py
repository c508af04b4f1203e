"""ONNX IR with shapes -> Graph: classify nodes as constants, views or operators, and size the tensors.

A view becomes an alias of its tensor; a value that depends on constants alone is a weight.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from cosma.errors import InputError
from cosma.frontend.checks import check_operands
from cosma.frontend.dimensions import Open, explain_open
from cosma.frontend.imported import DTYPE_BITS, Names
from cosma.frontend.macs import count_macs
from cosma.frontend.nests.table import nest_of
from cosma.frontend.operators import STANDARD, is_steering, label
from cosma.frontend.roles import role
from cosma.graph import MAX_BYTES, DType, Graph, Kind, Operator, Tensor
from cosma.target.quantisation import DEQUANTIZE, QUANTIZE

_VIEWS = frozenset(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"])
_MOVES = _VIEWS | {"Transpose"}
_CONSTANTS = frozenset(("Constant", "ConstantOfShape"))
_RANDOM = frozenset(
    ["RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"]
)  # results that are new in every run are no constants


def lower(
    name: str, graph: ir.Graph, nodes: dict[str, str], sorted_: "Sorted", dtype: DType | None
) -> tuple[Graph, Names, Names]:
    """Build the Graph `name` of a model; return it, the views and the nodes folded away.

    nodes: name -> operator type of each node in the file. sorted_: the classes of the nodes in `graph`. Raises
    InputError where a shape or an element type is missing or a dimension is left open, and where operands contradict
    each other in a way that shape inference does not see.
    """
    built = _build(name, graph, sorted_, _Sizer(dtype))
    operators = {_name(n) for n in sorted_.operators}
    gone = [(n, t) for n, t in nodes.items() if n not in operators and t not in _CONSTANTS]
    views = tuple(node for node in gone if node[1] in _VIEWS)
    return built, views, tuple(node for node in gone if node[1] not in _VIEWS)


@dataclass(slots=True)
class Sorted:
    """The nodes of a graph by class. constant: values that never change.

    root: view -> the value whose bytes it shows, also of constants: a weight of few bits that a DequantizeLinear widens
    keeps its bits. steered: view -> the values computed at run time that define it (the shape of a Reshape): readers
    of the view read them too.
    """

    constant: set[ir.Value]
    root: dict[ir.Value, ir.Value] = field(default_factory=dict)
    steered: dict[ir.Value, tuple[ir.Value, ...]] = field(default_factory=dict)
    operators: list[ir.Node] = field(default_factory=list)

    def reads(self, node: ir.Node) -> Iterator[ir.Value]:
        """Values that hold the data of an operator's operands, views resolved; may have duplicates."""
        assert node.graph is not None
        for value in _operands(node, self.constant, node.graph.opset_imports):
            yield from self.data(value)

    def data(self, value: ir.Value) -> Iterator[ir.Value]:
        """The value whose bytes a value shows, and the values that steer the view."""
        yield self.root.get(value, value)
        yield from self.steered.get(value, ())


def sort_nodes(graph: ir.Graph, weights: set[str]) -> Sorted:
    """Classify each node as constant, view or operator. weights: names of constants."""
    constant = {v for v in graph.inputs if v.name in weights} | set(graph.initializers.values())
    result = Sorted(constant)
    live = _live_nodes(graph)
    returned = _returned(graph)
    for node in graph:
        if _is_constant(node, constant):
            constant.update(node.outputs)
            _show_narrow(node, result)
        elif node not in live:
            continue  # left over from folding
        elif _is_view(node, constant, returned):
            source, *others = node.inputs
            assert source is not None
            root, *steering = result.data(source)
            steering += [
                v for other in others if other is not None and other not in constant for v in result.data(other)
            ]
            result.root[node.outputs[0]] = root
            result.steered[node.outputs[0]] = tuple(dict.fromkeys(steering))
        else:
            result.operators.append(node)
    return result


def _show_narrow(node: ir.Node, nodes: Sorted) -> None:
    """Make a dequantised constant, or a rearrangement of one, a view of the constant of few bits.

    Its readers also read scales and zero points of more than one element.
    """
    name = _label(node)
    source = node.inputs[0] if node.inputs else None
    if source is None:
        return
    if name in DEQUANTIZE:
        more = [v for v in node.inputs[1:] if v is not None and static_count(v) != 1]
        nodes.root[node.outputs[0]], nodes.steered[node.outputs[0]] = source, tuple(more)
    elif name in _MOVES and source in nodes.root:
        nodes.root[node.outputs[0]], nodes.steered[node.outputs[0]] = nodes.root[source], nodes.steered[source]


def _returned(graph: ir.Graph) -> set[ir.Value]:
    """The outputs of the model and the values that they are views of."""
    returned = set(graph.outputs)
    for node in reversed(graph):
        if _may_alias(node) and node.outputs[0] in returned and node.inputs[0] is not None:
            returned.add(node.inputs[0])
    return returned


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
    if _is_standard(node) and node.op_type in ("Shape", "Size") and node.inputs:
        source = node.inputs[0]
        if source is not None and static_count(source) is not None:
            return True
    reads = _reads(node)
    if not reads:
        return _is_standard(node) and node.op_type in _CONSTANTS
    return not is_random(node) and all(v in constant for v in reads)


def _is_standard(node: ir.Node) -> bool:
    return node.domain in STANDARD


def is_random(node: ir.Node) -> bool:
    """Whether the results differ from run to run; bodies of the node are searched too."""
    own = _is_standard(node) and (node.op_type in _RANDOM or _is_training(node))
    return own or any(is_random(n) for sub in _subgraphs(node) for n in sub)


def _is_training(node: ir.Node) -> bool:
    """Whether a Dropout may drop elements: its training mode is given and not known to be false."""
    mode = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else None
    if mode is None:
        return False
    known = ir.convenience.get_const_tensor(mode)
    return known is None or bool(known.numpy().any())


def _may_alias(node: ir.Node) -> bool:
    """Whether a node shows the bytes of its first operand in another shape."""
    if node.op_type not in _VIEWS or not _is_standard(node) or not node.inputs or node.inputs[0] is None:
        return False
    others_used = any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    return not others_used and not _is_training(node)


def _is_view(node: ir.Node, constant: set[ir.Value], returned: set[ir.Value]) -> bool:
    """Whether a node takes no memory of its own.

    A model output whose shape is computed at run time is an operator: it has no reader to wait for the shape.
    """
    if not _may_alias(node) or node.inputs[0] in constant:
        return False
    return node.outputs[0] not in returned or all(v is None or v in constant for v in node.inputs[1:])


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
    quantised = any(_label(node) in QUANTIZE | DEQUANTIZE for node in nodes.operators)
    for node in nodes.operators:
        check_operands(node, static_shape)
        inputs = tuple(
            number(v, "weight" if v in nodes.constant else "input") for v in dict.fromkeys(nodes.reads(node))
        )
        written = tuple(
            number(v, "output" if v in outputs else "activation") for v in node.outputs if _is_written(v, outputs)
        )
        bits = {v: sizer.bits(v) for v in (*nodes.reads(node), *node.outputs)}

        def operand(value: ir.Value, bits: dict[ir.Value, int | None] = bits) -> tuple[int, int] | None:
            root = nodes.root.get(value, value)
            width = bits.get(root)
            return None if width is None or root not in index else (index[root], width)

        operators.append(
            Operator(
                _name(node),
                (quantised and role(node, nodes.constant, nodes.root)) or _label(node),
                inputs,
                written,
                (_name(node),),
                *count_macs(node, static_shape),
                nest_of(node, graph.opset_imports.get(node.domain, 1), static_shape, operand),
            )
        )
    for view in nodes.root:
        if view in nodes.constant:
            continue
        producer = view.producer()
        assert producer is not None
        check_operands(producer, static_shape)
    sizer.refuse_unsized(graph)
    return Graph(name, tuple(tensors), tuple(operators))


def _is_written(value: ir.Value, outputs: set[ir.Value]) -> bool:
    """Whether an output takes memory; unused second outputs without a shape (a Dropout's mask) do not."""
    if not value.name:
        return False
    return bool(value.uses()) or value in outputs or value.index() == 0 or static_shape(value) is not None


class _Sizer:
    """Computes the sizes of values and records those of unknown size."""

    def __init__(self, dtype: DType | None) -> None:
        self.dtype = dtype
        self.unsized: list[str] = []
        self.open: list[Open] = []

    def tensor(self, value: ir.Value, kind: Kind) -> Tensor:
        self._refuse_unplannable(value)
        shape, bits = static_shape(value), self.bits(value)
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
        """Raise InputError for sequences, optional values and strings: their size is known only at run time."""
        if not isinstance(value.type, ir.TensorType | None):
            what = type(value.type).__name__.removesuffix("Type").lower()
            raise InputError(f"{value.name!r} is of type {what}, not a tensor; only tensors can be planned")
        if value.dtype == ir.DataType.STRING and self.dtype is None:
            raise InputError(
                f"tensor {value.name!r} holds strings, whose size is not known; take what reads and writes them out of "
                "the model"
            )

    def bits(self, value: ir.Value) -> int | None:
        """Bits of an element, None where its type has no size."""
        if self.dtype is not None:
            return DTYPE_BITS[self.dtype]
        with contextlib.suppress(TypeError):  # undefined types have no size
            return None if value.dtype is None else value.dtype.bitwidth
        return None

    def _dtype_name(self, value: ir.Value) -> str:
        return self.dtype or (value.dtype.name.lower() if value.dtype is not None else "")

    def _note(self, value: ir.Value, shape: tuple[int, ...] | None) -> None:
        producer = value.producer()
        where = "" if producer is None else f"operator {_name(producer)!r} ({_label(producer)})"
        if value.shape is None:
            self.unsized.append(f"tensor {value.name!r}{' of ' + where if where else ''} has no shape")
        elif shape is None:
            self.open += _open(value, where)
        else:
            kind = self._dtype_name(value) or "none"
            self.unsized.append(f"tensor {value.name!r} has no sized element type ({kind})")

    def refuse_unsized(self, graph: ir.Graph) -> None:
        """Raise InputError if any size is unknown."""
        if self.open:
            outputs = [o for v in graph.outputs if v.shape is not None for o in _open(v, "")]
            raise InputError(explain_open(self.open, {v.name or "" for v in graph.inputs}, outputs))
        if self.unsized:
            rest = f" (and {len(self.unsized) - 1} more)" if len(self.unsized) > 1 else ""
            raise InputError(
                f"{self.unsized[0]}{rest}; add its type and shape to the model's value_info, "
                "e.g. by exporting with shape inference"
            )


def _open(value: ir.Value, writer: str) -> list[Open]:
    """The open dimensions of a value whose rank is known."""
    return [
        Open(value.name or "", axis, "" if dim.value is None else str(dim.value), writer)
        for axis, dim in enumerate(value.shape or ())
        if not isinstance(dim, int)
    ]


def _operands(node: ir.Node, constant: set[ir.Value], versions: Mapping[str, int]) -> Iterator[ir.Value]:
    """Values that a node and its bodies read as data from the enclosing graph.

    Constants that only steer it are part of the command stream and need no residency: single elements (a Clip's
    bounds, a quantisation scale) and the operands of `is_steering`.
    """
    version = versions.get(node.domain, 1)
    for i, value in enumerate(node.inputs):
        steers = value in constant and (static_count(value) == 1 or is_steering(node.domain, node.op_type, version, i))
        if value is not None and not steers:
            yield value
    for sub in _subgraphs(node):
        own = _own(sub)
        yield from (v for inner in sub for v in _operands(inner, constant, versions) if v not in own)


def _reads(node: ir.Node) -> list[ir.Value]:
    """All values that a node and its bodies read from the enclosing graph."""
    found = [v for v in node.inputs if v is not None]
    for sub in _subgraphs(node):
        own = _own(sub)
        inner = [v for n in sub for v in _reads(n)] + list(sub.outputs)
        found += [v for v in inner if v not in own]
    return found


def _own(sub: ir.Graph) -> set[ir.Value]:
    return {*sub.inputs, *sub.initializers.values(), *(v for n in sub for v in n.outputs)}


def _subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def static_shape(value: ir.Value) -> tuple[int, ...] | None:
    """The sizes of a value, None if any is unknown."""
    return tuple(value.shape.numpy()) if value.shape is not None and value.shape.is_static() else None


def static_count(value: ir.Value) -> int | None:
    """Number of elements, or None while the shape is not fully known."""
    shape = static_shape(value)
    return None if shape is None else prod(shape)


def _label(node: ir.Node) -> str:
    """The operator's type with its domain; a BatchNormalization that trains is not the one that only scales."""
    name = label(node.domain, node.op_type)
    trains = name == "BatchNormalization" and node.attributes.get_int("training_mode", 0) != 0
    return f"{name} (training)" if trains else name


def _name(node: ir.Node) -> str:
    return node.name or node.op_type
