"""Measure and store: one CSV a question, one row a case, versions in every row.

python -m benchmarks.measure models    what each network in models/ and models/small/ asks of a scratchpad
python -m benchmarks.measure phases    where the time of a compilation goes
python -m benchmarks.measure proofs    optima over all schedules: networks, fusions, settings, budgets
python -m benchmarks.measure randwire  the same for randomly wired networks
python -m benchmarks.measure growth    time and memory against size, synthetic stacks
python -m benchmarks.measure strengthenings  the paper's programme with and without each; same solver, same instances
python -m benchmarks.measure programmes      size and root bound of the paper's and of the joint programme
"""

import csv
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import synthetic
from cosma import __version__
from cosma.compile import Prepared, Settings, prepare
from cosma.deadline import Deadline
from cosma.frontend.load import load
from cosma.milp import backends
from cosma.milp.programme import Programme
from cosma.problem import Memory, Problem
from cosma.schedule import replacement
from cosma.schedule.placed import to_plan
from cosma.schedule.placement import Block, place
from cosma.schedule.timeline import Timeline
from cosma.solvers import auto, registry
from cosma.solvers.options import Options, ProgrammeOptions
from cosma.solvers.programmes.joint import Joint
from cosma.solvers.programmes.paper.indices import STRENGTHENINGS, index
from cosma.solvers.programmes.paper.rules import TimeIndexed, least_traffic
from cosma.solvers.search import portfolio
from cosma.solvers.search.space import whole
from cosma.solvers.search.strategies import smallest_peak
from cosma.target.fusion import fuse
from cosma.target.hardware import Hardware
from cosma.verify import require_valid

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
MODELS = sorted((ROOT / "models").glob("*.onnx"))  # the paper's, and two for tests
SMALL = sorted((ROOT / "models/small").glob("*.onnx"))  # in no question but the first
REPEATS = 5
ROOT_S = 120  # for a relaxation
FOREVER = Deadline.after(1e9)
T = TypeVar("T")
_shown: list[str] = []


def versions() -> dict[str, str]:
    """Columns that say what a row was made with."""
    return {"cosma": __version__, **{name: version(name) for name in ("onnx", "onnxscript", "ortools", "omnimalloc")}}


