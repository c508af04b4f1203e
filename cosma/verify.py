"""Replays a plan against a problem and recomputes everything that it claims. Imports no solver.

The replay is a machine with a scratchpad, a host memory and the rules of docs/problem.md#constraints. It trusts the
problem for sizes and modes, and nothing in the plan: residencies are rebuilt from the moves and
only then compared with the plan's own table.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cosma.errors import VerificationError
from cosma.modes import Effects, Overwrite, Run
from cosma.plan import Claims, Move, Plan, Residency, Schedule, Step
from cosma.problem import Problem

MAX_VIOLATIONS = 100


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found. Byte counts hold whether or not there are violations."""

    violations: tuple[str, ...]
    compulsory_bytes: int
    non_compulsory_bytes: int
    peak_use_bytes: int
    loads: int
    stores: int


def check(plan: Plan, problem: Problem) -> Replay:
    """Replay `plan` on `problem` (whose capacity and alignment count, not the plan's) and compare what it claims."""
    compulsory = problem.compulsory_bytes
    if plan.source.fingerprint != problem.fingerprint():
        why = f"the plan is for another model or other settings: it was made for {plan.source.model!r}"
        return Replay((why,), compulsory, 0, 0, 0, 0)
    faults = []
    if plan.alignment_bytes % problem.memory.alignment_bytes:
        needed = problem.memory.alignment_bytes
        faults.append(f"planned for an alignment of {plan.alignment_bytes} B, the hardware needs {needed} B")
    found = replay(plan.schedule, problem)
    faults += [*found.violations, *_false_claims(plan.claims, found)]
    return replace(found, violations=tuple(faults[:MAX_VIOLATIONS]))


def bound_holds(plan: Plan, problem: Problem) -> bool:
    """Whether the bound of a plan says anything of this problem: it holds for less room as well, but not for more."""
    memory = problem.memory
    return plan.capacity_bytes >= memory.capacity_bytes and plan.alignment_bytes <= memory.alignment_bytes


def replay(schedule: Schedule, problem: Problem) -> Replay:
    """Carry out a schedule on a machine that knows the rules, and count. O(moves log n)."""
    return _Machine(schedule, problem).run()


def _false_claims(claims: Claims, found: Replay) -> Iterator[str]:
    """What a plan says of itself and does not do."""
    for what in ("compulsory_bytes", "non_compulsory_bytes", "peak_use_bytes"):
        claimed, counted = getattr(claims, what), getattr(found, what)
        if claimed != counted:
            yield f"the plan claims {what} = {claimed}, the replay counts {counted}"
    if claims.bound_bytes > found.non_compulsory_bytes:
        least = found.non_compulsory_bytes
        yield f"the claimed bound of {claims.bound_bytes} B exceeds the {least} B of the plan itself"
    if claims.status == "optimal" and claims.bound_bytes != claims.non_compulsory_bytes:
        yield f"claimed optimal, but the bound is {claims.bound_bytes} B"


def require_valid(plan: Plan, problem: Problem) -> Replay:
    """`check`, raising VerificationError with all violations if there are any."""
    found = check(plan, problem)
    if found.violations:
        count = len(found.violations)
        raise VerificationError(
            f"the plan violates {count} rule{'s' if count > 1 else ''}, first: {found.violations[0]}",
            found.violations,
        )
    return found


