"""Replays a plan against a problem and recomputes everything that it claims. Imports no solver.

The replay is a machine with a scratchpad, a host memory and the rules of docs/problem.md#constraints. It trusts the
problem for sizes and modes, and nothing in the plan.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cosma.binding import Bound, to_numbers
from cosma.errors import VerificationError
from cosma.instructions import Instruction, Schedule, runs_of, with_steps
from cosma.modes import Effects, Overwrite
from cosma.plan import Claims, Plan
from cosma.problem import Problem
from cosma.recount import mode_of

MAX_VIOLATIONS = 100


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found. Byte counts hold whether or not there are violations."""

    violations: tuple[str, ...]
    compulsory_bytes: int
    non_compulsory_bytes: int
    peak_use_bytes: int
    streamed_bytes: int = 0
    tiles: int = 0
    transfers: int = 0
    loads: int = 0
    stores: int = 0


def check(plan: Plan, problem: Problem) -> Replay:
    """Replay `plan` on `problem` (whose capacity and alignment count, not the plan's) and compare what it claims."""
    compulsory = problem.compulsory_bytes
    if plan.source.fingerprint != problem.fingerprint():
        why = f"the plan is for another model or other settings: it was made for {plan.source.model!r}"
        return Replay((why,), compulsory, 0, 0)
    faults = []
    if plan.alignment_bytes % problem.memory.alignment_bytes:
        needed = problem.memory.alignment_bytes
        faults.append(f"planned for an alignment of {plan.alignment_bytes} B, the hardware needs {needed} B")
    bound = to_numbers(plan, problem)
    found = replay(bound.schedule, bound.problem)
    faults += [*bound.faults, *found.violations, *_miscounted(bound), *_false_claims(plan.claims, found)]
    return replace(found, violations=tuple(faults[:MAX_VIOLATIONS]))


def bound_holds(plan: Plan, problem: Problem) -> bool:
    """Whether the bound of a plan says anything of this problem: it holds for less room as well, but not for more."""
    memory = problem.memory
    return plan.capacity_bytes >= memory.capacity_bytes and plan.alignment_bytes <= memory.alignment_bytes


def replay(schedule: Schedule, problem: Problem) -> Replay:
    """Carry out a schedule on a machine that knows the rules, and count. O(instructions log n)."""
    return _Machine(schedule, problem).run()


def _miscounted(bound: Bound) -> Iterator[str]:
    """Modes in which operators run and whose numbers are not those of their tiling, counted tile by tile."""
    problem = bound.problem
    for v, run in runs_of(bound.schedule):
        mode, operator = problem.modes[v][run.mode], problem.graph.operators[v]
        if not mode.tiling or not run.streamed or mode.is_larger:  # that was counted when it was read
            continue
        if operator.nest is None:
            yield f"operator {operator.name!r} runs in tiles, and no rule says what they touch"
            continue
        alignment = problem.memory.alignment_bytes
        counted = mode_of(operator.nest, problem.tiler, mode.tiling, problem.sizes, alignment)
        if set(mode.streams) != set(counted.streams) or mode.workspace_bytes != counted.workspace_bytes:
            yield f"operator {operator.name!r}: mode {run.mode} is not what its tiles {dict(mode.tiling)} take and move"


