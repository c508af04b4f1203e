"""ONNX operators by (domain, type): labels, schema checks, operands that only steer."""

from collections.abc import Iterable, Mapping

import onnx

from cosma.errors import InputError
from cosma.frontend.structure import subgraphs

STANDARD = frozenset(["", "ai.onnx"])  # two names of one domain
# Operands that are no data whatever their element type, as the schemas call them; other such operands are integers.
_STEERING = frozenset(["axes", "axis", "depth", "pads", "roi", "scales", "sizes", "split"])
_DATA = frozenset(["B"])  # the bias of a QLinearConv is data, though it can be integers only
_INTEGERS = frozenset(["tensor(int32)", "tensor(int64)"])


def label(domain: str, op_type: str) -> str:
    """The operator type with its domain, which the standard one leaves out: "Relu", "acme.Tanh"."""
    return op_type if domain in STANDARD else f"{domain}.{op_type}"


def check_nodes(nodes: Iterable[onnx.NodeProto], versions: Mapping[str, int]) -> None:
    """Check nodes, including those of bodies, against their schemas: unknown attributes, missing operands.

    versions: opset versions by domain. Operators that ONNX does not define are not checked. Raises InputError where the
    ONNX checker, which ONNX Runtime calls too, raises.
    """
    context = onnx.checker.C.CheckerContext()
    context.ir_version = onnx.IR_VERSION
    context.opset_imports = dict(versions) | {domain: versions[""] for domain in STANDARD if "" in versions}
    for node in nodes:
        for graph in subgraphs(node):
            check_nodes(graph.node, versions)
        domain = "" if node.domain in STANDARD else node.domain
        if domain in versions and has_schema(domain, node.op_type, versions[domain]):
            try:
                onnx.checker.check_node(_outline(node), context)
            except onnx.checker.ValidationError as error:
                raise InputError(
                    f"operator {node.name or next(iter(node.output), '')!r} ({label(domain, node.op_type)}) is not "
                    f"written as opset {versions[domain]} has it: {str(error).splitlines()[0][:200]}; export it again"
                ) from None


def _outline(node: onnx.NodeProto) -> onnx.NodeProto:
    """Copy of a node with empty tensors and bodies: the checker would look for external data files."""
    copy = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=node.input, output=node.output)
    for attribute in node.attribute:
        short = copy.attribute.add(name=attribute.name, type=attribute.type)
        if attribute.type == attribute.TENSOR:
            short.t.CopyFrom(onnx.TensorProto(name=attribute.t.name, data_type=1, dims=[0]))
        elif attribute.type == attribute.GRAPH:
            short.g.name = "body"
        else:
            short.CopyFrom(attribute)
    return copy


def has_schema(domain: str, op_type: str, version: int) -> bool:
    """Whether ONNX defines the operator in this version of its domain."""
    return schema_of(domain, op_type, version) is not None


def is_steering(domain: str, op_type: str, version: int, position: int) -> bool:
    """Whether the operand at `position` belongs to the command stream: shapes, axes, pads, scales of a Resize, indices.

    These are operands of such a name in the schema, or restricted to integers. Operators without a schema have
    none.
    """
    schema = schema_of(domain, op_type, version)
    if schema is None or not schema.inputs:
        return False
    formal = schema.inputs[min(position, len(schema.inputs) - 1)]
    return formal.name in _STEERING or (formal.name not in _DATA and set(formal.types) <= _INTEGERS)


def schema_of(domain: str, op_type: str, version: int) -> "onnx.defs.OpSchema | None":
    """The ONNX schema of an operator in this version of its domain, None if there is none."""
    try:
        return onnx.defs.get_schema(op_type, version, "" if domain in STANDARD else domain)
    except onnx.defs.SchemaError:
        return None
