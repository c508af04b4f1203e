"""Hardware specs: those that come with cosma, and everything that can be wrong with one."""

from pathlib import Path

import pytest

from cosma.errors import InputError
from cosma.nest import Tiler
from cosma.target.hardware import Hardware, load_hardware, spec_names
from tests.conftest import ROOT

GOOD = """
title: Test
scratchpad:
  capacity: {value: 512 KiB, confirmed: yes, source: here}
  alignment: {value: 64 B, confirmed: no, source: here}
  holds_weights: {value: true, confirmed: yes, source: here}
dram:
  bandwidth: {value: 16 GB/s, confirmed: secondary, source: here}
  energy: {value: 64 pJ/B, confirmed: yes, source: here}
compute:
  rate: {value: 256 MAC/cycle, confirmed: yes, source: here}
  clock: {value: 1 GHz, confirmed: yes, source: here}
  fusion: {value: pointwise, confirmed: yes, source: here}
"""


def read(folder: Path, text: str) -> Hardware:
    path = folder / "spec.yaml"
    path.write_text(text)
    return load_hardware(str(path))


def test_all_figures(tmp_path: Path) -> None:
    spec = read(tmp_path, GOOD)
    assert (spec.capacity_bytes, spec.alignment_bytes, spec.weights, spec.fusion) == (524288, 64, True, "pointwise")
    assert (spec.dram_bytes_per_s, spec.dram_pj_per_byte) == (16e9, 64.0)
    assert (spec.macs_per_s, spec.instances) == (256e9, 1)
    assert dict(spec.figures)["scratchpad.alignment"].confirmed == "no"


def test_peak_stands_in_for_rate_and_clock(tmp_path: Path) -> None:
    peak = "  peak: {value: 4 TOPS, confirmed: yes, source: here}\n"
    both = GOOD.replace("  fusion:", peak + "  fusion:")
    assert read(tmp_path, both).macs_per_s == 256e9
    no_clock = "\n".join(line for line in both.splitlines() if "clock:" not in line)
    assert read(tmp_path, no_clock).macs_per_s == 2e12
    neither = "\n".join(line for line in no_clock.splitlines() if "peak:" not in line)
    assert read(tmp_path, neither).macs_per_s is None


def test_instances(tmp_path: Path) -> None:
    text = GOOD.replace("  alignment:", "  instances: {value: 72, confirmed: yes, source: here}\n  alignment:")
    assert read(tmp_path, text).instances == 72
    for wrong in ("0", "-1", "1.5", "many", "true"):
        with pytest.raises(InputError, match="is not a count of 1 or more; write e"):
            read(tmp_path, text.replace("value: 72", f"value: {wrong}"))


def test_tiles(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).tiler == Tiler()
    tiles = {"buffers": "2", "accumulator": "4 B", "channels": "16", "rows": "2"}
    lines = "".join(f"  {key}: {{value: {value}, confirmed: yes, source: here}}\n" for key, value in tiles.items())
    burst = "  burst: {value: 64 B, confirmed: yes, source: here}\ncompute:"
    text = GOOD.replace("compute:", burst) + "tiles:\n" + lines
    assert read(tmp_path, text).tiler == Tiler(2, 4, 64, (("channel", 16), ("row", 2)))
    for right, wrong, complaint in (
        ("value: 2,", "value: 3,", "tiles.buffers: 3 is neither 1 nor 2"),
        ("value: 4 B", "value: 0 B", "tiles.accumulator: it has no byte"),
        ("burst: {value: 64 B", "burst: {value: 0 B", "dram.burst: it has no byte"),
        ("value: 16,", "value: 0,", "tiles.channels: '0' is not a count of 1 or more"),
    ):
        with pytest.raises(InputError, match=complaint):
            read(tmp_path, text.replace(right, wrong))


def test_capacity_is_rounded_down_to_the_alignment() -> None:
    assert Hardware("h", 1000, alignment_bytes=64).capacity_bytes == 960


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("capacity:", "capacty:", "unknown key 'scratchpad.capacty'; did you mean 'capacity'|'scratchpad.capacity' is missing"),
        ("dram:", "drams:", "unknown key 'drams'; did you mean 'dram'"),
        ("source: here}\n  alignment", "sources: here}\n  alignment", "did you mean 'source'|source' is missing"),
        (", source: here}\n  alignment", "}\n  alignment", "key 'scratchpad.capacity.source' is missing"),
        ("512 KiB", "512", "scratchpad.capacity: '512' has no unit"),
        ("512 KiB", "-512 KiB", "is negative"),
        ("512 KiB", "0 KiB", "holds nothing"),
        ("512 KiB", "512 GB/s", "unknown unit"),
        ("64 B", "3 B", "alignment of 3 B is not a power of two"),
        ("64 B", "0 B", "alignment of 0 B is not a power of two"),
        ("16 GB/s", "16 GB", "dram.bandwidth: unknown unit 'GB'"),
        ("16 GB/s", "0 GB/s", "dram.bandwidth: '0 GB/s' is zero"),
        ("value: true", "value: maybe", "holds_weights: 'maybe' is neither true nor false"),
        ("pointwise", "pointwize", "did you mean 'pointwise'"),
        ("confirmed: secondary", "confirmed: perhaps", "'dram.bandwidth.confirmed'"),
        ("{value: 512 KiB, confirmed: yes, source: here}", "512 KiB", "must be a mapping"),
        ("title: Test", "title: [1]", "'title'"),
        (GOOD, "", "the spec is empty, not a mapping"),
        (GOOD, "- 1\n- 2\n", "the spec is a list, not a mapping"),
        (GOOD, "a: [1", "not a YAML file"),
        (GOOD, "\x00", "not a YAML file"),
        (GOOD, "title: x\n", "key 'scratchpad' is missing"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=complaint) as error:
        read(tmp_path, GOOD.replace(old, new))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path))


