"""Arm's Vela and cosma on the same networks, side by side: results/vela.csv (`python -m benchmarks.vela`).

TensorFlow quantises networks of Keras to int8 TFLite files (`quantise_keras.py`), Vela compiles these for an
Ethos-U65-256 with 384 KiB of SRAM, and cosma plans what tf2onnx makes of the same files. Everything but cosma comes
from the package index and lives in an environment of its own in cosma's cache (about 2 GB).
"""

import csv
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cosma
from benchmarks.measure import ROOT, show, store
from cosma.compile import Settings, prepare, solve
from cosma.errors import InputError
from cosma.graph import DType
from cosma.nest import Tiler
from cosma.plan import Load, Plan, Store, Streaming
from cosma.solvers.options import Options
from cosma.target.mode_sets import MODE_SETS

TOOLS = {"ethos-u-vela": "5.2.0", "tensorflow-cpu": "2.21.0", "keras": "3.15.1", "tf2onnx": "1.17.0"}
SPEC = "ethos_u65_256_384kib"
MACHINE = [
    *("--accelerator-config", "ethos-u65-256", "--config", "Arm/vela.ini"),
    *("--system-config", "Ethos_U65_Mid_End", "--memory-mode", "Dedicated_Sram_384KB"),
]
DOUBLE = Tiler(buffers=2, accumulator_bytes=4)  # every stream loads while the operator computes; sums of 32 bits
STRATEGIES = ("Performance", "Size")  # of Vela; the first is its default

# Network of Keras -> the file in models/ that torchvision's network of the same name became, if there is one.
NETWORKS = {"ResNet50": "resnet50", "MobileNetV3Large": None, "DenseNet121": "densenet121"}

Row = dict[str, Any]


def environment() -> Path:
    """The folder of programs of an environment that has `TOOLS`, made where it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cosma" / "vela"
    wanted = [f"{name}=={version}" for name, version in TOOLS.items()]
    ready = cache / "ready"
    if not ready.is_file() or ready.read_text().split() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", cache], check=True)
        subprocess.run([cache / "bin/pip", "install", "--quiet", *wanted], check=True)
        ready.write_text("\n".join(wanted))
    return cache / "bin"


def figures(summary: str, printed: str) -> Row:
    """Columns from the summary that Vela writes (CSV, one row) and from what it prints.

    Its printed "MB" are MiB; the bytes are those of the summary. `other_bytes` is what Vela's total has besides
    feature maps and weights: scales and biases. `uncompressed_bytes` is the total if weights were not compressed: an
    estimate, all reads of weights taken to grow alike. Raises InputError for a file that is no summary, and where
    operators run on the CPU: what crosses the borders to it is not among Vela's bytes.
    """
    found = next(csv.DictReader(io.StringIO(summary)), {})
    cpu = re.search(r"^CPU operators = (\d+)", printed, re.MULTILINE)
    columns = ("dram_feature_map_read_bytes", "dram_feature_map_write_bytes", "dram_weight_read_bytes")
    sizes = ("total_npu_encoded_weights", "total_original_weights")
    try:
        total, read, written, weights, encoded, original, macs = (
            int(found[column]) for column in ("dram_total_bytes", *columns, *sizes, "nn_macs")
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"no summary of Vela's: {error}") from None
    if cpu is None or int(cpu[1]):
        raise InputError(f"Vela leaves {cpu[1] if cpu else 'an unknown number of'} operators to the CPU: count them")
    return {
        "total_bytes": total, "feature_map_read_bytes": read, "feature_map_written_bytes": written,
        "weight_read_bytes": weights, "other_bytes": total - read - written - weights,
        "uncompressed_bytes": total + round(weights * (original / encoded - 1)),
        "weights_bytes": original, "encoded_weights_bytes": encoded, "macs": macs,
        "status": "feasible", "bound_bytes": "", "cpu_operators": 0, "transposes": "",
    }  # fmt: skip


def vela(tools: Path, network: Path, strategy: str) -> Row:
    """What Vela makes of a TFLite file."""
    with tempfile.TemporaryDirectory() as folder:
        command: list[str | Path] = [tools / "vela", network, *MACHINE, "--optimise", strategy, "--output-dir", folder]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        (summary,) = Path(folder).glob("*_summary_*.csv")
        return figures(summary.read_text(), printed)


def moved(plan: Plan, weights: frozenset[str]) -> dict[str, int]:
    """Bytes of a plan by what moves: weights, other tensors read, other tensors written."""
    sums = {"weight_read_bytes": 0, "feature_map_read_bytes": 0, "feature_map_written_bytes": 0}
    for i in plan.instructions:
        if isinstance(i, Load | Store | Streaming):
            size = i.moved_bytes if isinstance(i, Streaming) else i.size_bytes
            read = "weight_read_bytes" if i.tensor in weights else "feature_map_read_bytes"
            sums[read if i.queue == "in" else "feature_map_written_bytes"] += size
    return sums


def planned(path: Path, dtype: DType | None, tiler: Tiler | None = None) -> Row:
    """What cosma makes of an ONNX file, with tiles as the spec has them or as `tiler` does.

    Weights are not compressed, and `other_bytes` are among them; what operators on the CPU move is in the total.
    """
    hardware = cosma.load_hardware(SPEC)
    hardware = hardware if tiler is None else replace(hardware, tiler=tiler)
    prepared = prepare(path, hardware, Settings(dtype, "pointwise", True, modes=MODE_SETS))
    graph = prepared.problem.graph
    result = solve(prepared, hardware, Options())
    if result.plan is None:
        raise InputError(f"{path.name} has no plan: {'; '.join(result.why)}")
    claims = result.plan.claims
    total = claims.compulsory_bytes + claims.non_compulsory_bytes
    weights = {t.name: t.size_bytes for t in graph.tensors if t.kind == "weight"}
    sums = moved(result.plan, frozenset(weights))
    assert sum(sums.values()) == total
    return {
        "total_bytes": total, **sums, "other_bytes": 0, "uncompressed_bytes": total,
        "weights_bytes": sum(weights.values()), "encoded_weights_bytes": "", "macs": graph.macs,
        "status": claims.status, "bound_bytes": claims.compulsory_bytes + claims.bound_bytes,
        "cpu_operators": len(prepared.problem.on_host),
        "transposes": sum(v.op_type == "Transpose" for v in graph.operators),
    }  # fmt: skip


def measure() -> Iterable[Row]:
    """Rows of each network: Vela's two strategies, cosma on the same file, cosma on torchvision's network."""
    tools = environment()
    versions = {name.replace("-", "_"): version for name, version in TOOLS.items()}
    with tempfile.TemporaryDirectory() as folder:
        script = ROOT / "benchmarks/quantise_keras.py"
        subprocess.run([tools / "python", script, folder, *NETWORKS], check=True)
        for name, twin in NETWORKS.items():
            file = Path(folder) / name
            found = {f"Vela, {s}": vela(tools, file.with_suffix(".tflite"), s) for s in STRATEGIES}
            found["cosma"] = planned(file.with_suffix(".onnx"), None)
            found["cosma, double-buffered"] = planned(file.with_suffix(".onnx"), None, DOUBLE)
            if twin is not None:
                found["cosma, torchvision"] = planned(ROOT / f"models/{twin}.onnx", "int8")
            for compiler, columns in found.items():
                row = {"network": name, "compiler": compiler, **dict(sorted(columns.items()))}
                show(row)
                yield {**row, **versions}


if __name__ == "__main__":
    store("vela", measure())
