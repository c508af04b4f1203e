"""The compact integer programme of optimal replacement, and of modes, under a fixed schedule.

One binary a gap that may have to go: keep the tensor (1) or evict it (0). Where an operator has a choice, one binary
a mode (y) and one for each operand that a mode may stream (s); such an operand is resident at the step if it is not
streamed.

    minimise    sum size (1 - keep)  +  sum size stored  +  sum (moved - size) s
    subject to  at each step         sum size keep over the gaps across it  +  bytes of the operator's run <= capacity
                at each step         sum y = 1;   s <= y of its mode
                for each gap and each end of it          keep + s <= 1
                for each gap whose tensor is overwritten at its first step   keep + y <= 1
                for each gap of an activation            stored + keep + s at its end + s at its writer >= 1
                for each streamed read of an activation  stored + s at its writer >= s
                for each cut K (gaps that cannot be placed together with these runs)   not all of K

`moved` is what streaming takes; the size is paid, with the gap, where the operand is loaded instead. Operators that
run on the host have nothing to decide. With the paper's one mode y and s are gone, and so are all gaps but those across
steps that lack room. The COSMA paper's time-indexed formulation needs a binary for each tensor and timestep; see
docs/problem.md#keep-or-evict.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import gcd

from cosma.deadline import Deadline
from cosma.milp.programme import Programme
from cosma.modes import Run
from cosma.schedule.timeline import Gap, Timeline

_Terms = list[tuple[int, int]]  # (column, bytes)


@dataclass(frozen=True, slots=True)
class Cut:
    """Gaps that cannot all be kept while these operators run so."""

    gaps: frozenset[Gap]
    runs: tuple[tuple[int, Run], ...] = ()


@dataclass(frozen=True, slots=True)
class GapProgramme:
    """The programme, bytes divided by `unit`, and what its columns decide.

    timeline: every operand resident, each operator in its first mode, or the given runs where those are held. keep: gap
    -> column. modes[v]: the columns of its modes, none if there is one alone. streams[v]: (mode, tensor) -> column. Its
    objective is in addition to `timeline.base_bytes`.
    """

    programme: Programme
    timeline: Timeline
    unit: int
    keep: dict[int, int]
    modes: dict[int, list[int]]
    streams: dict[int, dict[tuple[int, int], int]]

    @property
    def is_decided(self) -> bool:
        """Whether nothing is left to decide: everything stays."""
        return not (self.keep or self.modes or self.streams)

    def decode(self, values: Sequence[int]) -> tuple[Timeline, frozenset[int]]:
        """The timeline of a solution and the gaps that it evicts."""
        gone = {g for g, column in self.keep.items() if not values[column]}
        if not self.modes and not self.streams:
            return self.timeline, frozenset(gone)
        runs = list(self.timeline.runs)
        for v in self.modes.keys() | self.streams.keys():
            columns = self.modes.get(v, [])
            mode = next((m for m, column in enumerate(columns) if values[column]), 0)
            streamed = (a for (m, a), column in self.streams.get(v, {}).items() if m == mode and values[column])
            runs[v] = Run(mode, frozenset(streamed))
        found = self.timeline.with_runs(tuple(runs))
        kept = {gap for g, gap in enumerate(self.timeline.gaps) if g not in gone}
        return found, frozenset(g for g, gap in enumerate(found.gaps) if gap not in kept)


def build(
    timeline: Timeline,
    cuts: Iterable[Cut],
    incumbent: tuple[Timeline, frozenset[int]],
    deadline: Deadline,
    holds_runs: bool = False,
) -> GapProgramme:
    """State the programme for the order of a timeline; `incumbent` is a timeline of it and the gaps evicted so far.

    holds_runs: each operator runs as the timeline says. Requires that some run of every operator fits, or that
    one. Raises ProgrammeTooLargeError.
    """
    decides = timeline.problem.has_choices and not holds_runs
    if decides:
        host = set(timeline.problem.on_host)
        timeline = timeline.with_runs(tuple(run if v in host else Run() for v, run in enumerate(timeline.problem.runs)))
    return _Builder(timeline, list(cuts), deadline, decides).build(incumbent)


@dataclass(slots=True)
class _Builder:
    timeline: Timeline
    cuts: list[Cut]
    deadline: Deadline
    decides_runs: bool
    unit: int = 1
    programme: Programme = field(init=False)
    keep: dict[int, int] = field(default_factory=dict)
    modes: dict[int, list[int]] = field(default_factory=dict)
    streams: dict[int, dict[tuple[int, int], int]] = field(default_factory=dict)
    stored: dict[int, int] = field(default_factory=dict)

    def build(self, incumbent: tuple[Timeline, frozenset[int]]) -> GapProgramme:
        timeline, problem = self.timeline, self.timeline.problem
        number = {gap: g for g, gap in enumerate(timeline.gaps)} if self.cuts else {}
        rows = _binding_rows(timeline, self._has_choice)
        across = _gaps_across(timeline, [t for t, _ in self._steps_of_choices()])
        cut = {number[gap] for cut in self.cuts for gap in cut.gaps}
        chosen = sorted(
            cut.union(timeline.lost, *(gaps for gaps, _ in rows), *across.values(), self._gaps_ending_at_choices())
        )
        size_of = {g: problem.sizes[timeline.gaps[g].tensor] for g in chosen}
        self.unit = gcd(*size_of.values(), *self._bytes_of_choices()) or 1
        self.programme = Programme("replacement", self.deadline)
        self.keep = {g: self.programme.binary(f"keep{g}", -size_of[g] // self.unit) for g in chosen}
        self.programme.offset = sum(size_of.values()) // self.unit
        self._choices()
        for gaps, room in rows:
            self.programme.at_most("room", self._kept(gaps), room // self.unit)
        self._rooms_of_choices(across)
        self._stores(chosen)
        self._ends()
        for each in self.cuts:
            terms, count = self._literals(each.runs)
            terms += [(self.keep[number[gap]], 1) for gap in each.gaps]
            self.programme.at_most("cut", terms, count + len(each.gaps) - 1)
        self._hint(incumbent)
        return GapProgramme(self.programme, timeline, self.unit, self.keep, self.modes, self.streams)

    def _kept(self, gaps: Iterable[int]) -> Iterator[tuple[int, int]]:
        """The bytes of gaps that are kept."""
        sizes, timeline = self.timeline.problem.sizes, self.timeline
        return ((self.keep[g], sizes[timeline.gaps[g].tensor] // self.unit) for g in gaps)

    def _has_choice(self, v: int) -> bool:
        """Whether the programme decides how operator v runs."""
        return self.decides_runs and self.timeline.problem.has_choice(v)

    def _steps_of_choices(self) -> Iterator[tuple[int, int]]:
        """(step, operator) of those that leave anything to decide."""
        return ((t, v) for t, v in enumerate(self.timeline.order) if self._has_choice(v))

    def _gaps_ending_at_choices(self) -> Iterator[int]:
        """Gaps that may have to go for what happens at one of their ends."""
        problem, order = self.timeline.problem, self.timeline.order
        if not self.decides_runs:
            return
        streamable = [{s.tensor for mode in problem.modes[v] for s in mode.streams} for v in order]
        lost = [{w.input for mode in problem.modes[v] for w in mode.overwrites} for v in order]
        for g, gap in enumerate(self.timeline.gaps):
            if gap.tensor in streamable[gap.first] | streamable[gap.second] | lost[gap.first]:
                yield g

    def _bytes_of_choices(self) -> Iterator[int]:
        """All numbers of bytes that have a part in the steps with a choice."""
        problem = self.timeline.problem
        for _, v in self._steps_of_choices():
            yield from (problem.sizes[a] for a in problem.operands[v])
            for m, mode in enumerate(problem.modes[v]):
                yield from (n for s in mode.streams for n in (problem.aligned(s.buffer_bytes), s.moved_bytes))
                yield problem.run_bytes(v, Run(m))

    def _choices(self) -> None:
        """Columns for modes and streams, with what they cost, and rows by which each operator runs in one way."""
        programme, problem = self.programme, self.timeline.problem
        for t, v in self._steps_of_choices():
            modes = problem.modes[v]
            if len(modes) > 1:
                self.modes[v] = [programme.binary(f"mode{t}_{m}") for m in range(len(modes))]
                programme.equal("one mode", ((y, 1) for y in self.modes[v]), 1)
            for m, mode in enumerate(modes):
                for s in mode.streams:
                    cost = (s.moved_bytes - self._paid_if_resident(t, s.tensor)) // self.unit
                    column = programme.binary(f"stream{t}_{m}_{s.tensor}", cost)
                    self.streams.setdefault(v, {})[m, s.tensor] = column
                    if len(modes) > 1:
                        programme.at_most("stream in its mode", ((column, 1), (self.modes[v][m], -1)), 0)

    def _paid_if_resident(self, t: int, a: int) -> int:
        """Bytes that the objective has for tensor a at step t unless it is streamed there, whatever is kept.

        The first load or the store of what the host has a copy of anyway, and the load at the end of every gap.
        """
        paid = a in self.timeline.hosted or self.timeline.uses[a][0] != t
        return self.timeline.problem.sizes[a] if paid else 0

    def _rooms_of_choices(self, across: dict[int, list[int]]) -> None:
        """Room at the steps with a choice: gaps across, and the bytes of the run that is chosen."""
        problem, unit = self.timeline.problem, self.unit
        for t, v in self._steps_of_choices():
            fixed = 0
            terms: _Terms = list(self._kept(across[t]))
            for m in range(len(problem.modes[v])):
                taken = problem.run_bytes(v, Run(m)) // unit
                if v in self.modes:
                    terms.append((self.modes[v][m], taken))
                else:
                    fixed = taken
                for s in problem.modes[v][m].streams:
                    less = problem.aligned(s.buffer_bytes) - problem.sizes[s.tensor]
                    terms.append((self.streams[v][m, s.tensor], less // unit))
            self.programme.at_most("room", terms, problem.memory.capacity_bytes // unit - fixed)

    def _streamed(self, v: int | None, a: int) -> _Terms:
        """Whether operator v streams tensor a."""
        return [] if v is None else [(c, 1) for (_, b), c in self.streams.get(v, {}).items() if a == b]

    def _stores(self, chosen: Sequence[int]) -> None:
        """An activation that is read again from the host has been stored, or streamed to it by its writer."""
        timeline, producer = self.timeline, self.timeline.problem.graph.producer
        for g in chosen:
            a, end = timeline.gaps[g].tensor, timeline.order[timeline.gaps[g].second]
            if a not in timeline.hosted:
                terms = [
                    (self._store(a), 1),
                    (self.keep[g], 1),
                    *self._streamed(end, a),
                    *self._streamed(producer[a], a),
                ]
                self.programme.at_least("store", terms, 1)
        for v, columns in self.streams.items():
            for (_, a), column in columns.items():
                if a not in timeline.hosted and producer[a] != v:
                    terms = [(self._store(a), 1), *self._streamed(producer[a], a), (column, -1)]
                    self.programme.at_least("store before streaming", terms, 0)

    def _store(self, a: int) -> int:
        """The column that says whether tensor a is stored."""
        if a not in self.stored:
            self.stored[a] = self.programme.binary(f"stored{a}", self.timeline.problem.sizes[a] // self.unit)
        return self.stored[a]

    def _ends(self) -> None:
        """A tensor is kept between two uses only if it is resident at both and not overwritten at the first."""
        order, problem = self.timeline.order, self.timeline.problem
        for g in self.timeline.lost if not self.decides_runs else ():
            self.programme.at_most("overwritten", [(self.keep[g], 1)], 0)
        for g in self.keep if self.decides_runs else ():
            gap = self.timeline.gaps[g]
            for step in (gap.first, gap.second):
                if streamed := self._streamed(order[step], gap.tensor):
                    self.programme.at_most("resident at both ends", [(self.keep[g], 1), *streamed], 1)
            v = order[gap.first]
            for m, mode in enumerate(problem.modes[v]):
                if any(w.input == gap.tensor for w in mode.overwrites):
                    overwritten = [(self.modes[v][m], 1)] if v in self.modes else []
                    self.programme.at_most("overwritten", [(self.keep[g], 1), *overwritten], len(overwritten))

    def _literals(self, runs: Iterable[tuple[int, Run]]) -> tuple[_Terms, int]:
        """Terms that add up to the number given with them if and only if these operators run so."""
        terms: _Terms = []
        count = 0
        for v, run in runs:
            if v in self.modes:
                terms.append((self.modes[v][run.mode], 1))
                count += 1
            for (m, a), column in self.streams.get(v, {}).items():
                if m == run.mode:
                    terms.append((column, 1 if a in run.streamed else -1))
                    count += a in run.streamed
        return terms, count

    def _hint(self, incumbent: tuple[Timeline, frozenset[int]]) -> None:
        """The incumbent as values of the columns."""
        found, evicted = incumbent
        gone = {found.gaps[g] for g in evicted | found.lost}
        kept = {gap for gap in found.gaps if gap not in gone} if self.modes or self.streams else None
        hint, gaps = self.programme.hint, self.timeline.gaps
        hint |= {c: int(gaps[g] in kept if kept is not None else gaps[g] not in gone) for g, c in self.keep.items()}
        for v, columns in self.modes.items():
            hint |= {column: int(m == found.runs[v].mode) for m, column in enumerate(columns)}
        for v, streams in self.streams.items():
            run = found.runs[v]
            hint |= {column: int(m == run.mode and a in run.streamed) for (m, a), column in streams.items()}
        fetched = {a for e in found.effects for a in e.fetched} if self.streams else set()
        sent = {a for e in found.effects for a in e.sent} if self.streams else set()
        loaded = {gap.tensor for gap in gone} | fetched
        hint |= {column: int(a in loaded and a not in sent) for a, column in self.stored.items()}


def _binding_rows(timeline: Timeline, has_choice: Callable[[int], bool]) -> list[tuple[tuple[int, ...], int]]:
    """(gaps across, room) of the steps without a choice at which keeping everything does not fit.

    Of consecutive steps crossed by the same gaps only the tightest counts, and a step crossed by a
    subset of its neighbour's gaps with no less room adds nothing.
    """
    problem = timeline.problem
    opening = _opening(timeline)
    across: set[int] = set()
    closing: dict[int, list[int]] = {}
    live = 0
    tightest: dict[tuple[int, ...], int] = {}
    for t, room in enumerate(timeline.room):
        for g in closing.pop(t, []):
            across.discard(g)
            live -= problem.sizes[timeline.gaps[g].tensor]
        for g in opening.get(t, []):
            across.add(g)
            live += problem.sizes[timeline.gaps[g].tensor]
            closing.setdefault(timeline.gaps[g].second, []).append(g)
        if live > room and not has_choice(timeline.order[t]):
            gaps = tuple(sorted(across))
            tightest[gaps] = min(room, tightest.get(gaps, room))
    return list(tightest.items())


def _gaps_across(timeline: Timeline, steps: Iterable[int]) -> dict[int, list[int]]:
    """The gaps with bytes across each of some steps."""
    wanted = sorted(steps)
    across: dict[int, list[int]] = {t: [] for t in wanted}
    for gaps in _opening(timeline).values() if wanted else ():
        for g in gaps:
            gap = timeline.gaps[g]
            for t in wanted[bisect_right(wanted, gap.first) : bisect_left(wanted, gap.second)]:
                across[t].append(g)
    return across


def _opening(timeline: Timeline) -> dict[int, list[int]]:
    """Gaps with bytes and steps inside, by their first step inside."""
    opening: dict[int, list[int]] = {}
    for g, gap in enumerate(timeline.gaps):
        if gap.second - gap.first > 1 and timeline.problem.sizes[gap.tensor]:
            opening.setdefault(gap.first + 1, []).append(g)
    return opening
