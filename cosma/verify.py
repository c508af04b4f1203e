"""Replays a plan against a problem and recomputes everything that it claims. Imports no solver.

The replay is a machine with a scratchpad, a host memory and the rules of docs/problem.md#constraints. It trusts the
problem for sizes and modes, and nothing in the plan: residencies are rebuilt from the moves and
only then compared with the plan's own table.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from cosma.errors import VerificationError
from cosma.plan import Move, Plan, Residency
from cosma.problem import Mode, Problem

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
    """Replay `plan` on `problem` (whose capacity and alignment count, not the plan's). O(moves log n)."""
    return _Machine(plan, problem).run()


def require_valid(plan: Plan, problem: Problem) -> Replay:
    """`check`, raising VerificationError with all violations if there are any."""
    replay = check(plan, problem)
    if replay.violations:
        count = len(replay.violations)
        raise VerificationError(
            f"the plan violates {count} rule{'s' if count > 1 else ''}, first: {replay.violations[0]}",
            replay.violations,
        )
    return replay


@dataclass(slots=True)
class _Machine:
    plan: Plan
    problem: Problem
    violations: list[str] = field(default_factory=list)
    where: dict[int, tuple[int, int]] = field(default_factory=dict)  # resident tensor -> (offset, since)
    ranges: list[tuple[int, int, int]] = field(default_factory=list)  # (offset, end, tensor), sorted
    host: set[int] = field(default_factory=set)  # tensors with a valid host copy
    used: int = 0
    peak: int = 0
    loads: Counter[int] = field(default_factory=Counter)
    stores: Counter[int] = field(default_factory=Counter)
    moved: int = 0
    rebuilt: list[Residency] = field(default_factory=list)

    def run(self) -> Replay:
        graph = self.problem.graph
        tensors = {t.name: a for a, t in enumerate(graph.tensors)}
        operators = {v.name: i for i, v in enumerate(graph.operators)}
        self.host = {a for a, t in enumerate(graph.tensors) if t.is_home}
        if self.plan.source.fingerprint != self.problem.fingerprint():
            self._violate(
                None, f"the plan is for another model or other settings: it was made for {self.plan.source.model!r}"
            )
            return Replay(tuple(self.violations), self.problem.compulsory_bytes, 0, 0, 0, 0)
        if self.plan.alignment_bytes % self.problem.alignment_bytes:
            needed = self.problem.alignment_bytes
            self._violate(
                None, f"planned for an alignment of {self.plan.alignment_bytes} B, the hardware needs {needed} B"
            )
        moves = self._by_step(tensors)
        offsets = {(r.tensor, r.start): r.offset_bytes for r in self.plan.residencies}
        done: set[int] = set()
        for t, step in enumerate(self.plan.order):
            phases = moves[t]
            for a, move in phases["load"]:
                self._load(t, a, move)
            v = operators.get(step.operator)
            if v is None:
                self._violate(t, f"unknown operator {step.operator!r}")
            else:
                self._execute(t, v, step.mode, done, offsets)
            for a, move in phases["store"]:
                self._store(t, a, move)
            for a, move in phases["drop"]:
                self._drop(t, a, move)
        self._finish(done)
        return self._result()

    def _by_step(self, tensors: dict[str, int]) -> dict[int, dict[str, list[tuple[int, Move]]]]:
        phases: dict[int, dict[str, list[tuple[int, Move]]]] = defaultdict(lambda: defaultdict(list))
        for move in self.plan.moves:
            a = tensors.get(move.tensor)
            if a is None:
                self._violate(move.step, f"{move.kind} of unknown tensor {move.tensor!r}")
            elif move.step >= len(self.plan.order):
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

    def _execute(self, t: int, v: int, number: int, done: set[int], offsets: dict[tuple[str, int], int]) -> None:
        graph, problem = self.problem.graph, self.problem
        operator = graph.operators[v]
        if v in done:
            self._violate(t, f"operator {operator.name!r} runs a second time")
        done.add(v)
        for p in graph.predecessors[v]:
            if p not in done:
                self._violate(
                    t, f"operator {operator.name!r} runs before {graph.operators[p].name!r}, which it depends on"
                )
        if number >= len(problem.modes[v]):
            self._violate(t, f"operator {operator.name!r} has no mode {number}")
            return
        mode = problem.modes[v][number]
        written = set(operator.outputs)
        for a in mode.resident:
            if a in written and a not in self.where:
                offset = offsets.get((self._raw(a), t))
                if offset is None:
                    self._violate(t, f"operator {operator.name!r} writes {self._name(a)}, which has no residency here")
                else:
                    self._occupy(t, a, offset)
            elif a not in self.where:
                self._violate(t, f"operator {operator.name!r} needs {self._name(a)}, which is not resident")
        self._check_room(t, operator.name, mode)
        self.moved += mode.moved_bytes

    def _check_room(self, t: int, name: str, mode: Mode) -> None:
        free = self.problem.capacity_bytes - self.used
        if 0 < mode.workspace_bytes > free:
            self._violate(t, f"operator {name!r} needs {mode.workspace_bytes} B of workspace, {free} B are free")

    def _store(self, t: int, a: int, move: Move) -> None:
        self._check_size(t, a, move)
        if self._is_here(t, a, move):
            self.stores[a] += 1
            self.host.add(a)

    def _drop(self, t: int, a: int, move: Move) -> None:
        if not self._is_here(t, a, move):
            return
        offset, since = self.where.pop(a)
        size = self.problem.sizes[a]
        if size:
            del self.ranges[bisect_left(self.ranges, (offset, offset + size, a))]
        self.used -= size
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
        """Put a tensor at an offset and check its place; overlaps are checked against both neighbours."""
        size, alignment = self.problem.sizes[a], self.problem.alignment_bytes
        end = offset + size
        self.where[a] = (offset, t)
        if offset % alignment:
            self._violate(t, f"{self._name(a)} at {offset} is not aligned to {alignment} B")
        if end > self.problem.capacity_bytes:
            self._violate(
                t, f"{self._name(a)} at [{offset}, {end}) lies outside the {self.problem.capacity_bytes} B scratchpad"
            )
        self.used += size
        self.peak = max(self.peak, end)
        if not size:
            return
        # Valid ranges are disjoint, so only the neighbours can overlap; after a violation more may.
        i = bisect_left(self.ranges, (offset, end, a))
        for start, stop, b in self.ranges[max(0, i - 1) : i + 1]:
            if start < end and offset < stop:
                self._violate(t, f"{self._name(a)} at [{offset}, {end}) overlaps {self._name(b)} at [{start}, {stop})")
        insort(self.ranges, (offset, end, a))

    def _check_size(self, t: int, a: int, move: Move) -> None:
        if move.size_bytes != self.problem.sizes[a]:
            self._violate(
                t, f"{move.kind} of {self._name(a)} moves {move.size_bytes} B, its size is {self.problem.sizes[a]} B"
            )

    def _finish(self, done: set[int]) -> None:
        graph, end = self.problem.graph, len(self.plan.order)
        for v, operator in enumerate(graph.operators):
            if v not in done:
                self._violate(None, f"operator {operator.name!r} never runs")
        for a, tensor in enumerate(graph.tensors):
            if tensor.kind == "output" and a not in self.host:
                self._violate(None, f"output {tensor.name!r} is never stored to the host")
        for a, (offset, since) in self.where.items():
            self.rebuilt.append(Residency(self._raw(a), since, end, offset, self.problem.sizes[a]))
        listed, found = Counter(self.plan.residencies), Counter(self.rebuilt)
        for r in sorted((listed - found).elements(), key=lambda r: (r.start, r.tensor)):
            self._violate(r.start, f"residency of {r.tensor!r} {_show(r)} is listed, but the moves do not make it")
        for r in sorted((found - listed).elements(), key=lambda r: (r.start, r.tensor)):
            self._violate(r.start, f"the moves keep {r.tensor!r} {_show(r)}, which is not listed")

    def _result(self) -> Replay:
        problem, claims = self.problem, self.plan.claims
        total = sum(n * problem.sizes[a] for a, n in (self.loads + self.stores).items()) + self.moved
        compulsory = problem.compulsory_bytes
        for what, claimed, found in (
            ("compulsory_bytes", claims.compulsory_bytes, compulsory),
            ("non_compulsory_bytes", claims.non_compulsory_bytes, total - compulsory),
            ("peak_use_bytes", claims.peak_use_bytes, self.peak),
        ):
            if claimed != found:
                self._violate(None, f"the plan claims {what} = {claimed}, the replay counts {found}")
        if claims.bound_bytes > total - compulsory:
            self._violate(
                None,
                f"the claimed bound of {claims.bound_bytes} B exceeds the {total - compulsory} B of the plan itself",
            )
        if claims.status == "optimal" and claims.bound_bytes != claims.non_compulsory_bytes:
            self._violate(None, f"claimed optimal, but the bound is {claims.bound_bytes} B")
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
