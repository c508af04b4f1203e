"""A programme given to PuLP: HiGHS and CBC, which come along, and the solvers that the user has installed.

PuLP loads highspy, and that cannot share a process with OR-Tools, which brings another HiGHS under
the same symbols (github.com/google/or-tools/issues/5246). So PuLP gets a process of its own, which also
lets a solver that ignores its time limit be stopped.
"""

import importlib
import tempfile
from dataclasses import replace
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from cosma.deadline import Deadline
from cosma.errors import InputError
from cosma.milp.programme import Programme, ProgrammeTooLargeError, Solved
from cosma.workers import processes
from cosma.workers.processes import LOOKING_S

# How the solvers are installed; the first two come along.
INSTALL: dict[str, str] = {
    "highs": "pip install highspy",
    "cbc": "pip install pulp",
    "gurobi": "pip install gurobipy, and a licence from gurobi.com",
    "cplex": "pip install cplex",
    "scip": "pip install pyscipopt",
    "xpress": "pip install xpress",
    "mosek": "pip install mosek, and a licence from mosek.com",
    "copt": "pip install coptpy, and a licence from shanshu.ai",
    "glpk": "install glpsol, e.g. apt install glpk-utils",
}
# PuLP's own names, the first one available is used.
_NAMES = {
    "highs": ("HiGHS",), "cbc": ("PULP_CBC_CMD", "COIN_CMD"), "gurobi": ("GUROBI", "GUROBI_CMD"),
    "cplex": ("CPLEX_PY", "CPLEX_CMD"), "scip": ("SCIP_PY", "SCIP_CMD"), "xpress": ("XPRESS_PY", "XPRESS"),
    "mosek": ("MOSEK",), "copt": ("COPT", "COPT_CMD"), "glpk": ("GLPK_CMD",),
}  # fmt: skip


def minimise(programme: Programme, backend: str, deadline: Deadline, log: bool) -> Solved:
    """One thread and no gap tolerance. Raises InputError if PuLP cannot find the solver, and StoppedError."""
    sent = replace(programme, deadline=deadline)  # a moment of the monotonic clock, which all processes share
    return processes.run("pulp", deadline, _solve_here, sent, backend, log)


def require(backend: str) -> None:
    """Raise InputError if PuLP cannot find the solver."""
    processes.run("pulp", Deadline.after(LOOKING_S), _require_here, backend)


def _require_here(backend: str) -> None:
    _find(importlib.import_module("pulp"), backend, 1.0, False, False)


def export(programme: Programme, suffix: str, unit: int, deadline: Deadline) -> bytes:
    """The programme as the text of an .lp or .mps file. Raises ProgrammeTooLargeError or StoppedError out of time."""
    return processes.run("pulp", deadline, _export_here, replace(programme, deadline=deadline), suffix, unit)


def _state(programme: Programme) -> tuple[Any, list[Any]]:
    """The programme in PuLP's own terms without the objective's constant, which not all solvers read; its variables."""
    pulp: Any = importlib.import_module("pulp")  # it is not typed
    native = pulp.LpProblem(programme.name, pulp.LpMinimize)
    x = [
        pulp.LpVariable(f"x{i}_{name}", low, high, cat="Integer")
        for i, (name, low, high) in enumerate(zip(programme.names, programme.lows, programme.highs, strict=True))
    ]
    native += pulp.LpAffineExpression([(v, c) for v, c in zip(x, programme.costs, strict=True) if c])
    for row, rule in enumerate(programme.rules):
        columns, factors = programme.terms(row)
        if row % 1024 == 0 and programme.deadline.passed:
            raise ProgrammeTooLargeError("time was up while the programme was given to PuLP")
        expression = pulp.LpAffineExpression([(x[c], f) for c, f in zip(columns, factors, strict=True)])
        low, high = programme.row_lows[row], programme.row_highs[row]
        if low is not None and low == high:
            native += expression == low, f"r{row}_{rule}"
            continue
        if low is not None:
            native += expression >= low, f"r{row}_{rule}"
        if high is not None:
            native += expression <= high, f"r{row}h_{rule}"
    return native, x


def _solve_here(programme: Programme, backend: str, log: bool) -> Solved:
    pulp: Any = importlib.import_module("pulp")
    try:
        native, x = _state(programme)
    except ProgrammeTooLargeError as error:
        return Solved("unknown", why=f"{backend}: {error}")
    solver = _find(pulp, backend, max(0.01, programme.deadline.remaining_s), log, bool(programme.hint))
    for column, value in programme.hint.items():
        x[column].setInitialValue(value)
    try:
        with processes.heard(log):
            native.solve(solver)
    except Exception as error:  # a licence, a size limit, a broken installation: the solver's own words, one line
        return Solved("unknown", why=f"{backend} failed: {' '.join(str(error).split())[:200]}")
    # At the time limit `status` says "Optimal" for an incumbent; only `sol_status` tells them apart.
    if native.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        values = tuple(round(v.value() or 0) for v in x)
        proved = native.sol_status == pulp.LpSolutionOptimal
        return Solved("optimal" if proved else "feasible", values, _bound(native, backend, programme.offset))
    if native.sol_status == pulp.LpSolutionInfeasible and native.status == pulp.LpStatusInfeasible:
        return Solved("infeasible")
    bound = _bound(native, backend, programme.offset)
    return Solved("unknown", None, bound, why=f"{backend}: {pulp.LpStatus[native.status]}")


def _find(pulp: Any, backend: str, seconds: float, log: bool, hinted: bool) -> Any:
    """The solver, ready to run, told to use one thread and no gap. Raises InputError if there is none."""
    options: dict[str, Any] = {"msg": log, "timeLimit": seconds}
    if backend in ("highs", "cbc"):
        options |= {"threads": 1, "gapRel": 0.0, "gapAbs": 0.0}
    elif backend not in ("glpk", "mosek"):
        options |= {"gapRel": 0.0}
    if hinted and backend in ("cbc", "gurobi", "cplex", "xpress"):
        options |= {"warmStart": True}
    why = ""
    for name in _NAMES[backend]:
        try:
            solver = pulp.getSolver(name, **options)
            if solver.available():
                return solver
        except Exception as error:  # PuLP starts some solvers, and so asks for a licence, when it looks for them
            why = f" ({' '.join(str(error).split())[:120]})"
    raise InputError(f"solver {backend!r} is not available on this machine{why}; to install it: {INSTALL[backend]}")


def _bound(native: Any, backend: str, offset: int) -> int | None:
    """PuLP has no portable bound; HiGHS, Gurobi and SCIP tell their own, to which the constant is added here."""
    inner = native.solverModel
    try:
        value = {
            "highs": lambda: inner.getInfo().mip_dual_bound,
            "gurobi": lambda: inner.ObjBound,
            "scip": lambda: inner.getDualbound(),
        }[backend]()
    except (KeyError, AttributeError):
        return None
    return offset + ceil(value - 1e-6 * max(1.0, abs(value))) if isfinite(value) and abs(value) < 2**62 else None


def _export_here(programme: Programme, suffix: str, unit: int) -> bytes:
    pulp: Any = importlib.import_module("pulp")
    native, _ = _state(programme)
    if programme.offset:  # neither format has a constant in the objective that all solvers read
        native.setObjective(native.objective + programme.offset * pulp.LpVariable("constant", 1, 1))
    remark = "\\" if suffix == ".lp" else "*"
    head = f"{remark} Objective in units of {unit} B.\n".encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"programme{suffix}"
        (native.writeLP if suffix == ".lp" else native.writeMPS)(str(path))
        return head + path.read_bytes()
