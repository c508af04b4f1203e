"""Plans and constants for tests of execution."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from cosma.compile import Prepared, Settings, prepare, solve
from cosma.deadline import Deadline
from cosma.execute.run import Execution, Network, run
from cosma.experiments.compare import at_budgets
from cosma.frontend.load import load_runnable
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
    hardware = replace(hardware, capacity_bytes=prepared.problem.memory.capacity_bytes)
    options = Options(solver, limit_s, memory_limit_bytes=2 * 2**30)
    return solve(prepared, hardware, options).plan, prepared


def network_of(path: Path, dims: dict[str, int] | None = None, seed: int = 0) -> Network:
    return Network.of(load_runnable(path, dims)[1], seed=seed)


def run_plan(plan: Plan, prepared: Prepared, path: Path, inputs: Path | None = None, seed: int = 0) -> Execution:
    """`execute.run.run` of the model in a file."""
    return run(plan, prepared, load_runnable(path, prepared.source.dims)[1], inputs, seed)


def weight(name: str, array: np.ndarray):
    return numpy_helper.from_array(array, name)
