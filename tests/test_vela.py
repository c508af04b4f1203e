"""The comparison with Vela: what is read from its files, and what cosma's rows say."""

import pytest

from benchmarks.vela import figures, planned
from cosma.errors import InputError
from tests.conftest import ROOT

# Made up: the columns that are read and a few that are not, with figures that add up.
SUMMARY = """\
network,arena_cache_size,total_original_weights,total_npu_encoded_weights,sram_total_bytes,\
dram_feature_map_read_bytes,dram_feature_map_write_bytes,dram_weight_read_bytes,dram_weight_write_bytes,\
dram_total_bytes,nn_macs
net,384.0,1200,1000,77,300,200,1500,0,2020,5000
"""
PRINTED = "Network summary for net\nCPU operators = 0 (0.0%)\nNPU operators = 7 (100.0%)\n"


def test_figures_of_vela() -> None:
    row = figures(SUMMARY, PRINTED)
    assert (row["total_bytes"], row["macs"], row["cpu_operators"]) == (2020, 5000, 0)
    assert (row["feature_map_read_bytes"], row["feature_map_written_bytes"]) == (300, 200)
    assert (row["weight_read_bytes"], row["other_bytes"]) == (1500, 20)
    assert (row["weights_bytes"], row["encoded_weights_bytes"]) == (1200, 1000)
    assert row["uncompressed_bytes"] == 2020 + 300  # 1,500 bytes were 1,800 before compression


@pytest.mark.parametrize("summary", ["", "network\nnet\n", SUMMARY.replace(",2020,", ",n/a,")])
def test_what_is_no_summary(summary: str) -> None:
    with pytest.raises(InputError, match="no summary"):
        figures(summary, PRINTED)


@pytest.mark.parametrize(
    ("printed", "count"), [(PRINTED.replace("= 0 (0.0%)", "= 2 (22.2%)"), "2"), ("", "an unknown number of")]
)
def test_operators_on_the_cpu_are_not_passed_over(printed: str, count: str) -> None:
    with pytest.raises(InputError, match=f"leaves {count} operators to the CPU"):
        figures(SUMMARY, printed)


def test_rows_of_cosma() -> None:
    """All fits: the image of 4 x 16 x 16 is read once, each weight too, and two outputs are written."""
    row = planned(ROOT / "models/tiny_branches.onnx", "int8")
    assert row["status"] == "optimal"
    assert row["total_bytes"] == row["bound_bytes"]
    assert row["feature_map_read_bytes"] == 1024
    assert row["feature_map_written_bytes"] == 24 * 16 + 16 * 16
    assert row["weight_read_bytes"] == row["weights_bytes"] == 16 * 4 + 8 * 4 + 16 * 24
    assert row.keys() == figures(SUMMARY, PRINTED).keys()
