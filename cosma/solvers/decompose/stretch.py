"""A stretch of a plan as a problem of its own, with what is resident carried across its boundaries.

Its states at both ends are operators (docs/problem.md#states-at-both-ends): in each formulation a state at the end is a
use after the last step, and that is what an operator is. Evictions are charged when they happen
(docs/problem.md#charge-at-eviction), so the stretch pays for all that leaves in it. What the plan has in the scratchpad
at its start is written by an operator "begin": as an output where the host has a copy, since its store is then paid.
What has left before comes as an input: its first load is paid. At the end an operator "end" reads what the plan has
there and takes the rest of the scratchpad as workspace; a tensor that is needed later but has left is read by an
operator of its own after that, so that its eviction is paid in here. The plan's own stretch is a solution of this
problem.
"""

from dataclasses import dataclass, field

import numpy as np

from cosma.graph import Graph, Kind, Operator, Tensor
from cosma.modes import Mode
from cosma.problem import Problem
from cosma.schedule.placed import Placed


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps [start, end) of a plan. `operators[i]` is operator i + 1 of `problem` (0 is "begin"), as the plan has them.

    cost_bytes: what the plan pays in it.
    """

    start: int
    end: int
    operators: tuple[int, ...]
    problem: Problem
    cost_bytes: int


@dataclass(slots=True)
class _Builder:
    """Tensors and operators of the stretch, by the numbers of the whole."""

    problem: Problem
    tensors: list[Tensor] = field(default_factory=list)
    number: dict[int, int] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    modes: list[tuple[Mode, ...]] = field(default_factory=list)

    def tensor(self, a: int, kind: Kind) -> int:
        """The number here of a tensor of the whole."""
        if a not in self.number:
            self.number[a] = len(self.tensors)
            self.tensors.append(Tensor(str(a), self.problem.sizes[a], kind))
        return self.number[a]

    def token(self, name: str) -> int:
        """A tensor of no bytes, which orders operators."""
        self.tensors.append(Tensor(name, 0, "activation"))
        return len(self.tensors) - 1

    def operator(self, name: str, inputs: list[int], outputs: list[int], workspace: int = 0) -> None:
        """An operator with its one mode: everything resident."""
        self.operators.append(Operator(name, "", tuple(inputs), tuple(outputs)))
        self.modes.append((Mode(workspace_bytes=workspace),))


@dataclass(frozen=True, slots=True)
class Ledger:
    """A plan's gaps as arrays, for questions about many steps: where each tensor is, and what it has paid."""

    placed: Placed
    tensor: np.ndarray
    first: np.ndarray
    second: np.ndarray
    gone: np.ndarray
    price: np.ndarray  # bytes paid when the gap's tensor leaves: a load, and a store when it leaves first

    @classmethod
    def of(cls, placed: Placed) -> "Ledger":
        """The ledger of a plan."""
        problem, gaps = placed.timeline.problem, placed.timeline.gaps
        price, stored = [], set()
        for g, gap in enumerate(gaps):  # by tensor, then in time
            pays = g in placed.evicted
            stores = pays and problem.needs_store(gap.tensor) and gap.tensor not in stored
            stored |= {gap.tensor} if pays else set()
            price.append(problem.sizes[gap.tensor] * (pays + stores))
        rows = np.array([(gap.tensor, gap.first, gap.second) for gap in gaps], dtype=np.int64).reshape(-1, 3)
        gone = np.zeros(len(gaps), dtype=bool)
        gone[list(placed.evicted)] = True
        return cls(placed, rows[:, 0], rows[:, 1], rows[:, 2], gone, np.array(price, dtype=np.int64))

    def at(self, step: int) -> tuple[list[int], list[int], set[int]]:
        """Tensors used before a step and after it: (in the scratchpad, out of it, the first with a host copy)."""
        across = (self.first < step) & (step <= self.second)
        here = self.tensor[across & ~self.gone]
        hosted = np.intersect1d(here, self.tensor[self.gone & (self.first < step)])
        return sorted(here.tolist()), sorted(self.tensor[across & self.gone].tolist()), set(hosted.tolist())

    def paid(self, start: int, end: int) -> int:
        """What the plan pays for evictions at steps [start, end)."""
        return int(self.price[(start <= self.first) & (self.first < end)].sum())


def stretch(ledger: Ledger, start: int, end: int) -> Stretch:
    """Steps [start, end) of a plan as a problem. Every operator runs in the one mode of the plan's timeline."""
    timeline, problem = ledger.placed.timeline, ledger.placed.timeline.problem
    graph = problem.graph
    here, _, hosted = ledger.at(start)
    stays, leaves, _ = ledger.at(end)
    operators = timeline.order[start:end]
    inside = set(operators)
    build = _Builder(problem)
    arriving = [build.tensor(a, "output" if a in hosted or not problem.needs_store(a) else "activation") for a in here]
    first = build.token("begin")
    build.operator("begin", [], [*arriving, first])
    ends = []
    for v in operators:
        inputs, outputs = [], []
        for a in problem.operands[v]:
            if graph.producer[a] == v:
                outputs.append(build.tensor(a, graph.tensors[a].kind))
            else:
                inputs.append(build.tensor(a, "input"))  # unless it is known already: made in here, or arriving
        if not inside.intersection(graph.predecessors[v]):
            inputs.append(first)
        if not inside.intersection(graph.successors[v]):
            ends.append(build.token(f"after{v}"))
            outputs.append(ends[-1])
        build.operator(str(v), inputs, outputs, problem.modes[v][0].workspace_bytes)
    staying = [build.tensor(a, "input") for a in stays]
    last = build.token("end")
    rest = problem.memory.usable_bytes - sum(problem.sizes[a] for a in stays)
    build.operator("end", [*staying, *ends], [last], rest)
    for a in leaves:
        if a in build.number:  # it was out all along otherwise
            build.operator(f"later{a}", [build.number[a], last], [])
    inner = Graph("stretch", tuple(build.tensors), tuple(build.operators))
    part = Problem(inner, problem.memory, tuple(build.modes))
    return Stretch(start, end, operators, part, ledger.paid(start, end))
