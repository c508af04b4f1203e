"""Structural checks and repairs on an ONNX protobuf, before any library walks over it.

Libraries differ in how they treat a cycle, a name without a producer or a missing weight file. Here each is
reported in one clear line; later modules rely on a sorted graph in SSA form.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from typing import TypeVar

import onnx

from cosma.errors import InputError
from cosma.names import shown

Message = TypeVar("Message", onnx.NodeProto, onnx.TensorProto, onnx.ValueInfoProto)
# Constants of up to this many elements can be shapes, pads or axes and are kept with their values;
# larger ones are weights, of which only shape and type matter here.
SMALL_ELEMENTS = 1024


def check_graph(graph: onnx.GraphProto) -> None:
    """Refuse duplicate and dangling names and cycles in a GraphProto; sort its nodes if need be.

    A duplicate entry of the output list is removed; runtimes would return that output twice.
    """
    if not graph.node:
        raise InputError("the model has no operators; there is nothing to schedule")
    replace_all(graph.output, list({value.name: value for value in reversed(graph.output)}.values())[::-1])
    writer = _writers(graph)
    given = given_names(graph)
    for name in given & set(writer):
        raise InputError(f"tensor {name!r} is an input or a weight and is also written by an operator")
    made = given | writer.keys()
    needs: list[list[int]] = []
    for i, node in enumerate(graph.node):
        reads = set(read_names(node))
        for name in sorted(reads - made):
            raise InputError(f"operator {_label(node, i)} reads {name!r}, which nothing produces")
        needs.append(sorted(writer[name] for name in reads if name in writer))
    for value in graph.output:
        if value.name not in given and value.name not in writer:
            raise InputError(f"model output {value.name!r} is produced by no operator")
    if any(p >= i for i, before in enumerate(needs) for p in before):
        _sort_nodes(graph, needs)


def given_names(graph: onnx.GraphProto) -> set[str]:
    """Names of the values that a graph has before any node runs: inputs and weights."""
    names = {v.name for v in (*graph.input, *graph.initializer)}
    return names | {t.values.name for t in graph.sparse_initializer}


def _writers(graph: onnx.GraphProto) -> dict[str, int]:
    writer: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in writer:
                first = _label(graph.node[writer[name]], writer[name])
                raise InputError(f"tensor {name!r} is written twice, by {first} and {_label(node, i)}")
            writer[name] = i
    for what, values in (("inputs", graph.input), ("weights", graph.initializer)):
        counts = Counter(v.name for v in values)
        for name, count in counts.items():
            if count > 1:
                raise InputError(f"{count} {what} of the model are called {name!r}; names must be unique")
    return writer


def read_names(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a NodeProto reads from its own scope, those captured by its subgraphs included."""
    yield from filter(None, node.input)
    for sub in subgraphs(node):
        inner = given_names(sub) | {name for n in sub.node for name in n.output}
        captured = {name for n in sub.node for name in read_names(n)} | {v.name for v in sub.output}
        yield from captured - inner


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The branches of an If and the bodies of loops."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Every node of a GraphProto and of the bodies in it."""
    for node in graph.node:
        yield node
        for sub in subgraphs(node):
            yield from all_nodes(sub)


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every TensorProto in a GraphProto, those of attributes and of subgraphs included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
        for sub in subgraphs(node):
            yield from tensors(sub)


def has_data(tensor: onnx.TensorProto) -> bool:
    """Whether a TensorProto holds its elements itself, if it has any."""
    if tensor.data_location == tensor.EXTERNAL:
        return False
    fields = ("raw", "float", "int32", "int64", "double", "uint64", "string")
    return 0 in tensor.dims or any(getattr(tensor, f"{field}_data") for field in fields)


def _sort_nodes(graph: onnx.GraphProto, needs: list[list[int]]) -> None:
    import networkx as nx

    dag: nx.DiGraph[int] = nx.DiGraph()
    dag.add_nodes_from(range(len(needs)))
    dag.add_edges_from((p, i) for i, before in enumerate(needs) for p in before)
    try:
        order = list(nx.lexicographical_topological_sort(dag))
    except nx.NetworkXUnfeasible:
        cycle = [edge[0] for edge in nx.find_cycle(dag)]
        path = " -> ".join(_label(graph.node[i], i) for i in [*cycle[:6], *(cycle[:1] if len(cycle) <= 6 else [])])
        raise InputError(f"the operators form a cycle: {path}{' -> ...' if len(cycle) > 6 else ''}") from None
    replace_all(graph.node, [graph.node[i] for i in order])


def _label(node: onnx.NodeProto, index: int) -> str:
    return repr(node.name) if node.name else f"{node.op_type} (node {index})"


def show_names(graph: onnx.GraphProto) -> None:
    """Escape unprintable characters in all names, including operator types and the names in bodies.

    Raises InputError for a name that is not UTF-8 (protobuf returns its bytes).
    """
    taken = set(_all_names(graph))
    for name in taken:
        if isinstance(name, bytes):
            raise InputError(f"the name {name[:100]!r} is no UTF-8; rename it and export the model again")
    names = {name for name in taken if not name.isprintable()}
    if not names:
        return
    new: dict[str, str] = {}
    for name in sorted(names):
        base = new[name] = shown(name)
        count = 1
        while new[name] in taken:
            count += 1
            new[name] = f"{base}#{count}"
        taken.add(new[name])
    _rename(graph, new)


