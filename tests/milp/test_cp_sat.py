"""CP-SAT and Ctrl-C: its own handler would leave a process that dies of the next one without a word."""

import os
import random
import signal
import threading

import pytest
from ortools.sat.python import cp_model

from cosma.deadline import Deadline
from cosma.milp import cp_sat


def market_split(rows: int, columns: int) -> cp_model.CpModel:
    """Equations over random coefficients that share out half of each row: small, and hard beyond any patience."""
    draw = random.Random(0)
    program = cp_model.CpModel()
    x = [program.new_bool_var("") for _ in range(columns)]
    for _ in range(rows):
        factors = [draw.randrange(100) for _ in x]
        program.add(cp_model.LinearExpr.weighted_sum(x, factors) == sum(factors) // 2)
    return program


def test_an_interrupt_after_a_solve_is_heard() -> None:
    solver, status = cp_sat.search(market_split(1, 6), Deadline.after(60))
    assert status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)
    assert solver.num_branches >= 0
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_stops_a_solve() -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        cp_sat.search(market_split(6, 60), Deadline.after(1e6))
    timer.join()


def test_effort_is_a_limit() -> None:
    _, status = cp_sat.search(market_split(6, 60), Deadline.after(1e6), effort=0.1)
    assert status == cp_model.UNKNOWN
