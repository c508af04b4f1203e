"""Why there is no plan, and what would help: the same facts for a terminal and for a page."""

from collections.abc import Sequence
from html import escape

from rich.console import Console

from cosma.compile import Prepared
from cosma.problem import Shortage
from cosma.report.html import framed
from cosma.report.text import SHOWN, both, describe_model, print_rows
from cosma.target.hardware import Hardware, load_hardware, spec_names
from cosma.units import align_up


def print_shortages(console: Console, prepared: Prepared, hardware: Hardware, shortages: Sequence[Shortage]) -> None:
    """The operator that decides with its operands, the next ones, and what would help."""
    worst, *others = shortages
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
    print_rows(console, [*rows, *_first_labelled("would help", remedies(prepared, hardware, worst))])


def _listed(label: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    """The first few lines and how many more there are."""
    rest = [f"and {len(lines) - SHOWN} more; --json and --report list all"] if len(lines) > SHOWN else []
    return _first_labelled(label, [*lines[:SHOWN], *rest])


def _first_labelled(label: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    return [("" if i else label, text) for i, text in enumerate(lines)]


def remedies(prepared: Prepared, hardware: Hardware, worst: Shortage) -> list[str]:
    """Changes with which a plan exists, or may."""
    specs = _specs_with(worst.needed_bytes)
    lines = [
        f"--scratchpad '{align_up(worst.needed_bytes, hardware.alignment_bytes)} B', the smallest capacity that works",
        f"--hw with one of: {', '.join(specs)}" if specs else "none of hw_specs has that much",
    ]
    if prepared.source.weights:
        lines.append("--no-weights, if parameters are kept elsewhere")
    if prepared.source.dtype != "int8":
        lines.append("a smaller element type, e.g. --dtype int8")
    return lines


def _specs_with(needed_bytes: int) -> list[str]:
    """Names of the smallest specs that come with cosma and hold a working set of this size."""
    enough = [spec for name in spec_names() if (spec := load_hardware(name)).capacity_bytes >= needed_bytes]
    return [spec.name for spec in sorted(enough, key=lambda spec: spec.capacity_bytes)][:5]


def page(prepared: Prepared, hardware: Hardware, shortages: Sequence[Shortage]) -> str:
    """One self-contained HTML file: every operator that is too large, and what would help."""
    rows = "".join(
        f'<tr><td class="wide">{escape(s.operator)}</td><td class="number">{s.needed_bytes:,}</td>'
        f'<td class="number">{s.missing_bytes:,}</td><td class="wide">'
        f"{escape(', '.join(f'{name} {size:,}' for name, size in s.operands))}</td></tr>"
        for s in shortages
    )
    count, capacity = len(prepared.problem.graph.operators), shortages[0].available_bytes
    verdict = (
        f"infeasible: {len(shortages)} of {count} operators need more than the {capacity:,} B of the scratchpad, "
        "each on its own"
    )
    return framed(
        "infeasible.html",
        f"{prepared.source.model} on {hardware.name}",
        script="",
        verdict=verdict,
        remedies="".join(f"<li>{escape(text)}</li>" for text in remedies(prepared, hardware, shortages[0])),
        rows=rows,
    )
