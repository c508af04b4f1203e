"""What if: models x hardware x capacities x settings x solvers -> rows, each from a verified plan.

A case is one model, read in one way, for one kind of scratchpad and one solver; it asks for capacities in rounds
(`staircase.Probe`), one round for a list, as many as it takes for the exact staircase.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import cosma
from cosma.analysis.estimate import Estimates, estimate
from cosma.binding import to_numbers
from cosma.compile import Prepared, solve
from cosma.errors import CosmaError
from cosma.experiments.cache import Cache, code, digest
from cosma.experiments.kept import Kept, keep, rebuild
from cosma.experiments.row_files import columns
from cosma.experiments.rows import WENT_WRONG, Status, Swept, key_of
from cosma.experiments.staircase import Point, Probe, Search, staircase
from cosma.instructions import runs_of
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.solvers.options import Options, SearchOptions
from cosma.target.hardware import Hardware
from cosma.target.mode_sets import modes_text
from cosma.workers.pool import Failed, Pool, processes


@dataclass(frozen=True, slots=True)
class Answer:
    """What solving came to; bytes and counts are None without a plan.

    order: operators by index, empty if not known. kept: of a proved plan, what the cache may keep.
    """

    status: Status
    why: str
    non_compulsory_bytes: int | None = None
    bound_bytes: int | None = None
    peak_use_bytes: int | None = None
    streamed_bytes: int | None = None
    host_operators: int | None = None
    tiles: int | None = None
    transfers: int | None = None
    loads: int | None = None
    stores: int | None = None
    order: tuple[int, ...] = ()
    kept: Kept | None = None

    @property
    def found(self) -> Point | None:
        """What the search for a staircase wants to know."""
        if self.non_compulsory_bytes is None or self.bound_bytes is None or self.peak_use_bytes is None:
            return None
        return Point(self.non_compulsory_bytes, self.bound_bytes, self.peak_use_bytes, self.order)


_FACTS = [f.name for f in fields(Answer) if f.name in columns(Swept)]  # what a row has of an answer


@dataclass(frozen=True, slots=True)
class Case:
    """`capacities`: what to solve for, or None for the staircase. `instead`: what was set in the spec, as text."""

    prepared: Prepared
    hardware: Hardware
    options: Options
    capacities: tuple[int, ...] | None
    instead: str = ""

    def rounds(self) -> Search:
        """Yield rounds of probes; each is answered by sending what they found."""
        problem = self.prepared.problem
        if self.capacities is None:
            yield from staircase(problem)
        else:
            yield [Probe(capacity) for capacity in self.capacities]

    def row(self, probe: Probe, found: Answer) -> Swept:
        """The row of an answer."""
        problem, source = self.prepared.problem, self.prepared.source
        cost, bound = found.non_compulsory_bytes, found.bound_bytes
        gap = None if cost is None or bound is None else round((cost - bound) / cost, 6) if cost > bound else 0.0
        moved = None if cost is None else problem.compulsory_bytes + cost
        macs = None if problem.graph.uncounted else problem.graph.macs  # a part of them would pass for all
        estimates = Estimates(None, None, None, None, None) if moved is None else estimate(self.hardware, moved, macs)
        facts: dict[str, Any] = {column: getattr(found, column) for column in _FACTS} | estimates.row()
        return Swept(
            model=source.model, dims=",".join(f"{k}={v}" for k, v in source.dims.items()), dtype=source.dtype,
            fusion=source.fusion, weights=source.weights, modes=modes_text(source.modes), hardware=self.hardware.name,
            instead=self.instead, spec=figures_digest(self.hardware), alignment_bytes=problem.memory.alignment_bytes,
            capacity_bytes=probe.capacity_bytes, solver=self.options.solver, time_limit_s=self.options.time_limit_s,
            state_limit=self.options.state_limit, memory_limit_bytes=self.options.memory_limit_bytes,
            problem=source.fingerprint[7:19], version=cosma.__version__, working_set_bytes=problem.working_set_bytes,
            smallest_capacity_bytes=problem.smallest_capacity_bytes, compulsory_bytes=problem.compulsory_bytes, gap=gap,
            moved_bytes=moved, macs=macs, **facts,
        )  # fmt: skip


def figures_digest(hardware: Hardware) -> str:
    """A digest of what estimates are made from: a spec may be edited and keep its name."""
    h = hardware
    return digest([h.dram_bytes_per_s, h.dram_pj_per_byte, h.macs_per_s, h.instances])[:12]


def instead_text(chosen: Sequence[tuple[str, str]]) -> str:
    """Dotted keys of a spec and their values as one text."""
    return " ".join(f"{key}={value}" for key, value in chosen)


def read_instead(text: str) -> dict[str, str | bool]:
    """The inverse of `instead_text`, as `load_hardware` takes it."""
    parts = re.split(r"(?:^| )(\w+\.\w+)=", text)
    return {
        key: {"true": True, "false": False}.get(value, value)
        for key, value in zip(parts[1::2], parts[2::2], strict=True)
    }


def answer(prepared: Prepared, hardware: Hardware, options: Options) -> Answer:
    """Solve and verify, in a worker; an error becomes an answer as well."""
    try:
        result = solve(prepared, hardware, options)
    except CosmaError as error:
        return Answer("error", " ".join(str(error).split()))
    if result.plan is None:
        return Answer(result.status, "; ".join(result.why))
    facts = _facts(result.plan, prepared.problem, result.bound_name)
    if result.status != "optimal":  # anything else may get better
        return facts
    return replace(facts, kept=keep(result.plan, prepared.problem, result.bound_name))


def _facts(plan: Plan, problem: Problem, bound_name: str) -> Answer:
    """The answer that a verified plan is."""
    schedule = to_numbers(plan, problem).schedule
    kinds = [i.op for i in schedule]
    claims, order = plan.claims, tuple(v for v, _ in runs_of(schedule))
    return Answer(
        claims.status, bound_name, claims.non_compulsory_bytes, claims.bound_bytes, claims.peak_use_bytes,
        streamed_bytes=claims.streamed_bytes, host_operators=len(problem.on_host), tiles=claims.tiles,
        transfers=claims.transfers, loads=kinds.count("load"), stores=kinds.count("store"), order=order,
    )  # fmt: skip


def _recall(kept: Any, prepared: Prepared) -> Answer:
    """The answer that was kept. Raises InputError for one that does not hold."""
    plan, bound_name = rebuild(kept, prepared)
    return _facts(plan, prepared.problem, bound_name)


@dataclass(slots=True)
class _Progress:
    """A case under way: its search, the probes of the present round, their answers by index."""

    case: Case
    search: Search
    probes: list[Probe] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)


def run(
    cases: Sequence[Case], pool: Pool, cache: Cache | None, there: Sequence[Swept] = ()
) -> Iterator[tuple[Swept, bool]]:
    """The rows of all cases as they finish, each with whether it is new.

    there: rows that count as answers, but for those of what went wrong, which is tried again. They have no schedule
    to start from: where optima are not proved, a resumed sweep may find other plans.

    Which probes are asked does not depend on the pool, so neither do the rows, but for their order.
    """
    usable = [row for row in there if row.status not in WENT_WRONG]
    driver = _Driver(pool, cache, {key_of(row): row for row in usable})
    for case in cases:
        yield from driver.advance(_Progress(case, case.rounds()), None)
    while finished := pool.finished():
        for ticket, found in finished:
            yield from driver.take(str(ticket), found)


def whatif(
    prepared: Prepared, hardware: Hardware, capacities: Sequence[int] | None = None, options: Options | None = None,
    jobs: int = 1,
) -> list[Swept]:  # fmt: skip
    """Traffic against capacity, one row each, smallest first; `cosma whatif` in Python.

    capacities: sizes in bytes; None finds every one at which the optimum changes.
    """
    sizes = None if capacities is None else tuple(sorted(set(capacities)))
    case = Case(prepared, hardware, options or Options(), sizes)
    with processes(jobs) as pool:
        rows = [row for row, _ in run([case], pool, None)]
    return sorted(rows, key=lambda row: row.capacity_bytes)


class _Driver:
    """Asks each question once, of the rows, of the cache, or of the pool."""

    def __init__(self, pool: Pool, cache: Cache | None, there: dict[tuple[Any, ...], Swept]) -> None:
        self._pool, self._cache, self._there = pool, cache, there
        self._asking: dict[str, list[tuple[_Progress, int]]] = {}  # by the key of the question

    def advance(self, progress: _Progress, found: list[Point | None] | None) -> Iterator[tuple[Swept, bool]]:
        """Start the next round; yields the rows that need no work."""
        try:
            progress.probes = next(progress.search) if found is None else progress.search.send(found)
        except StopIteration:
            return
        progress.answers = {}
        ready = []
        for i in range(len(progress.probes)):
            known, key = self._known(progress.case, progress.probes[i])
            if known is not None:
                ready.append((i, known))
            elif key in self._asking:
                self._asking[key].append((progress, i))
            else:
                self._asking[key] = [(progress, i)]
                self._pool.submit(key, answer, *_question(progress.case, progress.probes[i]))
        for i, known in ready:
            yield from self._settle(progress, i, known)

    def take(self, key: str, found: Answer | Failed) -> Iterator[tuple[Swept, bool]]:
        """Record a finished or failed task; yield the rows of all that asked for it."""
        if isinstance(found, Failed):
            found = Answer("crashed", found.why)
        elif self._cache is not None and found.kept is not None:
            self._cache.put(key, found.kept)
        for progress, i in self._asking.pop(key):
            yield from self._settle(progress, i, found)

    def _known(self, case: Case, probe: Probe) -> tuple[Answer | None, str]:
        """The answer if it is known, and the key of the question, "" where nothing fits."""
        problem = case.prepared.problem
        fits = problem.uses_host or probe.capacity_bytes >= problem.smallest_capacity_bytes
        shortage = None if fits else problem.with_capacity(probe.capacity_bytes).shortage()
        if shortage is not None:
            return Answer("infeasible", f"operator {shortage.operator} needs {shortage.needed_bytes} B"), ""
        key = _key(case, probe)
        if self._cache is not None:
            cached = self._cache.get(key, lambda kept: _recall(kept, _question(case, probe)[0]))
            if cached is not None:
                return cached, key
        row = self._there.get(key_of(case.row(probe, Answer("interrupted", ""))))
        if row is None:
            return None, key
        return Answer(**{column: getattr(row, column) for column in _FACTS}), key

    def _settle(self, progress: _Progress, i: int, found: Answer) -> Iterator[tuple[Swept, bool]]:
        """Record the answer to probe i; after the last of its round, start the next."""
        progress.answers[i] = found
        row = progress.case.row(progress.probes[i], found)
        old = self._there.setdefault(key_of(row), row)
        yield old, old is row
        if len(progress.answers) == len(progress.probes):
            yield from self.advance(progress, [progress.answers[k].found for k in range(len(progress.probes))])


def _question(case: Case, probe: Probe) -> tuple[Prepared, Hardware, Options]:
    """The arguments of `answer`."""
    problem = case.prepared.problem.with_capacity(probe.capacity_bytes)
    options = replace(case.options, search=SearchOptions(probe.known_order, probe.known_bound))
    return replace(case.prepared, problem=problem), case.hardware, options


def _key(case: Case, probe: Probe) -> str:
    """A digest of a question: equal for the same problem, whatever the names of model and hardware."""
    problem, o = case.prepared.problem, case.options
    return digest(
        [
            case.prepared.source.fingerprint, problem.memory.alignment_bytes, probe.capacity_bytes, probe.known_order,
            probe.known_bound, o.solver, o.time_limit_s, o.state_limit, o.memory_limit_bytes,
            sorted(o.programme.without),
            code(),
        ]
    )  # fmt: skip
