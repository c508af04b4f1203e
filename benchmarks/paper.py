"""The paper's evaluation again: baselines, the paper's programme, divide and conquer and the search, side by side.

python -m benchmarks.paper          run what is missing in results/paper/rows.csv, then draw and write everything
python -m benchmarks.paper render   draw and write from the rows that are there

int8, pointwise fusion; fourteen networks, activations with and without parameters, capacities M_R, M_H, M_P.
"""

import io
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from cosma.compile import Settings, prepare
from cosma.deadline import Deadline
from cosma.experiments.compare import BUDGETS, Run, at_budgets, run_all
from cosma.experiments.row_files import RowFile, read_rows
from cosma.experiments.rows import Compared, key_of
from cosma.files import write_atomic
from cosma.reports.capacity import planned
from cosma.reports.comparison import draw
from cosma.solvers.options import DivideOptions, Options
from cosma.target.hardware import Hardware

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
FOLDER = RESULTS / "paper"
BY_HAND = (
    "deeplabv3_resnet50", "densenet121", "fcn_resnet50", "lraspp_mobilenet_v3_large", "r2plus1d_18", "resnet50",
    "resnext50_32x4d", "s3d", "transformer", "vit_b_16",
)  # fmt: skip
BY_SEARCH = ("amoebanet_d", "darts_v2", "nasnetalarge_224", "pnasnet5large_224")
BASELINES = ("tflite-exported-belady", "tflite-exported-greedy", "tflite-peak-belady", "tflite-peak-greedy")
OURS = ("paper", "divide", "auto")
SOLVERS = (*BASELINES, "best-fit", *OURS)
SECONDS = 30.0


def all_runs() -> list[Run]:
    """Every network, setting, budget and solver."""
    runs = []
    for weights in (False, True):
        for name in (*BY_HAND, *BY_SEARCH):
            settings = Settings("int8", "pointwise", weights)
            prepared = prepare(ROOT / "models" / f"{name}.onnx", Hardware("any", 2**62), settings)
            for budget, at in at_budgets(prepared, BUDGETS, Deadline.after(600)):
                assert at is not None, f"M_P of {name} was not found in ten minutes"
                hardware = Hardware("any", at.problem.memory.capacity_bytes)
                runs += [Run(at, hardware, budget, Options(s, SECONDS, divide=DivideOptions(2))) for s in SOLVERS]
    return runs


def measure() -> None:
    """Append the rows that are missing, one run at a time so that times mean something."""
    FOLDER.mkdir(exist_ok=True)
    file = RowFile(FOLDER / "rows.csv", Compared)
    there = {(key_of(row), row.budget) for row in file.rows}
    todo = [run for run in all_runs() if (run.key, run.budget) not in there]
    for row in track(run_all(todo, 1), total=len(todo), console=Console(stderr=True)):
        file.append(row)


def stored() -> list[Compared]:
    """The rows that are there."""
    return read_rows(FOLDER / "rows.csv", Compared)


def cases(rows: Sequence[Compared]) -> dict[tuple[str, bool, str], dict[str, Compared]]:
    """The rows by (network, weights, budget), then by solver."""
    found: dict[tuple[str, bool, str], dict[str, Compared]] = {}
    for row in rows:
        key = (row.model.removesuffix(".onnx"), row.weights, row.budget)
        found.setdefault(key, {})[row.solver] = row

    def rank(key: tuple[str, bool, str]) -> tuple[bool, bool, str, int]:
        return key[1], key[0] in BY_SEARCH, key[0], BUDGETS.index(key[2])

    return {key: found[key] for key in sorted(found, key=rank)}


def cell(row: Compared, best: int) -> str:
    """Bytes; bold for the least; what is not proved or not there is said."""
    value = row.non_compulsory_bytes
    if value is None:
        return row.status
    mark = "" if row.solver not in OURS or row.status == "optimal" else f" (≥ {row.bound_bytes:,})"
    return (f"**{value:,}**" if value == best else f"{value:,}") + mark


def table(found: dict[tuple[str, bool, str], dict[str, Compared]]) -> list[str]:
    """One line a case in which some plan moves something."""
    heads = "| network | setting | budget | " + " | ".join(SOLVERS) + " |"
    lines = [heads, "| --- | --- | --- |" + " ---: |" * len(SOLVERS)]
    for (name, weights, budget), by in found.items():
        best, _ = by["auto"].traffic
        if any(row.non_compulsory_bytes != 0 for row in by.values()):
            setting = "parameters" if weights else "activations"
            lines.append(f"| {name} | {setting} | {budget} | " + " | ".join(cell(by[s], best) for s in SOLVERS) + " |")
    return lines


