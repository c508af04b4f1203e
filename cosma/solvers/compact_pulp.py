"""The compact ILP stated through PuLP, to HiGHS and CBC.

PuLP loads highspy, and that cannot share a process with OR-Tools, which brings another HiGHS under
the same symbols (github.com/google/or-tools/issues/5246). So PuLP gets a process of its own.
"""

import atexit
import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from math import ceil
from typing import Any

from cosma.errors import InputError
from cosma.solvers.base import Backend, Deadline
from cosma.solvers.compact import CompactILP, CompactSolution


def solve(ilp: CompactILP, backend: Backend, deadline: Deadline) -> CompactSolution:
    """Solve with one thread and no gap tolerance; a solution that is not exact in integers is refused.

    Raises InputError if PuLP cannot find the solver.
    """
    try:
        return _worker().submit(_solve_here, ilp, backend, deadline.remaining_s).result()
    except BrokenProcessPool:  # the solver crashed; the caller still has its incumbent
        _worker.cache_clear()
        return CompactSolution(None, 0)


@cache
def _worker() -> ProcessPoolExecutor:
    worker = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    atexit.register(worker.shutdown)
    return worker


def _solve_here(ilp: CompactILP, backend: Backend, seconds: float) -> CompactSolution:
    pulp: Any = importlib.import_module("pulp")  # it is not typed
    problem = pulp.LpProblem("replacement", pulp.LpMinimize)
    keep = [pulp.LpVariable(f"keep{i}", cat="Binary") for i in range(len(ilp.gaps))]
    stored = [pulp.LpVariable(f"stored{k}", 0, 1) for k in range(len(ilp.stores))]
    kept_loads = [(keep[i], -size) for i, size in enumerate(ilp.load)]
    stores = [(stored[k], size) for k, (size, _) in enumerate(ilp.stores)]
    problem += pulp.LpAffineExpression(kept_loads + stores, sum(ilp.load))
    for gaps, sizes, room in ilp.rows:
        problem += pulp.LpAffineExpression([(keep[i], size) for i, size in zip(gaps, sizes, strict=True)]) <= room
    for k, (_, gaps) in enumerate(ilp.stores):
        for i in gaps:
            problem += stored[k] + keep[i] >= 1
    for cut in ilp.cuts:
        problem += pulp.lpSum(keep[i] for i in cut) <= len(cut) - 1
    problem.solve(_solver(pulp, backend, max(0.01, seconds)))
    # At the time limit `status` says "Optimal" for an incumbent; only `sol_status` tells them apart.
    if problem.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        return CompactSolution(None, 0)
    kept = tuple((k.value() or 0) > 0.5 for k in keep)
    if not ilp.admits(kept):
        return CompactSolution(None, 0)
    if problem.sol_status == pulp.LpSolutionOptimal:
        return CompactSolution(kept, ilp.bytes_of(kept))
    return CompactSolution(kept, _bound(problem, backend) * ilp.unit)


def _solver(pulp: Any, backend: Backend, seconds: float) -> Any:
    kind = pulp.HiGHS if backend == "highs" else pulp.PULP_CBC_CMD
    solver = kind(msg=False, threads=1, timeLimit=seconds, gapRel=0.0, gapAbs=0.0)
    if not solver.available():
        package = "highspy" if backend == "highs" else "pulp"
        raise InputError(f"solver {backend!r} is not available on this machine; run 'pip install {package}'")
    return solver


def _bound(problem: Any, backend: Backend) -> int:
    """PuLP has no portable bound; HiGHS tells its own, for CBC 0 has to do."""
    if backend != "highs":
        return 0
    value = float(problem.solverModel.getInfo().mip_dual_bound)
    return max(0, ceil(value - 1e-6 * max(1.0, abs(value)))) if abs(value) < 1e18 else 0