def store(name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows to results/NAME.csv, each with the versions, printing them as they come."""
    rows = [{**row, **versions()} for row in rows]
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def show(row: dict[str, Any]) -> None:
    """Print a row as it comes, the names of its columns before the first."""
    global _shown
    if _shown != list(row):
        _shown = list(row)
        print(*row)
    print(*row.values(), flush=True)


def measure_models() -> Iterable[dict[str, Any]]:
    """int8, both fusions; sizes in bytes. Deterministic."""
    for path in [*MODELS, *SMALL]:
        for fusion in ("none", "pointwise"):
            prepared = prepare(path, Hardware("any", 2**62), Settings("int8", fusion, False))
            problem, graph = prepared.problem, prepared.problem.graph
            weights = sum(t.size_bytes for t in prepared.imported.graph.tensors if t.kind == "weight")
            row = {
                "model": path.stem, "fusion": fusion, "operators": len(graph.operators), "tensors": len(graph.tensors),
                "free_pairs": graph.count_free_pairs(), "weight_bytes": weights,
                "working_set_bytes": problem.working_set_bytes,
                "peak_bytes": problem.peak_bytes(range(len(graph.operators))),
                "compulsory_bytes": problem.compulsory_bytes,
            }  # fmt: skip
            show(row)
            yield row


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Median milliseconds over REPEATS calls, and the last result."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds), result


def measure_phases() -> Iterable[dict[str, Any]]:
    """Median milliseconds a phase (int8, pointwise, activations only, half-way between M_R and the peak).

    `place` is the placement of the final residencies alone; `solve` contains it. `import` parses the
    file; what starting Python and importing libraries takes is not in here.
    """
    print(
        f"{'model':28}{'import':>9}{'problem':>9}{'solve':>9}{'place':>9}{'verify':>9}{'write':>9}  import/all  bytes"
    )
    for path in MODELS:
        row = measure_phases_of(path)
        phases = [row[f"{p}_ms"] for p in ("import", "problem", "solve", "place", "verify", "write")]
        share = row["import_ms"] / (sum(phases) - row["place_ms"])
        print(
            f"{path.stem:28}" + "".join(f"{p:9.1f}" for p in phases) + f"{share:12.2f}  {row['non_compulsory_bytes']}"
        )
        yield row


def measure_phases_of(path: Path) -> dict[str, Any]:
    """One row of `measure_phases`."""
    settings = Settings("int8", "pointwise", False)
    prepared = prepare(path, Hardware("any", 2**62), settings)
    import_ms, imported = timed(lambda: load(path, {}, "int8"))
    problem_ms, problem = timed(lambda: Problem(fuse(imported.graph, "pointwise").without_weights(), Memory(2**62)))
    peak = problem.peak_bytes(range(len(problem.graph.operators)))
    problem = problem.with_capacity((problem.working_set_bytes + peak) // 2)
    prepared = Prepared(prepared.imported, problem, prepared.source)
    solve_ms, outcome = timed(lambda: portfolio.solve(problem, Options(), Deadline.after(60)))
    best = outcome.best
    assert best is not None
    blocks = [Block(s, e, problem.sizes[a]) for a, s, e in best.timeline.intervals(best.evicted)]
    place_ms, _ = timed(lambda: place(blocks, problem.memory))
    plan = to_plan(best, outcome.bound_bytes, prepared.source, "any", "auto", "")
    verify_ms, _ = timed(lambda: require_valid(plan, problem))
    write_ms, _ = timed(plan.to_json)
    times = {
        "import_ms": import_ms, "problem_ms": problem_ms, "solve_ms": solve_ms,
        "place_ms": place_ms, "verify_ms": verify_ms, "write_ms": write_ms,
    }  # fmt: skip
    return {
        "model": path.stem, "capacity_bytes": problem.memory.capacity_bytes, "status": plan.claims.status,
        "non_compulsory_bytes": plan.claims.non_compulsory_bytes, "bound_bytes": plan.claims.bound_bytes,
        **{key: round(ms, 2) for key, ms in times.items()},
        "machine": platform.machine(), "python": platform.python_version(),
    }  # fmt: skip


def budgets(problem: Problem) -> list[tuple[str, int]]:
    """M_R, M_H and M_P of a problem; M_P is proved."""
    peak = smallest_peak(whole(problem), 10**7, Deadline.after(600), problem.working_set_bytes)
    assert peak.complete
    low, high = problem.working_set_bytes, peak.cost
    return [("M_R", low), ("M_H", (low + high) // 2), ("M_P", high)]


def proof(problem: Problem, options: Options) -> dict[str, Any]:
    """Solve with `auto` and, for comparison, the compact programme on the exported order alone."""
    start = time.perf_counter()
    exported = Timeline.of(problem, range(len(problem.graph.operators)))
    compact = replacement.optimise(exported, "cp-sat", Deadline.after(60))
    compact_s = time.perf_counter() - start
    start = time.perf_counter()
    outcome = auto.solve(problem, options, Deadline.after(options.time_limit_s))
    seconds = time.perf_counter() - start
    assert outcome.best is not None
    cost = outcome.best.cost_bytes
    return {
        "capacity_bytes": problem.memory.capacity_bytes,
        "status": "optimal" if cost == outcome.bound_bytes else "feasible",
        "non_compulsory_bytes": cost,
        "bound_bytes": outcome.bound_bytes,
        "bound": outcome.bound_name,
        "fragmentation_bytes": "" if outcome.fragmentation_bytes is None else outcome.fragmentation_bytes,
        "states": outcome.states,
        "seconds": round(seconds, 3),
        "exported_order_bytes": compact.cost_bytes,
        "exported_order_seconds": round(compact_s, 3),
        "time_ratio": round(seconds / compact_s, 1),
    }


def measure_proofs() -> Iterable[dict[str, Any]]:
    """Every network, fusion, setting and budget, int8."""
    portfolio.solve(whole_problem(MODELS[0]), Options(), Deadline.after(60))  # imports the solvers
    for path in MODELS:
        for fusion in ("none", "pointwise"):
            for weights in (False, True):
                problem = prepare(path, Hardware("any", 2**62), Settings("int8", fusion, weights)).problem
                for budget, capacity in budgets(problem):
                    setting = "parameters" if weights else "activations"
                    head = {"model": path.stem, "fusion": fusion, "setting": setting, "budget": budget}
                    row = {**head, **proof(problem.with_capacity(capacity), Options())}
                    show(row)
                    yield row


def whole_problem(path: Path) -> Problem:
    """A model with everything tracked, on a scratchpad of its largest working set."""
    problem = prepare(path, Hardware("any", 2**62), Settings()).problem
    return problem.with_capacity(problem.working_set_bytes)


def measure_randwire() -> Iterable[dict[str, Any]]:
    """RandWire-WS graphs of four seeds, with and without weighted sums."""
    for seed in range(4):
        for sums in (False, True):
            problem = Problem(synthetic.randwire(seed, sums), Memory(2**62))
            for budget, capacity in budgets(problem):
                head = {"model": problem.graph.name, "operators": len(problem.graph.operators), "budget": budget}
                row = {**head, **proof(problem.with_capacity(capacity), Options(time_limit_s=600))}
                show(row)
                yield row


def grow(family: str, count: int) -> dict[str, Any]:
    """One synthetic stack, in this process: seconds, and the peak memory of the process."""
    make = {"nas_stack": synthetic.nas_stack, "transformer_stack": synthetic.transformer_stack}[family]
    problem = Problem(make(count), Memory(2**62))
    # NAS cells at the smallest peak of a short stack, which is that of any; blocks at M_R.
    short = Problem(make(10), Memory(2**62))
    capacity = dict(budgets(short))["M_P" if family == "nas_stack" else "M_R"]
    row = proof(problem.with_capacity(capacity), Options())
    # Not getrusage: that counts the parent's memory too, from before the exec.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = int(status["VmHWM"].split()[0]) // 1024
    return {"family": family, "operators": len(problem.graph.operators), **row, "peak_memory_mib": memory}


def measure_growth() -> Iterable[dict[str, Any]]:
    """Stacks of 10^2 to 10^5 operators, each in a process of its own."""
    for family, each in (("nas_stack", 21), ("transformer_stack", 18)):
        for operators in (100, 300, 1000, 3000, 10_000, 30_000, 100_000):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                row = pool.submit(grow, family, operators // each).result()
            show(row)
            yield row


def small_instances() -> list[Problem]:
    """Graphs that the literal programme can be solved for, on their M_R, where something has to be evicted."""
    graphs = [synthetic.random_dag(seed, 10) for seed in range(20)]
    problems = [
        Problem(synthetic.transformer_stack(1), Memory(2**62)),
        *(Problem(graph, Memory(2**62)) for graph in graphs),
    ]
    problems = [p.with_capacity(p.working_set_bytes) for p in problems]
    return [p for p in problems if portfolio.solve(p, Options(), Deadline.after(60)).bound_bytes][:4]


def variants() -> list[tuple[str, str, frozenset[str]]]:
    """Name, solver and what is left out: the literal programme, each strengthening alone, all but each, other paths."""
    every = frozenset(STRENGTHENINGS)
    alone = [(f"only {name}", "paper", every - {name}) for name in STRENGTHENINGS]
    without = [(f"all but {name}", "paper", frozenset({name})) for name in STRENGTHENINGS]
    others = [(solver, solver, frozenset[str]()) for solver in ("joint", "compact", "auto")]
    return [("literal", "paper", every), *alone, *without, ("all", "paper", frozenset()), *others]


def measure_strengthenings() -> Iterable[dict[str, Any]]:
    """Seconds of each variant, one process, fresh caches aside; the ratio is to the literal programme."""
    limit = 10.0
    for backend in ("cp-sat", "highs"):
        for problem in small_instances():
            portfolio.solve(problem, Options(), Deadline.after(limit))
            registry.find(Options(solver=f"joint:{backend}")).solve(
                problem, Options(), Deadline.after(limit)
            )  # starts it
            literal_s = 0.0
            for name, solver, without in variants():
                inner = solver if solver == "auto" else f"{solver}:{backend}"
                options = Options(inner, limit, programme=ProgrammeOptions(without))
                start = time.perf_counter()
                outcome = registry.find(options).solve(problem, options, Deadline.after(limit))
                seconds = time.perf_counter() - start
                literal_s = literal_s or seconds
                row = {
                    "graph": problem.graph.name, "operators": len(problem.graph.operators), "backend": backend,
                    "variant": name, "terms": outcome.size.terms if outcome.size else "",
                    "bytes": outcome.best.cost_bytes if outcome.best else "", "bound_bytes": outcome.bound_bytes,
                    "seconds": round(seconds, 4), "speedup": round(literal_s / seconds, 2),
                }  # fmt: skip
                show(row)
                yield row


def measure_programmes() -> Iterable[dict[str, Any]]:
    """Rows, columns, terms and root bound at M_R of every network in which something has to leave."""
    for path in MODELS:
        problem = prepare(path, Hardware("any", 2**62), Settings("int8", "pointwise", False)).problem
        problem = problem.with_capacity(problem.working_set_bytes)
        best = portfolio.solve(problem, Options(), Deadline.after(60)).best
        for name, build in (("paper", build_paper), ("joint", build_joint)) if best and best.cost_bytes else ():
            model, unit = build(problem)
            root = backends.relaxation(model, Deadline.after(ROOT_S)) if model.size.terms else None
            row = {
                "model": path.stem, "programme": name, "rows": model.size.rows, "columns": model.size.columns,
                "terms": model.size.terms, "root_bound": "" if root is None else round(root * unit),
                "optimum_bytes": best.cost_bytes if best else "",
            }  # fmt: skip
            show(row)
            yield row


def build_paper(problem: Problem) -> tuple[Programme, int]:
    """Eq. 1-12 with all strengthenings of the formulation itself: no incumbent, no cut-off."""
    programme = TimeIndexed(index(problem, frozenset({"warm-start", "cutoff"})), Programme("paper", FOREVER, 2**40))
    least_traffic(programme, None)
    return programme.programme, programme.index.unit


def build_joint(problem: Problem) -> tuple[Programme, int]:
    """The joint programme with window rows for the exported order."""
    joint = Joint(problem, Options(memory_limit_bytes=2**40), FOREVER)
    joint.build()
    joint.add_windows(range(joint.count), Deadline.after(60))
    return joint.programme, joint.index.unit


if __name__ == "__main__":
    questions = {
        "models": measure_models,
        "phases": measure_phases,
        "proofs": measure_proofs,
        "randwire": measure_randwire,
        "growth": measure_growth,
        "strengthenings": measure_strengthenings,
        "programmes": measure_programmes,
    }
    for name in sys.argv[1:] or questions:
        store(name, questions[name]())
