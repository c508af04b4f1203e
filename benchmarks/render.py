"""Rewrite what README.md shows from the rows in results/ and from the demo: `make results` runs it.

Generated text stands between `<!-- NAME -->` and `<!-- /NAME -->`; everything else is written by hand.
"""

import csv
import math
import re
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks import paper
from cosma.experiments.rows import Swept
from cosma.reports.matrix import draw
from cosma.reports.rows import read

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
README = ROOT / "README.md"
DEMO = ["compile", "models/densenet121.onnx", "--hw", "hexagon_8mib", "--no-weights", "--check"]

WHAT = {
    "amoebanet_d": "image classifier found by evolution (AmoebaNet-D)",
    "darts_v2": "image classifier found by gradient (DARTS, second order)",
    "deeplabv3_resnet50": "segmentation, dilated ResNet-50 with a spatial pyramid",
    "densenet121": "image classifier, every layer reads all before it in its block",
    "fcn_resnet50": "segmentation, dilated ResNet-50",
    "lraspp_mobilenet_v3_large": "segmentation, MobileNetV3 with two resolutions",
    "nasnetalarge_224": "image classifier found by reinforcement learning (NASNet-A large)",
    "pnasnet5large_224": "image classifier found by progressive search (PNASNet-5)",
    "r2plus1d_18": "video classifier, 16 frames, factored 3-D convolutions",
    "resnet50": "image classifier with residual connections",
    "resnext50_32x4d": "image classifier, grouped residual blocks",
    "s3d": "video classifier, 16 frames, separable 3-D Inception",
    "tiny_branches": "test graph with branches and two outputs",
    "tiny_chain": "test graph in one line",
    "transformer": "encoder and decoder, 6 + 6 layers, 128 tokens",
    "vit_b_16": "image classifier, vision transformer",
    "deep_autoencoder": "anomalies in sound (MLPerf Tiny)",
    "ds_cnn": "keyword spotting, depthwise separable convolutions (MLPerf Tiny)",
    "mobilenet_v1_025": "person in an image of 96 x 96, a quarter of the channels (MLPerf Tiny)",
    "mobilenet_v2": "image classifier, inverted residual blocks",
    "resnet8": "image classifier, 32 x 32 (MLPerf Tiny)",
    "smollm2_decoder": "two layers of SmolLM2-135M, one token after 512 in the cache",
}


def rows(name: str) -> list[dict[str, str]]:
    """The rows of results/NAME.csv."""
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def table(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    rule = ["---:" if i and any(line[i][:1].isdigit() for line in lines) else "---" for i in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *lines])


def models_table() -> str:
    """What each network is and asks for."""
    sizes = ("working_set_bytes", "peak_bytes", "weight_bytes")
    lines = [
        [r["model"], WHAT[r["model"]], r["operators"], r["free_pairs"], *(f"{int(r[c]):,}" for c in sizes)]
        for r in rows("models")
        if r["fusion"] == "pointwise"
    ]
    return table(["model", "what it is", "operators", "free pairs", "M_R", "peak", "weights"], lines)


def phases_table() -> str:
    """Where the time of a compilation goes."""
    columns = ("import_ms", "problem_ms", "solve_ms", "place_ms", "verify_ms", "write_ms")
    lines = [[r["model"], *(f"{float(r[c]):.1f}" for c in columns)] for r in rows("phases")]
    return table(["model", *(c.removesuffix("_ms") for c in columns)], lines)


def proofs_table() -> str:
    """The optima of the paper's networks (pointwise fusion): bytes at M_R and M_H, what the proof at M_R took."""
    cells: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for r in rows("proofs"):
        if r["fusion"] == "pointwise" and not r["model"].startswith("tiny"):
            cells.setdefault(r["model"], {})[r["setting"], r["budget"]] = r
    lines = []
    for model, row in cells.items():
        line = [model]
        for setting in ("activations", "parameters"):
            line += [_bytes(row[setting, budget]) for budget in ("M_R", "M_H")]
        hardest = max(row.values(), key=lambda r: int(r["states"]))
        lines.append([*line, f"{int(hardest['states']):,}", f"{float(hardest['seconds']):.2f}"])
    header = [
        "model",
        "M_R",
        "M_H",
        "M_R, with parameters",
        "M_H, with parameters",
        "states, hardest",
        "seconds, hardest",
    ]
    return table(header, lines)


