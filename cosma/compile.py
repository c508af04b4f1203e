"""Model + hardware + settings -> verified Result: the story of the whole program."""

from dataclasses import dataclass, field
from pathlib import Path

import cosma
from cosma.frontend.lower import DType
from cosma.frontend.onnx_ import Imported, load
from cosma.fusion import Fusion, fuse
from cosma.hardware import Hardware
from cosma.plan import SCHEMA_VERSION, Claims, Plan, Source, Step, derive_moves
from cosma.problem import Problem
from cosma.solvers import portfolio
from cosma.solvers.base import Deadline, Options, Result
from cosma.solvers.baselines import belady
from cosma.solvers.portfolio import Outcome
from cosma.solvers.timeline import Timeline
from cosma.verify import require_valid


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is read. None: the model's own element types; the hardware's fusion and weights."""

    dtype: DType | None = None
    fusion: Fusion | None = None
    weights: bool | None = None
    dims: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model as read (`imported`) and as it will run (`problem`); `source` goes into the plan."""

    imported: Imported
    problem: Problem
    source: Source


def prepare(model: str | Path, hardware: Hardware, settings: Settings) -> Prepared:
    """Read a model and state the problem of running it on `hardware`. Raises InputError."""
    imported = load(model, settings.dims, settings.dtype)
    fusion = hardware.fusion if settings.fusion is None else settings.fusion
    weights = hardware.weights if settings.weights is None else settings.weights
    graph = fuse(imported.graph, fusion)
    problem = Problem(graph if weights else graph.without_weights(), hardware.capacity_bytes, hardware.alignment_bytes)
    source = Source(
        Path(model).name, problem.fingerprint(), settings.dtype, fusion, weights, dict(sorted(settings.dims.items()))
    )
    return Prepared(imported, problem, source)


def solve(prepared: Prepared, hardware: Hardware, options: Options) -> Result:
    """Schedule, allocate and replace; the plan in the result has passed the verifier.

    Raises VerificationError if a solver's plan does not replay: a defect of the solver, never shown as a plan.
    """
    problem = prepared.problem
    deadline = Deadline.after(options.time_limit_s)
    shortage = problem.shortage()
    if shortage is not None:
        return Result("infeasible", options.solver, shortage=shortage, why=("the largest working set does not fit",))
    exported = Timeline.of(problem, range(len(problem.graph.operators)))
    outcome = portfolio.solve(problem, options, deadline)
    plan = write(prepared, hardware, options, outcome)
    require_valid(plan, problem)
    return Result(
        status=plan.claims.status,
        solver=options.solver,
        plan=plan,
        non_compulsory_bytes=plan.claims.non_compulsory_bytes,
        bound_bytes=plan.claims.bound_bytes,
        bound_name=outcome.bound_name,
        belady_bytes=exported.cost(belady(exported)),
        fragmentation_bytes=outcome.fragmentation_bytes,
        states=outcome.states,
        why=outcome.why,
    )


def write(prepared: Prepared, hardware: Hardware, options: Options, outcome: Outcome) -> Plan:
    """The plan that a solver's outcome stands for, with its claims; not yet verified."""
    problem, best = prepared.problem, outcome.best
    timeline = best.timeline
    residencies = timeline.residencies(best.evicted, best.offsets)
    return Plan(
        schema_version=SCHEMA_VERSION,
        generator=f"cosma {cosma.__version__}",
        source=prepared.source,
        hardware=hardware.name,
        capacity_bytes=problem.capacity_bytes,
        alignment_bytes=problem.alignment_bytes,
        solver=options.solver,
        claims=Claims(
            status="optimal" if best.cost_bytes == outcome.bound_bytes else "feasible",
            compulsory_bytes=problem.compulsory_bytes,
            non_compulsory_bytes=best.cost_bytes,
            bound_bytes=outcome.bound_bytes,
            peak_use_bytes=max((r.offset_bytes + r.size_bytes for r in residencies), default=0),
        ),
        order=tuple(Step(problem.graph.operators[v].name, timeline.modes[v]) for v in timeline.order),
        residencies=residencies,
        moves=derive_moves(problem, residencies),
    )
