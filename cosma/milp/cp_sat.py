"""OR-Tools CP-SAT as it is used here: one worker, a fixed seed, and Ctrl-C for Python to handle."""

import sys
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from cosma.deadline import Deadline

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

_LEAST_S = 0.01
_LOOK_S = 0.05
# Steps of its presolve that lose solutions (github.com/google/or-tools/issues/5293), switched off.
SAFE = {"presolve_inclusion_work_limit": 0, "merge_at_most_one_work_limit": 0.0}


def search(
    program: "cp_model.CpModel", deadline: Deadline, *, effort: float = inf, log: bool = False, presolve: bool = True,
    relaxations: bool = True, callback: "cp_model.CpSolverSolutionCallback | None" = None,
) -> "tuple[cp_model.CpSolver, cp_model.CpSolverStatus]":  # fmt: skip
    """The solver after its run, and its status. effort: a limit in CP-SAT's deterministic seconds.

    CP-SAT's own handler for Ctrl-C leaves the default one behind, which ends Python without a word. So it is
    switched off, and the search runs in a thread: the main thread hears the interrupt and stops it.
    """
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.catch_sigint_signal = False
    solver.parameters.log_search_progress = log
    solver.parameters.log_to_stdout = False  # which is for results
    solver.log_callback = partial(print, file=sys.stderr)
    for name, limit in SAFE.items():
        setattr(solver.parameters, name, limit)
    solver.parameters.cp_model_presolve = presolve
    if not relaxations:
        solver.parameters.linearization_level = 0
    solver.parameters.max_deterministic_time = effort
    solver.parameters.max_time_in_seconds = max(_LEAST_S, deadline.remaining_s)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(solver.solve, program, callback)
        try:
            return solver, running.result()
        except KeyboardInterrupt:
            while not running.done():
                solver.stop_search()  # it may not have begun
                wait([running], _LOOK_S)
            raise
