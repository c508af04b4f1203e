"""Quantities with units."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosma.errors import InputError
from cosma.units import UNITS, align_up, format_bytes, format_si, parse_bytes, parse_quantity, quantity_pattern


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512KiB", 524288),
        ("1.5 MiB", 1572864),
        ("300 B", 300),
        ("8 MB", 8_000_000),
        ("2kIB", 2048),
        ("1e3 B", 1000),
        ("8 Kbit", 1000),
        ("2 Kibit", 256),
        ("0.5KiB", 512),
        ("512\u00a0KiB", 524288),  # as copied from a data sheet
        ("1_024 B", 1024),
    ],
)
def test_bytes(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("512", "no unit"), ("-1 KiB", "negative"), ("lots", "not a number"), ("3 KiX", "unknown unit"), ("", "not a"),
        ("0.3 B", "whole number"), ("1e30 B", "63 bits"), ("nan B", "not a number"), ("1 GB/s", "unknown unit"),
        ("16384", "write e.g. '16384 B'"), ("-5", "'-5' is negative"), ("8 Kb", "small b, which could be bits or bytes; write kB or kbit"),
        ("0.5", "write e.g. '0.5 KiB'"), ("8 b", "write B or bit"), ("8 Gib", "write GiB or Gibit"),
        ("2kib", "write KiB or Kibit"), ("3 bit", "whole number"), ("٣ KiB", "not a number"), ("9" * 5000, "not a number"),
    ],
)  # fmt: skip
def test_bytes_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_bytes(text)


def test_other_dimensions() -> None:
    assert parse_quantity("16 GB/s", "bytes/s", "x") == 16 * 10**9
    assert parse_quantity("8 pJ/bit", "pJ/B", "x") == 64
    assert parse_quantity("8 Gbit/s", "bytes/s", "x") == 10**9
    assert parse_quantity("8 GBps", "bytes/s", "x") == parse_quantity("8 GB/S", "bytes/s", "x") == 8 * 10**9
    assert parse_quantity("0.5 GHz", "Hz", "x") == Fraction(500_000_000)


@pytest.mark.parametrize(
    ("text", "dimension", "remedy"),
    [
        ("8 Gb/s", "bytes/s", "GB/s or Gbit/s"), ("8 Gb/S", "bytes/s", "GB/s or Gbit/s"), ("8 gb/S", "bytes/s", "GB/s or Gbit/s"),
        ("8 Gbps", "bytes/s", "GB/s or Gbit/s"), ("8 mbPS", "bytes/s", "MB/s or Mbit/s"), ("10 pJ/b", "pJ/B", "pJ/B or pJ/bit"),
        ("10 PJ/b", "pJ/B", "pJ/B or pJ/bit"),
    ],
)  # fmt: skip
def test_a_small_b_is_never_a_byte(text: str, dimension: str, remedy: str) -> None:
    with pytest.raises(InputError, match=f"a small b, which could be bits or bytes; write {remedy}$"):
        parse_quantity(text, dimension, "x")


@pytest.mark.parametrize(
    ("text", "dimension", "advice"),
    [
        ("16000000000", "bytes/s", "'16000000000 B/s', or GB/s if these are meant"), ("64", "pJ/B", "'64 pJ/B'"),
        ("1000000000", "Hz", "'1000000000 Hz', or MHz if"), ("256", "MAC/cycle", "'256 MAC/cycle'"),
    ],
)  # fmt: skip
def test_advice_for_a_bare_number_can_be_taken(text: str, dimension: str, advice: str) -> None:
    with pytest.raises(InputError, match=f"{text!r} has no unit; write e.g. {advice}"):
        parse_quantity(text, dimension, "x")
    assert parse_quantity(advice.split("'")[1], dimension, "x") == Fraction(text)  # as many base units


@pytest.mark.parametrize("dimension", UNITS)
def test_the_pattern_of_the_schema_allows_what_is_read(dimension: str) -> None:
    """Hardly less, and nothing that is refused."""
    pattern = re.compile(quantity_pattern(dimension))
    for unit, size in UNITS[dimension].items():
        assert parse_quantity(f"2.5e1 {unit}", dimension, "x") == 25 * size
        assert pattern.search(f"2.5e1{unit}")
        assert pattern.search(f" +1_000 {unit} ")
        for wrong in (unit, f"-1 {unit}", f"1 {unit}!", f"٣ {unit}", "1", "1 b", "1 Kb", "1 Gb/s", "1 pJ/b"):
            assert not pattern.search(wrong)


def test_operations_are_half_multiply_accumulates() -> None:
    with pytest.raises(InputError, match=r"'4e12' has no unit; write e.g. '4e12 OPS', or TOPS if these are meant"):
        parse_quantity("4e12", "MAC/s", "x")
    assert parse_quantity("4e12 OPS", "MAC/s", "x") == parse_quantity("4 tops", "MAC/s", "x") == 2 * 10**12
    assert parse_quantity("4 TOPS", "MAC/s", "x") == 2 * 10**12
    assert parse_quantity("22.65 GOPS", "MAC/s", "x") == 11_325_000_000
    assert parse_quantity("2 TMAC/s", "MAC/s", "x") == parse_quantity("2000 GMAC/s", "MAC/s", "x") == 2 * 10**12


@given(st.integers(0, 2**62), st.integers(0, 16).map(lambda e: 2**e))
def test_align_up(size: int, alignment: int) -> None:
    aligned = align_up(size, alignment)
    assert aligned % alignment == 0
    assert 0 <= aligned - size < alignment


def test_format_round_trip() -> None:
    for size in (0, 1, 1023, 1024, 262144, 8 * 2**20):
        assert parse_bytes(format_bytes(size)) == size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00025, "250 µs"),
        (0, "0 s"),
        (3e-12, "0.003 ns"),
        (1, "1 s"),
        (86400, "86,400 s"),
        (0.9996, "1,000 ms"),
        (None, "n/a"),
    ],
)
def test_si_prefixes(value: float | None, text: str) -> None:
    assert format_si(value, "s") == text