@dataclass(slots=True)
class _Machine:
    schedule: Schedule
    problem: Problem
    violations: list[str] = field(default_factory=list)
    where: dict[int, tuple[int, int]] = field(default_factory=dict)  # resident tensor -> (offset, since)
    ranges: list[tuple[int, int, int]] = field(default_factory=list)  # (offset, end, tensor), sorted
    host: set[int] = field(default_factory=set)  # tensors with a valid host copy
    tensors: dict[str, int] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)  # (tensor, start) -> offset, as listed
    peak: int = 0
    loads: Counter[int] = field(default_factory=Counter)
    stores: Counter[int] = field(default_factory=Counter)
    moved: int = 0
    rebuilt: list[Residency] = field(default_factory=list)

    def run(self) -> Replay:
        graph = self.problem.graph
        self.tensors = {t.name: a for a, t in enumerate(graph.tensors)}
        operators = {v.name: i for i, v in enumerate(graph.operators)}
        self.host = {a for a, t in enumerate(graph.tensors) if t.is_home}
        moves = self._by_step()
        self.offsets = {(r.tensor, r.start): r.offset_bytes for r in self.schedule.residencies}
        done: set[int] = set()
        for t, step in enumerate(self.schedule.order):
            phases = moves[t]
            for a, move in phases["load"]:
                self._load(t, a, move)
            v = operators.get(step.operator)
            if v is None:
                self._violate(t, f"unknown operator {step.operator!r}")
            else:
                self._execute(t, v, step, done)
            for a, move in phases["store"]:
                self._store(t, a, move)
            for a, move in phases["drop"]:
                self._drop(t, a, move)
        self._finish(done)
        return self._result()

    def _by_step(self) -> dict[int, dict[str, list[tuple[int, Move]]]]:
        phases: dict[int, dict[str, list[tuple[int, Move]]]] = defaultdict(lambda: defaultdict(list))
        for move in self.schedule.moves:
            a = self.tensors.get(move.tensor)
            if a is None:
                self._violate(move.step, f"{move.kind} of unknown tensor {move.tensor!r}")
            elif move.step >= len(self.schedule.order):
                self._violate(move.step, f"{move.kind} of {move.tensor!r} after the last step")
            else:
                phases[move.step][move.kind].append((a, move))
        return phases

    def _load(self, t: int, a: int, move: Move) -> None:
        self._check_size(t, a, move)
        if a not in self.host:
            self._violate(t, f"load of {self._name(a)}, which has no host copy")
        if a in self.where:
            self._violate(t, f"load of {self._name(a)}, which is already resident")
            return
        self.loads[a] += 1
        self._occupy(t, a, move.offset_bytes)

    def _execute(self, t: int, v: int, step: Step, done: set[int]) -> None:
        graph = self.problem.graph
        operator = graph.operators[v]
        if v in done:
            self._violate(t, f"operator {operator.name!r} runs a second time")
        done.add(v)
        for p in graph.predecessors[v]:
            if p not in done:
                self._violate(
                    t, f"operator {operator.name!r} runs before {graph.operators[p].name!r}, which it depends on"
                )
        run = self._run(t, v, step)
        if run is None:
            return
        found = self.problem.effects(v, run)
        for a in found.needs:
            if a not in self.where:
                self._violate(t, f"operator {operator.name!r} needs {self._name(a)}, which is not resident")
        for a in found.fetched:
            if a not in self.host:
                self._violate(t, f"operator {operator.name!r} streams {self._name(a)}, which has no host copy")
        buffers = self._lay_buffers(t, step, found) if step.buffers or found.buffers else []
        over = {w.output: w for w in found.overwrites}
        for a in sorted(found.made, key=lambda a: a in over):
            self._write(t, operator.name, a, over.get(a))
        for held in buffers:
            self.ranges.remove(held)
        self.host.update(found.sent)
        self.moved += found.moved_bytes

    def _run(self, t: int, v: int, step: Step) -> Run | None:
        """How the operator runs, None where it cannot run so."""
        name, modes = repr(step.operator), self.problem.modes[v]
        if step.mode >= len(modes):
            self._violate(t, f"operator {name} has no mode {step.mode}")
            return None
        streamed = {self.tensors.get(b.tensor, -1): b.tensor for b in step.buffers if b.tensor is not None}
        for a in streamed.keys() - {s.tensor for s in modes[step.mode].streams}:
            self._violate(t, f"operator {name} cannot stream {streamed[a]!r} in mode {step.mode}")
            return None
        return Run(step.mode, frozenset(streamed))

    def _write(self, t: int, name: str, a: int, over: Overwrite | None) -> None:
        """Make a tensor resident where the plan has it, in place of what it overwrites."""
        offset = self.offsets.get((self._raw(a), t))
        if offset is None:
            self._violate(t, f"operator {name!r} writes {self._name(a)}, which has no residency here")
        elif a in self.where:
            self._violate(t, f"operator {name!r} writes {self._name(a)}, which is already resident")
        else:
            if over is not None and over.input in self.where:
                start = self.where[over.input][0] - self.problem.aligned(over.distance_bytes)
                if offset != start:
                    self._violate(t, f"{self._name(a)} at {offset} overwrites {self._name(over.input)} from {start} on")
                self._free(t, over.input)
            self._occupy(t, a, offset)

    def _lay_buffers(self, t: int, step: Step, found: Effects) -> list[tuple[int, int, int]]:
        """Give each buffer of the run its place, beside everything else; what has to be freed after the step."""
        needed = Counter({(a, self.problem.aligned(size)): 1 for a, size in found.buffers})
        given = Counter((None if b.tensor is None else self.tensors[b.tensor], b.size_bytes) for b in step.buffers)
        for a, size in needed - given:
            what = "a workspace" if a is None else f"a buffer for {self._name(a)}"
            self._violate(t, f"operator {step.operator!r} needs {what} of {size} B, which it does not have")
        for a, size in given - needed:
            what = "workspace" if a is None else f"buffer for {self._name(a)}"
            self._violate(t, f"operator {step.operator!r} has no need of a {what} of {size} B")
        taken: list[tuple[int, int, int]] = []
        for b in step.buffers:
            what = "the workspace" if b.tensor is None else f"the buffer of {b.tensor!r}"
            self._check_place(t, what, b.offset_bytes, b.size_bytes)
            if b.size_bytes:
                taken.append((b.offset_bytes, b.offset_bytes + b.size_bytes, -1))
                insort(self.ranges, taken[-1])
            self.peak = max(self.peak, b.offset_bytes + b.size_bytes)
        return taken

    def _store(self, t: int, a: int, move: Move) -> None:
        self._check_size(t, a, move)
        if self._is_here(t, a, move):
            self.stores[a] += 1
            self.host.add(a)

    def _drop(self, t: int, a: int, move: Move) -> None:
        if self._is_here(t, a, move):
            self._free(t, a)

    def _free(self, t: int, a: int) -> None:
        """End a residency at the end of step t."""
        offset, since = self.where.pop(a)
        size = self.problem.sizes[a]
        if size:
            del self.ranges[bisect_left(self.ranges, (offset, offset + size, a))]
        self.rebuilt.append(Residency(self._raw(a), since, t + 1, offset, size))

    def _is_here(self, t: int, a: int, move: Move) -> bool:
        if a not in self.where:
            self._violate(t, f"{move.kind} of {self._name(a)}, which is not resident")
            return False
        if self.where[a][0] != move.offset_bytes:
            self._violate(
                t, f"{move.kind} of {self._name(a)} at {move.offset_bytes}, but it lies at {self.where[a][0]}"
            )
        return True

    def _occupy(self, t: int, a: int, offset: int) -> None:
        """Put a tensor at an offset and check its place."""
        size = self.problem.sizes[a]
        self.where[a] = (offset, t)
        self._check_place(t, self._name(a), offset, size)
        self.peak = max(self.peak, offset + size)
        if size:
            insort(self.ranges, (offset, offset + size, a))

    def _check_place(self, t: int, what: str, offset: int, size: int) -> None:
        """Alignment, capacity, and overlaps, of which both neighbours are looked at."""
        alignment, end = self.problem.memory.alignment_bytes, offset + size
        if offset % alignment:
            self._violate(t, f"{what} at {offset} is not aligned to {alignment} B")
        if end > self.problem.memory.capacity_bytes:
            self._violate(
                t, f"{what} at [{offset}, {end}) lies outside the {self.problem.memory.capacity_bytes} B scratchpad"
            )
        # Valid ranges are disjoint, so only the neighbours can overlap; after a violation more may.
        i = bisect_left(self.ranges, (offset, end, -1))
        for start, stop, b in self.ranges[max(0, i - 1) : i + 1] if size else ():
            if start < end and offset < stop:
                other = "a buffer" if b < 0 else self._name(b)
                self._violate(t, f"{what} at [{offset}, {end}) overlaps {other} at [{start}, {stop})")

    def _check_size(self, t: int, a: int, move: Move) -> None:
        if move.size_bytes != self.problem.sizes[a]:
            self._violate(
                t, f"{move.kind} of {self._name(a)} moves {move.size_bytes} B, its size is {self.problem.sizes[a]} B"
            )

    def _finish(self, done: set[int]) -> None:
        graph, end = self.problem.graph, len(self.schedule.order)
        for v, operator in enumerate(graph.operators):
            if v not in done:
                self._violate(None, f"operator {operator.name!r} never runs")
        for a, tensor in enumerate(graph.tensors):
            if tensor.kind == "output" and a not in self.host:
                self._violate(None, f"output {tensor.name!r} is never stored to the host")
        for a, (offset, since) in self.where.items():
            self.rebuilt.append(Residency(self._raw(a), since, end, offset, self.problem.sizes[a]))
        listed, found = Counter(self.schedule.residencies), Counter(self.rebuilt)
        for r in sorted((listed - found).elements(), key=lambda r: (r.start, r.tensor)):
            self._violate(r.start, f"residency of {r.tensor!r} {_show(r)} is listed, but the moves do not make it")
        for r in sorted((found - listed).elements(), key=lambda r: (r.start, r.tensor)):
            self._violate(r.start, f"the moves keep {r.tensor!r} {_show(r)}, which is not listed")

    def _result(self) -> Replay:
        problem = self.problem
        total = sum(n * problem.sizes[a] for a, n in (self.loads + self.stores).items()) + self.moved
        compulsory = problem.compulsory_bytes
        return Replay(
            tuple(self.violations), compulsory, total - compulsory, self.peak, self.loads.total(), self.stores.total()
        )

    def _raw(self, a: int) -> str:
        return self.problem.graph.tensors[a].name

    def _name(self, a: int) -> str:
        return repr(self._raw(a))

    def _violate(self, step: int | None, what: str) -> None:
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(what if step is None else f"step {step}: {what}")


def _show(r: Residency) -> str:
    return f"steps [{r.start}, {r.end}) at {r.offset_bytes}, {r.size_bytes} B"
