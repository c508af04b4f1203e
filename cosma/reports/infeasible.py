"""Why there is no plan, and what would help: the same facts for a terminal and for a page."""

from collections.abc import Sequence
from html import escape

from rich.console import Console

from cosma.analysis.no_plan import NoPlan
from cosma.compile import Prepared
from cosma.reports.html import framed
from cosma.reports.text import SHOWN, both, describe_model, print_rows
from cosma.target.hardware import Hardware


def print_shortages(console: Console, prepared: Prepared, hardware: Hardware, found: NoPlan) -> None:
    """The operator that decides with its operands, the next ones, and what would help."""
    worst, *others = found.shortages
    rows = [
        ("model", describe_model(prepared)),
        ("status", f"infeasible: operator {worst.operator!r} does not fit into the scratchpad of {hardware.name}"),
        ("needed", both(worst.needed_bytes)),
        ("available", both(worst.available_bytes)),
        ("missing", both(worst.missing_bytes)),
    ]
    operands = [f"{name}  {both(size)}" for name, size in worst.operands]
    rows += _listed("operand", operands)
    rows += _listed("also too large", [f"{s.operator}  {both(s.needed_bytes)}" for s in others])
    print_rows(console, [*rows, *_first_labelled("would help", found.remedies)])


def _listed(label: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    """The first few lines and how many more there are."""
    rest = [f"and {len(lines) - SHOWN} more; --json and --report list all"] if len(lines) > SHOWN else []
    return _first_labelled(label, [*lines[:SHOWN], *rest])


def _first_labelled(label: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    return [("" if i else label, text) for i, text in enumerate(lines)]


def page(prepared: Prepared, hardware: Hardware, found: NoPlan) -> str:
    """One self-contained HTML file: every operator that is too large, and what would help."""
    rows = "".join(
        f'<tr><td class="wide">{escape(s.operator)}</td><td class="number">{s.needed_bytes:,}</td>'
        f'<td class="number">{s.missing_bytes:,}</td><td class="wide">'
        f"{escape(', '.join(f'{name} {size:,}' for name, size in s.operands))}</td></tr>"
        for s in found.shortages
    )
    count, capacity = len(prepared.problem.graph.operators), found.shortages[0].available_bytes
    verdict = (
        f"infeasible: {len(found.shortages)} of {count} operators need more than the {capacity:,} B of the scratchpad, "
        "each on its own"
    )
    return framed(
        "infeasible.html",
        f"{prepared.source.model} on {hardware.name}",
        script="",
        verdict=verdict,
        remedies="".join(f"<li>{escape(text)}</li>" for text in found.remedies),
        rows=rows,
    )
