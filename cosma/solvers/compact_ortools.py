"""The compact ILP stated to OR-Tools CP-SAT."""

from collections.abc import Sequence

from cosma.solvers.base import Deadline
from cosma.solvers.compact import CompactILP, CompactSolution


def solve(ilp: CompactILP, hint: Sequence[bool], deadline: Deadline) -> CompactSolution:
    """Solve with one worker and a fixed seed: the same answer every time, unless the deadline strikes."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    keep = [model.new_bool_var(f"keep{i}") for i in range(len(ilp.gaps))]
    stored = [model.new_bool_var(f"stored{k}") for k in range(len(ilp.stores))]
    for gaps, sizes, room in ilp.rows:
        model.add(cp_model.LinearExpr.weighted_sum([keep[i] for i in gaps], sizes) <= room)
    for k, (_, gaps) in enumerate(ilp.stores):
        for i in gaps:
            model.add_bool_or(stored[k], keep[i])
    for cut in ilp.cuts:
        model.add_bool_or([keep[i].negated() for i in cut])
    model.minimize(
        cp_model.LinearExpr.weighted_sum([k.negated() for k in keep], ilp.load)
        + cp_model.LinearExpr.weighted_sum(stored, [size for size, _ in ilp.stores])
    )
    for variable, value in zip(keep, hint, strict=True):
        model.add_hint(variable, value)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_time_in_seconds = max(0.01, deadline.remaining_s)
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return CompactSolution(None, 0)
    kept = tuple(bool(solver.value(k)) for k in keep)
    bound = ilp.bytes_of(kept) if status == cp_model.OPTIMAL else _bound(solver.best_objective_bound) * ilp.unit
    return CompactSolution(kept, bound)


def _bound(value: float) -> int:
    """CP-SAT's objective is integral, so its bound may be rounded up; the slack absorbs float noise."""
    from math import ceil

    return max(0, ceil(value - 1e-6 * max(1.0, abs(value))))
