"""Solvers x models x budgets -> rows; every run in a process of its own, with limits of its own."""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

from cosma import __version__
from cosma.compile import Prepared, solve
from cosma.deadline import Deadline
from cosma.errors import CosmaError
from cosma.experiments.rows import Compared, Status, key_of
from cosma.solvers.options import Options, Result
from cosma.solvers.programmes.compact import smallest_peak_bytes
from cosma.solvers.registry import find
from cosma.target.hardware import Hardware
from cosma.target.mode_sets import modes_text
from cosma.units import parse_bytes
from cosma.workers.processes import Workers, memory_of

BUDGETS = ("M_R", "M_H", "M_P")
_GRACE_S = 5.0  # for a process to start and to tell what it has, beyond the time limit
_LOOK_S = 0.02  # between two looks at a process


@dataclass(frozen=True, slots=True)
class Run:
    """One solver on one problem; `budget`: what the capacity was called."""

    prepared: Prepared
    hardware: Hardware
    budget: str
    options: Options

    @property
    def head(self) -> Compared:
        """The row as far as it is known beforehand: that of a run that was interrupted at once."""
        source, problem = self.prepared.source, self.prepared.problem
        return Compared(
            model=source.model, dtype=source.dtype, fusion=source.fusion, weights=source.weights,
            modes=modes_text(source.modes), budget=self.budget,
            capacity_bytes=problem.memory.capacity_bytes, alignment_bytes=problem.memory.alignment_bytes,
            solver=self.options.solver, status="interrupted", compulsory_bytes=problem.compulsory_bytes, seconds=0.0,
            time_limit_s=self.options.time_limit_s, state_limit=self.options.state_limit,
            memory_limit_bytes=self.options.memory_limit_bytes, problem=source.fingerprint[7:19],
            version=__version__, why="",
        )  # fmt: skip

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for runs that are the same, and for their rows by `key_of`."""
        return key_of(self.head)


def at_budgets(prepared: Prepared, budgets: Sequence[str], deadline: Deadline) -> Iterator[tuple[str, Prepared | None]]:
    """The problem at each budget: M_R, M_H, M_P or a size, e.g. 512KiB. Raises InputError for anything else.

    M_P takes a search over all schedules; where that does not end in time, M_P and M_H come with None.
    """
    problem = prepared.problem
    sizes = {b: parse_bytes(b, "--budgets") for b in budgets if b not in BUDGETS}
    sizes["M_R"] = low = problem.working_set_bytes
    if {"M_H", "M_P"} & set(budgets):
        high = smallest_peak_bytes(problem, deadline)
        if high is not None:
            sizes |= {"M_P": high, "M_H": (low + high) // 2}
    for budget in budgets:
        capacity = sizes.get(budget)
        yield budget, None if capacity is None else replace(prepared, problem=problem.with_capacity(capacity))


def runs_at(
    prepared: Prepared, hardware: Hardware, budgets: Sequence[str], options: Sequence[Options], deadline: Deadline
) -> Iterator[tuple[str, list[Run]]]:
    """Each budget with its runs, one for each of the options; with none where M_P was not found in time."""
    for budget, at in at_budgets(prepared, budgets, deadline):
        if at is None:
            yield budget, []
        else:
            spec = replace(hardware, capacity_bytes=at.problem.memory.capacity_bytes)
            yield budget, [Run(at, spec, budget, each) for each in options]


def compare(
    prepared: Prepared, solvers: Sequence[str], budgets: Sequence[str] = BUDGETS, options: Options | None = None,
    jobs: int = 1,
) -> list[Compared]:  # fmt: skip
    """Solvers side by side on one model at several capacities, one row each; `cosma compare` in Python.

    Raises InputError for solvers and budgets that there are not.
    """
    options = options or Options()
    chosen = [replace(options, solver=solver) for solver in solvers]
    for each in chosen:
        find(each)
    deadline, hardware = Deadline.after(options.time_limit_s), Hardware("any", 2**62)
    runs = [run for _, found in runs_at(prepared, hardware, budgets, chosen, deadline) for run in found]
    rows = {key_of(row): row for row in run_all(runs, jobs)}
    return [replace(rows[run.key], budget=run.budget) for run in runs]


def run_all(runs: Sequence[Run], jobs: int) -> Generator[Compared, None, None]:
    """The rows of all runs as they finish, `jobs` at a time. Closing the iterator stops what still runs."""
    stop = Event()
    with ThreadPoolExecutor(jobs) as threads:
        waiting: set[Future[Compared]] = {threads.submit(_watch, run, stop) for run in runs}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            stop.set()
            for future in waiting:
                future.cancel()


def _watch(run: Run, stop: Event) -> Compared:
    """Run in a process that is stopped when it has used up its time or memory, or when `stop` is set."""
    workers = Workers(1)
    begin, peak = time.monotonic(), 0
    status: Status | None = None
    limit_s, limit_bytes = run.options.time_limit_s + _GRACE_S, run.options.memory_limit_bytes
    try:
        future = workers.submit(solved_row, run)
        [process] = workers.processes
        while not future.done() and status is None:
            wait([future], _LOOK_S)
            peak = max(peak, memory_of(process.pid))
            if stop.is_set():
                status = "interrupted"
            elif peak > limit_bytes:
                status = "out of memory"
            elif time.monotonic() - begin > limit_s:
                status = "out of time"
        row = future.result() if status is None else run.head
    except BrokenProcessPool:
        row, status = run.head, "crashed"
    finally:
        workers.stop()
    if status is not None:
        why = _explain(status, process.exitcode, run)
        row = replace(row, status=status, seconds=round(time.monotonic() - begin, 3), why=why)
    return replace(row, peak_memory_mib=math.ceil(peak / 2**20))


def _explain(status: Status, code: int | None, run: Run) -> str:
    if status == "out of memory":
        return f"used more than {run.options.memory_limit_bytes:,} B and was stopped"
    if status == "out of time":
        return f"did not stop within {_GRACE_S:g} s of its limit of {run.options.time_limit_s:g} s"
    return f"the process ended with code {code} and no result" if status == "crashed" else ""


def solved_row(run: Run) -> Compared:
    """Solve in this process; an error becomes a row as well."""
    begin = time.perf_counter()
    try:
        result = solve(run.prepared, run.hardware, run.options)
        row = _row(run.head, result, len(run.prepared.problem.on_host))
    except CosmaError as error:
        row = replace(run.head, status="error", why=" ".join(str(error).split()))
    except MemoryError:
        row = replace(run.head, status="out of memory", why="memory was refused")
    seconds = round(time.perf_counter() - begin, 3)
    return replace(row, seconds=seconds, proof_s=seconds if row.status == "optimal" else None)


def _row(head: Compared, result: Result, host_operators: int) -> Compared:
    """The row of a result, without the seconds that it took."""
    size, shortage = result.size, result.shortage
    return replace(
        head,
        status=result.status,
        non_compulsory_bytes=result.non_compulsory_bytes,
        bound_bytes=result.bound_bytes,
        gap=None if result.gap is None else round(result.gap, 6),
        host_operators=None if result.plan is None else host_operators,
        first_s=None if result.first_s is None else round(result.first_s, 3),
        rows=None if size is None else size.rows,
        columns=None if size is None else size.columns,
        terms=None if size is None else size.terms,
        states=result.states,
        why="; ".join(result.why)
        if shortage is None
        else f"operator {shortage.operator} needs {shortage.needed_bytes:,} B",
    )
