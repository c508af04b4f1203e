"""Hardware specs: those that come with cosma, and everything that can be wrong with one."""

from pathlib import Path

import pytest

from cosma.errors import InputError
from cosma.hardware import Hardware, load_hardware, spec_names
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


def test_shipped_specs() -> None:
    names = spec_names(ROOT / "hw_specs")
    assert set(names) >= {
        "gemmini_default", "nvdla_large", "coral_edge_tpu", "tpu_v1", "hexagon_8mib", "ethos_u55_256_384kib",
    }  # fmt: skip
    kib = {name: load_hardware(name).capacity_bytes // 1024 for name in names}
    assert kib["gemmini_default"] == 256
    assert kib["nvdla_large"] == 512
    assert kib["coral_edge_tpu"] == kib["hexagon_8mib"] == 8192
    assert kib["tpu_v1"] == 24 * 1024
    assert kib["ethos_u55_256_384kib"] == 384
    for name in names:
        assert all(figure.source for _, figure in load_hardware(name).figures)
