"""Plans and constants for tests of execution."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from cosma.compile import Prepared, Settings, prepare, solve
from cosma.deadline import Deadline
from cosma.execute.run import Network
from cosma.experiments.compare import at_budgets
from cosma.plan import Plan
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware


def compiled(
    path: Path, weights: bool = False, fusion: str = "pointwise", solver: str = "auto", budget: str = "M_R",
    alignment: int = 1, limit_s: float = 20.0,
) -> tuple[Plan | None, Prepared]:  # fmt: skip
    hardware = Hardware("h", 2**40, alignment_bytes=alignment)
    prepared = prepare(path, hardware, Settings(None, fusion, weights))
    _, prepared = next(at_budgets(prepared, [budget], Deadline.after(60)))
    hardware = replace(hardware, capacity_bytes=prepared.problem.capacity_bytes)
    options = Options(solver, limit_s, memory_limit_bytes=2 * 2**30)
    return solve(prepared, hardware, options).plan, prepared


def network_of(path: Path) -> Network:
    return Network.read(path, {})


def weight(name: str, array: np.ndarray):
    return numpy_helper.from_array(array, name)
