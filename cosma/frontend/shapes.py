"""Shapes and element types of all values: inferred from the inputs; declarations of the file are checked.

If ONNX defines an operator, its results are inferred (in strict mode: contradictions are errors) and the value_info of
the file is set aside; it serves only for unknown operators and for sizes that depend on data.
"""

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from cosma.errors import InputError
from cosma.frontend.dimensions import Dimensions
from cosma.frontend.folding import folded
from cosma.frontend.loops import size_carried
from cosma.frontend.operators import has_schema, label
from cosma.frontend.quantised import add_shapes
from cosma.frontend.structure import all_nodes, replace_all, subgraphs

_ROUNDS = 100  # of inference; each settles sizes that the one before could not know
_SHOWN = 3  # notes that name their tensor
_TAG = re.compile(r"\[[A-Za-z]+Error\] ?")
Shape = tuple[int | str | None, ...]  # a number, a name, or nothing is known


@dataclass(frozen=True, slots=True)
class Declared:
    """Declared type of a value. elem_type: 0 if not declared; shape: None if not declared."""

    elem_type: int
    shape: Shape | None


def infer(proto: onnx.ModelProto, dims: Dimensions) -> tuple[ir.Model, tuple[str, ...]]:
    """Infer types and fold shape arithmetic; also return notes on declarations that differ from the inferred shapes.

    `proto` is changed. Raises InputError if operands contradict each other, or if declared element types or sizes given
    by the user differ from the inferred ones.
    """
    declared = _set_aside(proto)
    believed: list[str] = []
    with quiet():
        add_shapes(proto)
        proto = _strict(proto)
        _check_element_types(declared, proto.graph)
        if _is_complete(proto.graph):
            model = folded(proto, with_shapes=False)
        else:
            proto, model = _settle(proto, declared, dims, believed)
    final = _types(proto.graph)
    _check_given(final, dims)
    taken = [f"the shape of {name!r} is taken as declared, {_show(final.get(name))}" for name in believed]
    return model, (*_compare(declared, final), *_shortened(taken, "since its operator does not tell"))


def _settle(
    proto: onnx.ModelProto, declared: dict[str, Declared], dims: Dimensions, believed: list[str]
) -> tuple[onnx.ModelProto, ir.Model]:
    """Fold, add facts that only the file declares, and infer again, until nothing changes.

    believed: extended by the names of values whose declared sizes were used although ONNX defines their operators.
    """
    for _ in range(_ROUNDS):
        model = folded(proto, with_shapes=True)
        proto = _strict(ir.serde.serialize_model(model))
        if not size_carried(proto.graph, proto.opset_import) and not _add_facts(proto.graph, declared, dims, believed):
            break
        proto = _strict(proto)
    return proto, ir.serde.deserialize_model(proto)


