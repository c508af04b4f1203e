"""Estimates: arithmetic, what is not known stays so, and what they say they assume."""

from dataclasses import fields

import pytest

from cosma.estimate import Estimates, assumptions, estimate
from cosma.hardware import Hardware, load_hardware


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