def test_unknown_name_is_hinted_at() -> None:
    with pytest.raises(InputError, match="did you mean 'nvdla_large'"):
        load_hardware("nvdla_lage")
    with pytest.raises(InputError, match="cannot read the hardware spec"):
        load_hardware("not/there.yaml")


# Name -> bytes of one instance, alignment, instances, bytes/s, pJ/B, multiply-accumulates/s; None: not known.
SHIPPED = {
    "apple_ane_m1": (4_000_000, 64, 1, None, None, 5.5e12),
    "ascend_davinci_max": (1_000_000, 1, 1, None, 93.75, None),
    "coral_edge_tpu": (8 * 2**20, 1, 1, 500e6, 93.75, 2e12),
    "ethos_u55_128_384kib": (393216, 16, 1, 0.5e9, None, 64e9),
    "ethos_u55_256_384kib": (393216, 16, 1, 0.5e9, None, 128e9),
    "ethos_u55_32_384kib": (393216, 16, 1, 0.1e9, None, 6.4e9),
    "ethos_u55_64_384kib": (393216, 16, 1, 0.1e9, None, 12.8e9),
    "ethos_u65_256_384kib": (393216, 16, 1, 3.75e9, None, 128e9),
    "ethos_u65_512_384kib": (393216, 16, 1, 12e9, None, 512e9),
    "eyeriss_v1": (108_000, 1, 1, 0.72e9, None, 33.6e9),
    "gap8": (80_000, 1, 1, None, None, 11.325e9),
    "gap9": (128_000, 1, 1, None, None, 75.4e9),
    "gemmini_default": (262144, 16, 1, 16e9, 64.0, 256e9),
    "hexagon_4mib": (4 * 2**20, 128, 1, None, None, None),
    "hexagon_8mib": (8 * 2**20, 128, 1, None, None, None),
    "ibm_spyre": (1_625_344, 128, 32, 200e9, None, 4.6875e12),
    "max78000": (524288, 1, 1, None, None, None),
    "mtia_v1": (128_000_000, 1, 1, 176e9, None, 51.2e12),
    "mtia_v2": (256_000_000, 1, 1, 204.8e9, None, 177e12),
    "nvdla_large": (524288, 32, 1, None, None, None),
    "nvdla_small": (131072, 8, 1, None, None, 64e9),
    "simba_chiplet": (65536, 32, 36, None, 12.5, 2e12),
    "tpu_v1": (24 * 2**20, 256, 1, 30 * 2**30, 93.75, 65536 * 700e6),
    "tpu_v7_ironwood": (64 * 2**20, 1, 2, 7380e9, None, 524288 * 1.1e9),
    "tt_grayskull_e150": (1_000_000, 1, 120, 118.4e9, None, 1.385e12),
    "tt_wormhole_n150": (1_500_000, 1, 72, 288e9, None, 1.82e12),
    "tt_wormhole_n300": (1_500_000, 1, 64, 288e9, None, 1.82e12),
    "vta_pynq": (32768, 16, 1, None, None, 25.6e9),
    "vta_ultra96": (32768, 16, 1, None, None, 25.6e9),
}


def test_shipped_specs() -> None:
    assert set(spec_names(ROOT / "hw_specs")) == set(SHIPPED)
    for name, expected in SHIPPED.items():
        spec = load_hardware(name)
        figures = (spec.dram_bytes_per_s, spec.dram_pj_per_byte, spec.macs_per_s)
        assert (spec.capacity_bytes, spec.alignment_bytes, spec.instances, *figures) == expected, name
        for key, figure in spec.figures:
            assert len(figure.source) >= 8, (name, key)
            assert figure.confirmed in ("yes", "secondary", "no")
            assert "\n" not in figure.source


def test_capacities_are_confirmed_where_they_can_be() -> None:
    """A system around an Ethos-U55 may have any size of SRAM; all other capacities are somebody's figure."""
    doubtful = {n for n in SHIPPED if dict(load_hardware(n).figures)["scratchpad.capacity"].confirmed == "no"}
    assert doubtful == {f"ethos_u55_{macs}_384kib" for macs in (32, 64, 128, 256)}


def test_figures_behind_several_instances_say_of_what_they_are() -> None:
    for name in SHIPPED:
        spec = load_hardware(name)
        bandwidth = dict(spec.figures).get("dram.bandwidth")
        if spec.instances > 1 and bandwidth is not None:
            assert "whole" in bandwidth.source or "each chip" in bandwidth.source, name
