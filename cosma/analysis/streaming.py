"""Why operands are streamed and do not stay: where room would be short, and what would go instead.

All of it is about the plan's own order, in bytes. What would go instead is found by solving the order again with the
operand resident: exactly, over all tilings of the operators that run meanwhile; other operators keep theirs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Literal, NamedTuple

from cosma.deadline import Deadline
from cosma.instructions import Stay
from cosma.milp.backends import DEFAULT_BACKEND
from cosma.modes import Mode, Run, Stream
from cosma.problem import Problem
from cosma.schedule.replacement import solve_programme
from cosma.schedule.timeline import Timeline

SOLVED = 60  # questions that are solved for one plan, about the streams that move most
_MOST_STREAMS = 6  # of an operator of which modes are left out
_MOST_ROOMS = 256
_NAMES = 3  # in one sentence

_Use = tuple[int, int, int]  # tensor; a step that uses it, and the next one


@dataclass(frozen=True, slots=True)
class Instead:
    """What else happens with an operand resident: to tensors that lie beside it, and to operators that run meanwhile.

    streamed: tensors that are then and were not; leaves: others that leave early; dearer: operators that move more, in
    smaller tiles. extra_bytes: over all, less than 0 where the plan is not optimal.
    """

    streamed: tuple[str, ...]
    leaves: tuple[str, ...]
    dearer: tuple[str, ...]
    extra_bytes: int


@dataclass(frozen=True, slots=True)
class Streamed:
    """`tensor` is streamed at a step. Resident instead, it would be there during steps [first, last].

    Those are the step alone, or from its use before or (where it is written) to the one after. missing_bytes: what the
    step that is shortest of room then lacks, all else as it is; not above 0 where no step does. instead: None where no
    plan of the order has it there, where nothing is saved anyway, or where it was not counted. why: that in words.
    """

    step: int
    operator: str
    tensor: str
    direction: Literal["in", "out"]
    size_bytes: int
    buffer_bytes: int
    moved_bytes: int
    transfers: int
    first: int
    last: int
    short_step: int
    missing_bytes: int
    instead: Instead | None
    why: str

    @property
    def moves_once(self) -> bool:
        """Whether it would move as many bytes or more if it was resident."""
        return self.first == self.last and self.moved_bytes <= self.size_bytes


class _Question(NamedTuple):
    tensor: int
    first: int
    last: int


def streamed_operands(
    stays: Sequence[Stay],
    taken: Sequence[int],
    timeline: Timeline,
    total_bytes: int,
    deadline: Deadline,
    leaves_modes_out: bool = True,
) -> tuple[Streamed, ...]:
    """Every stream of a valid plan, by step, given its residencies, the bytes taken at each step and moved in all.

    Past the deadline nothing is solved, and the reasons say so. leaves_modes_out: see `_useful`.
    """
    if not any(e.fetched or e.sent for e in timeline.effects):
        return ()
    return _Explainer(stays, taken, timeline, total_bytes, deadline, leaves_modes_out).run()


class _Explainer:
    def __init__(
        self,
        stays: Sequence[Stay],
        taken: Sequence[int],
        timeline: Timeline,
        total_bytes: int,
        deadline: Deadline,
        leaves_modes_out: bool,
    ) -> None:
        self.taken, self.timeline, self.problem = taken, timeline, timeline.problem
        self.total, self.deadline, self.leaves_modes_out = total_bytes, deadline, leaves_modes_out
        self.uses = self.problem.uses(timeline.order)
        self.resident = {(s.tensor, t) for s in stays for t in range(s.start, s.end)}
        self.kept = self._kept((s.tensor, s.start, s.end) for s in stays)

    def run(self) -> tuple[Streamed, ...]:
        streams = [(t, a) for t, e in enumerate(self.timeline.effects) for a in (*e.fetched, *e.sent)]
        questions = {(t, a): self._question(t, a) for t, a in streams}
        answers: dict[_Question, Instead | str] = {}
        for t, a in sorted(streams, key=lambda key: (-self._moved(*key), key)):
            question = questions[t, a]
            if question not in answers:
                solved = sum(isinstance(answer, Instead) for answer in answers.values())
                answers[question] = self._answer(question, solved < SOLVED)
        return tuple(self._streamed(t, a, questions[t, a], answers[questions[t, a]]) for t, a in streams)

    def _moved(self, t: int, a: int) -> int:
        return dict(self.timeline.effects[t].moved)[a]

    def _question(self, t: int, a: int) -> _Question:
        """From the use before on; of what is written here, up to the next one."""
        steps = self.uses[a]
        at = steps.index(t)
        if a in self.timeline.effects[t].sent:
            return _Question(a, t, steps[min(at + 1, len(steps) - 1)])
        return _Question(a, steps[max(at - 1, 0)], t)

    def _answer(self, q: _Question, may_solve: bool) -> Instead | str:
        """What would go instead, or why there is nothing to say of it."""
        size, order = self.problem.sizes[q.tensor], self.timeline.order
        host = [v for v in order[q.first : q.last + 1] if v in self.problem.on_host]
        if host:
            return (
                f"{self.problem.graph.operators[host[0]].name} runs on the host, and so without it in the scratchpad."
            )
        if any(w.input == q.tensor for w in self.timeline.effects[q.first].overwrites):
            return "Its operator before writes over it."
        if q.first == q.last and self._moved(q.first, q.tensor) <= size:
            more = size - self._moved(q.first, q.tensor)
            return f"It would move {more:,} B more." if more else "Each of its bytes moves once either way."
        lacking = self._lacking(q)
        if lacking is not None:
            return lacking
        if not may_solve:
            return f"What would go instead is counted of {SOLVED} streams, those that move most."
        return self._solve(q) or "What would go instead was not counted within the time limit."

    def _lacking(self, q: _Question) -> str | None:
        """That an operator and the tensor alone take more than there is, however it is tiled."""
        least = {t: self._least_with(self.timeline.order[t], q.tensor) for t in range(q.first, q.last + 1)}
        step = max(least, key=lambda t: (least[t], -t))
        missing = least[step] - self.problem.memory.capacity_bytes
        if missing <= 0:
            return None
        name = self.problem.graph.operators[self.timeline.order[step]].name
        return f"No plan of this order has it there: at step {step} {name} and it alone lack {missing:,} B."

    def _least_with(self, v: int, a: int) -> int:
        """The fewest bytes that operator v takes in any mode with tensor a beside it, or resident as its operand."""
        problem = self.problem
        if a not in problem.operands[v]:
            return problem.least_bytes[v] + problem.sizes[a]
        runs = (
            Run(number, frozenset(s.tensor for s in mode.streams if s.tensor != a and self._is_smaller(s)))
            for number, mode in enumerate(problem.modes[v])
        )
        return min(problem.run_bytes(v, run) for run in runs)

    def _is_smaller(self, s: Stream) -> bool:
        return self.problem.aligned(s.buffer_bytes) < self.problem.sizes[s.tensor]

    def _forced(self, q: _Question) -> tuple[Problem, tuple[int, ...]]:
        """The order as a problem, operator t at step t, in which the tensor stays during the question's steps.

        All operators there need it as an operand, where it lies, and may run in any mode; the others keep theirs.
        """
        problem, runs = self.problem, self.timeline.runs
        operators = [problem.graph.operators[v] for v in self.timeline.order]
        host = set(problem.on_host)
        modes = [problem.modes[v] if v in host else (problem.modes[v][runs[v].mode],) for v in self.timeline.order]
        for t in range(q.first, q.last + 1):
            v = self.timeline.order[t]
            if t not in (q.first, q.last):
                operators[t] = replace(operators[t], inputs=(*operators[t].inputs, q.tensor))
            lasting = (m for m in problem.modes[v] if t == q.last or all(w.input != q.tensor for w in m.overwrites))
            without = (replace(m, streams=tuple(s for s in m.streams if s.tensor != q.tensor)) for m in lasting)
            modes[t] = tuple(dict.fromkeys(without))
            if self.leaves_modes_out:
                modes[t] = _useful(problem, modes[t], {*problem.operands[v], q.tensor}, self._across(t))
        graph = replace(problem.graph, operators=tuple(operators))
        return Problem(graph, problem.memory, tuple(modes), problem.uses_host, problem.tiler), tuple(
            range(len(operators))
        )

    def _across(self, t: int) -> list[int]:
        """Tensors used both before and after a step."""
        return [a for a, steps in enumerate(self.uses) if steps and steps[0] < t < steps[-1]]

    def _solve(self, q: _Question) -> Instead | None:
        """The least that the order moves with the tensor there; None where the deadline passes before a proof."""
        if self.deadline.passed:
            return None
        forced, order = self._forced(q)
        timeline = Timeline.of(forced, order)
        found, bound, _ = solve_programme(timeline, frozenset(), (), DEFAULT_BACKEND, self.deadline)
        if found is None or found[0].cost(found[1]) != bound:
            return None
        return self._instead(q, *found)

    def _instead(self, q: _Question, found: Timeline, evicted: frozenset[int]) -> Instead:
        """How a solution differs from the plan."""
        extra = found.cost(evicted) + found.problem.compulsory_bytes - self.total
        there = {a for a, t in self.resident if q.first <= t <= q.last and a != q.tensor}  # others change for no need
        streamed, dearer = list[int](), list[str]()
        for t, (now, then) in enumerate(zip(self.timeline.effects, found.effects, strict=True)):
            before, after = dict(now.moved), dict(then.moved)
            streamed += [a for a in after if a not in before and a in there]
            if any(after.get(a, 0) > moved for a, moved in before.items()):
                dearer.append(self.problem.graph.operators[self.timeline.order[t]].name)
        lost = sorted(self.kept - self._kept(found.intervals(evicted)), key=lambda gap: gap[1:])
        leaves = [a for a, _, _ in lost if a in there and a not in streamed]
        return Instead(self._called(streamed), self._called(leaves), tuple(dearer), extra)

    def _called(self, tensors: Sequence[int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.problem.graph.tensors[a].name for a in tensors))

    def _kept(self, intervals: Iterable[tuple[int, int, int]]) -> set[_Use]:
        """The pairs of uses between which a tensor stays, given residencies (tensor, start, end)."""
        return {
            (a, t, later)
            for a, start, end in intervals
            for t, later in pairwise(self.uses[a])
            if start <= t and later < end
        }

    def _streamed(self, t: int, a: int, q: _Question, answer: Instead | str) -> Streamed:
        problem, effects = self.problem, self.timeline.effects[t]
        mode = problem.modes[self.timeline.order[t]][self.timeline.runs[self.timeline.order[t]].mode]
        stream = next(s for s in mode.streams if s.tensor == a)
        excess = {step: self._excess(step, a) for step in range(q.first, q.last + 1)}
        short = max(excess, key=lambda step: (excess[step], -step))
        return Streamed(
            t,
            problem.graph.operators[self.timeline.order[t]].name,
            problem.graph.tensors[a].name,
            "out" if a in effects.sent else "in",
            problem.sizes[a],
            problem.aligned(stream.buffer_bytes),
            stream.moved_bytes,
            stream.transfers,
            q.first,
            q.last,
            short,
            excess[short],
            None if isinstance(answer, str) else answer,
            f"{_room(q, short, excess[short])} {answer if isinstance(answer, str) else _sentence(answer)}",
        )

    def _excess(self, t: int, a: int) -> int:
        """By how much tensor a resident at a step would exceed the capacity, all else as it is."""
        problem = self.problem
        buffer = sum(problem.aligned(n) for b, n in self.timeline.effects[t].buffers if b == a)
        more = 0 if (a, t) in self.resident else problem.sizes[a] - buffer
        return self.taken[t] + more - problem.memory.capacity_bytes


def _useful(problem: Problem, modes: Sequence[Mode], operands: set[int], across: Sequence[int]) -> tuple[Mode, ...]:
    """Those of an operator's modes that can be needed while some of the tensors `across` are kept.

    What a run has to do with the rest of a programme is the operands that are streamed, the bytes that it takes and the
    bytes that it moves. The room that it has is the capacity less a sum of sizes of what is kept. So for each set of
    operands and each such room one mode is enough, of those that fit the one that moves least. All modes where sets or
    rooms are many.
    """
    rooms = {problem.memory.capacity_bytes}
    for a in across:
        if a not in operands:
            rooms |= {room - problem.sizes[a] for room in rooms if room >= problem.sizes[a]}
        if len(rooms) > _MOST_ROOMS:
            return tuple(modes)
    if max(len(m.streams) for m in modes) > _MOST_STREAMS:
        return tuple(modes)
    best: dict[tuple[frozenset[int], int], tuple[int, int]] = {}
    whole = sum(problem.sizes[a] for a in operands)
    for number, mode in enumerate(modes):
        for count in range(len(mode.streams) + 1):
            for chosen in combinations(mode.streams, count):
                taken = whole + problem.aligned(mode.workspace_bytes)
                taken += sum(problem.aligned(s.buffer_bytes) - problem.sizes[s.tensor] for s in chosen)
                moved, key = sum(s.moved_bytes for s in chosen), frozenset(s.tensor for s in chosen)
                for room in rooms:
                    if taken <= room and (moved, number) < best.get((key, room), (moved, number + 1)):
                        best[key, room] = moved, number
    return tuple(modes[number] for number in sorted({number for _, number in best.values()}))


def _room(q: _Question, step: int, missing_bytes: int) -> str:
    when = f"at step {q.first}" if q.first == q.last else f"from step {q.first} to {q.last}"
    if missing_bytes <= 0:
        return f"There would be room for it {when}."
    return f"With it resident {when}, {missing_bytes:,} B more would be needed at step {step}."


def _sentence(answer: Instead) -> str:
    """What else would happen, and at what price."""
    parts = [(answer.streamed, "be streamed"), (answer.leaves, "leave"), (answer.dearer, "move more in smaller tiles")]
    said = " and ".join(f"{_listed(names)} {what}" for names, what in parts if names)
    price = f"{answer.extra_bytes:+,} B in all" if answer.extra_bytes else "+0 B in all, a tie"
    return f"Instead, at the least, would {said}: {price}." if said else f"At the least that is {price}."


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")
