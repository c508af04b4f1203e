"""Graph -> Graph: quantised networks as exported today, whose quantisation stands in nodes of its own (QDQ).

A convolution of eight bits is written DequantizeLinear -> Conv -> QuantizeLinear, all in floating point. Hardware and
runtimes run the three as one operator, and what lies between operators has eight bits. So do plans.
"""

from dataclasses import replace

from cosma.graph import Graph, Operator

DEQUANTIZE = frozenset(["DequantizeLinear", "com.microsoft.DequantizeLinear"])
QUANTIZE = frozenset(["QuantizeLinear", "com.microsoft.QuantizeLinear"])


def join_quantisation(graph: Graph) -> Graph:
    """The graph in which quantisation belongs to the operators around it; the same graph where there is none.

    A DequantizeLinear joins *every* reader of its result: each reads the few bits and widens them itself, so that the
    wide tensor never exists. It must not be an output of the model, which has to be stored wide.
    A QuantizeLinear joins the operator that writes what it reads, which then writes the few bits. Nothing else may read
    the wide tensor, and the model must not return it.
    Both only with constant scales: one that is computed at run time (DynamicQuantizeLinear's, say) is an operand that
    the operator would have to wait for. Members are listed in the order in which they run; a DequantizeLinear is a
    member of each of its readers.
    """
    kinds = {v.op_type for v in graph.operators}
    if kinds.isdisjoint(DEQUANTIZE) and kinds.isdisjoint(QUANTIZE):
        return graph
    return _Joiner(graph).run()


class _Joiner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.groups: list[Operator | None] = list(graph.operators)

    def run(self) -> Graph:
        for v, operator in enumerate(self.graph.operators):
            if operator.op_type in DEQUANTIZE and self._is_joinable(operator) and self._is_inner(operator.outputs[0]):
                self._join_readers(v, operator)
        for v, operator in enumerate(self.graph.operators):
            if operator.op_type in QUANTIZE and self._is_joinable(operator):
                self._join_producer(v)
        left = [v for v in self.groups if v is not None]
        used = {a for v in left for a in (*v.inputs, *v.outputs)}
        return self.graph.restrict([a for a in range(len(self.graph.tensors)) if a in used], left)

    def _is_joinable(self, operator: Operator) -> bool:
        """Whether an operator turns one tensor into another with constants alone."""
        varying = [a for a in operator.inputs if self.graph.tensors[a].kind != "weight"]
        return len(varying) == 1 and len(operator.outputs) == 1

    def _is_inner(self, tensor: int) -> bool:
        return self.graph.tensors[tensor].kind == "activation" and bool(self.graph.readers[tensor])

    def _join_readers(self, v: int, operator: Operator) -> None:
        wide = operator.outputs[0]
        for r in self.graph.readers[wide]:
            reader = self.groups[r]
            assert reader is not None  # readers come later, and only DequantizeLinear nodes have gone so far
            inputs = [b for a in reader.inputs for b in (operator.inputs if a == wide else (a,))]
            members = operator.members + reader.members
            self.groups[r] = replace(reader, inputs=tuple(dict.fromkeys(inputs)), members=members)
        self.groups[v] = None

    def _join_producer(self, v: int) -> None:
        """Join operator v, a QuantizeLinear that may have taken in what widens its own operand."""
        operator = self.groups[v]
        assert operator is not None
        wide = next(a for a in self.graph.operators[v].inputs if self.graph.tensors[a].kind != "weight")
        p = self.graph.producer[wide]
        writer = None if p is None else self.groups[p]
        if p is None or writer is None or wide not in writer.outputs or not self._is_inner(wide):
            return  # an input of the model, or widened by a DequantizeLinear: this is an operator of its own
        if len(self.graph.readers[wide]) > 1:
            return
        constants = [a for a in operator.inputs if a != wide]
        self.groups[p] = replace(
            writer,
            inputs=tuple(dict.fromkeys((*writer.inputs, *constants))),
            outputs=tuple(operator.outputs[0] if a == wide else a for a in writer.outputs),
            members=writer.members + operator.members,
        )
        self.groups[v] = None