def _bytes(row: dict[str, str]) -> str:
    """Bytes if proved, otherwise both sides of the gap."""
    cost, bound = int(row["non_compulsory_bytes"]), int(row["bound_bytes"])
    return f"{cost:,}" if row["status"] == "optimal" else f"{bound:,} to {cost:,}"


def proofs_summary() -> str:
    """How many of the rows are proved, and against the exported order alone."""
    found = rows("proofs")
    proved = sum(r["status"] == "optimal" for r in found)
    lost = sum(int(r["fragmentation_bytes"] or 0) for r in found)
    better = [r for r in found if int(r["non_compulsory_bytes"]) < int(r["exported_order_bytes"])]
    slowest = max(found, key=lambda r: float(r["seconds"]))
    return (
        f"Of {len(found)} cases (networks x fusions x settings x M_R, M_H, M_P) {proved} are proved optimal over all "
        f"schedules; addresses cost {lost} bytes in all of them together. In {len(better)} the best schedule moves "
        f"less than the best plan of the exported order. The slowest case took {float(slowest['seconds']):.1f} s "
        f"({slowest['model']}, {slowest['fusion']}, {slowest['setting']}, {slowest['budget']})."
    )


def randwire_table() -> str:
    """Randomly wired networks: proved, or the gap."""
    lines = [
        [r["model"], r["operators"], r["budget"], _bytes(r), f"{int(r['states']):,}", f"{float(r['seconds']):.1f}"]
        for r in rows("randwire")
        if r["budget"] != "M_P"
    ]
    return table(["graph", "operators", "budget", "bytes, or bound to plan", "states", "seconds"], lines)


def strengthenings_table() -> str:
    """Geometric means over the instances of how many times as fast as the literal programme, by solver."""
    found = rows("strengthenings")
    backends = list(dict.fromkeys(r["backend"] for r in found))
    lines = []
    for variant in dict.fromkeys(r["variant"] for r in found):
        line = [variant]
        for backend in backends:
            mine = [r for r in found if (r["variant"], r["backend"]) == (variant, backend)]
            speedup = math.exp(statistics.mean(math.log(float(r["speedup"])) for r in mine))
            proved = sum(r["bytes"] == r["bound_bytes"] for r in mine)
            line += [f"{speedup:.3g}", f"{proved} of {len(mine)}"]
        lines.append(line)
    header = ["programme", *(cell for b in backends for cell in (f"{b}: times as fast", "proved"))]
    return table(header, lines)


def programmes_table() -> str:
    """Sizes and root bounds of the two programmes side by side."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for r in rows("programmes"):
        found.setdefault(r["model"], {})[r["programme"]] = r
    lines = []
    for model, by in found.items():
        cells = [
            f"{int(by[p][c]):,}" if by[p][c] else "n/a" for p in ("paper", "joint") for c in ("terms", "root_bound")
        ]
        lines.append([model, *cells, f"{int(by['joint']['optimum_bytes']):,}"])
    return table(["model", "paper: terms", "root bound", "joint: terms", "root bound", "optimum"], lines)


def paper_summary() -> str:
    """What `auto` saves over the paper's baselines, and how divide and conquer does on the networks found by search."""
    found = paper.cases(paper.stored())
    searched = [(key, by) for key, by in found.items() if key[0] in paper.BY_SEARCH]
    least = [min(row.traffic[0] for row in by.values() if row.status == "optimal") for _, by in searched]
    worst = max(
        by["divide"].traffic[0] / best - 1 if best else 0.0 for (_, by), best in zip(searched, least, strict=True)
    )
    slowest = max(by["divide"].seconds for _, by in searched)
    return (
        "\n".join(paper.savings(found, "auto")) + "\n\nDivide and conquer alone, on the four networks found by search "
        f"({len(searched)} cases): at most {100 * worst:.1f} % above the proved optimum, in at most {slowest:.1f} s."
    )


