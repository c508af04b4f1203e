"""Instructions: what a schedule does, one after the other, in the numbers of its problem.

```
address ^        load x            execute v           store y   drop x
        |       +-------------------------------------------------+
        |       | x                                               |
        |       +-----------------+-------------+-----------------+
        |                         | buffer of w |
        |                         +-------------+-----------------------
        |                         | y, made here
        +-------- step 0 ---------+-- step 1 ---+--------> instructions
```

The list is a total order. Everything else follows from it: a residency begins with a load or with the operator that
writes it, and ends with a drop or with an output that is written over it. Instructions before an operator belong to
its step if they load, to the step before if they store or drop.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from cosma.modes import Run
from cosma.problem import Problem

Op = Literal["load", "execute", "store", "drop"]


class Instruction(NamedTuple):
    """One instruction. number: of the tensor that it moves or drops, or of the operator that it executes.

    offset: where that tensor lies. An operator runs as `run` says; `places` has the address of everything that lies in
    the scratchpad from here on (outputs) or for this step alone (buffers of streamed operands, None: the workspace).
    """

    op: Op
    number: int
    offset: int = 0
    run: Run = Run()
    places: tuple[tuple[int | None, int], ...] = ()


Schedule = tuple[Instruction, ...]


class Stay(NamedTuple):
    """Tensor `tensor` occupies the scratchpad from `offset` on during steps [start, end)."""

    tensor: int
    start: int
    end: int
    offset: int


def runs_of(schedule: Schedule) -> list[tuple[int, Run]]:
    """The operator of each step and how it runs."""
    return [(i.number, i.run) for i in schedule if i.op == "execute"]


def with_steps(schedule: Schedule) -> Iterator[tuple[int, Instruction]]:
    """Each instruction with its step: loads and the operator itself, then what is stored and dropped after it."""
    t = -1
    for i in schedule:
        t += i.op == "execute"
        yield (t + 1 if i.op == "load" else max(t, 0)), i


def stays_of(schedule: Schedule, problem: Problem) -> list[Stay]:
    """The residencies of a schedule that the verifier accepts, in the order in which they begin."""
    since: dict[int, tuple[int, int]] = {}
    stays: list[Stay] = []

    def end(a: int, t: int) -> None:
        start, offset = since.pop(a)
        stays.append(Stay(a, start, t + 1, offset))

    for t, i in with_steps(schedule):
        if i.op == "load":
            since[i.number] = t, i.offset
        elif i.op == "drop" and i.number in since:
            end(i.number, t)
        elif i.op == "execute":
            for w in problem.effects(i.number, i.run).overwrites:
                end(w.input, t)
            since |= {a: (t, offset) for a, offset in i.places if a is not None and a not in i.run.streamed}
    for a in list(since):
        end(a, len(runs_of(schedule)) - 1)
    return sorted(stays, key=lambda s: (s.start, s.offset, s.tensor))


def sequence(
    problem: Problem,
    steps: Sequence[tuple[int, Run]],
    stays: Iterable[Stay],
    buffers: Mapping[int, Sequence[tuple[int | None, int]]],
) -> Schedule:
    """The instructions that operators in their order, residencies and the addresses of buffers, by step, imply.

    A tensor is loaded where a residency starts, unless its operator writes it there. It is stored if the host needs a
    copy that it has not (an output, or one that is streamed or loaded later): in the first residency, as late as can
    be. It is dropped where a residency ends, unless it is overwritten there.
    """
    stays = sorted(stays, key=lambda s: s.start)
    hosted, wanted, overwritten = _host_copies(problem, steps)
    seen: set[int] = set()
    for s in stays:
        if s.tensor in seen:
            wanted[s.tensor] = min(wanted.get(s.tensor, s.start), s.start)
        seen.add(s.tensor)
    seen.clear()
    before: dict[int, list[Instruction]] = {}
    places: dict[int, list[tuple[int | None, int]]] = {}
    after: dict[int, list[Instruction]] = {}
    for a, start, end, offset in stays:
        is_lost = (a, end - 1) in overwritten
        if a in hosted or a in seen:
            before.setdefault(start, []).append(Instruction("load", a, offset))
        else:
            places.setdefault(start, []).append((a, offset))
            if a in wanted or problem.graph.tensors[a].kind == "output":
                step = min(end - 1 - is_lost, wanted.get(a, end) - 1)
                after.setdefault(step, []).append(Instruction("store", a, offset))
        if not is_lost:
            after.setdefault(end - 1, []).append(Instruction("drop", a, offset))
        seen.add(a)

    def by_name(i: Instruction) -> tuple[bool, str]:
        return i.op == "drop", problem.graph.tensors[i.number].name

    schedule: list[Instruction] = []
    for t, (v, run) in enumerate(steps):
        schedule += sorted(before.get(t, ()), key=by_name)
        schedule.append(Instruction("execute", v, 0, run, (*places.get(t, ()), *buffers.get(t, ()))))
        schedule += sorted(after.get(t, ()), key=by_name)
    return tuple(schedule)


def _host_copies(
    problem: Problem, steps: Sequence[tuple[int, Run]]
) -> tuple[set[int], dict[int, int], set[tuple[int, int]]]:
    """What the steps do to host copies and residencies by themselves.

    Tensors of which the host has a copy without a store; the first step at which others are streamed from it; (tensor,
    step) of what is overwritten.
    """
    hosted = {a for a, tensor in enumerate(problem.graph.tensors) if tensor.is_home}
    wanted: dict[int, int] = {}
    overwritten = set()
    for t, (v, run) in enumerate(steps if problem.has_choices else ()):
        effects = problem.effects(v, run)
        hosted.update(effects.sent)
        for a in effects.fetched:
            if a not in hosted:
                wanted.setdefault(a, t)
        overwritten |= {(w.input, t) for w in effects.overwrites}
    return hosted, wanted, overwritten
