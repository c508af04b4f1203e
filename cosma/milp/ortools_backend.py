"""A programme given to OR-Tools: CP-SAT through its own API, others through MathOpt."""

import datetime
import importlib
from dataclasses import replace
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any

from cosma.deadline import Deadline
from cosma.errors import InputError
from cosma.milp import cp_sat
from cosma.milp.dual_bound import exact_bound
from cosma.milp.programme import Programme, ProgrammeTooLargeError, Solved
from cosma.workers import processes
from cosma.workers.processes import LOOKING_S

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

_TYPES = {"mathopt-cp-sat": "CP_SAT", "mathopt-highs": "HIGHS", "mathopt-scip": "GSCIP", "mathopt-gurobi": "GUROBI"}
NAMES = ("cp-sat", *_TYPES)
BUNDLED = NAMES[:-1]  # those that come along
_LEAST_S = 0.01
_PLAIN = 10.0  # CP-SAT's deterministic seconds, to look for a better solution without relaxations
_LARGE = 500_000  # terms; stating more takes seconds, and presolving them, during which the clock is not read


def minimise(programme: Programme, backend: str, deadline: Deadline, log: bool) -> Solved:
    """One worker and a fixed seed; statuses as the solver means them. Raises StoppedError."""
    if backend == "cp-sat" and programme.size.terms <= _LARGE:
        return _cp_sat(programme, deadline, log)
    sent = replace(programme, deadline=deadline)
    if backend == "cp-sat":
        return processes.run("ortools", deadline, _cp_sat, sent, deadline, log)
    return processes.run("ortools", deadline, _math_opt, sent, backend, deadline, log)


def require(backend: str) -> None:
    """Raise InputError if OR-Tools cannot find the library of a solver that does not come along."""
    processes.run("ortools", Deadline.after(LOOKING_S), _require_here, backend)


def _require_here(backend: str) -> None:
    mathopt: Any = importlib.import_module("ortools.math_opt.python.mathopt")
    try:
        mathopt.solve(mathopt.Model(), mathopt.SolverType[_TYPES[backend]])
    except RuntimeError as error:
        raise InputError(
            f"solver {backend!r} is not available on this machine ({' '.join(str(error).split())[:120]}); "
            "to install it: Gurobi and its licence from gurobi.com; solver gurobi takes gurobipy instead"
        ) from None


def look_below(programme: Programme, bound: int | None, deadline: Deadline) -> Solved:
    """A solution whose objective is below the bound, by CP-SAT without presolve.

    bound None: any solution at all. Status "infeasible" if there is none. Raises StoppedError.
    """
    if programme.size.terms <= _LARGE:
        return _look_below(programme, bound, deadline)
    return processes.run("ortools", deadline, _look_below, replace(programme, deadline=deadline), bound, deadline)


def _look_below(programme: Programme, bound: int | None, deadline: Deadline) -> Solved:
    from ortools.sat.python import cp_model

    stated = _cp_model(programme, deadline)
    if stated is None:
        return Solved("unknown")
    native, x = stated
    if bound is not None:
        native.add(cp_model.LinearExpr.weighted_sum(x, programme.costs) <= bound - 1 - programme.offset)
    # Without presolve what relaxations cost is mostly wasted, but some programmes need them.
    solver, status = cp_sat.search(native, deadline.share(0.5), effort=_PLAIN, presolve=False, relaxations=False)
    if status == cp_model.UNKNOWN and not deadline.passed:
        solver, status = cp_sat.search(native, deadline, presolve=False)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Solved("feasible", tuple(solver.value(v) for v in x))
    return Solved("infeasible" if status == cp_model.INFEASIBLE else "unknown")


def _cp_model(programme: Programme, deadline: Deadline) -> "tuple[cp_model.CpModel, list[cp_model.IntVar]] | None":
    """The rows as CP-SAT takes them, without objective; None if time is up before they are stated."""
    from ortools.sat.python import cp_model

    native = cp_model.CpModel()
    x = [native.new_int_var(low, high, "") for low, high in zip(programme.lows, programme.highs, strict=True)]
    for row in range(len(programme.rules)):
        columns, factors = programme.terms(row)
        expression = cp_model.LinearExpr.weighted_sum([x[c] for c in columns], list(factors))
        low, high = programme.row_lows[row], programme.row_highs[row]
        if low is None:
            native.add(expression <= high)
        elif high is None:
            native.add(expression >= low)
        else:
            native.add_linear_constraint(expression, low, high)
        if row % 1024 == 0 and deadline.passed:
            return None
    return native, x


