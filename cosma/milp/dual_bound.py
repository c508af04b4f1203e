"""A lower bound on an integer programme in exact arithmetic: from prices of its rows, wherever they come from.

For any prices y of the rows, y >= 0 on a row's lower side and y <= 0 on its upper side,

    cost . x  =  sum_r y_r (row_r . x)  +  sum_j (cost_j - sum_r y_r a_rj) x_j
              >= sum_r y_r side_r       +  sum_j min over [low_j, high_j] of (cost_j - sum_r y_r a_rj) x_j

for every x that the programme allows (weak duality). The prices come from an LP solver in floating point and are
rounded to integers; the sum is then exact, so that nothing which the solver got wrong can make the bound too large.
"""

import importlib
from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Any

from cosma.deadline import Deadline
from cosma.milp.programme import Programme

_SCALE = 1 << 30  # integer units of a price
_MOST_TERMS = 300_000  # beyond, the relaxation takes too long to be worth it


def dual_bound(programme: Programme, deadline: Deadline) -> int | None:
    """A proven lower bound on the programme's objective; None if its relaxation is too large, or not solved in time."""
    if programme.size.terms > _MOST_TERMS or deadline.passed:
        return None
    prices = _prices(programme, deadline)
    return None if prices is None else ceil(exact_bound(programme, prices))  # objectives are integers


def _prices(programme: Programme, deadline: Deadline) -> list[float] | None:
    """Dual values of the relaxation's rows."""
    pywraplp: Any = importlib.import_module("ortools.linear_solver.pywraplp")  # it is not typed
    solver = pywraplp.Solver.CreateSolver("GLOP")
    infinity = solver.infinity()
    objective = solver.Objective()
    objective.SetMinimization()
    columns = [solver.NumVar(low, high, "") for low, high in zip(programme.lows, programme.highs, strict=True)]
    for column, cost in zip(columns, programme.costs, strict=True):
        objective.SetCoefficient(column, cost)
    rows = []
    for r, (low, high) in enumerate(zip(programme.row_lows, programme.row_highs, strict=True)):
        row = solver.Constraint(-infinity if low is None else low, infinity if high is None else high)
        for column, factor in zip(*programme.terms(r), strict=True):
            row.SetCoefficient(columns[column], row.GetCoefficient(columns[column]) + factor)
        rows.append(row)
    solver.SetTimeLimit(max(1, int(1000 * deadline.remaining_s)))
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        return None
    return [row.dual_value() for row in rows]


def exact_bound(programme: Programme, prices: Sequence[float]) -> Fraction:
    """The bound that any finite prices give; one on a side that a row does not have counts as 0."""
    left = [cost * _SCALE for cost in programme.costs]
    total = 0
    for r, given in enumerate(prices):
        price = round(given * _SCALE)
        side = programme.row_lows[r] if price > 0 else programme.row_highs[r]
        if price and side is not None:
            total += price * side
            for column, factor in zip(*programme.terms(r), strict=True):
                left[column] -= price * factor
    for cost, low, high in zip(left, programme.lows, programme.highs, strict=True):
        total += cost * (low if cost > 0 else high)
    return programme.offset + Fraction(total, _SCALE)