def _strict(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inferred types. Raises InputError naming the operator and its operands where they do not fit."""
    try:
        return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise InputError(_explain(proto, str(error))) from None


def _explain(proto: onnx.ModelProto, error: str) -> str:
    """One line for an error of inference: the operator, its operands' types, what is wrong."""
    line = " ".join(error.split())
    found = re.search(r"op_type:\S*?, node name: (.*?)\): (.*)", line)
    nodes = {node.name: node for node in all_nodes(proto.graph)}
    if found is None or found[1] not in nodes:
        domain = re.search(r"No opset import for domain (\S+)", line)
        if domain:
            return f"operators of domain {domain[1]!r} are used, but not imported; add it to the model's opset_import"
        return f"shape inference fails: {_TAG.sub('', line)[:200]}; correct the model"
    node, why = nodes[found[1]], _TAG.sub("", found[2])[:160].strip()
    types = _types(onnx.shape_inference.infer_shapes(proto).graph)
    for t in proto.graph.initializer:
        types[t.name] = Declared(t.data_type, tuple(t.dims))
    operands = ", ".join(f"{name} {_show(types.get(name))}" for name in node.input if name) or "none"
    return (
        f"operator {node.name!r} ({label(node.domain, node.op_type)}) cannot run on its operands ({operands}): {why}; "
        "correct the model, or the sizes given with --dim"
    )


def _show(known: Declared | None) -> str:
    if known is None:
        return "of unknown type"
    kind = onnx.TensorProto.DataType.Name(known.elem_type).lower()
    shape = (
        "of unknown shape"
        if known.shape is None
        else f"[{', '.join('?' if d is None else str(d) for d in known.shape)}]"
    )
    return f"{kind} {shape}"


def _set_aside(proto: onnx.ModelProto) -> dict[str, Declared]:
    """Take the declared types of what ONNX can infer out of the graph, shapes out of its bodies; return the former."""
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    declared = _types(proto.graph)
    written = {name for node in proto.graph.node for name in node.output}
    _forget(proto.graph, versions)
    return {name: known for name, known in declared.items() if name in written}


def _forget(graph: onnx.GraphProto, versions: dict[str, int], is_body: bool = False) -> None:
    """Remove declared types of results of ONNX operators; in a body only shapes: inference checks element types."""
    known = {
        name
        for node in graph.node
        if has_schema(node.domain, node.op_type, versions.get(node.domain, 1))
        for name in node.output
    }
    for value in (*graph.value_info, *graph.output):
        if value.name in known and value.type.WhichOneof("value") == "tensor_type":
            (value.type.tensor_type if is_body else value).ClearField("shape" if is_body else "type")
    if not is_body:
        replace_all(graph.value_info, [v for v in graph.value_info if v.name not in known])
    for node in graph.node:
        for sub in subgraphs(node):
            _forget(sub, versions, True)


def _types(graph: onnx.GraphProto) -> dict[str, Declared]:
    """Types of inputs, outputs and inner values of a GraphProto, tensors only."""
    return {
        v.name: _type(v.type.tensor_type)
        for v in (*graph.input, *graph.value_info, *graph.output)
        if v.HasField("type")
    }


def _type(tensor: onnx.TypeProto.Tensor) -> Declared:
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim)
    return Declared(tensor.elem_type, shape)


def _is_complete(graph: onnx.GraphProto) -> bool:
    """Whether the type of every value that a node of the graph writes is fully known."""
    types = _types(graph)
    return all(
        name in types and types[name].elem_type and _is_static(types[name].shape)
        for node in graph.node
        for name in node.output
        if name
    )


def _is_static(shape: Shape | None) -> bool:
    return shape is not None and all(isinstance(size, int) for size in shape)


def _add_facts(graph: onnx.GraphProto, declared: dict[str, Declared], dims: Dimensions, believed: list[str]) -> bool:
    """Write into a graph what the file declares and the user gives of values that inference could not size.

    A dimension that inference only named has one size wherever the name appears. Returns whether anything was added.
    """
    values = {v.name: v for v in (*graph.value_info, *graph.output)}
    sizes = _name_sizes(values, declared, dims, believed)
    changed = False
    for value in values.values():
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                size = sizes.get(dim.dim_param) if dim.dim_param else dims.placed.get((value.name, axis))
                if size is not None:
                    dim.dim_value = size
                    changed = True
    return changed or _add_shape(graph, values, declared, believed)


def _name_sizes(
    values: dict[str, onnx.ValueInfoProto], declared: dict[str, Declared], dims: Dimensions, believed: list[str]
) -> dict[str, int]:
    """Sizes of named dimensions. Raises InputError if two places give different sizes."""
    sizes: dict[str, tuple[int, str]] = {}
    for name, value in values.items():
        shape = value.type.tensor_type.shape.dim
        known = declared.get(name)
        for axis, dim in enumerate(shape):
            if dim.HasField("dim_value") or not dim.dim_param:
                continue
            size: int | str | None = dims.placed.get((name, axis))
            if size is None and known is not None and known.shape is not None:
                if len(known.shape) != len(shape):
                    raise InputError(
                        f"{name!r} is declared {_show(known)}, but the operators make it "
                        f"{_show(_type(value.type.tensor_type))} and its sizes depend on data; correct its declaration"
                    )
                size = known.shape[axis]
                believed += [name] if isinstance(size, int) and name not in believed else []
            if isinstance(size, int):
                other, place = sizes.setdefault(dim.dim_param, (size, f"{name}:{axis}"))
                if other != size:
                    raise InputError(
                        f"axis {axis} of {name!r} is said to have size {size}, but is as long as {place}, said to have "
                        f"{other}; correct the model, or give one size with --dim"
                    )
    return {name: size for name, (size, _) in sizes.items()}


