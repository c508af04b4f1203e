"""Model + hardware + settings -> verified Result: the story of the whole program."""

from dataclasses import dataclass, field
from pathlib import Path

import cosma
from cosma.deadline import Deadline
from cosma.frontend.imported import Imported
from cosma.graph import DType, Fusion
from cosma.names import shown
from cosma.plan import Source
from cosma.problem import Problem
from cosma.schedule.eviction import belady
from cosma.schedule.larger import enlarged
from cosma.schedule.placed import to_plan
from cosma.schedule.timeline import Timeline
from cosma.solvers import registry
from cosma.solvers.options import Options, Result
from cosma.solvers.outcome import without_false_bound
from cosma.target.fusion import fuse
from cosma.target.hardware import Hardware
from cosma.target.mode_sets import Modes, problem_of
from cosma.target.quantisation import join_quantisation
from cosma.verify import require_valid


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is read. None: the model's own element types; the hardware's fusion and weights.

    modes: what operators may do besides keeping every operand in the scratchpad.
    """

    dtype: DType | None = None
    fusion: Fusion | None = None
    weights: bool | None = None
    dims: dict[str, int] = field(default_factory=dict)
    modes: Modes = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model as read (`imported`) and as it will run (`problem`); `source` goes into the plan."""

    imported: Imported
    problem: Problem
    source: Source


def prepare(model: str | Path, hardware: Hardware, settings: Settings) -> Prepared:
    """Read a model and state the problem of running it on `hardware`. Raises InputError.

    Reading knows no limits here; `cosma.frontend.limited.Reading` does it in a process that can be ended.
    """
    from cosma.frontend.load import load

    return state(load(model, settings.dims, settings.dtype), Path(model).name, hardware, settings)


def state(imported: Imported, name: str, hardware: Hardware, settings: Settings) -> Prepared:
    """The problem of running a model that was read with these settings on `hardware`."""
    fusion = hardware.fusion if settings.fusion is None else settings.fusion
    weights = hardware.weights if settings.weights is None else settings.weights
    graph = fuse(join_quantisation(imported.graph), fusion)
    graph = graph if weights else graph.without_weights()
    problem = problem_of(graph, hardware.memory, settings.modes, hardware.tiler)
    dims = dict(sorted(settings.dims.items()))
    source = Source(
        shown(name), problem.fingerprint(), settings.dtype, fusion, weights, dims, settings.modes, problem.tiler
    )
    return Prepared(imported, problem, source)


def solve(prepared: Prepared, hardware: Hardware, options: Options, deadline: Deadline | None = None) -> Result:
    """Schedule, allocate and replace; the plan in the result has passed the verifier.

    deadline: takes the place of the time limit, where some of it has been spent on reading. Raises InputError for a
    solver that is not there, and VerificationError if a solver's plan does not replay: a defect of the solver, never
    shown as a plan.
    """
    problem = prepared.problem
    solver = registry.solver_for(problem, options)
    deadline = deadline or Deadline.after(options.time_limit_s)
    shortage = problem.shortage()
    if shortage is not None:
        return Result("infeasible", options.solver, shortage=shortage, why=("the largest working set does not fit",))
    outcome = without_false_bound(solver(problem, options, deadline))
    if outcome.best is None:
        return Result("infeasible", options.solver, states=outcome.states, size=outcome.size, why=outcome.why)
    generator = f"cosma {cosma.__version__}"
    best = enlarged(outcome.best)
    plan = to_plan(best, outcome.bound_bytes, prepared.source, hardware.name, options.solver, generator)
    require_valid(plan, problem)
    exported = None if problem.has_choices else Timeline.of(problem, range(len(problem.graph.operators)))
    return Result(
        status=plan.claims.status,
        solver=options.solver,
        plan=plan,
        non_compulsory_bytes=plan.claims.non_compulsory_bytes,
        bound_bytes=plan.claims.bound_bytes,
        bound_name=outcome.bound_name,
        belady_bytes=None if exported is None else exported.cost(belady(exported)),
        fragmentation_bytes=outcome.fragmentation_bytes,
        states=outcome.states,
        size=outcome.size,
        first_s=outcome.first_s,
        why=outcome.why,
    )
