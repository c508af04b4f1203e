"""Operator fusion: Graph -> Graph in which fused operators are one."""

from dataclasses import replace
from typing import get_args

from cosma.errors import InputError
from cosma.graph import Fusion, Graph, Operator
from cosma.target.joining import joined

FUSIONS: tuple[Fusion, ...] = get_args(Fusion)

# Unary elementwise operators, by their labels: one activation in, one out, computed while the data streams past.
POINTWISE = frozenset(
    [
        "BatchNormalization",
        "Relu",
        "Clip",
        "Sigmoid",
        "HardSwish",
        "HardSigmoid",
        "LeakyRelu",
        "Gelu",
        "Tanh",
        "Elu",
        "Erf",
        "LRN",
        "com.microsoft.Gelu",
        "com.microsoft.QuickGelu",
    ]
)


def fuse(graph: Graph, fusion: Fusion) -> Graph:
    """Fuse operators; `Operator.members` lists the nodes of each fused operator.

    "none": every operator on its own. "pointwise": a unary elementwise operator joins its producer
    if the producer has a single output with no other reader; then each remaining unary elementwise or
    Pad operator joins its only reader. Raises InputError on any other name.
    """
    if fusion == "none":
        return graph
    if fusion != "pointwise":
        raise InputError(f"fusion {fusion!r} is unknown; choose one of {', '.join(FUSIONS)}")
    return _Fuser(graph).run()


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.groups: list[Operator | None] = list(graph.operators)
        self.writer = list(graph.producer)
        self.joined = list(range(len(graph.operators)))  # operator -> the one it joined, in the end itself

    def run(self) -> Graph:
        for v, operator in enumerate(self.graph.operators):
            if operator.op_type in POINTWISE:
                self._join_producer(v)
        for v, operator in enumerate(self.graph.operators):
            # Only an operator still on its own: one that has taken in others streams already.
            if (operator.op_type in POINTWISE or operator.op_type == "Pad") and self.groups[v] is operator:
                self._join_reader(v)
        return self.graph.with_operators(v for v in self.groups if v is not None)

    def _join_producer(self, v: int) -> None:
        operator = self._group(v)
        source = self._only_activation(operator)
        p = None if source is None else self.writer[source]
        if source is None or p is None or not self.graph.is_private(source):
            return
        first = self._group(p)
        if len(first.outputs) != 1 or len(operator.outputs) != 1:
            return
        inputs = dict.fromkeys((*first.inputs, *(a for a in operator.inputs if a != source)))
        joined = one_after_the_other(first, operator, first)
        self._merge(p, v, replace(joined, inputs=tuple(inputs), outputs=operator.outputs))

    def _join_reader(self, v: int) -> None:
        operator = self._group(v)
        target = operator.outputs[0]
        if self._only_activation(operator) is None or len(operator.outputs) != 1 or not self.graph.is_private(target):
            return
        r = self._find(self.graph.readers[target][0])
        last = self._group(r)
        inputs = dict.fromkeys((*(a for a in last.inputs if a != target), *operator.inputs))
        self._merge(r, v, replace(one_after_the_other(operator, last, last), inputs=tuple(inputs)))

    def _merge(self, keep: int, gone: int, group: Operator) -> None:
        self.groups[keep], self.groups[gone] = group, None
        self.joined[gone] = keep
        for a in group.outputs:
            self.writer[a] = keep

    def _find(self, v: int) -> int:
        while self.joined[v] != v:
            v = self.joined[v]
        return v

    def _group(self, v: int) -> Operator:
        group = self.groups[v]
        assert group is not None
        return group

    def _only_activation(self, operator: Operator) -> int | None:
        found = [a for a in operator.inputs if self.graph.tensors[a].kind != "weight"]
        return found[0] if len(found) == 1 else None


def one_after_the_other(first: Operator, then: Operator, kept: Operator) -> Operator:
    """Return `kept`, which is `first` or `then`, with members, multiply-accumulates and the nest of both."""
    return replace(
        kept,
        members=tuple(dict.fromkeys(first.members + then.members)),  # two may have the same DequantizeLinear
        macs=first.macs + then.macs,
        uncounted=first.uncounted + then.uncounted,
        nest=joined(first, then),
    )
