"""Quantities with units: "256 KiB" <-> 262144, "16 GB/s" -> 16e9, and alignment."""

import re
from collections.abc import Mapping
from fractions import Fraction

from cosma.errors import InputError

_SI = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_PICO = {"f": Fraction(1, 1000), "p": Fraction(1), "n": Fraction(1000)}
_IEC = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}

_PREFIXES = {p: Fraction(f) for p, f in {**_SI, **_IEC}.items()}
# One table a dimension: unit -> its size in the base unit named by the key. A bit is spelled out: who writes a small b
# may mean either.
UNITS: dict[str, dict[str, Fraction]] = {
    "bytes": {**{p + "B": f for p, f in _PREFIXES.items()}, **{p + "bit": f / 8 for p, f in _PREFIXES.items()}},
    "bytes/s": {**{p + "B/s": f for p, f in _PREFIXES.items()}, **{p + "bit/s": f / 8 for p, f in _PREFIXES.items()}},
    "pJ/B": {f"{p}J/{unit}": f * per for p, f in _PICO.items() for unit, per in (("B", 1), ("bit", 8))},
    "Hz": {p + "Hz": Fraction(f) for p, f in _SI.items()},
    "MAC/cycle": {"MAC/cycle": Fraction(1)},
    # One multiply-accumulate is two operations.
    "MAC/s": {
        **{p + "OPS": Fraction(_SI[p], 2) for p in ("P", "T", "G", "M", "")},
        **{p + "MAC/s": Fraction(_SI[p]) for p in ("P", "T", "G", "M", "")},
    },
}
_USUAL = {"bytes": "KiB", "bytes/s": "GB/s", "pJ/B": "pJ/B", "Hz": "MHz", "MAC/cycle": "MAC/cycle", "MAC/s": "TOPS"}

_NUMBER = r"[+-]?[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"  # no digits of other scripts
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([^\s\d.].*?)?\s*")
_SMALL_B = re.compile(r"b(?i:/s|ps)?$")
_LONGEST = 100  # characters of a quantity


def parse_quantity(text: str, dimension: str, what: str) -> Fraction:
    """Read "16 GB/s" as a number of base units of `dimension` (a key of `UNITS`), exactly.

    `what` names the quantity in error messages.
    """
    units = UNITS[dimension]
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        shown = repr(text) if len(text) <= _LONGEST else f"{text[:20]!r}… of {len(text):,} characters"
        raise InputError(f"{what}: {shown} is not a number with a unit; write e.g. {_example(dimension)}")
    number, unit = match.groups()
    if number.startswith("-") and Fraction(number):
        raise InputError(f"{what}: {text!r} is negative; it must be 0 or more, e.g. {_example(dimension)}")
    if unit is None:
        raise InputError(f"{what}: {text!r} has no unit; write e.g. {_with_unit(number, dimension)}")
    return Fraction(number) * units[_unit(unit, units, text, what)]


def _with_unit(number: str, dimension: str) -> str:
    """What a bare number may count: first what has no prefix, as 16384 KiB or 1000000 MHz are unlikely."""
    base, usual = {"bytes": "B", "bytes/s": "B/s", "MAC/s": "OPS"}.get(dimension, dimension), _USUAL[dimension]
    if dimension == "bytes":
        return repr(f"{number} {base if Fraction(number).denominator == 1 else usual}")
    return repr(f"{number} {base}") + (f", or {usual} if these are meant" if usual != base else "")


def _unit(unit: str, units: Mapping[str, Fraction], text: str, what: str) -> str:
    """The unit as the table has it; other cases are accepted where one unit alone can be meant."""
    if unit in units:
        return unit
    lower = re.sub("(?<=[bt])ps$", "/s", unit.lower())  # GBps is GB/s, but OPS are OPS
    same = [known for known in units if known.lower() == lower]
    if same and _SMALL_B.search(unit):
        bits = re.sub(r"B(/s)?$", r"bit\1", same[0])
        raise InputError(f"{what}: {text!r} has a small b, which could be bits or bytes; write {same[0]} or {bits}")
    if len({units[known] for known in same}) != 1:
        spelled = [known for known in units if "bit" not in known]
        bits = "" if len(spelled) == len(units) else "; or bit instead of B"
        raise InputError(f"{what}: unknown unit {unit!r} in {text!r}; known units: {', '.join(spelled)}{bits}")
    return same[0]


def quantity_pattern(dimension: str) -> str:
    """A regular expression, for JSON Schema, of quantities with the units of `UNITS` in the case that stands there."""
    return rf"^\s*\+?{_NUMBER.removeprefix('[+-]?')}\s*({'|'.join(map(re.escape, UNITS[dimension]))})\s*$"


def parse_bytes(text: str, what: str = "size") -> int:
    """Read "512 KiB", "1.5MiB" or "300 B" as a whole number of bytes."""
    value = parse_quantity(text, "bytes", what)
    if value.denominator != 1:
        raise InputError(f"{what}: {text!r} is not a whole number of bytes")
    if value >= 2**63:
        raise InputError(f"{what}: {text!r} does not fit in 63 bits")
    return int(value)


def _example(dimension: str) -> str:
    return repr(f"16 {_USUAL[dimension]}")


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
