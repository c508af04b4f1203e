"""Rows of `cosma compare` and `cosma whatif` as a page, as Markdown, as CSV and as figures."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from cosma import names
from cosma.analysis.estimate import assumptions
from cosma.errors import InputError
from cosma.experiments import sweep
from cosma.experiments.row_files import read_rows, to_csv
from cosma.experiments.rows import KINDS, Compared, Row, Swept, key_of
from cosma.experiments.staircase import knee, worth_of_next_kib
from cosma.kinds import complain
from cosma.reports import capacity, comparison, curves, matrix, pareto
from cosma.reports.html import framed, packaged
from cosma.target.hardware import load_hardware

_DRAWN = (".png", ".svg", ".pdf")
SUFFIXES = (".html", ".md", ".csv", *_DRAWN)
_NUMBERS = (
    "_bytes",
    "_s",
    "_j",
    "_mib",
    "loads",
    "stores",
    "tiles",
    "transfers",
    "operators",
    "terms",
    "gap",
    "seconds",
)


class Kind(NamedTuple):
    """A figure: how to choose its rows (none: it cannot be drawn), how to draw them, what it needs, its caption."""

    shown: Callable[[Sequence[Row]], list[Row]]
    draw: Callable[[Sequence[Row], str], bytes]
    needs: str
    caption: str


FIGURES = {
    "curves": Kind(
        capacity.curved,
        curves.draw,
        "plans at three capacities, else alike, with traffic that falls",
        "Non-compulsory traffic against capacity: the least, or the best found and a band down to the proven bound.",
    ),
    "matrix": Kind(
        matrix.charted,
        matrix.draw,
        "models on machines, more than one pair",
        "All bytes moved over the compulsory ones.",
    ),
    "pareto": Kind(
        capacity.planned,
        pareto.draw,
        "a plan",
        "All bytes moved against capacity; a line joins what nothing beats in both for one workload (Pareto).",
    ),
    "solvers": Kind(
        comparison.compared,
        comparison.draw,
        "two solvers on the same problem",
        "Traffic of each solver, per cent of the most that any moves there.",
    ),
}
# What a page and Markdown show of each row; CSV has all columns.
_SHOWN = {
    Swept: (
        "model", "dims", "dtype", "fusion", "weights", "modes", "hardware", "instead", "spec", "alignment_bytes",
        "capacity_bytes", "solver", "status", "moved_bytes", "compulsory_bytes",
        "non_compulsory_bytes", "bound_bytes", "gap", "streamed_bytes", "host_operators", "tiles", "transfers",
        "peak_use_bytes", "smallest_capacity_bytes", "loads", "stores", "estimate_transfer_s", "estimate_compute_s",
        "estimate_overlapped_s", "estimate_serial_s", "estimate_transfer_energy_j", "why",
    ),
    Compared: (
        "model", "dtype", "fusion", "weights", "modes", "budget", "capacity_bytes", "solver", "status",
        "compulsory_bytes", "non_compulsory_bytes", "bound_bytes", "gap", "host_operators", "first_s", "proof_s",
        "seconds", "terms", "peak_memory_mib", "why",
    ),
}  # fmt: skip


def read(path: Path) -> list[Row]:
    """The rows of a file that `compare` or `whatif` wrote, all of one kind, at least one. Raises InputError.

    What went wrong and was tried again counts once, as it ended.
    """
    if not os.path.exists(path):  # noqa: PTH110, which never raises
        raise InputError(f"{path}: there is no such file; write one with 'cosma whatif -o' or 'cosma compare -o'")
    rows: list[Row] = []
    with suppress(InputError):
        rows = read_rows(path, *KINDS)
    if not rows:
        complain(path, "table of rows")
        raise InputError(f"{path}: holds no rows of 'cosma whatif' or 'cosma compare', not of this version in any case")
    return list({(key_of(row), row.budget): row for row in rows}.values())


def render(rows: Sequence[Row], suffix: str, figure: str | None) -> bytes:
    """The rows in the form that a file's suffix names, one of `SUFFIXES`. Raises InputError."""
    if suffix in _DRAWN:
        return draw(rows, suffix[1:], figure)
    if figure is not None:
        raise InputError(f"--figure {figure}: a {suffix} file is no figure; give --output with {', '.join(_DRAWN)}")
    if suffix == ".html":
        return page(rows).encode()
    if suffix == ".md":
        return markdown(rows).encode()
    return to_csv(rows).encode()


def draw(rows: Sequence[Row], form: str, figure: str | None = None) -> bytes:
    """One of `FIGURES`, without a name the first that the rows allow: png, svg or pdf. Raises InputError."""
    allowed = _allowed(rows)
    if not allowed:
        raise InputError("none of the rows has a plan, so there is nothing to draw; a .html, .md or .csv file has them")
    name = figure or next(iter(allowed))
    if name not in allowed:
        options = " or ".join(allowed)
        raise InputError(f"--figure {name}: the rows do not hold {FIGURES[name].needs}; they allow --figure {options}")
    return FIGURES[name].draw(allowed[name], form)


