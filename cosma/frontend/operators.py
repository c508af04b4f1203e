"""What is known of ONNX operators by (domain, type): their labels, and which operands only steer them."""

import onnx

STANDARD = frozenset(["", "ai.onnx"])  # two names of one domain
# Operands that are no data whatever their element type, as the schemas call them; other such operands are integers.
_STEERING = frozenset(["axes", "axis", "depth", "pads", "roi", "scales", "sizes", "split"])
_INTEGERS = frozenset(["tensor(int32)", "tensor(int64)"])


def label(domain: str, op_type: str) -> str:
    """The operator type with its domain, which the standard one leaves out: "Relu", "acme.Tanh"."""
    return op_type if domain in STANDARD else f"{domain}.{op_type}"


def has_schema(domain: str, op_type: str, version: int) -> bool:
    """Whether ONNX defines the operator in this version of its domain."""
    return _schema(domain, op_type, version) is not None


def is_steering(domain: str, op_type: str, version: int, position: int) -> bool:
    """Whether the operand at `position` belongs to the command stream: shapes, axes, pads, scales of a Resize, indices.

    Those are the operands that the schema calls so or allows to be integers only. Operators without a schema
    have none.
    """
    schema = _schema(domain, op_type, version)
    if schema is None or not schema.inputs:
        return False
    formal = schema.inputs[min(position, len(schema.inputs) - 1)]
    return formal.name in _STEERING or set(formal.types) <= _INTEGERS


def _schema(domain: str, op_type: str, version: int) -> "onnx.defs.OpSchema | None":
    try:
        return onnx.defs.get_schema(op_type, version, "" if domain in STANDARD else domain)
    except onnx.defs.SchemaError:
        return None
