"""Inlining of model-local functions."""

from collections.abc import Iterable, Mapping

import onnx
import onnx.inliner

from cosma.errors import InputError
from cosma.frontend.operators import STANDARD, schema_of
from cosma.frontend.structure import all_nodes

_MOST_NODES = 1_000_000  # that functions may come to
_Functions = Mapping[tuple[str, str], onnx.FunctionProto]


def inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace each call of a function by its nodes.

    Raises InputError if a function uses an operator in another version than the model imports and the two differ: the
    checker refuses such models, and runtimes use the model's version. Also if a function calls itself, or if
    inlining gives too many operators.
    """
    if not model.functions:
        return model
    imports = {opset.domain: opset.version for opset in model.opset_import}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for function in copy.functions:
        for opset in function.opset_import:
            version = imports.get(opset.domain, opset.version)
            if version != opset.version:
                _refuse_changed(function, opset.domain, opset.version, version)
                opset.version = version  # the inliner leaves functions of another version alone
    _refuse_explosion(copy)
    return onnx.inliner.inline_local_functions(copy)


def _refuse_explosion(model: onnx.ModelProto) -> None:
    functions = {(f.domain, f.name): f for f in model.functions}
    counts: dict[tuple[str, str], int | None] = {}
    if _count(all_nodes(model.graph), functions, counts) > _MOST_NODES:
        raise InputError(
            f"its functions come to more than {_MOST_NODES:,} operators when they are called; export it without them"
        )


def _count(nodes: Iterable[onnx.NodeProto], functions: _Functions, counts: dict[tuple[str, str], int | None]) -> int:
    """Count nodes after inlining. counts: node counts of functions; None while a function is being counted."""
    total = 0
    for node in nodes:
        key = (node.domain, node.op_type)
        if key not in functions:
            total += 1
            continue
        if key not in counts:
            counts[key] = None
            counts[key] = _count(all_nodes(functions[key]), functions, counts)
        known = counts[key]
        if known is None:
            raise InputError(f"function {node.op_type!r} calls itself; export the model without it")
        total += known
    return total


def _refuse_changed(function: onnx.FunctionProto, domain: str, own: int, models: int) -> None:
    for node in function.node:
        same_domain = node.domain == domain or {node.domain, domain} <= STANDARD
        if same_domain and _since(node.op_type, domain, own) != _since(node.op_type, domain, models):
            raise InputError(
                f"function {function.name!r} is written for version {own} of the operators of "
                f"{domain or 'ai.onnx'!r}, the model for {models}, and {node.op_type} differs between them; "
                "convert the model to one version"
            )


def _since(op_type: str, domain: str, version: int) -> int | None:
    """Version since which the operator has its present definition; None if there is no such operator."""
    schema = schema_of(domain, op_type, version)
    return None if schema is None else int(schema.since_version)