def _all_names(graph: onnx.GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name
    yield from (dim.dim_param for dim in _dimensions(graph))
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for sub in subgraphs(node):
            yield from _all_names(sub)


def _dimensions(graph: onnx.GraphProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield from value.type.tensor_type.shape.dim


def _rename(graph: onnx.GraphProto, new: dict[str, str]) -> None:
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for named in (*values, *(sparse.values for sparse in graph.sparse_initializer), *graph.node):
        named.name = new.get(named.name, named.name)
    for dim in _dimensions(graph):
        if dim.dim_param in new:
            dim.dim_param = new[dim.dim_param]
    for node in graph.node:
        node.op_type, node.domain = (new.get(name, name) for name in (node.op_type, node.domain))
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        for sub in subgraphs(node):
            _rename(sub, new)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a unique name."""
    taken: set[str] = set()
    for node in graph.node:
        base = node.name or f"{node.op_type}:{next(filter(None, node.output), '')}"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}#{count}"
        node.name = name
        taken.add(name)


def remove_dead(graph: onnx.GraphProto) -> tuple[tuple[str, str], ...]:
    """Remove the nodes that no model output depends on; return their names and types.

    Expects sorted nodes. A model that declares no outputs keeps everything.
    """
    needed = {value.name for value in graph.output}
    if not needed:
        return ()
    live, dead = [], []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            dead.append((node.name, node.op_type))
        else:
            live.append(node)
            needed.update(read_names(node))
    if dead:
        replace_all(graph.node, live[::-1])
    return tuple(dead[::-1])


def detach_weights(graph: onnx.GraphProto) -> set[str]:
    """Turn weights into placeholder inputs without data; return the names of all constants.

    Constants that may hold a shape (up to SMALL_ELEMENTS elements, data at hand) keep their values.
    A weight that is also listed as a graph input (IR version 3) loses that listing. Raises InputError where the two
    differ.
    """
    _refuse_other_listing(graph)
    names = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    inputs = [v for v in graph.input if v.name not in names]
    kept: list[onnx.TensorProto] = []
    detached: list[onnx.TensorProto] = []
    for tensor in graph.initializer:
        (kept if _is_shape_like(tensor) and has_data(tensor) else detached).append(tensor)
    stubs = [onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in detached]
    stubs += [
        onnx.helper.make_tensor_value_info(t.values.name, t.values.data_type, t.dims) for t in graph.sparse_initializer
    ]
    nodes = []
    for node in graph.node:
        tensor, sparse = _constant_value(node)
        if sparse is not None:
            stubs.append(onnx.helper.make_tensor_value_info(node.output[0], sparse.values.data_type, sparse.dims))
        elif tensor is None or (_is_shape_like(tensor) and has_data(tensor)):
            nodes.append(node)
        else:
            stubs.append(onnx.helper.make_tensor_value_info(node.output[0], tensor.data_type, tensor.dims))
    replace_all(graph.node, nodes)
    replace_all(graph.input, inputs + stubs)
    replace_all(graph.initializer, kept)
    del graph.sparse_initializer[:]
    return {t.name for t in kept} | {s.name for s in stubs}


def _refuse_other_listing(graph: onnx.GraphProto) -> None:
    """Raise InputError if a weight is also listed among the inputs with another type."""
    weights = {t.name: t for t in graph.initializer}
    for value in graph.input:
        if value.name in weights and value.type.tensor_type.HasField("shape"):
            tensor, listed = weights[value.name], value.type.tensor_type
            dims = [d.dim_value if d.HasField("dim_value") else None for d in listed.shape.dim]
            same = len(dims) == len(tensor.dims) and all(d in (None, n) for d, n in zip(dims, tensor.dims, strict=True))
            if not same or listed.elem_type not in (0, tensor.data_type):
                raise InputError(
                    f"weight {value.name!r} has shape {list(tensor.dims)}, but is listed among the inputs as {dims}, "
                    "or with another element type; correct one of the two"
                )


def element_count(dims: Iterable[int]) -> int:
    """The number of elements of a shape."""
    count = 1
    for dim in dims:
        count *= dim
    return count


def element_bits(elem_type: int) -> int | None:
    """Bits of one element of an ONNX element type; None for strings and for what is no type."""
    name = onnx.TensorProto.DataType.Name(elem_type) if elem_type in onnx.TensorProto.DataType.values() else ""
    named = re.search(r"\d+", name)  # UINT4, FLOAT8E4M3FN, BFLOAT16
    return int(named[0]) if named else {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}.get(name)


def _is_shape_like(tensor: onnx.TensorProto) -> bool:
    """Whether a TensorProto is small enough to be worth evaluating."""
    return 0 <= element_count(tensor.dims) <= SMALL_ELEMENTS


def _constant_value(node: onnx.NodeProto) -> tuple[onnx.TensorProto | None, onnx.SparseTensorProto | None]:
    """The tensor or the sparse tensor that a Constant holds."""
    tensor = sparse = None
    if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        for attribute in node.attribute:
            if attribute.name == "value":
                tensor = attribute.t
            elif attribute.name == "sparse_value":
                sparse = attribute.sparse_tensor
    return tensor, sparse


def replace_all(field: MutableSequence[Message], values: Sequence[Message]) -> None:
    """Set a repeated message field to `values`, which may be some of its own elements."""
    copies = []
    for value in values:
        copies.append(type(value)())
        copies[-1].CopyFrom(value)
    del field[:]
    field.extend(copies)
