"""Between numbers and names: a schedule becomes instructions in names on writing, and a plan a schedule on reading.

Nothing else maps names to numbers. What a plan says of an object that the problem knows otherwise (a size, a number
of tiles, a queue) is a fault; what it does to the scratchpad is for the verifier to judge.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Literal, NamedTuple

from cosma.instructions import Instruction, Schedule
from cosma.modes import Mode, Run
from cosma.nest import Tiling
from cosma.plan import Drop, Execute, Load, Named, Place, Plan, Store, Streaming
from cosma.problem import Problem
from cosma.recount import mode_of


def to_names(schedule: Schedule, problem: Problem) -> tuple[Named, ...]:
    """The instructions, in names, of a plan that does what a schedule says."""
    write = _Writer(problem)
    return tuple(named for i in schedule for named in write.named(i))


@dataclass(slots=True)
class _Writer:
    """Puts one instruction after the other into names. queues: which used the bytes of a resident tensor last."""

    problem: Problem
    queues: dict[int, Literal["compute", "in", "out"]] = field(default_factory=dict)

    def named(self, i: Instruction) -> list[Named]:
        """An instruction in names: of an operator the streams before it too."""
        if i.op == "execute":
            return self._execute(i)
        place = self._name(i.number), i.offset, self.problem.sizes[i.number]
        if i.op == "load":
            self.queues[i.number] = "in"
            return [Load("load", "in", *place)]
        if i.op == "store":
            self.queues[i.number] = "out"
            return [Store("store", "out", *place)]
        return [Drop("drop", self.queues.pop(i.number, "compute"), *place)]

    def _execute(self, i: Instruction) -> list[Named]:
        problem, operator = self.problem, self.problem.graph.operators[i.number]
        mode = problem.modes[i.number][i.run.mode]
        streams = {s.tensor: s for s in mode.streams if s.tensor in i.run.streamed}
        named: list[Named] = []
        places = []
        for a, offset in i.places:
            if a is None:
                places.append(Place(None, offset, problem.aligned(mode.workspace_bytes)))
            elif a in streams:
                s, queue = streams[a], "in" if a in operator.inputs else "out"
                size = problem.aligned(s.buffer_bytes)
                named.append(Streaming("stream", queue, self._name(a), offset, size, s.moved_bytes, s.transfers))  # type: ignore[arg-type]
            else:
                places.append(Place(self._name(a), offset, problem.sizes[a]))
        self.queues |= dict.fromkeys(problem.operands[i.number], "compute")
        over = tuple(self._name(w.input) for w in mode.overwrites)
        run = Execute("execute", "compute", operator.name, i.run.mode, mode.tiles, tuple(places), mode.tiling, over)
        return [*named, run]

    def _name(self, a: int) -> str:
        return self.problem.graph.tensors[a].name


class Bound(NamedTuple):
    """A plan in the numbers of a problem: the schedule, and what it says of objects that is not so.

    problem: with a mode more where the plan has larger tiles than any mode that is declared.
    """

    problem: Problem
    schedule: Schedule
    faults: tuple[str, ...]


def to_numbers(plan: Plan, problem: Problem) -> Bound:
    """The schedule that a plan states. What has an unknown name or mode is left out."""
    read = _Reader(_with_tilings(plan, problem))
    for t, i in plan.with_steps():
        read.add(t, i)
    read.close()
    return Bound(read.problem, tuple(read.schedule), tuple(read.faults))


def _with_tilings(plan: Plan, problem: Problem) -> Problem:
    """The problem with the modes of those tilings of a plan that go beyond its own, counted here."""
    tiled = [i for i in plan.instructions if isinstance(i, Execute) and i.tiling]
    numbers = {v.name: i for i, v in enumerate(problem.graph.operators)} if tiled else {}
    found = [(numbers[i.operator], i) for i in tiled if i.operator in numbers]
    return with_tilings(problem, {v: i.tiling for v, i in found if i.mode == len(problem.modes[v])})


def with_tilings(problem: Problem, tilings: Mapping[int, Tiling]) -> Problem:
    """The problem with a mode more for each of some operators, counted from its tiling; without those that are none.

    Only where streams and tiles are declared.
    """
    larger: dict[int, Mode] = {}
    for v, tiling in tilings.items() if problem.uses_host else ():
        nest = problem.graph.operators[v].nest
        if nest is not None and v not in problem.on_host:
            with suppress(ValueError):
                alignment = problem.memory.alignment_bytes
                found = mode_of(nest, problem.tiler, tiling, problem.sizes, alignment)
                larger[v] = replace(found, is_larger=True)
    return problem.with_larger_tiles(larger) if larger else problem


class _Reader:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.tensors = {t.name: a for a, t in enumerate(problem.graph.tensors)}
        self.operators = {v.name: i for i, v in enumerate(problem.graph.operators)}
        self.write = _Writer(problem)
        self.schedule: list[Instruction] = []
        self.faults: list[str] = []
        self.streams: list[Streaming] = []

    def add(self, t: int, i: Named) -> None:
        """Read the next instruction, of step t."""
        if isinstance(i, Streaming):
            self.streams.append(i)
            return
        found = self._execute(i) if isinstance(i, Execute) else self._move(i)
        if isinstance(found, str):
            self.faults.append(f"step {t}: {found}")
        else:
            expected = self.write.named(found)
            self.faults += (f"step {t}: {fault}" for fault in _differences([*self.streams, i], expected))
            self.schedule.append(found)
        self.streams.clear()

    def close(self) -> None:
        """Nothing follows."""
        self.faults += (f"{i.tensor!r} is streamed, but no operator follows" for i in self.streams)

    def _move(self, i: Load | Store | Drop) -> Instruction | str:
        if self.streams:
            return f"{self.streams[0].tensor!r} is streamed, but a {i.op} follows and not its operator"
        a = self.tensors.get(i.tensor)
        return f"{i.op} of unknown tensor {i.tensor!r}" if a is None else Instruction(i.op, a, i.offset_bytes)

    def _execute(self, i: Execute) -> Instruction | str:
        v = self.operators.get(i.operator)
        if v is None:
            return f"unknown operator {i.operator!r}"
        if i.mode >= len(self.problem.modes[v]):
            return f"operator {i.operator!r} has no mode {i.mode}"
        can = {s.tensor for s in self.problem.modes[v][i.mode].streams}
        for s in self.streams:
            if self.tensors.get(s.tensor) not in can:
                return f"operator {i.operator!r} cannot stream {s.tensor!r} in mode {i.mode}"
        for p in i.places:
            if p.tensor is not None and p.tensor not in self.tensors:
                return f"operator {i.operator!r} writes unknown tensor {p.tensor!r}"
        streamed = [(self.tensors[s.tensor], s.offset_bytes) for s in self.streams]
        places = [(None if p.tensor is None else self.tensors[p.tensor], p.offset_bytes) for p in i.places]
        run = Run(i.mode, frozenset(a for a, _ in streamed))
        return Instruction("execute", v, 0, run, (*streamed, *places))


def _differences(given: Sequence[Named], expected: Sequence[Named]) -> Iterator[str]:
    """What a plan says otherwise than the problem has it."""
    for one, other in zip(given, expected, strict=False):
        name = one.operator if isinstance(one, Execute) else one.tensor
        for f in fields(one):
            said, known = getattr(one, f.name), getattr(other, f.name, None)
            if said != known:
                yield f"{one.op} of {name!r}: {f.name} is {_short(said)}, it has to be {_short(known)}"
    if len(given) != len(expected):
        yield f"{len(given)} instructions where there have to be {len(expected)}: something is streamed or placed twice"


def _short(value: object) -> str:
    return str(value)[:200]
