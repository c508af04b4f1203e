"""cosma inspect: what a model asks of a scratchpad."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosma.cli.options import (
    check_plot,
    hardware_of,
    hardware_options,
    json_option,
    model_options,
    prepared_within,
    reading_limit_options,
)
from cosma.cli.terminal import console, progress
from cosma.deadline import Deadline
from cosma.errors import InputError

if TYPE_CHECKING:
    from cosma.analysis.fronts import Front
    from cosma.compile import Prepared


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@hardware_options
@model_options
@reading_limit_options
@click.option("-v", "--verbose", is_flag=True, help="List every operator that was fused, folded or is a view.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Draw what convolutions and matrix products move on how large a scratchpad (.png, .svg or .pdf).",
)
@json_option
def inspect_command(
    model: Path, hw: str | None, scratchpad: str | None, verbose: bool, plot: Path | None, as_json: bool, **flags: Any
) -> None:
    """Show what MODEL asks of a scratchpad: working sets, peak, compulsory traffic, what was folded and fused.

    \b
    Example: cosma inspect models/vit_b_16.onnx --hw nvdla_large --dtype int8
    """
    from cosma.target.hardware import Hardware

    check_plot(plot, model)
    unlimited = Hardware("unlimited", 2**62)
    hardware = hardware_of(hw, scratchpad) if hw or scratchpad else unlimited
    with progress(f"reading {model.name}"):
        prepared, _ = prepared_within(model, Deadline.after(flags["time_limit"]), lambda: hardware, **flags)
    from cosma.analysis.fronts import alike, all_fronts
    from cosma.reports.inspection import inspection, print_inspection

    fronts = all_fronts(prepared.problem)
    if plot is not None:
        _draw_fronts(prepared, fronts, plot)
    if as_json:
        click.echo(json.dumps(inspection(prepared, fronts), indent=2))
    else:
        print_inspection(console(), prepared, alike(fronts), verbose)


def _draw_fronts(prepared: "Prepared", fronts: "Sequence[Front]", path: Path) -> None:
    """The fronts of what multiplies, most multiply-accumulates first. Raises InputError where nothing does."""
    from cosma.analysis.fronts import alike
    from cosma.files import write_atomic
    from cosma.reports.fronts import draw

    macs = [v.macs for v in prepared.problem.graph.operators]
    chosen = sorted((v for v, count in enumerate(macs) if count), key=lambda v: -macs[v])
    if not chosen:
        raise InputError(f"{path}: {prepared.source.model} has no convolution or matrix product to draw")
    write_atomic(path, draw(alike(fronts[v] for v in chosen), path.suffix[1:]))
