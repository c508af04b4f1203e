"""The operator DAG: tensors with sizes, operators that read and write them. Knows nothing of ONNX."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from cosma.errors import InputError
from cosma.nest import Nest

Kind = Literal["input", "weight", "activation", "output"]
DType = Literal["int8", "float16", "float32"]  # element types that can replace those of a model
Fusion = Literal["none", "pointwise"]  # which operators run as one, see target/fusion.py
MAX_BYTES = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Tensor:
    """One block of data. `size_bytes` is the plain size, before any alignment.

    Inputs and weights are *home* tensors: host memory holds them from the start. A model output
    that is itself a model input stays of kind "input": nothing has to be stored for it.
    """

    name: str
    size_bytes: int
    kind: Kind
    shape: tuple[int, ...] = ()
    dtype: str = ""

    @property
    def is_home(self) -> bool:
        """Whether host memory holds it from the start."""
        return self.kind in ("input", "weight")


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of a schedule. `inputs` and `outputs` are indices into `Graph.tensors`, no repeats.

    `members` names the nodes of the model that run as this one operator, in order; `macs` counts the
    multiply-accumulates of convolutions and matrix products among them, but for those in `uncounted`, of which it
    is not known how many they take. `nest` says which elements of its operands it touches when; None: not known.
    """

    name: str
    op_type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    members: tuple[str, ...] = ()
    macs: int = 0
    uncounted: tuple[str, ...] = ()
    nest: Nest | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A validated DAG. The order of `operators` is the file's own, and topological.

    Derived: `producer[a]` is the operator that writes tensor a, or None; `readers[a]` the operators
    that read it, ascending; `predecessors[v]` and `successors[v]` are operators, ascending.

    Raises InputError: duplicate names, tensors with two producers or none, a bad size, no operators,
    or an operator listed before one that it depends on.
    """

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    producer: tuple[int | None, ...] = field(init=False, repr=False, compare=False)
    readers: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    predecessors: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    successors: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.operators:
            raise InputError(f"graph {self.name!r} has no operators; there is nothing to schedule")
        _refuse_duplicates("tensor", (t.name for t in self.tensors))
        _refuse_duplicates("operator", (v.name for v in self.operators))
        producer, readers = self._link()
        self._check_tensors(producer)
        before = [sorted({p for a in v.inputs if (p := producer[a]) is not None}) for v in self.operators]
        after: list[list[int]] = [[] for _ in self.operators]
        for v, earlier in enumerate(before):
            for p in earlier:
                after[p].append(v)
                if p >= v:
                    raise InputError(
                        f"operator {self.operators[v].name!r} is listed before {self.operators[p].name!r}, "
                        "which it depends on; list operators in topological order"
                    )
        object.__setattr__(self, "producer", tuple(producer))
        object.__setattr__(self, "readers", tuple(tuple(r) for r in readers))
        object.__setattr__(self, "predecessors", tuple(tuple(p) for p in before))
        object.__setattr__(self, "successors", tuple(tuple(s) for s in after))

    def _link(self) -> tuple[list[int | None], list[list[int]]]:
        producer: list[int | None] = [None] * len(self.tensors)
        readers: list[list[int]] = [[] for _ in self.tensors]
        for v, operator in enumerate(self.operators):
            for a in operator.outputs:
                if producer[a] is not None:
                    raise InputError(f"tensor {self.tensors[a].name!r} is produced by two operators")
                producer[a] = v
            for a in operator.inputs:
                readers[a].append(v)
        return producer, readers

    def _check_tensors(self, producer: Sequence[int | None]) -> None:
        for tensor, p in zip(self.tensors, producer, strict=True):
            if not 0 <= tensor.size_bytes <= MAX_BYTES:
                raise InputError(
                    f"tensor {tensor.name!r} has {tensor.size_bytes} bytes (shape {list(tensor.shape)}); "
                    "sizes must lie between 0 and 2^63 - 1"
                )
            if tensor.is_home and p is not None:
                raise InputError(f"{tensor.kind} {tensor.name!r} is also produced by an operator")
            if not tensor.is_home and p is None:
                raise InputError(f"{tensor.kind} {tensor.name!r} is produced by no operator")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all convolutions and matrix products, but for those in `uncounted`."""
        return sum(v.macs for v in self.operators)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Names of nodes that may multiply and accumulate, an unknown number of times."""
        return tuple(name for v in self.operators for name in v.uncounted)

    @property
    def has_single_order(self) -> bool:
        """Whether the DAG has exactly one topological order: each operator feeds the next."""
        return all(v + 1 in self.successors[v] for v in range(len(self.operators) - 1))

    def count_free_pairs(self) -> int:
        """Pairs of operators that the DAG does not order. O(n^2) bits of work and memory."""
        ancestors: list[int] = []
        ordered = 0
        for v in range(len(self.operators)):
            mask = 0
            for p in self.predecessors[v]:
                mask |= ancestors[p] | 1 << p
            ancestors.append(mask)
            ordered += mask.bit_count()
        n = len(self.operators)
        return n * (n - 1) // 2 - ordered

    def without_weights(self) -> "Graph":
        """The same graph with activations, inputs and outputs only."""
        kept = [a for a, tensor in enumerate(self.tensors) if tensor.kind != "weight"]
        return self.restrict(kept, self.operators)

    def is_private(self, a: int) -> bool:
        """Whether exactly one operator reads tensor a, which another one makes and the model does not return."""
        return len(self.readers[a]) == 1 and self.tensors[a].kind == "activation"

    def with_operators(self, operators: Iterable[Operator]) -> "Graph":
        """The graph of `operators` (tensors by their indices here) and the tensors that they read or write."""
        left = list(operators)
        used = {a for v in left for a in (*v.inputs, *v.outputs)}
        return self.restrict([a for a in range(len(self.tensors)) if a in used], left)

    def restrict(self, kept: Sequence[int], operators: Iterable[Operator]) -> "Graph":
        """A graph of the tensors `kept` (indices here) and `operators` (indices here), renumbered."""
        new = {a: i for i, a in enumerate(kept)}
        return Graph(
            self.name,
            tuple(self.tensors[a] for a in kept),
            tuple(
                replace(
                    v,
                    inputs=tuple(new[a] for a in v.inputs if a in new),
                    outputs=tuple(new[a] for a in v.outputs if a in new),
                    nest=None if v.nest is None else v.nest.renumbered(new),
                )
                for v in operators
            ),
        )


def _refuse_duplicates(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"two {what}s are called {name!r}; names must be unique")
        seen.add(name)
