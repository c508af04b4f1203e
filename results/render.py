"""Rewrite what README.md shows from the rows in results/ and from the demo: `make results` runs it.

Generated text stands between `<!-- NAME -->` and `<!-- /NAME -->`; everything else is written by hand.
"""

import csv
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
DEMO = ["compile", "models/densenet121.onnx", "--hw", "hexagon_8mib", "--no-weights"]

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
}


def rows(name: str) -> list[dict[str, str]]:
    """The rows of results/NAME.csv."""
    with (HERE / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def table(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    rule = ["---" if i == 0 or not lines[0][i][:1].isdigit() else "---:" for i in range(len(header))]
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


def demo() -> str:
    """The summary of the README's main command, which also draws its picture."""
    command = [sys.executable, "-m", "cosma", *DEMO, "--plot", "results/demo.png"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent).stdout
    kept = [line.rstrip() for line in text.splitlines() if not line.startswith(("wall time", "plot"))]
    return "```text\n" + "\n".join(kept) + "\n```"


def main() -> None:
    """Replace every generated part."""
    text = README.read_text()
    for name, content in (("models", models_table()), ("phases", phases_table()), ("demo", demo())):
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, new=content: m[1] + new + "\n" + m[2], text)
        assert count == 1, f"README.md has {count} places for {name}"
    README.write_text(text)


if __name__ == "__main__":
    main()
