"""The commands as a newcomer types them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from cosma.plan import json_schema
from tests.conftest import MODELS, spawn

DENSENET = MODELS / "densenet121.onnx"
SPILLING = ("compile", DENSENET, "--hw", "hexagon_8mib", "--no-weights", "--modes", "paper")


def test_compile_prints_a_summary_and_writes(run, tmp_path: Path) -> None:
    plan, plot = tmp_path / "plan.json", tmp_path / "map.png"
    outcome = run(*SPILLING, "-o", plan, "--plot", plot)
    assert outcome.code == 0
    text = " ".join(outcome.out.split())
    for part in (
        "densenet121.onnx: 367 operators", "hexagon_8mib: 8 MiB", "M_R 6,422,528 B", "peak in exported order 8,429,568 B",
        "non-compulsory 802,816 B", "lower bound 802,816 B", "gap 0.0 %", "optimal (proved: ", "moves 50.0 % less",
        "no violations", f"written to {plan}",
    ):  # fmt: skip
        assert part in text or part in outcome.out.replace("\n", ""), part
    jsonschema.validate(json.loads(plan.read_text()), json_schema())
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert run("verify", plan, DENSENET, "--hw", "hexagon_8mib").code == 0


def test_same_bytes_every_time_and_from_any_process(run, tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{i}.json" for i in range(3))
    run(*SPILLING, "-o", first, "--plot", tmp_path / "0.svg")
    run(*SPILLING, "-o", second, "--plot", tmp_path / "1.svg")
    spawn(*SPILLING, "-o", third, env={**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"})
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    assert (tmp_path / "0.svg").read_bytes() == (tmp_path / "1.svg").read_bytes()


def test_json_object(run, tmp_path: Path) -> None:
    plan = tmp_path / "p.json"
    result = run(*SPILLING, "--json", "-o", plan).json
    assert set(result) >= {
        "model", "hardware", "solver", "status", "capacity_bytes", "working_set_bytes", "peak_bytes", "compulsory_bytes",
        "non_compulsory_bytes", "total_bytes", "bound_bytes", "gap", "seconds", "plan",
    }  # fmt: skip
    assert result["status"] == "optimal"
    assert result["non_compulsory_bytes"] == result["bound_bytes"] == 802816
    assert result["total_bytes"] == result["compulsory_bytes"] + 802816
    assert (result["gap"], result["plan"], result["hardware"]) == (0.0, str(plan), "hexagon_8mib")
    assert run(*SPILLING, "--json").json["plan"] is None


@pytest.mark.parametrize(
    "solver", ["auto", "divide", "joint", "compact", "compact:highs", "compact:cbc", "compact:mathopt-scip"]
)
def test_solvers(run, solver: str) -> None:
    result = run(*SPILLING, "--json", "--solver", solver).json
    assert (result["solver"], result["non_compulsory_bytes"]) == (solver, 802816)


def test_search_says_how_it_was_proved(run, tmp_path: Path) -> None:
    model = MODELS / "amoebanet_d.onnx"
    flags = ("--scratchpad", "2408448 B", "--dtype", "int8", "--fusion", "pointwise", "--modes", "paper")
    outcome = run("compile", model, *flags, "-v")
    for part in (
        "optimal (proved: best-first search)",
        "fragmentation 0 B",
        "searched all schedules: 4 independent parts",
        "how",
    ):
        assert part in " ".join(outcome.out.split())
    result = run("compile", model, *flags, "--json").json
    assert (result["status"], result["solver"], result["non_compulsory_bytes"]) == ("optimal", "auto", 3512320)
    assert (result["bound"], result["fragmentation_bytes"]) == ("best-first search", 0)
    limited = run("compile", model, *flags, "--json", "--state-limit", "200").json
    assert limited["status"] == "feasible"
    assert limited["bound_bytes"] < 3512320 <= limited["non_compulsory_bytes"]
    assert (
        limited["gap"] == (limited["non_compulsory_bytes"] - limited["bound_bytes"]) / limited["non_compulsory_bytes"]
    )
    assert run("compile", model, *flags, "--json", "--memory-limit", "many").code == 2


def test_infeasible_is_an_answer(run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    arguments = (
        "compile",
        DENSENET,
        "--hw",
        "gemmini_default",
        "--dtype",
        "int8",
        "--no-weights",
        "--modes",
        "paper",
        "-o",
        plan,
    )
    outcome = run(*arguments)
    assert outcome.code == 3
    assert not plan.exists()
    text = " ".join(outcome.out.split())
    for part in (
        "infeasible: operator '/features/denseblock1", "needed 1,605,632 B", "available 262,144 B", "missing 1,343,488 B",
        "--scratchpad '1605632 B', the smallest capacity that works", "ibm_spyre, apple_ane_m1, hexagon_4mib, coral_edge_tpu, hexagon_8mib",
    ):  # fmt: skip
        assert part in text, text
    result = run(*arguments, "--json").json
    assert (result["status"], result["non_compulsory_bytes"], result["plan"]) == ("infeasible", None, None)
    assert result["shortage"]["missing_bytes"] == 1343488
    assert run("compile", DENSENET, "--scratchpad", "1605632 B", "--dtype", "int8", "--fusion", "pointwise").code == 0
    assert (
        run(
            "compile",
            DENSENET,
            "--scratchpad",
            "1605631 B",
            "--dtype",
            "int8",
            "--fusion",
            "pointwise",
            "--modes",
            "paper",
        ).code
        == 3
    )


def test_scratchpad_alone_and_overriding(run) -> None:
    result = run("compile", MODELS / "resnet50.onnx", "--scratchpad", "3MiB", "--dtype", "int8", "--json").json
    assert (result["hardware"], result["capacity_bytes"]) == ("scratchpad", 3 * 2**20)
    result = run("compile", MODELS / "resnet50.onnx", "--hw", "tpu_v1", "--scratchpad", "16MiB", "--json").json
    assert (result["hardware"], result["capacity_bytes"]) == ("tpu_v1", 16 * 2**20)


def test_weights_and_fusion_come_from_the_spec_or_a_flag(run) -> None:
    base = ("compile", MODELS / "resnet50.onnx", "--hw", "tpu_v1", "--dtype", "int8", "--json")
    without = run(*base).json["compulsory_bytes"]
    assert without == 3 * 224 * 224 + 24 + 0 or without < 200_000  # input and output, each aligned to 256 B
    assert run(*base, "--weights").json["compulsory_bytes"] > 25_000_000


def test_listing(run) -> None:
    outcome = run(*SPILLING, "--listing")
    for word in ("LOAD", "EXEC", "STORE", "DROP"):
        assert f"  {word}" in outcome.out
    json.loads(run(*SPILLING, "--listing", "--json").out)  # the listing does not get between the braces


def test_inspect(run) -> None:
    outcome = run("inspect", MODELS / "vit_b_16.onnx", "--dtype", "int8", "--fusion", "pointwise", "--no-weights", "-v")
    text = " ".join(outcome.out.split())
    for part in ("355 operators", "M_R 1,815,552 B", "peak 1,966,848 B", "121 move no data", "fused ", "view Reshape"):
        assert part in text, text
    result = run("inspect", MODELS / "vit_b_16.onnx", "--hw", "nvdla_large", "--dtype", "int8", "--json").json
    assert len(result["largest_working_sets"]) == 10
    assert result["largest_working_sets"][0]["bytes"] == result["working_set_bytes"]
    assert result["weights"] > 0
    assert len(result["fronts"]) == result["operators"]
    assert max(f["smallest_working_set_bytes"] for f in result["fronts"]) == result["smallest_capacity_bytes"]
    first = next(f for f in result["fronts"] if f["product"] is not None)
    assert first["front"][0][0] == first["smallest_working_set_bytes"] < first["working_set_bytes"]
    for part in ("smallest", "the capacity from which on no operator runs on the host", "once from"):
        assert part in text, part
    paper = run("inspect", MODELS / "vit_b_16.onnx", "--dtype", "int8", "--modes", "paper").out
    assert "once from" not in paper


def test_specs(run) -> None:
    assert "gemmini_default" in run("specs").out
    rows = {row["name"]: row for row in run("specs", "--json").json}
    assert rows["gemmini_default"]["figures"]["scratchpad.capacity"]["value"] == "256 KiB"
    assert all(figure["source"] for row in rows.values() for figure in row["figures"].values())
    lines = run("specs").out.splitlines()
    assert len(lines) == len(rows) + 2  # a header and a legend; no line is folded
    assert max(map(len, lines)) <= 120
    table = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert table["ibm_spyre"] == "1625344 B 32 128 B n/a 200 GB/s ? n/a 4,688 GMAC/s n/a"
    assert table["tpu_v1"] == "24 MiB ~ 256 B ? false ~ 30 GiB/s ~ 93.75 pJ/B ~ 45,875 GMAC/s ? pointwise ?"
    assert table["nvdla_large"] == "512 KiB 32 B true n/a n/a 2048 MAC/cycle pointwise"


def test_specs_by_name(run) -> None:
    text = " ".join(run("specs", "tt_wormhole_n300", "gap8").out.split())
    for part in ("scratchpad.instances 64 yes docs.tenstorrent.com", "GreenWaves GAP8", "compute.peak 22.65 GOPS yes"):
        assert part in text, text
    assert [row["name"] for row in run("specs", "gap9", "--json").json] == ["gap9"]
    assert "did you mean 'nvdla_small'" in run("specs", "nvdla_smal").err


def test_estimates_are_named_so_and_only_where_figures_are(run) -> None:
    base = ("compile", MODELS / "tiny_chain.onnx")
    assert run(*base, "--scratchpad", "1MiB", "--json").json["estimates"] is None
    assert "estimates" not in run(*base, "--hw", "hexagon_8mib").out
    result = run(*base, "--hw", "gemmini_default", "--json").json
    made = result["estimates"]
    assert made["macs"] == 129_184
    assert made["estimate_transfer_s"] == result["total_bytes"] / 16e9
    assert made["estimate_compute_s"] == 129_184 / 256e9
    assert made["estimate_serial_s"] == made["estimate_transfer_s"] + made["estimate_compute_s"]
    assert "dram.bandwidth 16 GB/s (unconfirmed)" in made["assumptions"][0]
    text = " ".join(run(*base, "--hw", "gap8").out.split())
    assert "estimates transfers (without parameters) n/a, compute 11.4 µs; energy of transfers n/a;" in text


def test_verify_rejects_and_itemises(run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    run(*SPILLING, "-o", plan)
    document = json.loads(plan.read_text())
    document["instructions"] = [i for i in document["instructions"] if i["op"] != "store"]
    plan.write_text(json.dumps(document))
    outcome = run("verify", plan, DENSENET, "--hw", "hexagon_8mib")
    assert outcome.code == 4
    assert "never stored" in outcome.err
    assert "no host copy" in outcome.err
    assert run("verify", plan, DENSENET, "--hw", "hexagon_8mib", "--json").json["valid"] is False
    assert run("verify", plan, MODELS / "resnet50.onnx", "--hw", "hexagon_8mib").code == 4


def test_help_has_an_example_each_and_stays_light() -> None:
    for command in ("compile", "verify", "report", "inspect", "specs"):
        assert f"Example: cosma {command}" in spawn(command, "--help").stdout
    code = "import sys, cosma.cli; print([m for m in ('onnx', 'numpy', 'ortools', 'rich', 'pydantic') if m in sys.modules])"
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light.stdout.strip() == "[]"


def test_interrupt_leaves_the_old_file(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text("old")
    command = [
        sys.executable,
        "-m",
        "cosma",
        "compile",
        str(MODELS / "nasnetalarge_224.onnx"),
        "--scratchpad",
        "1700298 B",
    ]
    process = subprocess.Popen(
        [*command, "--dtype", "int8", "--fusion", "pointwise", "-o", str(plan)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    if process.returncode == 130:
        assert "interrupted" in err
        assert plan.read_text() == "old"
    else:
        assert process.returncode in (0, -signal.SIGINT)  # too late, or before Python was ready
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_a_failing_write_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cosma import files

    target = tmp_path / "plan.json"
    target.write_text("old")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(target, b"new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_output_may_be_a_device(run) -> None:
    assert run(*SPILLING, "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    "command",
    [
        "run plan.json model.png --trace FOLDER/plan.json",
        "run plan.json model.png --trace link.json",
        "run plan.json model.png --inputs x.json --trace FOLDER/x.json",
        "compile model.png --scratchpad 20KiB -o ./model.png",
        "compile model.png --scratchpad 20KiB --plot FOLDER/model.png",
        "compile model.png --hw spec.yaml -o FOLDER/spec.yaml",
        "compile model.png --scratchpad 20KiB -o new.lp --write-model ./new.lp",
        "compile model.png --scratchpad 20KiB -o new.png --plot FOLDER/new.png",
        "compile model.lp --scratchpad 20KiB --write-model ./model.lp",
        "check model.md --scratchpad 20KiB --max-peak 1MiB -o ./model.md",
        "report page.html model.png -o ./page.html",
        "compare model.png --plot ./model.png",
        "whatif model.png --scratchpad 20KiB --plot ./model.png",
        "report rows.csv -o ./rows.csv",
    ],
)
def test_no_output_takes_the_place_of_another_file(run, tmp_path: Path, monkeypatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("plan.json", "x.json", "model.png", "model.lp", "model.md", "spec.yaml", "page.html", "rows.csv")
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "link.json").symlink_to("plan.json")
    outcome = run(*command.replace("FOLDER", str(tmp_path)).split())
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "would overwrite" in outcome.err
    assert [(tmp_path / name).read_text() for name in names] == list(names)
    assert not list(tmp_path.glob("new.*"))
