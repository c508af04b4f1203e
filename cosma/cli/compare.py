"""cosma compare."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosma.cli.options import (
    check_choice,
    check_plot,
    json_option,
    limit_options,
    model_options,
    modes_of,
    options_of,
    prepared_within,
    rows_option,
)
from cosma.cli.streams import say
from cosma.cli.terminal import console, keeping, progress, warn
from cosma.errors import INFEASIBLE_EXIT_CODE, InputError

if TYPE_CHECKING:
    from cosma.experiments.compare import Run
    from cosma.experiments.row_files import RowFile
    from cosma.experiments.rows import Compared


@click.command("compare")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--solvers",
    default="tflite-exported-belady,compact,auto",
    show_default=True,
    metavar="A,B,C",
    help="Names from 'cosma solvers'.",
)
@click.option(
    "--budgets",
    default="M_R,M_H,M_P",
    show_default=True,
    metavar="A,B,C",
    help="Scratchpad capacities: sizes, M_R, M_H or M_P.",
)
@click.option("--hw", metavar="SPEC", help="Hardware whose alignment, fusion and weights to use.")
@model_options
@limit_options
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs at a time; more than one disturbs the times.",
)
@rows_option
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the comparison (.png, .svg or .pdf).")
@json_option
def compare_command(
    models: tuple[Path, ...], solvers: str, budgets: str, hw: str | None, jobs: int, output: Path | None,
    plot: Path | None, as_json: bool, **flags: Any,
) -> int:  # fmt: skip
    """Run several solvers on MODELS at several capacities and lay the results side by side.

    \b
    Each run has a process and limits of its own; one that explodes is a row that says so.
    Example: cosma compare models/densenet121.onnx --solvers tflite-exported-belady,paper,auto --dtype int8 -o rows.csv
    """
    from cosma.experiments.row_files import RowFile
    from cosma.experiments.rows import WENT_WRONG, Compared, key_of
    from cosma.files import write_atomic
    from cosma.reports.comparison import draw, print_table

    check_plot(plot, *models, output)
    file = None if output is None else RowFile(output, Compared)
    with progress("reading the models"):
        runs = _runs(models, _listed(solvers, "--solvers"), _listed(budgets, "--budgets"), hw, flags)
    stored = {key_of(row): row for row in (file.rows if file else []) if row.status not in WENT_WRONG}
    todo = list({run.key: run for run in runs if run.key not in stored}.values())
    known = sum(run.key in stored for run in runs)
    with keeping(file):
        for row in _finish(todo, jobs, file):
            stored[key_of(row)] = row
    rows = [replace(stored[run.key], budget=run.budget) for run in runs]
    if plot is not None:
        write_atomic(plot, draw(rows, plot.suffix[1:]))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print_table(console(), rows)
        if known:
            say(f"{known} of {len(runs)} rows were in {output} already")
    return 0 if any(row.non_compulsory_bytes is not None for row in rows) else INFEASIBLE_EXIT_CODE


def _listed(text: str, option: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InputError(f"{option} {text!r}: names nothing; separate names by commas")
    return names


def _runs(
    models: Sequence[Path], solvers: list[str], budgets: list[str], hw: str | None, flags: dict[str, Any]
) -> "list[Run]":
    """All runs, models first, then budgets, then solvers. Raises InputError before anything runs."""
    from cosma.deadline import Deadline
    from cosma.experiments.compare import runs_at
    from cosma.target.hardware import Hardware, load_hardware

    options = options_of(**flags)
    chosen = [replace(options, solver=solver) for solver in solvers]
    hardware = Hardware("any", 2**62) if hw is None else load_hardware(hw)
    modes = modes_of(flags["modes"], solvers, hardware)
    for each in chosen:
        check_choice(modes, each)
    runs: list[Run] = []
    for model in models:
        prepared, _ = prepared_within(
            model, Deadline.after(options.time_limit_s), lambda: hardware, **flags, solvers=solvers
        )
        deadline = Deadline.after(options.time_limit_s)
        for budget, found in runs_at(prepared, hardware, budgets, chosen, deadline):
            runs += found
            if not found:
                warn(
                    f"M_P of {model.name} was not found in {options.time_limit_s:g} s; its runs at {budget} are left "
                    "out: give sizes, or a larger --time-limit"
                )
    if not runs:
        raise InputError(f"--budgets {','.join(budgets)}: not known for any of the models; give sizes, e.g. 512KiB")
    return runs


def _finish(runs: "Sequence[Run]", jobs: int, file: "RowFile[Compared] | None") -> "Iterator[Compared]":
    """Run all, keeping each row as it comes."""
    from cosma.cli.screen import bar
    from cosma.experiments.compare import run_all

    progress = bar("{task.description}")
    with progress, closing(run_all(runs, jobs)) as rows:
        task = progress.add_task("comparing", total=len(runs))
        for row in rows:
            if file is not None:
                file.append(row)
            progress.update(task, advance=1, description=f"{row.model} {row.budget} {row.solver}")
            yield row
