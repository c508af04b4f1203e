"""Who solves integer programmes: one function for all backends, which distrusts them all."""

from pathlib import Path

from cosma.files import write_atomic
from cosma.solvers import milp_ortools, milp_pulp
from cosma.solvers.base import Deadline
from cosma.solvers.milp import Model, Solved

BACKENDS = (*milp_ortools.NAMES, *milp_pulp.INSTALL)
BUNDLED = (*milp_ortools.NAMES, "highs", "cbc")  # those that come along


def solve(model: Model, backend: str, deadline: Deadline, log: bool = False) -> Solved:
    """Solve a model with one thread and no gap tolerance: the same answer every time, unless time runs out.

    Raises InputError where the backend is not installed.
    """
    if backend in milp_ortools.NAMES:
        solved = milp_ortools.solve(model, backend, deadline, log)
    else:
        solved = milp_pulp.solve(model, backend, deadline, log)
    if solved.values is not None:
        broken = model.broken_rule(solved.values)
        if broken is not None:
            why = f"{backend} returned values that break the model ({broken}); they are not used"
            return Solved("wrong", why=why)
        if solved.status == "optimal":
            return Solved("optimal", solved.values, model.objective(solved.values), solved.first_s, solved.why)
    return solved


def relaxation(model: Model, deadline: Deadline) -> float | None:
    """The optimum of the model without integrality, in the objective's unit; None if not found in time."""
    return milp_ortools.relaxation(model, deadline)


def write(model: Model, path: Path, deadline: Deadline) -> None:
    """Write the model as .lp or .mps."""
    write_atomic(path, milp_pulp.export(model, path.suffix, deadline))