def _false_claims(claims: Claims, found: Replay) -> Iterator[str]:
    """What a plan says of itself and does not do."""
    for what in ("compulsory_bytes", "non_compulsory_bytes", "peak_use_bytes", "streamed_bytes", "tiles", "transfers"):
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
    where: dict[int, int] = field(default_factory=dict)  # resident tensor -> offset
    ranges: list[tuple[int, int, int]] = field(default_factory=list)  # (offset, end, tensor), sorted
    host: set[int] = field(default_factory=set)  # tensors with a valid host copy
    peak: int = 0
    loads: Counter[int] = field(default_factory=Counter)
    stores: Counter[int] = field(default_factory=Counter)
    moved: int = 0
    tiles: int = 0
    transfers: int = 0

    def run(self) -> Replay:
        self.host = {a for a, t in enumerate(self.problem.graph.tensors) if t.is_home}
        done: set[int] = set()
        for t, i in with_steps(self.schedule):
            if i.op == "execute":
                self._execute(t, i, done)
            elif i.op == "load":
                self._load(t, i.number, i.offset)
            elif self._is_here(t, i):
                self._store(i.number) if i.op == "store" else self._free(i.number)
        self._finish(done)
        return self._result()

    def _load(self, t: int, a: int, offset: int) -> None:
        if a not in self.host:
            self._violate(t, f"load of {self._name(a)}, which has no host copy")
        if a in self.where:
            self._violate(t, f"load of {self._name(a)}, which is already resident")
            return
        self.loads[a] += 1
        self._occupy(t, a, offset)

    def _execute(self, t: int, i: Instruction, done: set[int]) -> None:
        graph, v = self.problem.graph, i.number
        operator, mode = graph.operators[v], self.problem.modes[v][i.run.mode]
        if v in done:
            self._violate(t, f"operator {operator.name!r} runs a second time")
        done.add(v)
        for p in graph.predecessors[v]:
            if p not in done:
                self._violate(
                    t, f"operator {operator.name!r} runs before {graph.operators[p].name!r}, which it depends on"
                )
        found = self.problem.effects(v, i.run)
        for a in found.needs:
            if a not in self.where:
                self._violate(t, f"operator {operator.name!r} needs {self._name(a)}, which is not resident")
        for a in found.fetched:
            if a not in self.host:
                self._violate(t, f"operator {operator.name!r} streams {self._name(a)}, which has no host copy")
        places = dict(i.places)
        buffers = self._lay_buffers(t, operator.name, places, found)
        over = {w.output: w for w in found.overwrites}
        for a in sorted(found.made, key=lambda a: a in over):
            self._write(t, operator.name, a, places.pop(a, None), over.get(a))
        for b in places:
            what = "workspace" if b is None else f"place for {self._name(b)}"
            self._violate(t, f"operator {operator.name!r} has no need of a {what}")
        for held in buffers:
            self.ranges.remove(held)
        self.host.update(found.sent)
        self.moved += found.moved_bytes
        self.tiles += mode.tiles
        self.transfers += sum(s.transfers for s in mode.streams if s.tensor in i.run.streamed)

    def _write(self, t: int, name: str, a: int, offset: int | None, over: Overwrite | None) -> None:
        """Make a tensor resident where the plan has it, in place of what it overwrites."""
        if offset is None:
            self._violate(t, f"operator {name!r} writes {self._name(a)}, which has no place here")
        elif a in self.where:
            self._violate(t, f"operator {name!r} writes {self._name(a)}, which is already resident")
        else:
            if over is not None and over.input in self.where:
                start = self.where[over.input] - self.problem.aligned(over.distance_bytes)
                if offset != start:
                    self._violate(t, f"{self._name(a)} at {offset} overwrites {self._name(over.input)} from {start} on")
                self._free(over.input)
            self._occupy(t, a, offset)

    def _lay_buffers(
        self, t: int, name: str, places: dict[int | None, int], found: Effects
    ) -> list[tuple[int, int, int]]:
        """Give each buffer of the run its place, beside everything else; what has to be freed after the step.

        What has found its place is taken out of `places`.
        """
        taken: list[tuple[int, int, int]] = []
        for a, plain in found.buffers:
            what, size = "the workspace" if a is None else f"the buffer of {self._name(a)}", self.problem.aligned(plain)
            offset = places.pop(a, None)
            if offset is None:
                self._violate(t, f"operator {name!r} needs {size} B for {what}, which it does not have")
                continue
            self._check_place(t, what, offset, size)
            if size:
                taken.append((offset, offset + size, -1))
                insort(self.ranges, taken[-1])
            self.peak = max(self.peak, offset + size)
        return taken

    def _store(self, a: int) -> None:
        self.stores[a] += 1
        self.host.add(a)

    def _free(self, a: int) -> None:
        """End a residency."""
        offset, size = self.where.pop(a), self.problem.sizes[a]
        if size:
            del self.ranges[bisect_left(self.ranges, (offset, offset + size, a))]

    def _is_here(self, t: int, i: Instruction) -> bool:
        """Whether a tensor that is stored or dropped is resident, where the plan says."""
        a = i.number
        if a not in self.where:
            self._violate(t, f"{i.op} of {self._name(a)}, which is not resident")
            return False
        if self.where[a] != i.offset:
            self._violate(t, f"{i.op} of {self._name(a)} at {i.offset}, but it lies at {self.where[a]}")
        return True

    def _occupy(self, t: int, a: int, offset: int) -> None:
        """Put a tensor at an offset and check its place."""
        size = self.problem.sizes[a]
        self.where[a] = offset
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

    def _finish(self, done: set[int]) -> None:
        graph = self.problem.graph
        for v, operator in enumerate(graph.operators):
            if v not in done:
                self._violate(None, f"operator {operator.name!r} never runs")
        for a, tensor in enumerate(graph.tensors):
            if tensor.kind == "output" and a not in self.host:
                self._violate(None, f"output {tensor.name!r} is never stored to the host")

    def _result(self) -> Replay:
        problem = self.problem
        total = sum(n * problem.sizes[a] for a, n in (self.loads + self.stores).items()) + self.moved
        compulsory = problem.compulsory_bytes
        moves = self.loads.total() + self.stores.total()
        return Replay(
            tuple(self.violations), compulsory, total - compulsory, self.peak, self.moved, self.tiles,
            moves + self.transfers, self.loads.total(), self.stores.total(),
        )  # fmt: skip

    def _name(self, a: int) -> str:
        return repr(self.problem.graph.tensors[a].name)

    def _violate(self, step: int | None, what: str) -> None:
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(what if step is None else f"step {step}: {what}")
