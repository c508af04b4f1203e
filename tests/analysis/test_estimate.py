"""Estimates: arithmetic, what is not known stays so, and what they say they assume."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cosma.analysis.estimate import Estimates, assumptions, estimate
from cosma.target.hardware import Hardware, load_hardware
from tests.conftest import model, node, save, value


def test_all_figures_known() -> None:
    hardware = Hardware("h", 1024, dram_bytes_per_s=1e9, dram_pj_per_byte=50.0, macs_per_s=2e9)
    made = estimate(hardware, 3_000_000, 8_000_000)
    assert (made.transfer_s, made.compute_s) == (0.003, 0.004)
    assert (made.overlapped_s, made.serial_s) == (0.004, 0.007)
    assert made.transfer_energy_j == pytest.approx(150e-6)
    assert made.row() == {
        "estimate_transfer_s": 0.003,
        "estimate_compute_s": 0.004,
        "estimate_overlapped_s": 0.004,
        "estimate_serial_s": 0.007,
        "estimate_transfer_energy_j": made.transfer_energy_j,
    }


@pytest.mark.parametrize(
    ("figures", "known"),
    [
        ({}, set()),
        ({"dram_bytes_per_s": 1e9}, {"transfer_s"}),
        ({"macs_per_s": 1e9}, {"compute_s"}),
        ({"dram_pj_per_byte": 64.0}, {"transfer_energy_j"}),
        ({"dram_bytes_per_s": 1e9, "macs_per_s": 1e9}, {"transfer_s", "compute_s", "overlapped_s", "serial_s"}),
    ],
)
def test_nothing_is_guessed(figures: dict[str, float], known: set[str]) -> None:
    made = estimate(Hardware("h", 1024, **figures), 1000, 1000)
    assert {f.name for f in fields(Estimates) if getattr(made, f.name) is not None} == known
    assert made.known == bool(known)


def test_nothing_moved_takes_no_time() -> None:
    made = estimate(load_hardware("gemmini_default"), 0, 0)
    assert (made.serial_s, made.transfer_energy_j, made.known) == (0.0, 0.0, True)


def test_assumptions_name_figures_and_how_sure_they_are() -> None:
    text = "\n".join(assumptions(load_hardware("gemmini_default")))
    for part in (
        "dram.bandwidth 16 GB/s (unconfirmed)",
        "compute.rate 256 MAC/cycle (confirmed) at compute.clock 1 GHz (unconfirmed)",
        "dram.energy 64 pJ/B (second-hand)",
    ):
        assert part in text
    assert "lower bounds" not in text


def test_assumptions_of_peaks_of_what_is_missing_and_of_many_cores() -> None:
    peak, missing, shared = (
        assumptions(load_hardware(n)) for n in ("coral_edge_tpu", "nvdla_large", "tt_wormhole_n150")
    )
    assert peak[1].endswith("compute.peak 4 TOPS (confirmed)")
    assert missing[0].endswith("n/a without dram.bandwidth")
    assert missing[1].endswith("n/a without compute.clock")
    assert shared[-1].startswith("scratchpad.instances 72 (confirmed)")
    assert shared[-1].endswith("lower bounds")
    assert assumptions(Hardware("h", 1))[1].endswith("n/a without compute.rate and compute.clock")


def custom(folder: Path, *before: onnx.NodeProto) -> Path:
    """x [3, 4], times a 4 x 4 weight (48 multiply-accumulates) or through a Relu, through an operator that nobody knows."""
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    one = helper.make_node("Mix", ["a"], ["y"], "mix", domain="acme")
    imports = [helper.make_opsetid("acme", 1)]
    nodes = [*(before or [node("Relu", "x", "a")]), one]
    infos = [value("a", (3, 4))]
    return save(folder, model(nodes, [value("x", (3, 4))], [value("y", (3, 4))], [weight], infos, imports=imports))


def test_estimates_say_what_they_leave_out(run, tmp_path: Path) -> None:
    # 48 multiply-accumulates at 256e9 a second are 0.1875 ns.
    path = custom(tmp_path, node("MatMul", "x w", "a", "product"))
    assert "compute 0.188 ns without 1 operator that is not counted (mix)," in " ".join(
        run("compile", path, "--hw", "gemmini_default").out.split()
    )
    made = run("compile", path, "--hw", "gemmini_default", "--json").json["estimates"]
    assert (made["macs"], made["uncounted"], made["estimate_compute_s"]) == (48, ["mix"], 48 / 256e9)
    assert made["assumptions"][-1] == "compute time: without 1 operator that is not counted (mix)"
    assert "48 multiply-accumulates in convolutions and matrix products, without 1 operator" in " ".join(
        run("inspect", path).out.split()
    )
    assert run("inspect", path, "--json").json["uncounted"] == ["mix"]


def test_nothing_counted_is_not_zero_seconds(run, tmp_path: Path) -> None:
    path = custom(tmp_path)
    out = " ".join(run("compile", path, "--hw", "gemmini_default").out.split())
    assert "compute n/a without 1 operator that is not counted (mix)" in out
    made = run("compile", path, "--hw", "gemmini_default", "--json").json["estimates"]
    assert made["estimate_compute_s"] is made["estimate_serial_s"] is None
    assert made["estimate_transfer_s"] > 0


def test_rows_have_no_estimate_of_a_part(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = custom(tmp_path, node("MatMul", "x w", "a", "product"))
    outcome = run("whatif", path, "--hw", "gemmini_default", "--jobs", 1, "--json")
    [row] = outcome.json
    assert (row["macs"], row["estimate_compute_s"], row["estimate_serial_s"]) == (None, None, None)
    assert row["estimate_transfer_s"] > 0
    assert outcome.err == (
        "cosma: warning: model.onnx: no estimate of compute because of 1 operator that is not counted (mix)\n"
    )
    assert run("whatif", path, "--scratchpad", "1KiB", "--jobs", 1, "--json").err == ""  # nothing to estimate from


def test_many_names_are_cut_short(run, tmp_path: Path) -> None:
    nodes = [helper.make_node("Mix", [f"t{i}"], [f"t{i + 1}"], f"n{i}", domain="acme") for i in range(7)]
    shapes = [value(f"t{i}", (3, 4)) for i in range(8)]
    proto = model(nodes, shapes[:1], shapes[7:], value_info=shapes[1:7], imports=[helper.make_opsetid("acme", 1)])
    out = " ".join(run("inspect", save(tmp_path, proto)).out.split())
    assert "without 7 operators that are not counted (n0, n1, n2, n3, n4 and 2 more)" in out