def savings(found: dict[tuple[str, bool, str], dict[str, Compared]], ours: str) -> list[str]:
    """Average saving over each baseline, and over the mean of the baselines that have a plan."""
    lines = [
        f"| {ours} saves, on average, of | hand-designed | cases | found by search | cases |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in (*BASELINES, "mean of those with a plan", "best of those with a plan"):
        cells = []
        for group in (BY_HAND, BY_SEARCH):
            shares = []
            for (network, _, _), by in found.items():
                theirs = [row.traffic[0] for row in planned([by[b] for b in BASELINES if name in (b, *_OVERALL)])]
                if network in group and theirs:
                    reference = min(theirs) if name.startswith("best") else statistics.mean(theirs)
                    if reference:
                        shares.append(1 - by[ours].traffic[0] / reference)
            cells += [f"{100 * statistics.mean(shares):.0f} %" if shares else "n/a", str(len(shares))]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


_OVERALL = ("mean of those with a plan", "best of those with a plan")


def times(found: dict[tuple[str, bool, str], dict[str, Compared]]) -> list[str]:
    """Seconds of the solvers that search, where there is something to decide."""
    lines = [
        "| solver | networks | mean s | median s | longest s | proved | largest programme, terms |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for solver in OURS:
        for label, group in (("hand-designed", BY_HAND), ("found by search", BY_SEARCH)):
            mine = [by[solver] for (network, _, _), by in found.items() if network in group]
            seconds = [row.seconds for row in mine]
            proved = sum(row.status == "optimal" for row in mine)
            terms = max((row.terms or 0 for row in mine), default=0)
            lines.append(
                f"| {solver} | {label} | {statistics.mean(seconds):.2f} | {statistics.median(seconds):.2f} | "
                f"{max(seconds):.2f} | {proved} of {len(mine)} | {terms:,} |"
            )
    return lines


def nothing_to_save(found: dict[tuple[str, bool, str], dict[str, Compared]]) -> list[str]:
    """Networks whose M_R is their M_P, by setting, and how many baselines have no plan even so."""
    lines = []
    for weights in (False, True):
        flat = [
            name
            for name in (*BY_HAND, *BY_SEARCH)
            if len({found[name, weights, budget]["auto"].capacity_bytes for budget in ("M_R", "M_P")}) == 1
        ]
        free = [n for n in flat if found[n, weights, "M_R"]["auto"].non_compulsory_bytes == 0]
        setting = "activations and parameters" if weights else "activations only"
        rest = f"; {len(free)} of these {len(flat)} need none at any capacity that is feasible at all" if flat else ""
        lines.append(f"- {setting}: M_R = M_P for {', '.join(flat) or 'none'}{rest}.")
    return lines


TEXT = """# The paper's evaluation, again

Written by `python -m benchmarks.paper` (cosma {versions}) from `rows.csv`: non-compulsory bytes, int8, pointwise
fusion, {cases} cases, {limit:g} s a run.

## What is saved

The paper reports 84 % less non-compulsory traffic on average over ten networks designed by hand, and 85 % over four
found by search. Here a saving is counted where the baseline has a plan and moves something.

{savings}

Of {runs} baseline runs {failed} have no plan, because their arena fragments. They do not enter the averages, which
flatters the baselines.

![traffic, activations only](traffic_activations.png)

![traffic, activations and parameters](traffic_parameters.png)

## What differs from the paper

- *Granularity*: ONNX operators after pointwise fusion; the paper does not say which operators it fuses. The capacities
  follow from that.
- *Exporter*: the files in `models/`, made by `models/make.py`; the paper's graphs are not published.
- *Solver*: its programme is solved here by CP-SAT, one thread, with every strengthening of
  `cosma/solvers/programmes/paper/indices.py`; there by Gurobi. Where the programme is too large to state or no better
  plan comes in time, the row is the plan that it was started from: the best of three orders.
- *Machine*: two cores of a server; there an Apple M1 Pro. The paper's times: 0.296 s on average by hand, about two
  minutes by search, without a bound.
- *Averages*: over cases where there is something to save; the paper does not say how it counts the others.

## Where nothing can be saved

{nothing}

## Times

All cases, easy ones too; seconds of solving, in a fresh process, importing the solvers included.

{times}

![seconds](seconds.png)

## Every case in which something moves or a baseline has no plan

**Bold**: the least known; *infeasible*: the arena does not fit into the scratchpad; (≥ n): not proved, n is the bound.

{table}
"""


def render() -> None:
    """results/paper/README.md and its figures."""
    rows = stored()
    found = cases(rows)
    text = TEXT.format(
        versions=", ".join(sorted({row.version for row in rows})),
        cases=len(found),
        limit=SECONDS,
        savings="\n\n".join("\n".join(savings(found, solver)) for solver in ("auto", "divide", "paper")),
        runs=len(BASELINES) * len(found),
        failed=sum(by[b].non_compulsory_bytes is None for by in found.values() for b in BASELINES),
        nothing="\n".join(nothing_to_save(found)),
        times="\n".join(times(found)),
        table="\n".join(table(found)),
    )
    write_atomic(FOLDER / "README.md", text.encode())
    for setting, weights in (("activations", False), ("parameters", True)):
        moved = [by for (_, w, _), by in found.items() if w == weights and any(map(_moves, by.values()))]
        write_atomic(FOLDER / f"traffic_{setting}.png", draw([row for by in moved for row in by.values()], "png"))
    write_atomic(FOLDER / "seconds.png", draw_seconds(found))


def _moves(row: Compared) -> bool:
    return bool(row.non_compulsory_bytes)


def draw_seconds(found: dict[tuple[str, bool, str], dict[str, Compared]]) -> bytes:
    """How many cases each solver has finished, and proved, after how many seconds."""
    figure = Figure(figsize=(7, 3.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for k, solver in enumerate(OURS):
        proofs = sorted(row.proof_s for row in (by[solver] for by in found.values()) if row.proof_s is not None)
        counts = [*range(1, len(proofs) + 1), len(proofs)]
        axes.step([*proofs, SECONDS], counts, where="post", color=f"C{k}", label=f"{solver}: {len(proofs)} proved")
    axes.axhline(len(found), color="0.7", linewidth=0.8)
    axes.text(SECONDS, len(found), f"all {len(found)} cases ", ha="right", va="bottom", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel("cases proved optimal")
    axes.set_ylim(0, 1.1 * len(found))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


if __name__ == "__main__":
    if sys.argv[1:] != ["render"]:
        measure()
    render()
