"""cosma diff: what changed from one plan to the next."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosma.cli.options import json_option
from cosma.cli.terminal import console

if TYPE_CHECKING:
    from cosma.analysis.diff import Difference

_SHOWN = 10  # lines of a listing that is cut short


@click.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@json_option
def diff_command(before: Path, after: Path, as_json: bool) -> None:
    """Say what changed from plan BEFORE to plan AFTER: bytes, order, residencies. The exit code is 0 either way.

    \b
    Example: cosma diff old.json new.json
    """
    from cosma.analysis.diff import diff
    from cosma.plan import read_plan

    found = diff(read_plan(before), read_plan(after))
    if as_json:
        click.echo(json.dumps(asdict(found) | {"is_empty": found.is_empty}, indent=2))
        return
    from cosma.reports.text import print_rows

    print_rows(console(), _lines(found))


def _lines(found: "Difference") -> list[tuple[str, str]]:
    """Label and value for everything that changed."""
    if found.is_empty:
        return [("no change", "the plans do the same at the same addresses")]
    lines = [] if found.same_problem else [("problem", "the plans are for different problems; compared by name")]
    lines += [(change.what, f"{_show(change.before)} -> {_show(change.after)}") for change in found.facts]
    for label, changes, unit in (("traffic of", found.traffic, " B"), ("returns of", found.evictions, "")):
        lines += [(label, f"{c.what}  {c.before:,} -> {c.after:,}{unit}") for c in changes[:_SHOWN]]
        if len(changes) > _SHOWN:
            lines.append(("", f"and {len(changes) - _SHOWN} more tensors"))
    if found.first_change is not None:
        names = ", ".join(found.moved_operators[:_SHOWN]) + (", …" if len(found.moved_operators) > _SHOWN else "")
        lines.append(
            ("order", f"first differs at step {found.first_change}; moved ({len(found.moved_operators)}): {names}")
        )
    if found.retimed:
        names = ", ".join(found.retimed[:_SHOWN]) + (", …" if len(found.retimed) > _SHOWN else "")
        lines.append(("residencies", f"{len(found.retimed)} tensors come or go with other operators: {names}"))
    if found.replaced:
        names = ", ".join(found.replaced[:_SHOWN]) + (", …" if len(found.replaced) > _SHOWN else "")
        lines.append(("addresses", f"{len(found.replaced)} tensors stay as long and lie elsewhere: {names}"))
    return lines


def _show(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
