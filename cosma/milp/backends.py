"""Backends of integer programmes behind one function, which distrusts them all.

Values are checked against the rows, bounds by `second_opinion.py`.
"""

from dataclasses import replace
from pathlib import Path

from cosma.deadline import Deadline
from cosma.errors import InputError
from cosma.files import write_atomic
from cosma.milp import ortools_backend, pulp_backend
from cosma.milp.programme import Programme, ProgrammeTooLargeError, Solved
from cosma.milp.second_opinion import confirmed
from cosma.workers.processes import StoppedError

DEFAULT_BACKEND = "cp-sat"
BACKENDS = (*ortools_backend.NAMES, *pulp_backend.INSTALL)
_FIRST = 0.6  # of the time for the backend, the rest for a second opinion
BUNDLED = (*ortools_backend.BUNDLED, "highs", "cbc")  # those that come along


def minimise(programme: Programme, backend: str, deadline: Deadline, log: bool = False) -> Solved:
    """Solve a programme with one thread and no gap tolerance: the same answer every time, unless time runs out.

    The bound, and the status that rests on it, are confirmed by something else than the backend. Raises
    InputError where the backend is not installed.
    """
    call = ortools_backend.minimise if backend in ortools_backend.NAMES else pulp_backend.minimise
    try:
        solved = call(programme, backend, deadline.share(_FIRST), log)
    except StoppedError as error:
        return Solved("unknown", why=f"{backend} {error}")
    if solved.values is not None:
        broken = programme.broken_rule(solved.values)
        if broken is not None:
            why = f"{backend} returned values that break the programme ({broken}); they are not used"
            return Solved("wrong", why=why)
        if solved.status == "optimal":
            solved = replace(solved, bound=programme.objective(solved.values))
    return confirmed(programme, solved, backend, deadline)


def relaxation(programme: Programme, deadline: Deadline) -> float | None:
    """The optimum of the programme without integrality, in the objective's unit; None if not found in time.

    It is what the dual solution proves in exact arithmetic, so an error of the solver can only make it smaller.
    """
    try:
        return ortools_backend.relaxation(programme, deadline)
    except StoppedError:
        return None


def chosen(name: str) -> str:
    """The backend by its name, or the default one. Raises InputError where it is missing, with how to install it."""
    backend = name or DEFAULT_BACKEND
    if backend not in BUNDLED:
        try:
            (ortools_backend if backend in ortools_backend.NAMES else pulp_backend).require(backend)
        except StoppedError as error:
            raise InputError(f"solver {backend!r}: looking for it {error}; use one that comes along") from None
    return backend


def write(programme: Programme, path: Path, unit: int, deadline: Deadline) -> str:
    """Write the programme as .lp or .mps, its objective in units of `unit` bytes; why it is not written, or ""."""
    try:
        write_atomic(path, pulp_backend.export(programme, path.suffix, unit, deadline))
    except (ProgrammeTooLargeError, StoppedError) as error:
        return f"{path} not written: {error}"
    return ""
