"""Graph x memory x modes -> Problem: aligned sizes, working sets, budgets. Every solver works on this."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import astuple, dataclass, field, replace

from cosma.errors import InputError
from cosma.graph import MAX_BYTES, Graph, Operator
from cosma.modes import PAPER, Effects, Mode, Overwrite, Run, effects, fault, host_mode, operands
from cosma.nest import PLAIN_TILES, Tiler
from cosma.units import align_up


@dataclass(frozen=True, slots=True)
class Memory:
    """A scratchpad: capacity in bytes, and the number that every address and size is a multiple of."""

    capacity_bytes: int
    alignment_bytes: int = 1

    @property
    def usable_bytes(self) -> int:
        """The capacity in whole multiples of the alignment."""
        return self.capacity_bytes // self.alignment_bytes * self.alignment_bytes

    def aligned(self, size_bytes: int) -> int:
        """A number of bytes as it counts: rounded up to the alignment."""
        return align_up(size_bytes, self.alignment_bytes)

    def units(self, size_bytes: int) -> int:
        """How many pieces of the alignment a number of bytes takes."""
        return -(-size_bytes // self.alignment_bytes)


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

    Given: the scratchpad; for each operator its modes (default: the paper's one); and whether operators that fit in
    none of these run on the host (`uses_host`), in a mode that is added to their others; what the machine's tiles are
    like, by which tilings are counted again. Derived: `sizes[a]`, aligned up; `operands[v]`; `working_sets[v]`, the
    bytes that v takes with every operand resident, in the mode that takes least; `least_bytes[v]`, the same over all
    its runs in the scratchpad; `runs[v]`, a run to begin with: with every operand resident if that fits, else one that
    fits and moves little, else the smallest; `on_host`, the operators that run there; `has_choices`, whether an
    operator can be run otherwise than with every operand where it lies; `compulsory_bytes`, of all tensors. Raises
    InputError where sizes add up to 2^63 or more, ValueError for modes that are none of their operator.
    """

    graph: Graph
    memory: Memory
    modes: tuple[tuple[Mode, ...], ...] = ()
    uses_host: bool = False
    tiler: Tiler = PLAIN_TILES
    sizes: tuple[int, ...] = field(init=False, repr=False)
    operands: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    working_sets: tuple[int, ...] = field(init=False, repr=False)
    least_bytes: tuple[int, ...] = field(init=False, repr=False)
    runs: tuple[Run, ...] = field(init=False, repr=False)
    on_host: tuple[int, ...] = field(init=False, repr=False)
    has_choices: bool = field(init=False, repr=False)
    compulsory_bytes: int = field(init=False, repr=False)
    _digest: list[str] = field(init=False, repr=False, compare=False, default_factory=list)  # once it is asked for

    def __post_init__(self) -> None:
        sizes = tuple(self.memory.aligned(t.size_bytes) for t in self.graph.tensors)
        if sum(sizes) > MAX_BYTES:
            raise InputError(f"the tensors of {self.graph.name!r} add up to {sum(sizes)} bytes, more than 2^63 - 1")
        operators = self.graph.operators
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "operands", tuple(map(operands, operators)))
        # With another capacity other operators run on the host.
        given = (
            tuple(tuple(m for m in modes if not m.on_host) for modes in self.modes) if self.uses_host else self.modes
        )
        object.__setattr__(self, "modes", given or ((PAPER,),) * len(operators))
        self._check_modes()
        object.__setattr__(self, "has_choices", any(map(self.has_choice, range(len(operators)))))
        whole = [self._least(v, map(Run, range(len(modes)))) for v, modes in enumerate(self.modes)]
        least = [self._least(v, self._ends(v)) for v in range(len(operators))] if self.has_choices else whole
        object.__setattr__(self, "working_sets", tuple(size for size, _ in whole))
        object.__setattr__(self, "least_bytes", tuple(size for size, _ in least))
        capacity = self.memory.capacity_bytes
        ends = (run if size <= capacity else self._cheapest(v) for v, (size, run) in enumerate(whole))
        runs = (run or smallest for run, (_, smallest) in zip(ends, least, strict=True))
        object.__setattr__(self, "runs", tuple(runs))
        object.__setattr__(self, "on_host", ())
        if self.uses_host and max(self.least_bytes) > self.memory.capacity_bytes:
            self._send_to_host()
        object.__setattr__(self, "compulsory_bytes", sum(self.compulsory(a) for a in range(len(sizes))))

    def _send_to_host(self) -> None:
        """Give operators that do not fit a mode on the host, the last of their modes."""
        modes, runs = list(self.modes), list(self.runs)
        here = [v for v, size in enumerate(self.least_bytes) if size > self.memory.capacity_bytes]
        for v in here:
            modes[v] = (*modes[v], host_mode(self.graph.operators[v], self.sizes))
            runs[v] = Run(len(modes[v]) - 1, frozenset(self.operands[v]))
        object.__setattr__(self, "modes", tuple(modes))
        object.__setattr__(self, "runs", tuple(runs))
        object.__setattr__(self, "on_host", tuple(here))
        object.__setattr__(self, "has_choices", True)

    def _check_modes(self) -> None:
        if len(self.modes) != len(self.graph.operators) or not all(self.modes):
            raise ValueError(f"{len(self.graph.operators)} operators need modes each, {len(self.modes)} have some")
        for operator, modes in zip(self.graph.operators, self.modes, strict=True):
            for number, mode in enumerate(modes):
                why = "" if mode is PAPER else fault(operator, mode)
                if not why and any(self.shared(w) <= 0 for w in mode.overwrites):
                    why = "an output overwrites an input with which it has no byte in common"
                if why:
                    raise ValueError(f"mode {number} of operator {operator.name!r}: {why}")

    def _ends(self, v: int) -> Iterator[Run]:
        """Of each mode of operator v the run with everything resident, and the one that takes the fewest bytes."""
        for number, mode in enumerate(self.modes[v]):
            yield Run(number)
            smaller = (s.tensor for s in mode.streams if self.aligned(s.buffer_bytes) < self.sizes[s.tensor])
            yield Run(number, frozenset(smaller))

    def _cheapest(self, v: int) -> Run | None:
        """Of the smallest run of each mode the first that fits and moves the fewest bytes; None if none fits."""
        found = [(run, self.effects(v, run)) for run in self._ends(v)] if self.has_choices else []
        moved = [
            (e.moved_bytes + sum(self.sizes[a] for a in e.resident), run)
            for run, e in found
            if self.bytes_of(e) <= self.memory.capacity_bytes
        ]
        return min(moved, key=lambda x: x[0])[1] if moved else None

    def _least(self, v: int, runs: Iterable[Run]) -> tuple[int, Run]:
        """The first run that takes the fewest bytes, with these."""
        return min(((self.run_bytes(v, run), run) for run in runs), key=lambda x: x[0])

    def with_capacity(self, capacity_bytes: int) -> "Problem":
        """The same problem on a scratchpad of another size."""
        return replace(self, memory=replace(self.memory, capacity_bytes=capacity_bytes))

    def with_larger_tiles(self, modes: Mapping[int, Mode]) -> "Problem":
        """The same problem, in which some operators have one more mode, the last, for a plan: nothing else changes."""
        extended = copy(self)
        added = ((*own, modes[v]) if v in modes else own for v, own in enumerate(self.modes))
        object.__setattr__(extended, "modes", tuple(added))
        return extended

    def has_choice(self, v: int) -> bool:
        """Whether operator v can be run otherwise than with every operand where it lies, and not on the host alone."""
        modes = self.modes[v]
        return not modes[-1].on_host and (len(modes) > 1 or modes[0].is_choice)

    def aligned(self, size_bytes: int) -> int:
        """A number of bytes as it counts: rounded up to the alignment."""
        return self.memory.aligned(size_bytes)

    def effects(self, v: int, run: Run) -> Effects:
        """What a run of operator v does."""
        return effects(self.graph.operators[v], self.modes[v][run.mode], run.streamed)

    def run_bytes(self, v: int, run: Run) -> int:
        """Scratchpad bytes that a run of operator v takes: operands that lie there, buffers, workspace, each once."""
        return self.bytes_of(self.effects(v, run))

    def bytes_of(self, found: Effects) -> int:
        """Scratchpad bytes of a run with these effects."""
        taken = sum(self.sizes[a] for a in found.resident) + self.buffer_bytes(found)
        return taken - sum(self.shared(w) for w in found.overwrites)

    def buffer_bytes(self, found: Effects) -> int:
        """Scratchpad bytes of the buffers and the workspace of a run with these effects."""
        return sum(self.aligned(size) for _, size in found.buffers)

    def shared(self, over: Overwrite) -> int:
        """Bytes that an output and the input that it overwrites have in common."""
        made, read = self.sizes[over.output], self.sizes[over.input]
        start = -self.aligned(over.distance_bytes)  # of the output, where the input starts at 0
        return max(0, min(read, start + made) - max(0, start))

    @property
    def working_set_bytes(self) -> int:
        """M_R: what the largest operator takes with every operand resident (docs/problem.md#budgets)."""
        return max(self.working_sets)

    @property
    def smallest_capacity_bytes(self) -> int:
        """Below it some operator fits in no mode, or runs on the host; M_R where there is but the paper's mode
        (docs/problem.md#budgets)."""
        return max(self.least_bytes)

    def shortage(self) -> Shortage | None:
        """The reason why no plan exists, or None if one does: the smallest capacity is enough."""
        return next(iter(self.shortages()), None)

    def shortages(self) -> list[Shortage]:
        """Every operator that does not fit on its own, the largest first; empty where a plan exists."""
        if self.uses_host:
            return []
        large = [v for v, size in enumerate(self.least_bytes) if size > self.memory.capacity_bytes]
        return [self._shortage(v) for v in sorted(large, key=lambda v: -self.least_bytes[v])]

    def _shortage(self, v: int) -> Shortage:
        found = self.effects(v, self.runs[v])
        held = [(self.graph.tensors[a].name, self.sizes[a]) for a in found.resident]
        held += [("workspace" if a is None else f"buffer of {self.graph.tensors[a].name}", n) for a, n in found.buffers]
        operands = tuple(sorted(held, key=lambda x: -x[1]))
        return Shortage(self.graph.operators[v].name, operands, self.least_bytes[v], self.memory.capacity_bytes)

    def compulsory(self, a: int) -> int:
        """Traffic of one tensor that no plan avoids: a used input or weight is loaded once, an output stored once.

        Where modes stream it with fewer bytes than it has, as many as the reader that touches most of it moves at
        least: a constant, so that the total is what is minimised (docs/problem.md#cost).
        """
        tensor, writer = self.graph.tensors[a], self.graph.producer[a]
        if tensor.is_home:
            return max((self._least_moved(v, a) for v in self.graph.readers[a]), default=0)
        return self._least_moved(writer, a) if tensor.kind == "output" and writer is not None else 0

    def _least_moved(self, v: int, a: int) -> int:
        """The fewest bytes of tensor a that a run of operator v moves, if the tensor is loaded for it alone."""
        streamed = (s.moved_bytes for mode in self.modes[v] for s in mode.streams if s.tensor == a)
        return min((self.sizes[a], *streamed))

    def needs_store(self, a: int) -> bool:
        """Whether bringing tensor a back takes a store that is not compulsory anyway."""
        return self.graph.tensors[a].kind == "activation"

    def uses(self, order: Sequence[int]) -> list[list[int]]:
        """For each tensor the steps, ascending, at which the operator there reads or writes it."""
        steps: list[list[int]] = [[] for _ in self.sizes]
        for t, v in enumerate(order):
            for a in self.operands[v]:
                steps[a].append(t)
        return steps

    def peak_bytes(self, order: Sequence[int]) -> int:
        """The most bytes in use when every operand stays from first to last use, in the first mode of each operator."""
        change = [0] * (len(order) + 1)
        for a, steps in enumerate(self.uses(order)):
            if steps:
                change[steps[0]] += self.sizes[a]
                change[steps[-1] + 1] -= self.sizes[a]
        live, peak = 0, 0
        for t, v in enumerate(order):
            live += change[t]
            peak = max(peak, live + self.aligned(self.modes[v][0].workspace_bytes))
        return peak

    def fingerprint(self) -> str:
        """A digest of everything but capacity and alignment: plans of one problem fit no other."""
        if not self._digest:
            self._digest.append(self._fingerprint())
        return self._digest[0]

    def _fingerprint(self) -> str:
        content: dict[str, object] = {
            "tensors": [[t.name, t.size_bytes, t.kind] for t in self.graph.tensors],
            "operators": [
                [
                    v.name,
                    list(v.inputs),
                    list(v.outputs),
                    [self._stated(v, m) for m in modes if m.is_declared],
                ]
                for v, modes in zip(self.graph.operators, self.modes, strict=True)
            ],
        }
        if self.uses_host:
            content["uses_host"] = True
        if self.tiler != PLAIN_TILES:
            content["tiler"] = astuple(self.tiler)
        return "sha256:" + hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def _stated(self, operator: Operator, mode: Mode) -> list[object]:
        """A mode as the fingerprint has it; the paper's as it always had it, so that plans stay valid."""
        stated: list[object] = [list(operands(operator)), mode.workspace_bytes, 0]
        if mode.streams or mode.overwrites or mode.tiling:
            streams = [[s.tensor, s.buffer_bytes, s.moved_bytes, s.transfers] for s in mode.streams]
            stated += [streams, [astuple(w) for w in mode.overwrites], mode.tiling]
        return stated
