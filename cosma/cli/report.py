"""cosma report."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosma.cli.options import hardware_options, json_option, planned
from cosma.cli.streams import say
from cosma.cli.terminal import console, progress
from cosma.deadline import Deadline
from cosma.errors import InputError, VerificationError
from cosma.kinds import complain, kind_of

if TYPE_CHECKING:
    from cosma.plan import Plan
    from cosma.problem import Problem

EXPLAINING_S = 60.0  # for finding out what would help, so that a hard integer programme cannot hold up a report


@click.command("report")
@click.argument("plan", type=click.Path(path_type=Path))
@click.argument("model", required=False, type=click.Path(path_type=Path))
@hardware_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write one self-contained page (.html); rows also as .md, .csv, .png, .svg or .pdf.",
)
@click.option(
    "--figure",
    type=click.Choice(["curves", "matrix", "solvers", "pareto"]),
    help="What to draw of rows in a .png, .svg or .pdf.  [default: the first that they allow]",
)
@json_option
def report_command(
    plan: Path, model: Path | None, hw: str | None, scratchpad: str | None, output: Path | None, figure: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Explain PLAN, made for MODEL: why each tensor leaves early, and what would help.

    In place of PLAN and MODEL a file of rows from compare or whatif makes figures and tables.
    \b
    Without hardware the scratchpad is the one that the plan was made for. The plan is verified first.
    Example: cosma report plan.json models/densenet121.onnx -o report.html
    """
    from cosma.files import check_suffix, check_writable, write_atomic

    if plan.suffix in (".csv", ".jsonl"):
        for what in (model, hw, scratchpad):
            if what is not None:
                raise InputError(f"{plan}: rows say what they are of; leave out {what}, or give a plan")
        _report_rows(plan, output, figure, as_json)
        return
    if figure is not None:
        raise InputError(f"--figure {figure}: {plan} holds no rows; give a .csv or .jsonl file of compare or whatif")
    if model is None:
        if kind_of(plan) != "table of rows":  # under another suffix
            complain(plan, "plan")
        raise InputError(f"{plan}: give the model of the plan too, or a .csv or .jsonl file of rows")
    if output is not None:
        check_suffix(output, "--output", (".html",))
        check_writable(output, plan, model)
    with progress(f"explaining {plan.name}"):
        from cosma.analysis.explain import explain

        explanation = explain(*_read(plan, model, hw, scratchpad), Deadline.after(EXPLAINING_S))
        if output is not None:
            from cosma.reports.html import render

            write_atomic(output, render(explanation).encode())
    if as_json:
        from cosma.reports.explanation import facts

        click.echo(json.dumps(facts(explanation), indent=2))
    elif output is None:
        from cosma.reports.explanation import print_explanation

        print_explanation(console(), explanation)
    else:
        say(f"report written to {output}")


def _report_rows(path: Path, output: Path | None, figure: str | None, as_json: bool) -> None:
    """Rows as a file, as JSON, or as Markdown on the terminal."""
    from cosma.files import check_suffix, check_writable, write_atomic
    from cosma.reports.rows import SUFFIXES, markdown, read, render

    if output is None and figure is not None:
        raise InputError(f"--figure {figure}: there is no file to draw in; add --output, e.g. -o {figure}.png")
    if output is not None:
        check_suffix(output, "--output", SUFFIXES)
        check_writable(output, path)
    rows = read(path)
    if output is not None:
        write_atomic(output, render(rows, output.suffix, figure))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif output is None:
        click.echo(markdown(rows), nl=False)
    else:
        say(f"report written to {output}")


def _read(plan: Path, model: Path, hw: str | None, scratchpad: str | None) -> "tuple[Plan, Problem]":
    """The plan and its problem, verified. Raises InputError, VerificationError."""
    from cosma.verify import bound_holds, check

    document, prepared, hardware = planned(plan, model, hw, scratchpad)
    found = check(document, prepared.problem).violations
    if found:
        raise VerificationError(
            f"{plan}: nothing to explain, the plan is not valid for {model} on {hardware.name}; "
            "give the model and hardware it was made for, or compile again",
            found,
        )
    if not bound_holds(document, prepared.problem):
        raise InputError(
            f"{plan}: its bound was proved for {document.capacity_bytes:,} B aligned to "
            f"{document.alignment_bytes} B and says nothing of "
            f"{hardware.capacity_bytes:,} B aligned to {hardware.alignment_bytes} B; compile again, or "
            "leave out --hw and --scratchpad"
        )
    return document, prepared.problem