def vela_table() -> str:
    """DRAM bytes of Vela's two strategies and of cosma, which states its bound too where that is not met."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for r in rows("vela"):
        found.setdefault(r["network"], {})[r["compiler"]] = r
    lines = []
    for network, by in found.items():
        arm = [r for compiler, r in by.items() if compiler.startswith("Vela")]
        best = min(arm, key=lambda r: int(r["total_bytes"]))
        saved = 1 - int(by["cosma"]["total_bytes"]) / int(best["total_bytes"])
        cells = [f"{int(r['total_bytes']):,}" for r in arm] + [f"{int(best['uncompressed_bytes']):,}"]
        kinds = ("cosma", "cosma, double-buffered", "cosma, torchvision")
        same, double, twin = (_total(by[kind]) if kind in by else "n/a" for kind in kinds)
        lines.append([network, *cells, same, f"{100 * saved:.0f} %", double, twin])
    header = ["network", "Vela, Performance", "Vela, Size", "the better, weights uncompressed"]
    ours = ["cosma, same file", "fewer by", "the same, double-buffered", "cosma, torchvision's network"]
    return table([*header, *ours], lines)


def _total(row: dict[str, str]) -> str:
    """All bytes if proved least, otherwise both sides of the gap."""
    total, bound = int(row["total_bytes"]), int(row["bound_bytes"])
    return f"{total:,}" if total == bound else f"{total:,} (bound {bound:,})"


def staircase_figure() -> str:
    """The staircase of the demo's network, and what it takes to find it."""
    command = ["whatif", "models/densenet121.onnx", "--dtype", "int8", "--modes", "paper", "--scratchpad", "auto"]
    command.append("--no-cache")
    run(*command, "--plot", "results/staircase.png")
    return f"```text\n{run(*command)}\n```\n\n![traffic of DenseNet-121 against capacity](results/staircase.png)"


def sweep_summary() -> str:
    """How many rows the sweep and the staircases have, and what became of them."""
    swept, curves = rows("whatif/rows"), rows("whatif/staircases")
    lines = []
    for modes in dict.fromkeys(r["modes"] for r in swept):
        for dtype in ("int8", "float16", "float32"):
            of = [r for r in swept if (r["modes"], r["dtype"]) == (modes, dtype)]
            planned = [r for r in of if r["moved_bytes"]]
            counts = (
                len(of),
                len(planned),
                sum(r["host_operators"] == "0" for r in planned),
                sum(r["status"] == "optimal" for r in planned),
            )
            lines.append([modes, dtype, *(f"{count:,}" for count in counts)])
    stairs = sum(r["status"] == "optimal" for r in curves)
    limit = max(float(r["time_limit_s"]) for r in swept)
    head = ["modes", "elements", "pairs", "with a verified plan", "without the host", "proved optimal"]
    return (
        f"{table(head, lines)}\n\nEach pair of network and machine had {limit:g} s. The staircases of all networks, in "
        f"the paper's modes, took {len(curves):,} capacities, {stairs:,} of them proved."
    )


def matrix_figure() -> str:
    """Networks against machines in int8 and all modes, into results/matrix.png."""
    swept = [r for r in read(RESULTS / "whatif" / "rows.csv") if isinstance(r, Swept)]
    (RESULTS / "matrix.png").write_bytes(draw([r for r in swept if r.dtype == "int8" and r.modes != "paper"], "png"))
    return "![bytes moved over compulsory bytes, networks against machines](results/matrix.png)"


def share_with_plans() -> str:
    """For how many networks and machines there is a plan."""
    swept = rows("whatif/rows")
    networks, machines = ({r[column] for r in swept} for column in ("model", "hardware"))
    chosen = [r for r in swept if r["modes"] != "paper"]
    as_in_paper = [r for r in swept if r["modes"] == "paper"]
    alone = sum(r["host_operators"] == "0" for r in chosen)
    return (
        f"An operator runs piece by piece where its operands do not fit. Of the {len(networks)} networks on the "
        f"{len(machines)} machines below {_shares(chosen)} get a verified plan, "
        f"{_percent(alone, len(chosen))} of all without an operator on the host; "
        f"with every operand in the scratchpad, as in the paper, {_shares(as_in_paper)} do."
    )


def _shares(found: list[dict[str, str]]) -> str:
    """The share of rows with a plan, by element type; of those in which there is a row for every pair."""
    pairs = len({(r["model"], r["hardware"]) for r in found})
    parts = []
    for dtype in ("float32", "int8"):
        of = [r for r in found if r["dtype"] == dtype]
        if len(of) == pairs:
            parts.append(f"{_percent(sum(bool(r['moved_bytes']) for r in of), pairs)} in {dtype}")
    return " and ".join(parts)


