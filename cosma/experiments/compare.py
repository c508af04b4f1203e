"""Solvers x models x budgets -> rows. Every run has a process of its own, with limits of its own."""

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
from cosma.experiments.rows import Row
from cosma.solvers.options import Options
from cosma.solvers.programmes.compact import smallest_peak_bytes
from cosma.target.hardware import Hardware
from cosma.units import parse_bytes
from cosma.workers.processes import Workers, memory_of

COLUMNS = (
    "model", "dtype", "fusion", "weights", "budget", "capacity_bytes", "alignment_bytes", "solver", "status",
    "compulsory_bytes", "non_compulsory_bytes", "bound_bytes", "gap", "first_s", "proof_s", "seconds", "rows",
    "columns", "terms", "states", "peak_memory_mib", "time_limit_s", "state_limit", "memory_limit_bytes", "problem",
    "version", "why",
)  # fmt: skip
# What makes two runs the same run: a rerun skips those that are there.
KEY = (
    "model", "dtype", "fusion", "weights", "capacity_bytes", "alignment_bytes", "solver", "time_limit_s", "state_limit",
    "memory_limit_bytes", "problem", "version",
)  # fmt: skip
BUDGETS = ("M_R", "M_H", "M_P")
_GRACE_S = 5.0  # for a process to start and to tell what it has, beyond the time limit
_LOOK_S = 0.02  # between two looks at a process


@dataclass(frozen=True, slots=True)
class Run:
    """One solver on one problem. `budget` is what the capacity was called."""

    prepared: Prepared
    hardware: Hardware
    budget: str
    options: Options

    @property
    def head(self) -> Row:
        """The columns that are known beforehand; the rest None."""
        source, problem = self.prepared.source, self.prepared.problem
        row: Row = dict.fromkeys(COLUMNS)
        return row | {
            "model": source.model, "dtype": source.dtype, "fusion": source.fusion, "weights": source.weights,
            "budget": self.budget, "capacity_bytes": problem.capacity_bytes, "solver": self.options.solver,
            "compulsory_bytes": problem.compulsory_bytes, "time_limit_s": self.options.time_limit_s,
            "alignment_bytes": problem.alignment_bytes, "state_limit": self.options.state_limit,
            "memory_limit_bytes": self.options.memory_limit_bytes, "problem": source.fingerprint[7:19],
            "version": __version__,
        }  # fmt: skip

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for runs that are the same."""
        return key_of(self.head)


def key_of(row: Row) -> tuple[Any, ...]:
    """The key of a stored row."""
    return tuple(row[column] for column in KEY)


def at_budgets(prepared: Prepared, budgets: Sequence[str], deadline: Deadline) -> Iterator[tuple[str, Prepared | None]]:
    """The problem at each budget: M_R, M_H, M_P or a size. Raises InputError for what is none of these.

    M_P takes a search over all schedules; None where it and M_H are not known because that did not end in time.
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


def run_all(runs: Sequence[Run], jobs: int) -> Generator[Row, None, None]:
    """The rows of all runs as they finish, `jobs` at a time. Closing the iterator stops what still runs."""
    stop = Event()
    with ThreadPoolExecutor(jobs) as threads:
        waiting: set[Future[Row]] = {threads.submit(_watch, run, stop) for run in runs}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            stop.set()
            for future in waiting:
                future.cancel()


def _watch(run: Run, stop: Event) -> Row:
    """Run in a process, look at its memory and the clock, and say what became of it."""
    workers = Workers(1)
    begin, peak, status = time.monotonic(), 0, ""
    limit_s, limit_bytes = run.options.time_limit_s + _GRACE_S, run.options.memory_limit_bytes
    try:
        future = workers.submit(solved_row, run)
        [process] = workers.processes
        while not future.done() and not status:
            wait([future], _LOOK_S)
            peak = max(peak, memory_of(process.pid))
            if stop.is_set():
                status = "interrupted"
            elif peak > limit_bytes:
                status = "out of memory"
            elif time.monotonic() - begin > limit_s:
                status = "out of time"
        row = None if status else future.result()
    except BrokenProcessPool:
        row, status = None, "crashed"
    finally:
        workers.stop()
    if row is None:
        spent = {"seconds": round(time.monotonic() - begin, 3), "why": _explain(status, process.exitcode, run)}
        row = run.head | {"status": status} | spent
    return row | {"peak_memory_mib": math.ceil(peak / 2**20)}


def _explain(status: str, code: int | None, run: Run) -> str:
    return {
        "out of memory": f"used more than {run.options.memory_limit_bytes:,} B and was stopped",
        "out of time": f"did not stop within {_GRACE_S:g} s of its limit of {run.options.time_limit_s:g} s",
        "crashed": f"the process ended with code {code} and no result",
    }.get(status, "")


def solved_row(run: Run) -> Row:
    """Solve, in the process; what goes wrong is a row as well."""
    begin = time.perf_counter()
    row = run.head
    try:
        result = solve(run.prepared, run.hardware, run.options)
    except CosmaError as error:
        row |= {"status": "error", "why": " ".join(str(error).split())}
    except MemoryError:
        row |= {"status": "out of memory", "why": "memory was refused"}
    else:
        seconds = round(time.perf_counter() - begin, 3)
        size = result.size
        row |= {
            "status": result.status, "non_compulsory_bytes": result.non_compulsory_bytes,
            "bound_bytes": result.bound_bytes, "gap": None if result.gap is None else round(result.gap, 6),
            "first_s": None if result.first_s is None else round(result.first_s, 3),
            "proof_s": seconds if result.status == "optimal" else None, "states": result.states,
            "rows": size and size.rows, "columns": size and size.columns, "terms": size and size.terms,
            "why": "; ".join(result.why) if result.shortage is None
            else f"operator {result.shortage.operator} needs {result.shortage.needed_bytes:,} B",
        }  # fmt: skip
    row["seconds"] = round(time.perf_counter() - begin, 3)
    return row
