"""Rows by what is the same but for the capacity: curves and their names, as tables on a terminal."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from cosma.experiments.rows import Row, Swept
from cosma.experiments.staircase import Step, knee, steps, worth_of_next_kib
from cosma.units import format_bytes, format_si

_SHOWN = 60  # rows of a table on a terminal
_REASONS = 12  # lines of reasons
_CURVE = 3  # capacities that make a curve
_ESTIMATES = (
    "times and energies are estimates: full DRAM bandwidth, full utilisation, figures of the spec; n/a: not there"
)


class Series(NamedTuple):
    """The columns in which all rows of a curve agree."""

    model: str
    dims: str
    dtype: str | None
    fusion: str
    weights: bool
    modes: str
    solver: str
    problem: str
    alignment_bytes: int


def planned(rows: Sequence[Row]) -> list[Row]:
    """The rows that have a plan."""
    return [row for row in rows if row.non_compulsory_bytes is not None]


def series(rows: Sequence[Row]) -> dict[Series, list[Row]]:
    """The rows of each curve: of those that have a plan, the best at each capacity."""
    found: dict[Series, dict[int, Row]] = {}
    for row in sorted(planned(rows), key=lambda r: (-r.traffic[0], r.traffic[1])):
        found.setdefault(curve_of(row), {})[row.capacity_bytes] = row
    return {key: list(points.values()) for key, points in found.items()}


def curve_of(row: Row) -> Series:
    """The curve that a row is a point of."""
    return Series(*(getattr(row, column) for column in Series._fields))


def labels(keys: Sequence[Series]) -> dict[Series, str]:
    """A short name for each curve: the model, and whatever is not the same for all of them."""
    others = [column for column in Series._fields if column not in ("model", "problem")]
    varied = [column for column in others if len({getattr(key, column) for key in keys}) > 1]
    names = {key: ", ".join([stem(key.model), *(word(c, getattr(key, c)) for c in varied)]) for key in keys}
    counts = Counter(names.values())  # more than one: files of one name in two folders
    return {key: f"{name}, problem {key.problem}" if counts[name] > 1 else name for key, name in names.items()}


def stem(model: str) -> str:
    """The name of a model without its suffix."""
    return model.removesuffix(".onnx")


def word(column: str, value: Any) -> str:
    """A value of a column of `Series` in words."""
    if column == "weights":
        return "with weights" if value else "activations"
    if column == "modes":
        return f"modes: {value}"
    if column == "alignment_bytes":
        return f"aligned to {value} B"
    if column == "fusion":
        return "pointwise fusion" if value == "pointwise" else "no fusion"
    return str(value or ("types as in the file" if column == "dtype" else "dimensions as in the file"))


def corners(rows: Sequence[Row]) -> list[Step]:
    """The staircase of one curve."""
    return steps([(r.capacity_bytes, *r.traffic) for r in rows])


def proofs(line: Sequence[Step]) -> int:
    """How many steps are known to be optima."""
    return sum(step.cost_bytes == step.bound_bytes for step in line)


def proved(line: Sequence[Step]) -> bool:
    """Whether all steps are known to be optima."""
    return proofs(line) == len(line)


def knee_name(line: Sequence[Step]) -> str:
    """What to call the knee of a curve."""
    return "knee" if proved(line) else "knee, if optima"


def print_staircase(console: Console, name: str, rows: Sequence[Row]) -> None:
    """One line a step: capacity, traffic, what the next step costs and saves."""
    found = corners(rows)
    bend, worth = knee(found), [*worth_of_next_kib(found), None]
    console.print(f"{name}: {len(found)} steps, {proofs(found)} proved, from {len(rows)} capacities")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("capacity", "", "non-compulsory", "bound", "to the next step", "saves", "a KiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for step, here, there in zip(found, worth, [*found[1:], None], strict=True):
        table.add_row(
            f"{step.capacity_bytes:,} B", knee_name(found) if step == bend else "", f"{step.cost_bytes:,} B",
            "proved" if step.cost_bytes == step.bound_bytes else f"{step.bound_bytes:,} B",
            "" if there is None else f"+{format_bytes(there.capacity_bytes - step.capacity_bytes)}",
            "" if there is None else f"{format_bytes(step.cost_bytes - there.cost_bytes)}",
            "" if here is None else f"{format_bytes(round(here))}",
        )  # fmt: skip
    console.print(table)


def print_points(console: Console, rows: Sequence[Swept]) -> None:
    """One line a row: facts in bytes, then what they would take on the hardware."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold", min_width=14)
    table.add_column("hardware", overflow="fold", min_width=20)
    for column in ("capacity", "status", "moved", "avoidable", "transfers", "compute", "energy"):
        table.add_column(column, justify="right", no_wrap=True)
    kinds = _kinds(rows)
    names = labels(list(dict.fromkeys(kinds)))
    for row, kind in zip(rows[:_SHOWN], kinds, strict=False):
        table.add_row(
            names[kind], " ".join(filter(None, (row.hardware, row.instead))),
            format_bytes(row.capacity_bytes), _status(row),
            *map(_bytes, (row.moved_bytes, row.non_compulsory_bytes)),
            format_si(row.estimate_transfer_s, "s"), format_si(row.estimate_compute_s, "s"),
            format_si(row.estimate_transfer_energy_j, "J"),
        )  # fmt: skip
    console.print(table)
    if len(rows) > _SHOWN:
        console.print(f"and {len(rows) - _SHOWN} more rows; -o keeps all of them")
    print_reasons(console, rows)
    console.print(_ESTIMATES)


def _kinds(rows: Sequence[Swept]) -> list[Series]:
    """What each row is of, but for its hardware: the alignment, and the tiles that follow from that.

    Problems are told apart where more than one is of the same kind on the same hardware: files of one name.
    """
    kinds = [curve_of(row)._replace(alignment_bytes=1, problem="") for row in rows]
    points = {
        (kind, row.hardware, row.instead, row.capacity_bytes, row.problem)
        for kind, row in zip(kinds, rows, strict=True)
    }
    if len({point[:-1] for point in points}) == len(points):
        return kinds
    return [kind._replace(problem=row.problem) for kind, row in zip(kinds, rows, strict=True)]


def print_reasons(console: Console, rows: Sequence[Swept]) -> None:
    """Why rows have no plan, each reason once."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.non_compulsory_bytes is None:
            reasons.setdefault(f"{stem(row.model)}: {row.status}, {row.why}", []).append(row.hardware)
    for reason, hardware in list(reasons.items())[:_REASONS]:
        console.print(f"{reason} ({len(hardware)} rows)")
    if len(reasons) > _REASONS:
        console.print(f"and {len(reasons) - _REASONS} more reasons; -o keeps all of them")


def _status(row: Row) -> str:
    return f"gap {100 * row.gap:.1f} %" if row.gap else row.status


def _bytes(value: int | None) -> str:
    return "" if value is None else format_bytes(value)


def curved(rows: Sequence[Row]) -> list[Row]:
    """The rows of curves: of the same hardware, at enough capacities, not all of the same traffic."""
    points = {(curve_of(r), r.hardware, r.capacity_bytes) for r in planned(rows)}
    counts = Counter((curve, hardware) for curve, hardware, _ in points)
    flat = {key for key, found in series(rows).items() if len(corners(found)) < 2}
    return [r for r in rows if counts[curve_of(r), r.hardware] >= _CURVE and curve_of(r) not in flat]
