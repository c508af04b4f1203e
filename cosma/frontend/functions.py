"""Model-local functions -> nodes of the graph."""

import onnx
import onnx.inliner

from cosma.errors import InputError
from cosma.frontend.operators import STANDARD


def inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions: each call is replaced by what it does.

    Raises InputError where a function is written in another version of an operator than the model reads it in: the
    checker refuses such models, and runtimes take the model's version, which means something else.
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
    return onnx.inliner.inline_local_functions(copy)


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
    """The version in which the operator got its meaning; None if there is no such operator."""
    try:
        return int(onnx.defs.get_schema(op_type, version, "" if domain in STANDARD else domain).since_version)
    except onnx.defs.SchemaError:
        return None
