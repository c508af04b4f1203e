"""Which variables the time-indexed programme has: steps for each operator, a range of steps for each tensor.

Tensors that no operator wants resident are left out. Sizes are in units of their common divisor, which
is a multiple of the alignment; so every offset that a programme can name is aligned.
"""

from dataclasses import dataclass
from math import gcd

from cosma.problem import Problem

STRENGTHENINGS = {
    "windows": "an operator runs between as many steps as it has ancestors, and before as many as it has descendants",
    "liveness": "a tensor is held, stored and loaded between its producer's first and its readers' last step only",
    "pairs": "no overlap constraint for two tensors of which one is dead before the other is made, whatever the order",
    "big-m": "the smallest big-M that each constraint allows, not one for all",
    "capacity": "the resident bytes at each step fit into the scratchpad (Eq. 14 with the capacity on the right)",
    "symmetry": "of like branches the first goes first; of an address layout and its mirror image one",
    "warm-start": "the best plan of three orders is given to the solver",
    "cutoff": "the traffic is at most that of this plan",
}


@dataclass(frozen=True, slots=True)
class Indices:
    """Steps and sizes. `operands[v]`: tensors resident while v runs; `steps[v]`: when it may run;

    `life[a]`: when tensor a may be held without being written; `live[a]`: when it may lie in the scratchpad.
    `sizes` and `capacity` in units of `unit` bytes.
    """

    problem: Problem
    without: frozenset[str]
    unit: int
    capacity: int
    sizes: tuple[int, ...]
    operands: tuple[tuple[int, ...], ...]
    workspaces: tuple[int, ...]
    readers: tuple[tuple[int, ...], ...]
    ancestors: tuple[int, ...]
    descendants: tuple[int, ...]
    steps: tuple[range, ...]
    life: tuple[range, ...]
    live: tuple[range, ...]

    def has(self, strengthening: str) -> bool:
        """Whether a strengthening is on."""
        return strengthening not in self.without

    @property
    def tensors(self) -> list[int]:
        """The tensors that some operator wants resident."""
        return [a for a, live in enumerate(self.live) if len(live)]

    def is_home(self, a: int) -> bool:
        """Whether host memory holds tensor a from the start."""
        return self.problem.graph.tensors[a].is_home

    def never_meet(self, a: int, b: int) -> bool:
        """Whether, whatever the order, the last reader of one of the tensors runs before the other is written."""
        return self._is_over_before(a, b) or self._is_over_before(b, a)

    def _is_over_before(self, a: int, b: int) -> bool:
        p = self.problem.graph.producer[b]
        users = self.readers[a] or tuple(v for v in [self.problem.graph.producer[a]] if v is not None)
        return p is not None and all(self.ancestors[p] >> r & 1 for r in users)


def index(problem: Problem, without: frozenset[str]) -> Indices:
    """The variables of a problem, of which every operator has one mode."""
    graph = problem.graph
    count = len(graph.operators)
    ancestors = [0] * count
    descendants = [0] * count
    for v in range(count):
        for p in graph.predecessors[v]:
            ancestors[v] |= ancestors[p] | 1 << p
    for v in range(count - 1, -1, -1):
        for s in graph.successors[v]:
            descendants[v] |= descendants[s] | 1 << s
    earliest = [mask.bit_count() for mask in ancestors]
    latest = [count - 1 - mask.bit_count() for mask in descendants]
    readers: list[list[int]] = [[] for _ in problem.sizes]
    for v, operands in enumerate(problem.operands):
        for a in operands:
            if graph.producer[a] != v:
                readers[a].append(v)
    life, live = [], []
    used = {a for operands in problem.operands for a in operands}
    for a, tensor in enumerate(graph.tensors):
        writer = graph.producer[a]
        if a not in used:
            span = whole = range(0)
        elif "liveness" in without:
            span, whole = range(0 if tensor.is_home else 1, count), range(count)
        else:
            end = max((latest[r] + 1 for r in readers[a]), default=0)
            if writer is None:
                span = whole = range(min(earliest[r] for r in readers[a]), end)
            else:
                span, whole = range(earliest[writer] + 1, end), range(earliest[writer], max(end, latest[writer] + 1))
        life.append(span)
        live.append(whole)
    workspaces = [problem.aligned(mode.workspace_bytes) for (mode,) in problem.modes]
    unit = gcd(*(s for s in problem.sizes if s)) or problem.memory.alignment_bytes
    everywhere = range(count)
    return Indices(
        problem=problem,
        without=without,
        unit=unit,
        capacity=problem.memory.capacity_bytes // unit,
        sizes=tuple(size // unit for size in problem.sizes),
        operands=problem.operands,
        workspaces=tuple(
            problem.memory.capacity_bytes // unit - (problem.memory.capacity_bytes - size) // unit if size else 0
            for size in workspaces
        ),
        readers=tuple(tuple(r) for r in readers),
        ancestors=tuple(ancestors),
        descendants=tuple(descendants),
        steps=tuple(
            everywhere if "windows" in without else range(e, end + 1) for e, end in zip(earliest, latest, strict=True)
        ),
        life=tuple(life),
        live=tuple(live),
    )
