"""Machine: executes the steps of a plan on a scratchpad of bytes and a host memory, and counts the bytes moved."""

import time
import zlib
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import psutil

from cosma.binding import to_numbers
from cosma.errors import InputError, VerificationError
from cosma.execute.kernels import Operators
from cosma.execute.runtime import Bytes, Value, allocate
from cosma.execute.tiles import POISON, run_tiles
from cosma.instructions import Instruction, with_steps
from cosma.plan import Plan
from cosma.problem import Problem

_FILL = 0xA5  # what buffers hold while an operator runs
EventKind = Literal["load", "exec", "store", "drop"]


@dataclass(frozen=True, slots=True)
class Event:
    """One executed instruction. bytes: moved by it; resident_bytes: in the scratchpad after it.

    start_s counts from the first instruction, seconds is its wall time.
    """

    step: int
    kind: EventKind
    name: str
    bytes: int
    resident_bytes: int
    start_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Executed:
    """Byte counts of a run, and its outputs in host memory, by tensor index.

    digests: of the tensors that operators wrote, by tensor index, in plan order. tiles_run: of so many `tiles`.
    """

    events: tuple[Event, ...]
    outputs: dict[int, Bytes]
    compulsory_bytes: int
    non_compulsory_bytes: int
    peak_use_bytes: int
    digests: dict[int, int]
    tiles_run: int
    tiles: int