def _allowed(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each figure that can be drawn; first the figure that the rows were made for."""
    order = (
        ("curves", "matrix", "pareto", "solvers")
        if isinstance(rows[0], Swept)
        else ("solvers", "curves", "matrix", "pareto")
    )
    found = {name: FIGURES[name].shown(rows) for name in order}
    return {name: shown for name, shown in found.items() if shown}


def _shown(rows: Sequence[Row]) -> list[str]:
    """The columns with a value in some row; `spec` only where it tells machines of one name apart."""
    left_out = () if _edited(_machines(rows)) else ("spec",)
    return [
        c for c in _SHOWN[type(rows[0])] if c not in left_out and any(getattr(row, c) not in (None, "") for row in rows)
    ]


def _machines(rows: Sequence[Row]) -> set[tuple[str, str, str]]:
    """Name, what was set in the spec, and the digest of the figures."""
    return {(row.hardware, row.instead, row.spec) for row in rows if isinstance(row, Swept)}


def _edited(machines: set[tuple[str, str, str]]) -> bool:
    """Whether only the figures tell some machines apart."""
    return len(machines) > len({machine[:2] for machine in machines})


def markdown(rows: Sequence[Row]) -> str:
    """A table, one line a row."""
    shown = _shown(rows)
    lines = ["| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
    for row in rows:
        lines.append("| " + " | ".join(_marked(getattr(row, c)) for c in shown) + " |")
    return "\n".join(lines) + "\n"


def _marked(value: Any) -> str:
    """A cell of Markdown."""
    return names.markdown(value) if value and isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    if value in (None, ""):
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def page(rows: Sequence[Row]) -> str:
    """One self-contained HTML file: figures, staircases, what the estimates assume, all rows."""
    models = list(dict.fromkeys(row.model for row in rows))
    swept = [row for row in rows if isinstance(row, Swept)]
    return framed(
        "rows.html",
        f"{'What if' if swept else 'Solvers compared'}: {len(rows):,} runs of {len(models)} models",
        packaged("rows.js"),
        summary=escape(_summary(rows)),
        matrix=matrix.section(rows),
        figures="".join(_figures(rows)),
        staircases="".join(_staircases(rows)),
        assumptions=_assumptions(swept) if swept else "",
        table=_table(rows, _shown(rows)),
    )


def _summary(rows: Sequence[Row]) -> str:
    counts = ", ".join(f"{count:,} {status}" for status, count in Counter(row.status for row in rows).most_common())
    return f"{counts}; cosma {', '.join(sorted({row.version for row in rows}))}."


def _figures(rows: Sequence[Row]) -> Iterator[str]:
    for name, shown in _allowed(rows).items():
        if name == "matrix":  # a table of its own
            continue
        svg = FIGURES[name].draw(shown, "svg").decode()
        caption = f"<figcaption>{escape(FIGURES[name].caption)}</figcaption>"
        yield f'<figure class="drawn">{svg[svg.index("<svg") :]}{caption}</figure>'


def _staircases(rows: Sequence[Row]) -> list[str]:
    """A table a curve: each step, and what the way to the next is worth."""
    found_at = capacity.series(capacity.curved(rows))
    tables = []
    for key, name in capacity.labels(list(found_at)).items():
        found = capacity.corners(found_at[key])
        bend, worth = knee(found), [*map("{:,.0f}".format, worth_of_next_kib(found)), ""]
        bent = capacity.knee_name(found)
        lines = [
            (f"{s.capacity_bytes:,}", f"{s.cost_bytes:,}", f"{s.bound_bytes:,}", rate, bent if s == bend else "")
            for s, rate in zip(found, worth, strict=True)
        ]
        head = ("capacity, B", "non-compulsory, B", "proven bound, B", "saved per KiB to the next step, B", "")
        tables.append(
            f"<details><summary>{escape(name)}: {len(found)} steps, {capacity.proofs(found)} proved</summary>"
            f'<div class="scroll">{_grid(head, lines, (0, 1, 2, 3))}</div></details>'
        )
    return ["<h2>Steps</h2>", *tables] if tables else []


def _assumptions(rows: Sequence[Swept]) -> str:
    """What the estimates of each machine rest on, with what was set in its spec."""
    uncounted = any(row.macs is None for row in rows)
    why = ", or operators of the model cannot be counted" if uncounted else ""
    parts = [f"<p>Bytes are facts. Times and energies are estimates; n/a: the spec lacks a figure{why}.</p>"]
    machines = {machine for machine in _machines(rows) if machine[0] != "any"}
    edited = _edited(machines)
    for name, instead, spec in sorted(machines):
        lines = "".join(f"<li>{escape(line)}</li>" for line in _assumed(name, instead, spec))
        title = escape(" ".join(filter(None, (name, instead, f"(figures {spec})" if edited else ""))))
        parts.append(f"<details><summary>{title}</summary><ul>{lines}</ul></details>")
    return "<h2>What the estimates assume</h2>" + "".join(parts)


def _assumed(name: str, instead: str, spec: str) -> tuple[str, ...]:
    """The assumptions, if the spec that comes with cosma has the figures of the rows."""
    try:
        hardware = load_hardware(name, instead=sweep.read_instead(instead))
    except InputError:
        hardware = None
    if hardware is None or sweep.figures_digest(hardware) != spec:
        return (f"unknown: the figures, {spec}, were those of another spec file than cosma's {name}",)
    return assumptions(hardware)


def _table(rows: Sequence[Row], shown: Sequence[str]) -> str:
    numbers = [i for i, c in enumerate(shown) if c.endswith(_NUMBERS)]
    return _grid(shown, [[_text(getattr(row, c)) for c in shown] for row in rows], numbers)


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    kinds = ['class="number"' if i in numbers else 'class="wide"' if c == "why" else "" for i, c in enumerate(head)]
    top = "".join(
        f'<th scope="col" {kind}>{escape(c.replace("_", " "))}</th>' for c, kind in zip(head, kinds, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td {k}>{escape(v)}</td>" for v, k in zip(line, kinds, strict=True)) + "</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
