"""The solvers by name. A name may be followed by a colon and a backend, or a method for its parts."""

from collections.abc import Callable
from dataclasses import dataclass

from cosma.deadline import Deadline
from cosma.errors import InputError
from cosma.milp.backends import BACKENDS
from cosma.problem import Problem
from cosma.solvers import auto, baselines
from cosma.solvers.decompose import divide
from cosma.solvers.options import Options
from cosma.solvers.outcome import Outcome
from cosma.solvers.programmes import compact, joint, paper

Solve = Callable[[Problem, Options, Deadline], Outcome]


@dataclass(frozen=True, slots=True)
class Entry:
    """A solver: what it does in one line, what may follow the colon, whether it states one programme for everything.

    chooses_modes: whether it decides how operators run. The others take each as it is: every operand resident.
    """

    solve: Solve
    what: str
    inner: tuple[str, ...] = ()
    is_programme: bool = False
    chooses_modes: bool = False

    def supports(self, problem: Problem) -> bool:
        """Whether its answers and bounds are right for a problem; asked here and nowhere else."""
        return self.chooses_modes or not problem.has_choices


SOLVERS: dict[str, Entry] = {
    "auto": Entry(auto.solve, "search over all schedules, exact where the limits allow", chooses_modes=True),
    "divide": Entry(divide.solve, "divide and conquer over windows of the schedule", divide.PART_SOLVERS),
    "joint": Entry(joint.solve, "integer programme over order and replacement, addresses on demand", BACKENDS, True),
    "paper": Entry(paper.solve, "the paper's time-indexed integer programme, Eq. 1-12", BACKENDS, True),
    "paper-peak": Entry(
        paper.solve_peak, "the paper's order of smallest peak, Eq. 13-15, then compact", BACKENDS, True
    ),
    "compact": Entry(compact.solve, "integer programme of replacement on three orders", BACKENDS, chooses_modes=True),
    "tflite-exported-belady": Entry(baselines.solve, "TensorFlow Lite's arena, exported order, Belady"),
    "tflite-exported-greedy": Entry(baselines.solve, "TensorFlow Lite's arena, exported order, greedy ILP"),
    "tflite-peak-belady": Entry(baselines.solve, "TensorFlow Lite's arena, order of smallest peak, Belady"),
    "tflite-peak-greedy": Entry(baselines.solve, "TensorFlow Lite's arena, order of smallest peak, greedy ILP"),
    "best-fit": Entry(baselines.solve, "best fit in the exported order, Belady"),
}


def find(options: Options) -> Entry:
    """The solver that the options name. Raises InputError naming the alternatives."""
    entry = SOLVERS.get(options.name)
    if entry is None:
        raise InputError(f"--solver {options.solver!r}: no such solver; use one of {', '.join(SOLVERS)}")
    if ":" in options.solver and options.inner not in entry.inner:
        choices = f"one of {', '.join(entry.inner)}" if entry.inner else "nothing"
        raise InputError(f"--solver {options.solver!r}: after '{options.name}:' goes {choices}")
    if not entry.is_programme and (options.programme.write_model is not None or options.programme.root_bound):
        wanted = "--write-model" if options.programme.write_model is not None else "--root-bound"
        those = ", ".join(name for name, other in SOLVERS.items() if other.is_programme)
        raise InputError(f"{wanted}: solver {options.name!r} states no programme of the whole; use one of {those}")
    return entry


def solver_for(problem: Problem, options: Options) -> Solve:
    """The solver that the options name. Raises InputError, also where it does not support the problem."""
    entry = find(options)
    if not entry.supports(problem):
        those = ", ".join(name for name, other in SOLVERS.items() if other.supports(problem))
        raise InputError(f"solver {options.name!r} cannot choose how operators run; use one of {those}")
    return entry.solve