@dataclass(slots=True)
class Machine:
    """Executes the instructions of one plan, independently of the verifier.

    home[a]: the bytes of input or weight a. Raises InputError if the scratchpad is larger than the free memory,
    VerificationError if a step is impossible or bytes outside residencies change.
    """

    plan: Plan
    problem: Problem
    kernels: Operators
    home: dict[int, Bytes]
    _scratchpad: Bytes = field(init=False)
    _host: dict[int, Bytes] = field(init=False)  # blocks as large as in the scratchpad
    _where: dict[int, int] = field(default_factory=dict)  # resident tensor -> offset
    _ranges: list[tuple[int, int]] = field(default_factory=list)  # the residents' own bytes, sorted
    _events: list[Event] = field(default_factory=list)
    _resident: int = 0
    _peak: int = 0
    _digests: dict[int, int] = field(default_factory=dict)
    _begin: float = 0.0
    _tiles_run: int = 0
    _tiles: int = 0

    def run(self) -> Executed:
        """Execute every instruction."""
        self.problem, schedule, _ = to_numbers(self.plan, self.problem)
        self._allocate()
        self._begin = time.perf_counter()
        for t, i in with_steps(schedule):
            if i.op == "execute":
                self._execute(t, i)
            elif i.op == "load":
                self._load(t, i.number, i.offset)
            elif i.op == "store":
                self._store(t, i.number, i.offset)
            else:
                self._drop(t, i.number)
            if i.op != "load":
                self._check_poison(t)
        return self._result()

    def _allocate(self) -> None:
        """Allocate and poison the scratchpad; allocate host memory in blocks of the aligned sizes."""
        capacity, free = self.problem.memory.capacity_bytes, psutil.virtual_memory().available
        if capacity > free:
            raise InputError(
                f"a scratchpad of {capacity:,} B exceeds the {free:,} B of free memory; "
                f"the plan uses {self.plan.claims.peak_use_bytes:,} B: compile for a --scratchpad of that size"
            )
        self._scratchpad = allocate(capacity)
        self._scratchpad[:] = POISON
        self._host = {a: self._block(a, data) for a, data in self.home.items()}

    def _block(self, a: int, data: Bytes) -> Bytes:
        size = self.problem.sizes[a]
        if data.size == size:
            return data
        block = np.full(size, POISON, np.uint8)
        block[: data.size] = data
        return block

    def _load(self, t: int, a: int, offset: int) -> None:
        if a not in self._host:
            raise VerificationError(f"step {t}: the host has no copy of {self._name(a)} to load")
        begin = time.perf_counter()
        self._occupy(t, a, offset)
        block = self._host[a]
        self._scratchpad[offset : offset + block.size] = block
        self._note(t, "load", self._raw(a), begin, block.size)

    def _execute(self, t: int, i: Instruction) -> None:
        """Run an operator on operands in the scratchpad, and on host copies of those that are streamed.

        What it writes over an input comes from elsewhere, so whether the hardware can do that is not tried out here. A
        buffer is filled with something, then freed: what it overlaps would be damaged.
        """
        v, places = i.number, dict(i.places)
        kernel, operator = self.kernels.kernels[v], self.problem.graph.operators[v]
        found = self.problem.effects(v, i.run)
        begin = time.perf_counter()
        buffers = {a: self._buffer(t, v, places.get(a), self.problem.aligned(size)) for a, size in found.buffers}
        for b in buffers.values():
            b[:] = _FILL
        over = {w.output: w.input for w in found.overwrites}
        values = {a: self._operand(t, v, a) for a in found.needs}
        values |= {a: self._streamed(t, v, a) for a in found.fetched}
        for a in (a for a in found.made if a not in over):
            self._make(t, v, a, places.get(a))
            values[a] = self._view(a)
        values |= {a: Value(*self.kernels.types[a], allocate(self._bytes(a))) for a in (*found.sent, *over)}
        mode = self.problem.modes[v][i.run.mode]
        if i.run.streamed and mode.tiling and operator.nest is not None:
            streams = {a: b for a, b in buffers.items() if a is not None}
            run, every = run_tiles(kernel, operator.nest, mode.tiling, values, streams)
            self._tiles_run, self._tiles = self._tiles_run + run, self._tiles + every
        else:
            kernel.run(values)
        for a, replaced in over.items():
            self._free(replaced)
            self._make(t, v, a, places.get(a))
            self._view(a).data[:] = values[a].data
        for a in found.sent:
            self._host[a] = self._block(a, values[a].data)
        for b in buffers.values():
            b[:] = POISON
        self._note(t, "exec", operator.name, begin, found.moved_bytes)
        self._digests |= {a: digest(values[a].data) for a in operator.outputs}

    def _operand(self, t: int, v: int, a: int) -> Value:
        """A resident input."""
        if a not in self._where:
            raise VerificationError(f"step {t}: {self._label(v)} reads {self._name(a)}, which is not resident")
        return self._view(a)

    def _streamed(self, t: int, v: int, a: int) -> Value:
        """An input that stays with the host."""
        if a not in self._host:
            raise VerificationError(f"step {t}: {self._label(v)} streams {self._name(a)}, which the host has not")
        return Value(*self.kernels.types[a], self._host[a][: self._bytes(a)])

    def _buffer(self, t: int, v: int, offset: int | None, size: int) -> Bytes:
        """The bytes of a buffer."""
        if offset is None or offset + size > self._scratchpad.size:
            raise VerificationError(f"step {t}: {self._label(v)} has no place for a buffer of {size} B")
        self._peak = max(self._peak, offset + size)
        return self._scratchpad[offset : offset + size]

    def _make(self, t: int, v: int, a: int, offset: int | None) -> None:
        """Give an output its place."""
        if offset is None:
            raise VerificationError(f"step {t}: {self._label(v)} writes {self._name(a)}, which has no place")
        self._occupy(t, a, offset)
        # Free, and so poison already, unless it overlaps what is resident: that is lost before it can be read.
        self._view(a).data[:] = POISON

    def _store(self, t: int, a: int, offset: int) -> None:
        begin = time.perf_counter()
        block = self._scratchpad[offset : offset + self.problem.sizes[a]].copy()
        self._host[a] = block
        self._note(t, "store", self._raw(a), begin, block.size)

    def _drop(self, t: int, a: int) -> None:
        begin = time.perf_counter()
        if a not in self._where:
            raise VerificationError(f"step {t}: drop of {self._name(a)}, which is not resident")
        self._free(a)
        self._note(t, "drop", self._raw(a), begin)

    def _free(self, a: int) -> None:
        offset, size = self._where.pop(a), self.problem.sizes[a]
        self._scratchpad[offset : offset + size] = POISON
        del self._ranges[bisect_left(self._ranges, (offset, offset + self._bytes(a)))]
        self._resident -= size

    def _occupy(self, t: int, a: int, offset: int) -> None:
        end = offset + self.problem.sizes[a]
        if a in self._where:
            raise VerificationError(f"step {t}: {self._name(a)} is resident already")
        if end > self._scratchpad.size:
            raise VerificationError(f"step {t}: {self._name(a)} at [{offset}, {end}) lies outside the scratchpad")
        self._where[a] = offset
        insort(self._ranges, (offset, offset + self._bytes(a)))
        self._resident += self.problem.sizes[a]
        self._peak = max(self._peak, end)

    def _view(self, a: int) -> Value:
        offset = self._where[a]
        return Value(*self.kernels.types[a], self._scratchpad[offset : offset + self._bytes(a)])

    def _check_poison(self, t: int) -> None:
        """Check that all bytes outside tensors, alignment gaps included, are still poison."""
        free = 0
        for start, end in [*self._ranges, (self._scratchpad.size, self._scratchpad.size)]:
            if not is_poison(self._scratchpad[free:start]):
                raise VerificationError(f"step {t}: bytes in [{free}, {start}) changed, though nothing resides there")
            free = max(free, end)

    def _note(self, t: int, kind: EventKind, name: str, begin: float, moved: int = 0) -> None:
        seconds = time.perf_counter() - begin
        self._events.append(Event(t, kind, name, moved, self._resident, begin - self._begin, seconds))

    def _result(self) -> Executed:
        graph = self.problem.graph
        total = sum(event.bytes for event in self._events)
        compulsory = self.problem.compulsory_bytes
        returned = [a for a, t in enumerate(graph.tensors) if t.kind == "output"]
        for a in returned:
            if a not in self._host:
                raise VerificationError(f"output {self._name(a)} is never stored")
        outputs = {a: self._host[a][: self._bytes(a)] for a in returned}
        return Executed(
            tuple(self._events), outputs, compulsory, total - compulsory, self._peak, self._digests, self._tiles_run,
            self._tiles,
        )  # fmt: skip

    def _bytes(self, a: int) -> int:
        return self.problem.graph.tensors[a].size_bytes

    def _raw(self, a: int) -> str:
        return self.problem.graph.tensors[a].name

    def _label(self, v: int) -> str:
        return repr(self.problem.graph.operators[v].name)

    def _name(self, a: int) -> str:
        return repr(self._raw(a))


def is_poison(data: Bytes) -> bool:
    """Whether all bytes are poison, which is the largest byte there is."""
    return data.size == 0 or int(data.min()) == POISON


def digest(data: Bytes) -> int:
    """CRC-32 of the bytes: differing data collide with probability 2^-32."""
    return zlib.crc32(data.data)