def _add_shape(
    graph: onnx.GraphProto, values: dict[str, onnx.ValueInfoProto], declared: dict[str, Declared], believed: list[str]
) -> bool:
    """Use declared types of values of unknown rank whose operands are known, or else that of the first such value."""
    sized = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    sized |= {name for name, v in values.items() if v.type.tensor_type.HasField("shape")}
    waiting = []
    for node in graph.node:
        for name in node.output:
            if name and name not in sized and name in declared and declared[name].shape is not None:
                waiting.append((name, sized.issuperset(filter(None, node.input))))
    chosen = [name for name, ready in waiting if ready] or [name for name, _ in waiting[:1]]
    believed += chosen
    for name in chosen:
        value = values.get(name)
        if value is None:
            value = graph.value_info.add()
            value.name = name
        tensor = value.type.tensor_type
        tensor.elem_type = tensor.elem_type or declared[name].elem_type
        tensor.shape.SetInParent()
        for size in declared[name].shape or ():
            dim = tensor.shape.dim.add()
            if isinstance(size, int):
                dim.dim_value = size
            elif size is not None:
                dim.dim_param = size
    return bool(chosen)


def _check_given(final: dict[str, Declared], dims: Dimensions) -> None:
    """Raise InputError if a size given by the user differs from the inferred one."""
    for (name, axis), size in dims.placed.items():
        shape = final[name].shape if name in final else None
        if shape is None:
            continue
        if axis >= len(shape):
            raise InputError(f"--dim {name}:{axis}={size}: {name!r} has no axis {axis}, its shape is {list(shape)}")
        if isinstance(shape[axis], int) and shape[axis] != size:
            raise InputError(
                f"axis {axis} of {name!r} was given size {size}, but the operators make it {shape[axis]}; "
                "give the sizes of the model's inputs alone"
            )


def _check_element_types(declared: dict[str, Declared], graph: onnx.GraphProto) -> None:
    """Raise InputError if a declared element type differs from the inferred one."""
    found = _types(graph)
    for node in graph.node:
        for name in node.output:
            said, made = (types[name].elem_type if name in types else 0 for types in (declared, found))
            if said and made and said != made:
                kinds = [onnx.TensorProto.DataType.Name(kind).lower() for kind in (said, made)]
                raise InputError(
                    f"tensor {name!r} is declared {kinds[0]}, but operator {node.name!r} ({node.op_type}) makes "
                    f"{kinds[1]}; correct its declaration"
                )


def _compare(declared: dict[str, Declared], final: dict[str, Declared]) -> tuple[str, ...]:
    """Notes on declared shapes that differ from the inferred ones."""
    stale = []
    for name, said in declared.items():
        made = final.get(name)
        if made is not None and not _fits(said.shape, made.shape):
            stale.append(f"{name!r} is declared {_show(said)}, but the operators make it {_show(made)}")
    return _shortened(stale, "which counts")


def _shortened(lines: list[str], ending: str) -> tuple[str, ...]:
    """The first `_SHOWN` lines, each with the ending; the last one also tells how many more there are."""
    rest = len(lines) - _SHOWN
    more = f", and so are {rest} more" if rest > 0 else ""
    return tuple(f"{line}, {ending}{more if i == _SHOWN - 1 else ''}" for i, line in enumerate(lines[:_SHOWN]))


def _fits(said: Shape | None, made: Shape | None) -> bool:
    if said is None or made is None:
        return True
    return len(said) == len(made) and all(
        not isinstance(a, int) or not isinstance(b, int) or a == b for a, b in zip(said, made, strict=True)
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the logging of the libraries; errors are reported here in one line."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