def _cp_sat(programme: Programme, deadline: Deadline, log: bool) -> Solved:
    from ortools.sat.python import cp_model

    class First(cp_model.CpSolverSolutionCallback):  # the time of the first solution
        seconds: float | None = None

        def on_solution_callback(self) -> None:
            self.seconds = self.wall_time if self.seconds is None else self.seconds

    stated = _cp_model(programme, deadline)
    if stated is None:
        return Solved("unknown", why="time was up while the programme was given to cp-sat")
    native, x = stated
    native.minimize(cp_model.LinearExpr.weighted_sum(x, programme.costs) + programme.offset)
    for column, value in programme.hint.items():
        native.add_hint(x[column], value)
    first = First()
    with processes.heard(log):
        solver, status = cp_sat.search(native, deadline, log=log, callback=first)
    bound = _integer_bound(solver.best_objective_bound)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        values = tuple(solver.value(v) for v in x)
        return Solved("optimal" if status == cp_model.OPTIMAL else "feasible", values, bound, first.seconds)
    if status == cp_model.INFEASIBLE:
        return Solved("infeasible")
    return Solved(
        "unknown",
        None,
        bound if status == cp_model.UNKNOWN else None,
        why=f"cp-sat: {solver.status_name(status).lower()}",
    )


def _state(programme: Programme, deadline: Deadline, integral: bool) -> tuple[Any, list[Any]]:
    """The programme in MathOpt's own terms, and its variables."""
    mathopt: Any = importlib.import_module("ortools.math_opt.python.mathopt")  # it exports by import alone

    native = mathopt.Model(name=programme.name)
    x = [
        native.add_variable(lb=low, ub=high, is_integer=integral)
        for low, high in zip(programme.lows, programme.highs, strict=True)
    ]
    for row in range(len(programme.rules)):
        low, high = programme.row_lows[row], programme.row_highs[row]
        limits = {key: value for key, value in (("lb", low), ("ub", high)) if value is not None}
        constraint = native.add_linear_constraint(**limits)
        for c, f in zip(*programme.terms(row), strict=True):
            constraint.set_coefficient(x[c], f)
        if row % 1024 == 0 and deadline.passed:
            raise ProgrammeTooLargeError("time was up while the programme was given to the solver")
    for variable, cost in zip(x, programme.costs, strict=True):
        if cost:
            native.objective.set_linear_coefficient(variable, cost)
    native.objective.offset = programme.offset
    return native, x


def _math_opt(programme: Programme, backend: str, deadline: Deadline, log: bool) -> Solved:
    mathopt: Any = importlib.import_module("ortools.math_opt.python.mathopt")  # it exports by import alone

    try:
        native, x = _state(programme, deadline, True)
    except ProgrammeTooLargeError as error:
        return Solved("unknown", why=str(error))
    kind = mathopt.SolverType[_TYPES[backend]]
    limit = datetime.timedelta(seconds=max(_LEAST_S, deadline.remaining_s))
    # HiGHS knows no thread parameter here; it is sequential unless told otherwise.
    threads = None if kind == mathopt.SolverType.HIGHS else 1
    parameters = mathopt.SolveParameters(
        time_limit=limit, threads=threads, enable_output=log, relative_gap_tolerance=0.0, absolute_gap_tolerance=0.0
    )
    for name, value in cp_sat.SAFE.items():
        setattr(parameters.cp_sat, name, value)
    hints = []
    if programme.hint and kind != mathopt.SolverType.HIGHS:  # which takes no hints here
        hints = [mathopt.SolutionHint(variable_values={x[c]: float(v) for c, v in programme.hint.items()})]
    with processes.heard(log):
        result = mathopt.solve(
            native, kind, params=parameters, model_params=mathopt.ModelSolveParameters(solution_hints=hints)
        )
    reason = result.termination.reason
    bound = _integer_bound(result.termination.objective_bounds.dual_bound)
    if result.has_primal_feasible_solution():
        values = tuple(round(value) for value in result.variable_values(x))
        return Solved("optimal" if reason == mathopt.TerminationReason.OPTIMAL else "feasible", values, bound)
    if reason == mathopt.TerminationReason.INFEASIBLE:
        return Solved("infeasible")
    return Solved("unknown", None, bound, why=f"{backend}: {reason.value}")


def relaxation(programme: Programme, deadline: Deadline) -> float | None:
    """What the linear relaxation proves: the bound of its dual solution by HiGHS, in exact arithmetic.

    None if time is too short. Raises StoppedError.
    """
    return processes.run("ortools", deadline, _relax, replace(programme, deadline=deadline), deadline)


def _relax(programme: Programme, deadline: Deadline) -> float | None:
    mathopt: Any = importlib.import_module("ortools.math_opt.python.mathopt")  # it exports by import alone
    try:
        native, _ = _state(programme, deadline, False)
    except ProgrammeTooLargeError:
        return None
    rows = list(native.linear_constraints())  # as they were stated
    limit = datetime.timedelta(seconds=max(_LEAST_S, deadline.remaining_s))
    result = mathopt.solve(native, mathopt.SolverType.HIGHS, params=mathopt.SolveParameters(time_limit=limit))
    if result.termination.reason != mathopt.TerminationReason.OPTIMAL:
        return None
    return float(exact_bound(programme, result.dual_values(rows)))


def _integer_bound(bound: float) -> int | None:
    """Objectives are integers, so a bound may be rounded up; a little is taken off for rounding errors."""
    return ceil(bound - 1e-6 * max(1.0, abs(bound))) if isfinite(bound) and abs(bound) < 2**62 else None
