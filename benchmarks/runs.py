"""Run plans on real tensors and store what came of it: one row a case, versions in every row; resumes.

python -m benchmarks.runs networks   every network, budget and solver, bit for bit: results/runs.csv
python -m benchmarks.runs mutations  plans changed in one place, the verifier against the oracle: results/mutations.csv
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import onnx

from cosma import __version__
from cosma.compile import Prepared, Settings, prepare, solve
from cosma.deadline import Deadline
from cosma.errors import CosmaError
from cosma.execute.run import Network, execute
from cosma.experiments.compare import at_budgets
from cosma.experiments.row_files import RowFile
from cosma.frontend.load import load_runnable
from cosma.solvers.options import Options
from cosma.solvers.registry import SOLVERS
from cosma.target.hardware import Hardware
from tests.mutations import KINDS, tally

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
NETWORKS = sorted((ROOT / "models").rglob("*.onnx")) + sorted(LIGHT.glob("*.onnx"))
LIMIT_S = 5.0  # a plan is wanted here, not a proof
VERSIONS = {"cosma": __version__, "onnx": version("onnx"), "onnxruntime": version("onnxruntime")}

# Network -> run every n-th of the mutants that the verifier rejects all the same.
MUTATED = {
    "tiny_branches": 1,
    "tiny_chain": 1,
    "light_squeezenet": 3,
    "lraspp_mobilenet_v3_large": 9,
    "densenet121": 15,
}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A row of results/runs.csv: a plan that was run on real tensors, or why there was none."""

    model: str
    setting: str
    budget: str
    solver: str
    capacity_bytes: int
    status: str
    steps: int | None = None
    loads: int | None = None
    stores: int | None = None
    compulsory_bytes: int | None = None
    non_compulsory_bytes: int | None = None
    outputs: int | None = None
    bit_exact: bool | None = None
    seconds: float | None = None
    cosma: str = VERSIONS["cosma"]
    onnx: str = VERSIONS["onnx"]
    onnxruntime: str = VERSIONS["onnxruntime"]


@dataclass(frozen=True, kw_only=True)
class Mutated:
    """A row of results/mutations.csv: how many plans changed in one way there were, and what became of them."""

    model: str
    setting: str
    capacity: str
    alignment_bytes: int
    kind: str
    tried: int
    accepted: int
    bit_exact: int
    rejected: int
    rejected_run: int
    went_wrong: int
    cosma: str = VERSIONS["cosma"]
    onnx: str = VERSIONS["onnx"]
    onnxruntime: str = VERSIONS["onnxruntime"]


def networks() -> None:
    """Every solver's plan for every network at M_R and M_H; what has no plan is a row that says so."""
    file = RowFile(RESULTS / "runs.csv", Ran)
    done = {(row.model, row.setting, row.budget, row.solver) for row in file.rows}
    for path in NETWORKS:
        network = None
        for setting in ("activations", "parameters"):
            prepared = prepare(path, Hardware("any", 2**62), Settings(None, "pointwise", setting == "parameters"))
            # One solver for parameters: what they add lies in the machine, not in the solvers.
            solvers = SOLVERS if setting == "activations" else ("auto",)
            todo = [(b, s) for b in ("M_R", "M_H") for s in solvers if (path.stem, setting, b, s) not in done]
            for budget in dict.fromkeys(b for b, _ in todo):
                _, at = next(at_budgets(prepared, [budget], Deadline.after(60)))
                assert at is not None, f"M_P of {path.stem} was not found in a minute"
                for solver in (s for b, s in todo if b == budget):
                    network = network or Network.of(load_runnable(path)[1])
                    row = Ran(
                        model=path.stem, setting=setting, budget=budget, solver=solver,
                        capacity_bytes=at.problem.memory.capacity_bytes, status="",
                    )  # fmt: skip
                    file.append(_run(row, at, network))


def _run(row: Ran, prepared: Prepared, network: Network) -> Ran:
    """The row with what came of solving and running."""
    problem = prepared.problem
    options = Options(row.solver, LIMIT_S, memory_limit_bytes=2 * 2**30)
    try:
        result = solve(prepared, Hardware("any", problem.memory.capacity_bytes), options)
    except CosmaError as error:
        return replace(row, status=f"no plan: {' '.join(str(error).split())[:100]}")
    if result.plan is None:
        return replace(row, status="infeasible")
    e = execute(result.plan, problem, network)
    row = replace(
        row, status=result.status, steps=e.steps, loads=e.loads, stores=e.stores, outputs=len(e.outputs),
        compulsory_bytes=e.compulsory_bytes, non_compulsory_bytes=e.non_compulsory_bytes,
        bit_exact=e.difference is None, seconds=round(e.seconds, 3),
    )  # fmt: skip
    print(row.model, row.setting, row.budget, row.solver, row.status, row.bit_exact, row.seconds, flush=True)
    return row


def mutations() -> None:
    """Counts by network, setting, capacity, alignment and kind of mutation."""
    file = RowFile(RESULTS / "mutations.csv", Mutated)
    done = {(row.model, row.setting, row.capacity, row.alignment_bytes) for row in file.rows}
    for name, every in MUTATED.items():
        path = next(p for p in NETWORKS if p.stem == name)
        network = Network.of(load_runnable(path)[1])
        for setting, capacity, alignment in _cases():
            if (name, setting, capacity, alignment) in done:
                continue
            hardware = Hardware("any", 2**62, alignment_bytes=alignment)
            prepared = prepare(path, hardware, Settings(None, "pointwise", setting == "parameters"))
            problem = prepared.problem
            peak = problem.peak_bytes(range(len(problem.graph.operators)))
            problem = problem.with_capacity(problem.working_set_bytes if capacity == "M_R" else peak)
            options = Options(time_limit_s=60)
            result = solve(replace(prepared, problem=problem), replace(hardware, capacity_bytes=peak), options)
            assert result.plan is not None
            found = tally(result.plan, problem, network, every)
            print(name, setting, capacity, alignment, dict(found), flush=True)
            for kind in KINDS:
                counts = {verdict: found[kind, verdict] for verdict in ("accepted", "rejected", "wrong", "harmless")}
                run = counts["wrong"] + counts["harmless"]
                row = Mutated(
                    model=name, setting=setting, capacity=capacity, alignment_bytes=alignment, kind=kind,
                    tried=sum(counts.values()), accepted=counts["accepted"],
                    # `tally` raises where an accepted plan is not bit-exact or a reason is not the oracle's.
                    bit_exact=counts["accepted"], rejected=counts["rejected"] + run, rejected_run=run,
                    went_wrong=counts["wrong"],
                )  # fmt: skip
                file.append(row)


def _cases() -> Iterator[tuple[str, str, int]]:
    for setting in ("activations", "parameters"):
        for capacity in ("M_R", "peak"):
            for alignment in (1, 64):
                yield setting, capacity, alignment


if __name__ == "__main__":
    for command in sys.argv[1:] or ["networks", "mutations"]:
        {"networks": networks, "mutations": mutations}[command]()
