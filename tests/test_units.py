"""Quantities with units."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosma.errors import InputError
from cosma.units import align_up, format_bytes, format_si, parse_bytes, parse_quantity


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
    for text, dimension in (("8 Gb/s", "bytes/s"), ("10 pJ/b", "pJ/B")):
        with pytest.raises(InputError, match="small b, which could be bits or bytes"):
            parse_quantity(text, dimension, "x")
    assert parse_quantity("0.5 GHz", "Hz", "x") == Fraction(500_000_000)


def test_operations_are_half_multiply_accumulates() -> None:
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
