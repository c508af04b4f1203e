"""Graph x scratchpad -> Problem: aligned sizes, operator modes, budgets. Every solver works on this."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cosma.errors import InputError
from cosma.graph import MAX_BYTES, Graph, Operator
from cosma.units import align_up


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run an operator.

    resident: tensors that must lie in the scratchpad while it runs, inputs and outputs alike.
    workspace_bytes: scratchpad bytes that it takes besides (negative where an output overwrites a
    dying input). moved_bytes: traffic that it causes by itself.
    """

    resident: tuple[int, ...]
    workspace_bytes: int = 0
    moved_bytes: int = 0


def all_resident(operator: Operator) -> tuple[Mode, ...]:
    """The one mode of the COSMA paper: every operand resident, nothing else moved or needed."""
    return (Mode(tuple(dict.fromkeys((*operator.inputs, *operator.outputs)))),)


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why no plan exists: the operator whose smallest working set exceeds the scratchpad (bytes)."""

    operator: str
    operands: tuple[tuple[str, int], ...]
    needed_bytes: int
    available_bytes: int

    @property
    def missing_bytes(self) -> int:
        """By how much the scratchpad is too small."""
        return self.needed_bytes - self.available_bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """What has to be planned. Operators and tensors are indices into `graph`.

    Given: capacity and alignment in bytes, and for each operator its modes (default: all operands
    resident). Derived: `sizes[a]`, aligned up; `working_sets[v]`, the least over the modes of v, and
    `smallest_modes[v]`, the first mode that has it.
    Raises InputError where sizes add up to 2^63 or more.
    """

    graph: Graph
    capacity_bytes: int
    alignment_bytes: int = 1
    modes: tuple[tuple[Mode, ...], ...] = ()
    sizes: tuple[int, ...] = field(init=False, repr=False)
    working_sets: tuple[int, ...] = field(init=False, repr=False)
    smallest_modes: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = tuple(align_up(t.size_bytes, self.alignment_bytes) for t in self.graph.tensors)
        if sum(sizes) > MAX_BYTES:
            raise InputError(f"the tensors of {self.graph.name!r} add up to {sum(sizes)} bytes, more than 2^63 - 1")
        object.__setattr__(self, "sizes", sizes)
        if not self.modes:
            object.__setattr__(self, "modes", tuple(all_resident(v) for v in self.graph.operators))
        needs = [[self.mode_bytes(mode) for mode in modes] for modes in self.modes]
        object.__setattr__(self, "working_sets", tuple(min(n) for n in needs))
        object.__setattr__(self, "smallest_modes", tuple(n.index(min(n)) for n in needs))

    def with_capacity(self, capacity_bytes: int) -> "Problem":
        """The same problem on a scratchpad of another size."""
        return replace(self, capacity_bytes=capacity_bytes)

    def mode_bytes(self, mode: Mode) -> int:
        """Scratchpad bytes that an operator takes in this mode: its working set."""
        return sum(self.sizes[a] for a in mode.resident) + mode.workspace_bytes

    @property
    def working_set_bytes(self) -> int:
        """M_R: below it nothing is feasible (docs/problem.md#budgets)."""
        return max(self.working_sets)

    def shortage(self) -> Shortage | None:
        """The reason why no plan exists, or None if one does: capacity >= M_R is enough."""
        return next(iter(self.shortages()), None)

    def shortages(self) -> list[Shortage]:
        """Every operator that does not fit on its own, the largest first; empty where a plan exists."""
        large = [v for v, size in enumerate(self.working_sets) if size > self.capacity_bytes]
        return [self._shortage(v) for v in sorted(large, key=lambda v: -self.working_sets[v])]

    def _shortage(self, v: int) -> Shortage:
        mode = min(self.modes[v], key=self.mode_bytes)
        operands = sorted(((self.graph.tensors[a].name, self.sizes[a]) for a in mode.resident), key=lambda x: -x[1])
        return Shortage(self.graph.operators[v].name, tuple(operands), self.working_sets[v], self.capacity_bytes)

    @property
    def compulsory_bytes(self) -> int:
        """Traffic that no plan avoids: each used input and weight loaded once, each output stored once."""
        total = 0
        for a, tensor in enumerate(self.graph.tensors):
            if tensor.kind == "output" or (tensor.is_home and self.graph.readers[a]):
                total += self.sizes[a]
        return total

    def needs_store(self, a: int) -> bool:
        """Whether bringing tensor a back takes a store that is not compulsory anyway."""
        return self.graph.tensors[a].kind == "activation"

    def uses(self, order: Sequence[int], modes: Sequence[int]) -> list[list[int]]:
        """For each tensor the steps, ascending, at which the operator there wants it resident.

        `order[t]` is the operator of step t and `modes[v]` the mode that operator v runs in.
        """
        steps: list[list[int]] = [[] for _ in self.sizes]
        for t, v in enumerate(order):
            for a in self.modes[v][modes[v]].resident:
                steps[a].append(t)
        return steps

    def footprint(self, order: Sequence[int], modes: Sequence[int]) -> list[int]:
        """Bytes in the scratchpad at each step when every tensor stays from first to last use."""
        change = [0] * (len(order) + 1)
        for a, steps in enumerate(self.uses(order, modes)):
            if steps:
                change[steps[0]] += self.sizes[a]
                change[steps[-1] + 1] -= self.sizes[a]
        live, total = [], 0
        for t, v in enumerate(order):
            total += change[t]
            live.append(total + self.modes[v][modes[v]].workspace_bytes)
        return live

    def peak_bytes(self, order: Sequence[int]) -> int:
        """The largest footprint of an order without evictions, smallest modes."""
        return max(self.footprint(order, self.smallest_modes))

    def fingerprint(self) -> str:
        """A digest of everything but capacity and alignment: plans of one problem fit no other."""
        content = {
            "tensors": [[t.name, t.size_bytes, t.kind] for t in self.graph.tensors],
            "operators": [
                [
                    v.name,
                    list(v.inputs),
                    list(v.outputs),
                    [[list(m.resident), m.workspace_bytes, m.moved_bytes] for m in ms],
                ]
                for v, ms in zip(self.graph.operators, self.modes, strict=True)
            ],
        }
        return "sha256:" + hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
