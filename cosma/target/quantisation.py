"""Quantised networks in QDQ form: Graph -> Graph in which quantisation belongs to the operators around it.

Exporters write an 8-bit convolution as DequantizeLinear -> Conv -> QuantizeLinear, all in floating point. Hardware and
runtimes run the three as one operator, and tensors between operators have 8 bits. Plans do the same. A Pad before a
convolution or pool becomes part of its padding.
"""

from dataclasses import replace

from cosma.graph import Graph, Operator
from cosma.target.fusion import POINTWISE, one_after_the_other

DEQUANTIZE = frozenset(["DequantizeLinear", "com.microsoft.DequantizeLinear"])  # labels of operators
QUANTIZE = frozenset(["QuantizeLinear", "com.microsoft.QuantizeLinear"])
UNDOING = "QuantizeLinear (undoing)"  # the label of one that gives back what a DequantizeLinear has read
INTO_PADDING = "Pad (padding)"  # the label of a Pad that does what the padding of its only reader can do
# What their bodies read and write is as it is outside: a Loop's state keeps its type from round to round.
_CONTROL = frozenset(["If", "Loop", "Scan"])


def join_quantisation(graph: Graph) -> Graph:
    """Join quantisation with the operators around it; a graph without quantisation is returned unchanged.

    1. A QuantizeLinear joins the operator that writes what it reads, which then writes the few bits; past unary
    elementwise operators between the two. Nothing else may read the wide tensors on the way, and the model must not
    return them.
    2. A DequantizeLinear joins *every* reader of its result, or none: each reads the few bits and widens them itself,
    so that the wide tensor never exists. It must not be an output of the model, which has to be stored wide. So does
    a QuantizeLinear that gives the few bits back (`UNDOING`).
    3. A Pad that its only reader could do by padding (`INTO_PADDING`) joins that.
    1 and 2 only with constant scales: one that is computed at run time (DynamicQuantizeLinear's, say) is an operand
    that the operator would have to wait for. Members are listed in the order in which they run; a DequantizeLinear is
    a member of each of its readers.
    """
    if not any(v.op_type in QUANTIZE | DEQUANTIZE for v in graph.operators):
        return graph
    return _join_pads(_join_dequantize(_join_quantize(graph)))


def _join_quantize(graph: Graph) -> Graph:
    groups = dict(enumerate(graph.operators))
    for v, operator in enumerate(graph.operators):
        if operator.op_type in QUANTIZE:
            then, first = v, _writer(graph, v)
            while first is not None:
                groups[first] = _one_group(groups[first], groups.pop(then), groups[first])
                then, first = first, _writer(graph, first) if groups[first].op_type in POINTWISE else None
    return graph.with_operators(groups[v] for v in sorted(groups))


def _writer(graph: Graph, v: int) -> int | None:
    """Index of the operator that v may join, None if there is none; v reads only its result and constants."""
    source = _operand(graph, graph.operators[v])
    p = graph.producer[source] if source is not None and graph.is_private(source) else None
    return None if p is None or graph.operators[p].op_type in DEQUANTIZE | _CONTROL else p


def _join_dequantize(graph: Graph) -> Graph:
    joining: dict[int, Operator] = {}  # result -> what makes it, wherever it is read
    left = []
    for operator in graph.operators:
        group = operator
        for a in operator.inputs:
            if a in joining:
                group = _one_group(joining[a], group, group)
        undoing = operator.op_type == UNDOING and group is not operator  # it reads integers now
        if (undoing or operator.op_type in DEQUANTIZE) and _may_join_readers(graph, operator):
            joining[operator.outputs[0]] = group
        else:
            left.append(group)
    return graph.with_operators(left)


def _may_join_readers(graph: Graph, operator: Operator) -> bool:
    (result,) = operator.outputs
    if graph.tensors[result].kind != "activation" or _operand(graph, operator) is None:
        return False
    readers = [graph.operators[v].op_type for v in graph.readers[result]]
    return bool(readers) and _CONTROL.isdisjoint(readers)


def _join_pads(graph: Graph) -> Graph:
    groups = dict(enumerate(graph.operators))
    for v, operator in enumerate(graph.operators):
        if operator.op_type == INTO_PADDING:
            (r,) = graph.readers[operator.outputs[0]]
            groups[r] = _one_group(groups.pop(v), groups[r], groups[r])
    return graph.with_operators(groups[v] for v in sorted(groups))


def _one_group(first: Operator, then: Operator, kept: Operator) -> Operator:
    """Return `kept` (`first` or `then`) with the work of both; `then` is the only reader of one result of `first`."""
    (between,) = set(first.outputs) & set(then.inputs)
    inputs = [a for read in then.inputs for a in (first.inputs if read == between else (read,))]
    outputs = [a for made in first.outputs for a in (then.outputs if made == between else (made,))]
    group = one_after_the_other(first, then, kept)
    return replace(group, inputs=tuple(dict.fromkeys(inputs)), outputs=tuple(outputs))


def _operand(graph: Graph, operator: Operator) -> int | None:
    """The first operand, None if it is constant or any other operand is not."""
    variable = [a for a in operator.inputs if graph.tensors[a].kind != "weight"]
    return variable[0] if variable and variable == [*operator.inputs[:1]] else None
