"""Kernels: the operators of a plan, fused or not, as small models for ONNX Runtime."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cosma.errors import InputError
from cosma.execute.constants import Constants, evaluate, is_small
from cosma.execute.runtime import RunError, Session, Value, check_rank
from cosma.execute.submodel import Nodes, Part, Type, anonymous
from cosma.frontend.runnable import RunnableModel
from cosma.graph import Graph, Tensor


class Operator(Protocol):
    """What a machine knows of an operator."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """Tensor indices."""

    def run(self, where: Mapping[int, Value]) -> None:
        """Run on the tensors in `where`, by tensor index; outputs are written there."""


class Operators(Protocol):
    """What a machine knows of all of them: types[a] is the element type and shape of tensor a."""

    @property
    def types(self) -> tuple[Type, ...]:
        """By tensor index."""

    @property
    def kernels(self) -> Sequence[Operator]:
        """By operator index."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One operator. inputs, outputs: tensor indices in the graph; fed: host constants, passed after the inputs."""

    name: str
    session: Session
    inputs: tuple[int, ...]
    fed: tuple[Value, ...]
    outputs: tuple[int, ...]

    def run(self, where: Mapping[int, Value]) -> None:
        """Run on the tensors in `where`, by tensor index; outputs are written there.

        Raises InputError if the runtime fails, and if a result has another shape than planned: then a shape that the
        model declares is wrong.
        """
        operands = [*(where[a] for a in self.inputs), *self.fed]
        try:
            self.session.run_into(operands, [where[a] for a in self.outputs], self.name)
        except RunError:
            with contextlib.suppress(RunError):  # it cannot run at all
                self._check_shapes(operands, [where[a].shape for a in self.outputs])
            raise

    def _check_shapes(self, operands: Sequence[Value], planned: Sequence[tuple[int, ...]]) -> None:
        made = self.session.run(dict(zip(self.session.inputs, operands, strict=True)))
        for i, (value, shape) in enumerate(zip(made, planned, strict=True)):
            if value.shape != shape:
                raise InputError(
                    f"operator {self.name!r} makes result {i} of shape {list(value.shape)} of these inputs, where the "
                    f"model declares {list(shape)}: the declaration is wrong, or --inputs have to be others"
                )


class Kernels:
    """The kernels of a planned graph.

    types[a] is the element type and shape of tensor a; weights[a] the bytes of each weight in the graph.
    Raises InputError if a planned tensor is not in the model or an operator is random.
    """

    def __init__(self, graph: Graph, nodes: Nodes, runnable: RunnableModel, constants: Constants) -> None:
        self.graph = graph
        self._nodes = nodes
        self._runnable = runnable
        self.types: tuple[Type, ...] = tuple(self._type(t) for t in graph.tensors)
        parts = [self._part(v) for v in range(len(graph.operators))]
        planned = {t.name for t in graph.tensors}
        needed = {n for part in parts for n in part.reads if n not in planned}
        needed |= {t.name for t in graph.tensors if t.kind == "weight"}
        self._host = evaluate(nodes, runnable, constants.values, sorted(needed))
        self.weights = {a: self._host[t.name] for a, t in enumerate(graph.tensors) if t.kind == "weight"}
        self._sessions: dict[bytes, Session] = {}
        self.kernels = tuple(self._kernel(v, part) for v, part in enumerate(parts))

    def _type(self, tensor: Tensor) -> Type:
        if tensor.name not in self._nodes.types:
            raise InputError(f"tensor {tensor.name!r} has no element type in the model; cannot run it")
        check_rank(tensor.name, len(tensor.shape))
        return self._nodes.types[tensor.name][0], tensor.shape

    def _part(self, v: int) -> Part:
        """The nodes of operator v: its members and the views between them, up to its operands and constants."""
        operator, tensors = self.graph.operators[v], self.graph.tensors
        operands = {tensors[a].name for a in operator.inputs}
        constants = self._runnable.folded.constants
        part = self._nodes.cut(
            [tensors[a].name for a in operator.outputs], lambda name: name in operands or name in constants
        )
        for node in part.nodes:
            if not self._runnable.folded.random.isdisjoint(node.output):
                raise InputError(
                    f"operator {node.name!r} ({node.op_type}) draws random numbers: no two runs are equal, so that "
                    "a run of the plan cannot be compared; export the model without it"
                )
        return part

    def _kernel(self, v: int, part: Part) -> Kernel:
        operator, tensors = self.graph.operators[v], self.graph.tensors
        index = {tensors[a].name: a for a in operator.inputs}
        read = [name for name in part.reads if name in index]
        host = {name: self._host[name] for name in part.reads if name not in index}
        baked = {name: value for name, value in host.items() if is_small(value)}
        fed = {name: value for name, value in host.items() if name not in baked}
        inputs = {name: self.types[index[name]] for name in read}
        inputs |= {name: (value.elem_type, value.shape) for name, value in fed.items()}
        outputs = {tensors[a].name: self.types[a] for a in operator.outputs}
        model = self._nodes.model(operator.name, part.nodes, inputs, outputs, baked)
        key = anonymous(model)
        if key not in self._sessions:
            self._sessions[key] = Session(model)
        # Names differ between operators that share a session; the order of inputs and outputs does not.
        operands = tuple(index[n] for n in read)
        return Kernel(operator.name, self._sessions[key], operands, tuple(fed.values()), operator.outputs)
