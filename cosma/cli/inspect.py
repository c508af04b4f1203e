"""cosma inspect: what a model asks of a scratchpad."""

import json
from pathlib import Path
from typing import Any

import click

from cosma.cli.options import (
    hardware_of,
    hardware_options,
    json_option,
    model_options,
    prepared_within,
    reading_limit_options,
)
from cosma.cli.terminal import console, progress
from cosma.deadline import Deadline


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@hardware_options
@model_options
@reading_limit_options
@click.option("-v", "--verbose", is_flag=True, help="List every operator that was fused, folded or is a view.")
@json_option
def inspect_command(
    model: Path, hw: str | None, scratchpad: str | None, verbose: bool, as_json: bool, **flags: Any
) -> None:
    """Show what MODEL asks of a scratchpad: working sets, peak, compulsory traffic, what was folded and fused.

    \b
    Example: cosma inspect models/vit_b_16.onnx --hw nvdla_large --dtype int8
    """
    from cosma.target.hardware import Hardware

    unlimited = Hardware("unlimited", 2**62)
    hardware = hardware_of(hw, scratchpad) if hw or scratchpad else unlimited
    with progress(f"reading {model.name}"):
        prepared, _ = prepared_within(model, Deadline.after(flags["time_limit"]), lambda: hardware, **flags)
    from cosma.reports import text

    if as_json:
        click.echo(json.dumps(text.inspection(prepared), indent=2))
    else:
        text.print_inspection(console(), prepared, verbose)
