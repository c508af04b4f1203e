"""Rows of `cosma compare` and `cosma whatif` as a page, as Markdown, as CSV and as figures."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from cosma import compare, whatif
from cosma.errors import InputError
from cosma.estimate import assumptions
from cosma.hardware import load_hardware, spec_names
from cosma.report import capacity, comparison
from cosma.report.html import packaged, policy
from cosma.rows import Row, read_rows, to_csv
from cosma.staircase import knee, worth_of_next_kib

SUFFIXES = (".html", ".md", ".csv", ".png", ".svg", ".pdf")
_NUMBERS = ("_bytes", "_s", "_j", "_mib", "loads", "stores", "terms", "gap", "seconds")
# What a page and Markdown show of each row; CSV has all columns.
_SHOWN = {
    whatif.COLUMNS: (
        "model", "dtype", "fusion", "weights", "hardware", "instead", "capacity_bytes", "solver", "status",
        "moved_bytes", "compulsory_bytes", "non_compulsory_bytes", "bound_bytes", "peak_use_bytes", "loads", "stores",
        "estimate_transfer_s", "estimate_compute_s", "estimate_overlapped_s", "estimate_serial_s",
        "estimate_transfer_energy_j", "why",
    ),
    compare.COLUMNS: (
        "model", "weights", "budget", "capacity_bytes", "solver", "status", "non_compulsory_bytes", "bound_bytes",
        "gap", "first_s", "proof_s", "seconds", "terms", "peak_memory_mib", "why",
    ),
}  # fmt: skip


def read(path: Path) -> tuple[list[Row], tuple[str, ...]]:
    """The rows of a file that `compare` or `whatif` wrote, and their columns. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; write one with 'cosma whatif -o' or 'cosma compare -o'")
    for columns in _SHOWN:
        try:
            rows = read_rows(path, columns)
        except InputError:
            continue
        if rows and all(isinstance(row["model"], str) and isinstance(row["capacity_bytes"], int) for row in rows):
            return _latest(rows, columns), columns
    raise InputError(f"{path}: holds no rows of 'cosma whatif' or 'cosma compare', not of this version in any case")


def _latest(rows: list[Row], columns: tuple[str, ...]) -> list[Row]:
    """What went wrong and was tried again counts once, as it ended."""
    if columns == compare.COLUMNS:
        return list({(compare.key_of(row), row["budget"]): row for row in rows}.values())
    return list({whatif.key_of(row): row for row in rows}.values())


def render(rows: Sequence[Row], columns: tuple[str, ...], suffix: str) -> bytes:
    """The rows in the form that a file's suffix names, one of `SUFFIXES`."""
    if suffix == ".html":
        return page(rows, columns).encode()
    if suffix == ".md":
        return markdown(rows, columns).encode()
    if suffix == ".csv":
        return to_csv(rows, columns).encode()
    draw = comparison.draw if columns == compare.COLUMNS else capacity.draw
    return draw(rows, suffix[1:])


def markdown(rows: Sequence[Row], columns: tuple[str, ...]) -> str:
    """A table, one line a row."""
    shown = _SHOWN[columns]
    lines = ["| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
    for row in rows:
        lines.append("| " + " | ".join(_text(row[c]).replace("|", "\\|") for c in shown) + " |")
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def page(rows: Sequence[Row], columns: tuple[str, ...]) -> str:
    """One self-contained HTML file: figures, staircases, what the estimates assume, all rows."""
    script = packaged("rows.js")
    models = list(dict.fromkeys(row["model"] for row in rows))
    swept = columns == whatif.COLUMNS
    return Template(packaged("rows.html")).substitute(
        policy=policy(script),
        title=f"{'What if' if swept else 'Solvers compared'}: {len(rows):,} runs of {len(models)} models",
        summary=escape(_summary(rows)),
        figures="".join(_figures(rows, swept)),
        staircases="".join(_staircases(rows)) if swept else "",
        assumptions=_assumptions(rows) if swept else "",
        table=_table(rows, _SHOWN[columns]),
        style=packaged("plan.css"),
        script=script,
    )


def _summary(rows: Sequence[Row]) -> str:
    counts = ", ".join(f"{count:,} {status}" for status, count in Counter(row["status"] for row in rows).most_common())
    return f"{counts}; cosma {', '.join(sorted({str(row['version']) for row in rows}))}."


def _figures(rows: Sequence[Row], swept: bool) -> list[str]:
    drawn = []
    curved = capacity.curved(rows) if swept else []
    if not swept:
        text = "Traffic of each solver, per cent of the most that any moves there."
        drawn.append((comparison.draw(rows, "svg"), text))
    if curved:
        text = "Least non-compulsory traffic against capacity; the band reaches down to the proven bound."
        drawn.append((capacity.draw_curves(curved, "svg"), text))
    if swept and len({row["hardware"] for row in rows}) > 1:
        text = "All bytes moved against capacity; the line joins what nothing beats in both (Pareto)."
        drawn.append((capacity.draw_pareto(rows, "svg"), text))
    parts = []
    for image, text in drawn:
        svg = image.decode()
        caption = f"<figcaption>{escape(text)}</figcaption>"
        parts.append(f'<figure class="drawn">{svg[svg.index("<svg") :]}{caption}</figure>')
    return parts


def _staircases(rows: Sequence[Row]) -> list[str]:
    """A table a curve: each step, and what the way to the next is worth."""
    curves = capacity.series(capacity.curved(rows))
    tables = []
    for key, name in capacity.labels(list(curves)).items():
        found = capacity.corners(curves[key])
        bend, worth = knee(found), [*map("{:,.0f}".format, worth_of_next_kib(found)), ""]
        proved = sum(step.cost_bytes == step.bound_bytes for step in found)
        lines = [
            (f"{s.capacity_bytes:,}", f"{s.cost_bytes:,}", f"{s.bound_bytes:,}", rate, "knee" if s == bend else "")
            for s, rate in zip(found, worth, strict=True)
        ]
        head = ("capacity, B", "non-compulsory, B", "proven bound, B", "saved per KiB to the next step, B", "")
        tables.append(
            f"<details><summary>{escape(name)}: {len(found)} steps, {proved} proved</summary>"
            f'<div class="scroll">{_grid(head, lines, (0, 1, 2, 3))}</div></details>'
        )
    return ["<h2>Steps</h2>", *tables] if tables else []


def _assumptions(rows: Sequence[Row]) -> str:
    """What the estimates of each machine of hw_specs rest on."""
    known = [name for name in sorted({row["hardware"] for row in rows}) if name in spec_names()]
    parts = ["<p>Bytes are facts. Times and energies are estimates; n/a: the spec lacks a figure.</p>"]
    for name in known:
        lines = "".join(f"<li>{escape(line)}</li>" for line in assumptions(load_hardware(name)))
        parts.append(f"<details><summary>{escape(name)}</summary><ul>{lines}</ul></details>")
    return "<h2>What the estimates assume</h2>" + "".join(parts)


def _table(rows: Sequence[Row], shown: Sequence[str]) -> str:
    numbers = [i for i, c in enumerate(shown) if c.endswith(_NUMBERS)]
    return _grid(shown, [[_text(row[c]) for c in shown] for row in rows], numbers)


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
