"""Quantities with units: "256 KiB" <-> 262144, "16 GB/s" -> 16e9, and alignment."""

import re
from fractions import Fraction

from cosma.errors import InputError

_SI = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_IEC = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}

# One table a dimension: unit -> its size in the base unit named by the key.
UNITS: dict[str, dict[str, Fraction]] = {
    "bytes": {p + "B": Fraction(f) for p, f in {**_SI, **_IEC}.items()},
    "bytes/s": {p + "B/s": Fraction(f) for p, f in {**_SI, **_IEC}.items()},
    "pJ/B": {
        "fJ/B": Fraction(1, 1000),
        "pJ/B": Fraction(1),
        "nJ/B": Fraction(1000),
        "pJ/bit": Fraction(8),
    },
    "Hz": {p + "Hz": Fraction(f) for p, f in _SI.items()},
    "MAC/cycle": {"MAC/cycle": Fraction(1)},
    # One multiply-accumulate is two operations.
    "MAC/s": {
        **{p + "OPS": Fraction(_SI[p], 2) for p in ("P", "T", "G")},
        **{p + "MAC/s": Fraction(_SI[p]) for p in ("T", "G")},
    },
}

_QUANTITY = re.compile(r"\s*([+-]?\d+(?:_\d+)*(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)\s*([^\s\d.].*?)?\s*", re.ASCII)
_LONGEST = 100  # characters of a quantity


def parse_quantity(text: str, dimension: str, what: str) -> Fraction:
    """Read "16 GB/s" as a number of base units of `dimension` (a key of `UNITS`), exactly.

    `what` names the quantity in error messages.
    """
    units = UNITS[dimension]
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise InputError(f"{what}: {text!r} is not a number with a unit; write e.g. {_example(dimension)}")
    number, unit = match.groups()
    if unit is None:
        raise InputError(f"{what}: {text!r} has no unit; write e.g. {number} {_some_unit(dimension)}")
    if unit not in units:
        # "kib" and "gb/s" are what people type; accept any case where only one unit can be meant.
        same = [known for known in units if known.lower() == unit.lower()]
        if len({units[known] for known in same}) != 1:
            raise InputError(f"{what}: unknown unit {unit!r} in {text!r}; known units: {', '.join(units)}")
        unit = same[0]
    value = Fraction(number) * units[unit]
    if value < 0:
        raise InputError(f"{what}: {text!r} is negative; it must be 0 or more")
    return value


def parse_bytes(text: str, what: str = "size") -> int:
    """Read "512 KiB", "1.5MiB" or "300 B" as a whole number of bytes."""
    value = parse_quantity(text, "bytes", what)
    if value.denominator != 1:
        raise InputError(f"{what}: {text!r} is not a whole number of bytes")
    if value >= 2**63:
        raise InputError(f"{what}: {text!r} does not fit in 63 bits")
    return int(value)


def _some_unit(dimension: str) -> str:
    return "KiB" if dimension == "bytes" else next(reversed(UNITS[dimension]))


def _example(dimension: str) -> str:
    return repr(f"16 {_some_unit(dimension)}")


def format_bytes(count: int) -> str:
    """262144 -> "256 KiB". Up to four significant digits, binary units."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g} {unit}" if unit != "B" else f"{count} B"


def format_si(value: float | None, unit: str) -> str:
    """0.00025, "s" -> "250 µs". Up to three significant digits; "n/a" for None, which stands for a missing figure."""
    if value is None:
        return "n/a"
    prefixes = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
    factor, prefix = next(((f, p) for f, p in prefixes if value >= f or not value), prefixes[-1])
    scaled = value / factor
    return f"{scaled:,.0f} {prefix}{unit}" if scaled >= 999.5 else f"{scaled:.3g} {prefix}{unit}"


def align_up(size: int, alignment: int) -> int:
    """The smallest multiple of `alignment` (bytes) that is at least `size` (bytes)."""
    return -(-size // alignment) * alignment
