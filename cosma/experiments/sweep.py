"""What if: models x hardware x capacities x settings x solvers -> rows, each from a verified plan.

A case is one model, read in one way, for one kind of scratchpad and one solver; it asks for capacities in rounds
(`staircase.Probe`), one round for a list, as many as it takes for the exact staircase.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cosma
from cosma.analysis.estimate import Estimates, estimate
from cosma.compile import Prepared, solve
from cosma.errors import CosmaError
from cosma.experiments.cache import Cache, code, digest
from cosma.experiments.kept import keep, rebuild
from cosma.experiments.rows import WENT_WRONG, Row
from cosma.experiments.staircase import Found, Probe, Search, staircase
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from cosma.workers.pool import Crew, Failed

KEY = (
    "model", "dims", "dtype", "fusion", "weights", "hardware", "instead", "spec", "alignment_bytes", "capacity_bytes",
    "solver", "time_limit_s", "state_limit", "memory_limit_bytes", "problem", "version",
)  # fmt: skip
FACTS = (
    "working_set_bytes", "status", "compulsory_bytes", "non_compulsory_bytes", "bound_bytes", "gap", "moved_bytes",
    "peak_use_bytes", "loads", "stores", "macs",
)  # fmt: skip
COLUMNS = (*KEY, *FACTS, *Estimates(None, None, None, None, None).row(), "why")
Answer = dict[str, Any]  # what `answer` returns; JSON can hold it


@dataclass(frozen=True, slots=True)
class Case:
    """`capacities`: what to solve for, or None for the staircase. `instead`: what was set in the spec, as text."""

    prepared: Prepared
    hardware: Hardware
    options: Options
    capacities: tuple[int, ...] | None
    instead: str = ""

    def rounds(self) -> Search:
        """Yields rounds of probes and is sent what they found."""
        problem = self.prepared.problem
        if self.capacities is None:
            yield from staircase(problem)
        else:
            yield [Probe(capacity) for capacity in self.capacities]

    def row(self, probe: Probe, found: Answer) -> Row:
        """The row for an answer."""
        problem, source = self.prepared.problem, self.prepared.source
        cost, bound = found["non_compulsory_bytes"], found["bound_bytes"]
        moved = None if cost is None else problem.compulsory_bytes + cost
        macs = None if problem.graph.uncounted else problem.graph.macs  # a part of them would pass for all
        row: Row = dict.fromkeys(COLUMNS)
        if moved is not None:
            row |= estimate(self.hardware, moved, macs).row()
        return row | {
            "model": source.model, "dims": ",".join(f"{k}={v}" for k, v in source.dims.items()), "dtype": source.dtype,
            "fusion": source.fusion, "weights": source.weights, "hardware": self.hardware.name,
            "instead": self.instead, "spec": figures_digest(self.hardware), "alignment_bytes": problem.alignment_bytes,
            "capacity_bytes": probe.capacity_bytes, "solver": self.options.solver,
            "time_limit_s": self.options.time_limit_s, "state_limit": self.options.state_limit,
            "memory_limit_bytes": self.options.memory_limit_bytes, "problem": source.fingerprint[7:19],
            "version": cosma.__version__, "working_set_bytes": problem.working_set_bytes, "status": found["status"],
            "compulsory_bytes": problem.compulsory_bytes, "non_compulsory_bytes": cost, "bound_bytes": bound,
            "gap": None if cost is None else round((cost - bound) / cost, 6) if cost > bound else 0.0,
            "moved_bytes": moved, "peak_use_bytes": found["peak_use_bytes"], "loads": found["loads"],
            "stores": found["stores"], "macs": macs, "why": found["why"],
        }  # fmt: skip


def figures_digest(hardware: Hardware) -> str:
    """A digest of what estimates are made from: a spec may be edited and keep its name."""
    h = hardware
    return digest([h.dram_bytes_per_s, h.dram_pj_per_byte, h.macs_per_s, h.instances])[:12]


def instead_text(chosen: Sequence[tuple[str, str]]) -> str:
    """What was set in a spec as text: dotted keys and their values."""
    return " ".join(f"{key}={value}" for key, value in chosen)


def read_instead(text: str) -> dict[str, str | bool]:
    """What `instead_text` wrote, as `load_hardware` takes it."""
    parts = re.split(r"(?:^| )(\w+\.\w+)=", text)
    return {
        key: {"true": True, "false": False}.get(value, value)
        for key, value in zip(parts[1::2], parts[2::2], strict=True)
    }


def key_of(row: Row) -> tuple[Any, ...]:
    """Equal for rows that answer the same question."""
    return tuple(row[column] or None for column in KEY)  # "" and None are one in a CSV


def _without_plan(status: str, why: str) -> Answer:
    columns = ("non_compulsory_bytes", "bound_bytes", "peak_use_bytes", "loads", "stores")
    return {**dict.fromkeys(columns), "order": [], "status": status, "why": why}


def answer(prepared: Prepared, hardware: Hardware, options: Options) -> Answer:
    """Solve, in a worker; the plan has passed the verifier, and what goes wrong is an answer as well.

    Of a plan that is proved, "kept" has what the cache may keep.
    """
    try:
        result = solve(prepared, hardware, options)
    except CosmaError as error:
        return _without_plan("error", " ".join(str(error).split()))
    if result.plan is None:
        return _without_plan(result.status, "; ".join(result.why))
    facts = _facts(result.plan, prepared.problem, result.bound_name)
    if result.status != "optimal":  # anything else may get better
        return facts
    return facts | {"kept": keep(result.plan, prepared.problem, result.bound_name)}


def _facts(plan: Plan, problem: Problem, bound_name: str) -> Answer:
    """What a verified plan answers."""
    index = {v.name: i for i, v in enumerate(problem.graph.operators)}
    kinds = [move.kind for move in plan.moves]
    return {
        "status": plan.claims.status, "non_compulsory_bytes": plan.claims.non_compulsory_bytes,
        "bound_bytes": plan.claims.bound_bytes, "peak_use_bytes": plan.claims.peak_use_bytes,
        "loads": kinds.count("load"), "stores": kinds.count("store"),
        "order": [index[step.operator] for step in plan.order], "why": bound_name,
    }  # fmt: skip


def _recall(kept: Any, prepared: Prepared) -> Answer:
    """The answer that was kept. Raises InputError where it does not hold."""
    plan, bound_name = rebuild(kept, prepared)
    return _facts(plan, prepared.problem, bound_name)


@dataclass(slots=True)
class _Progress:
    """Where a case stands: its search, the probes of the round, what is answered of it."""

    case: Case
    search: Search
    probes: list[Probe] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)


def run(
    cases: Sequence[Case], crew: Crew, cache: Cache | None, there: Sequence[Row] = ()
) -> Iterator[tuple[Row, bool]]:
    """The rows of all cases as they finish, each with whether it is new; rows that are `there` count as answers.

    Rows of what went wrong do not count: it is tried again.

    Which probes are asked does not depend on the crew, so neither do the rows, but for their order. (Rows that are
    there have no schedule to start from; where optima are not proved, going on may find other plans.)
    """
    usable = [row for row in there if row["status"] not in WENT_WRONG]
    driver = _Driver(crew, cache, {key_of(row): row for row in usable})
    for case in cases:
        yield from driver.advance(_Progress(case, case.rounds()), None)
    while finished := crew.finished():
        for ticket, found in finished:
            yield from driver.take(str(ticket), found)


class _Driver:
    """Asks each question once, of the rows, of the cache, or of the crew."""

    def __init__(self, crew: Crew, cache: Cache | None, there: dict[tuple[Any, ...], Row]) -> None:
        self._crew, self._cache, self._there = crew, cache, there
        self._asking: dict[str, list[tuple[_Progress, int]]] = {}  # question -> who waits for the answer

    def advance(self, progress: _Progress, found: list[Found | None] | None) -> Iterator[tuple[Row, bool]]:
        """Go on to the next round; yields what needs no work."""
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
                self._crew.submit(key, answer, *_question(progress.case, progress.probes[i]))
        for i, known in ready:
            yield from self._settle(progress, i, known)

    def take(self, key: str, found: Answer | Failed) -> Iterator[tuple[Row, bool]]:
        """An answer has come, or will not."""
        if isinstance(found, Failed):
            found = _without_plan("crashed", found.why)
        elif self._cache is not None and "kept" in found:
            self._cache.put(key, found.pop("kept"))
        for progress, i in self._asking.pop(key):
            yield from self._settle(progress, i, found)

    def _known(self, case: Case, probe: Probe) -> tuple[Answer | None, str]:
        """What is known already, and the key of the question."""
        problem = case.prepared.problem
        if probe.capacity_bytes < problem.working_set_bytes:
            shortage = problem.with_capacity(probe.capacity_bytes).shortage()
            assert shortage is not None
            return _without_plan("infeasible", f"operator {shortage.operator} needs {shortage.needed_bytes} B"), ""
        key = _key(case, probe)
        if self._cache is not None:
            cached = self._cache.get(key, lambda kept: _recall(kept, _question(case, probe)[0]))
            if cached is not None:
                return cached, key
        row = self._there.get(key_of(case.row(probe, _without_plan("", ""))))
        return (None if row is None else {**row, "order": []}), key

    def _settle(self, progress: _Progress, i: int, found: Answer) -> Iterator[tuple[Row, bool]]:
        """Note an answer; when it is the last of its round, the next begins."""
        progress.answers[i] = found
        row = progress.case.row(progress.probes[i], found)
        old = self._there.setdefault(key_of(row), row)
        yield old, old is row
        if len(progress.answers) == len(progress.probes):
            answers = [progress.answers[k] for k in range(len(progress.probes))]
            yield from self.advance(progress, [_found(a) for a in answers])


def _found(found: Answer) -> Found | None:
    if found["non_compulsory_bytes"] is None:
        return None
    order = tuple(found["order"])
    return Found(found["non_compulsory_bytes"], found["bound_bytes"], found["peak_use_bytes"], order)


def _question(case: Case, probe: Probe) -> tuple[Prepared, Hardware, Options]:
    """What a worker is sent."""
    problem = case.prepared.problem.with_capacity(probe.capacity_bytes)
    options = replace(case.options, known_order=probe.known_order, known_bound=probe.known_bound)
    return replace(case.prepared, problem=problem), case.hardware, options


def _key(case: Case, probe: Probe) -> str:
    """The content of a question: equal for the same problem, whatever the model's or the hardware's name."""
    problem, o = case.prepared.problem, case.options
    return digest(
        [
            case.prepared.source.fingerprint, problem.alignment_bytes, probe.capacity_bytes, probe.known_order,
            probe.known_bound, o.solver, o.time_limit_s, o.state_limit, o.memory_limit_bytes, sorted(o.without),
            code(),
        ]
    )  # fmt: skip