def _percent(count: int, of: int) -> str:
    """A share, rounded down so that 100 % is all."""
    return f"{100 * count // of} %"


def mutations_table() -> str:
    """What became of plans changed in one place, over all networks, settings, capacities and alignments."""
    found = rows("mutations")
    columns = ("tried", "accepted", "bit_exact", "rejected", "rejected_run", "went_wrong")
    lines = []
    for kind in dict.fromkeys(r["kind"] for r in found):
        counts = (sum(int(r[c]) for r in found if r["kind"] == kind) for c in columns)
        lines.append([kind, *(f"{count:,}" for count in counts)])
    total = (f"{sum(int(r[c]) for r in found):,}" for c in columns)
    lines.append(["all", *total])
    heads = ["mutation", "tried", "accepted", "of these bit-exact", "rejected", "of these run", "went wrong"]
    return table(heads, lines)


def runs_summary() -> str:
    """How many plans ran, of which networks and solvers, and how many bit for bit."""
    found = rows("runs")
    ran = [r for r in found if r["bit_exact"]]
    exact = sum(r["bit_exact"] == "true" for r in ran)
    names, solvers = ({r[c] for r in ran} for c in ("model", "solver"))
    return (
        f"{len(ran)} plans, of {len(names)} networks and {len(solvers)} solvers, at M_R and M_H: {exact} bit-exact, "
        f"all moving what they claim. In {len(found) - len(ran)} cases the solver had no plan."
    )


def growth_figure() -> str:
    """Time and memory against size, into results/growth.png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=110)
    axes = figure.subplots(1, 2)
    for family in dict.fromkeys(r["family"] for r in rows("growth")):
        found = [r for r in rows("growth") if r["family"] == family]
        size = [int(r["operators"]) for r in found]
        for ax, column, label in (
            (axes[0], "seconds", "seconds"),
            (axes[1], "peak_memory_mib", "peak memory of the process (MiB)"),
        ):
            (line,) = ax.loglog(size, [float(r[column]) for r in found], label=family.replace("_", " "))
            for r in found:
                proved = r["status"] == "optimal"
                ax.plot(
                    int(r["operators"]),
                    float(r[column]),
                    marker="o",
                    color=line.get_color(),
                    fillstyle="full" if proved else "none",
                )
            ax.set_xlabel("operators")
            ax.set_ylabel(label)
            ax.grid(alpha=0.3, which="both")
    axes[0].legend(title="filled: proved optimal", fontsize=8, title_fontsize=8)
    figure.savefig(RESULTS / "growth.png", metadata={"Software": None})
    return "![time and memory against size](results/growth.png)"


def run(*arguments: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "cosma", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.rstrip()


def demo() -> str:
    """The summary of the README's main command, which also draws its picture."""
    text = run(*DEMO, "--plot", "results/demo.png")
    kept = [line.rstrip() for line in text.splitlines() if not line.startswith(("wall time", "run time", "plot"))]
    return "```text\n" + "\n".join(kept) + "\n```"


def _parts() -> dict[str, str]:
    return {
        "models": models_table(),
        "phases": phases_table(),
        "proofs": proofs_table(),
        "proofs-summary": proofs_summary(),
        "randwire": randwire_table(),
        "mutations": mutations_table(),
        "runs": runs_summary(),
        "growth": growth_figure(),
        "strengthenings": strengthenings_table(),
        "programmes": programmes_table(),
        "paper": paper_summary(),
        "vela": vela_table(),
        "staircase": staircase_figure(),
        "sweep": sweep_summary(),
        "share": share_with_plans(),
        "matrix": matrix_figure(),
        "demo": demo(),
    }


def _filled(content: str, place: re.Match[str]) -> str:
    """The generated text between its two marks."""
    return f"{place[1]}{content}\n{place[2]}"


def main() -> None:
    """Replace every generated part."""
    text = README.read_text()
    for name, content in _parts().items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(partial(_filled, content), text)
        assert count == 1, f"README.md has {count} places for {name}"
    README.write_text(text)


if __name__ == "__main__":
    main()
