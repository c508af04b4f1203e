"""cosma verify, inspect and specs: looking without planning."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cosma.cli.common import (
    console,
    hardware_of,
    hardware_options,
    json_option,
    model_options,
    planned,
    prepared_within,
    progress,
    reading_limit_options,
)  # fmt: skip
from cosma.cli.streams import say
from cosma.deadline import Deadline
from cosma.errors import InputError, VerificationError


@click.command("verify")
@click.argument("plan", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@hardware_options
@json_option
def verify_command(plan: Path, model: Path, hw: str | None, scratchpad: str | None, as_json: bool) -> int:
    """Replay PLAN on MODEL, read as the plan says, and check every rule on the given hardware.

    \b
    Without hardware the scratchpad is the one that the plan was made for.
    Example: cosma verify plan.json models/densenet121.onnx --hw hexagon_8mib
    """
    with progress(f"verifying {plan.name}"):
        from cosma.verify import check

        document, prepared, hardware = planned(plan, model, hw, scratchpad)
        replay = check(document, prepared.problem)
    valid = not replay.violations
    if as_json:
        click.echo(json.dumps({"valid": valid, **asdict(replay)}, indent=2))
    elif valid:
        say(
            f"valid: {len(document.order)} steps, {replay.loads} loads, {replay.stores} stores on {hardware.name}; "
            f"{replay.compulsory_bytes:,} B compulsory, {replay.non_compulsory_bytes:,} B non-compulsory, "
            f"peak use {replay.peak_use_bytes:,} B of {hardware.capacity_bytes:,} B"
        )
    else:
        raise VerificationError(f"{plan} is not valid: {len(replay.violations)} violations", replay.violations)
    return 0 if valid else VerificationError.exit_code


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
    from cosma.hardware import Hardware

    unlimited = Hardware("unlimited", 2**62)
    hardware = hardware_of(hw, scratchpad) if hw or scratchpad else unlimited
    with progress(f"reading {model.name}"):
        prepared, _ = prepared_within(model, Deadline.after(flags["time_limit"]), lambda: hardware, **flags)
    from cosma.report import text

    if as_json:
        click.echo(json.dumps(text.inspection(prepared), indent=2))
    else:
        text.print_inspection(console(), prepared, verbose)


@click.command("specs")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--keys", "only_keys", is_flag=True, help="List the keys that a spec file may have, and what they mean.")
@json_option
def specs_command(names: tuple[str, ...], only_keys: bool, as_json: bool) -> None:
    """List the hardware specs that come with cosma, or every figure of each NAME with its source.

    \b
    Example: cosma specs gemmini_default
    """
    if only_keys and names:
        raise InputError(f"--keys lists the keys that every spec may have; leave it out, or {' '.join(names)}")
    if only_keys:
        from cosma.report.specs import print_keys
        from cosma.spec import json_schema

        if as_json:
            click.echo(json.dumps(json_schema(), indent=2))
        else:
            print_keys(console())
        return
    from cosma.hardware import load_hardware, spec_names
    from cosma.report.specs import print_figures, print_specs

    specs = [load_hardware(name) for name in names or spec_names()]
    if as_json:
        rows = [
            {"name": s.name, "title": s.title, "figures": {key: figure.model_dump() for key, figure in s.figures}}
            for s in specs
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        (print_figures if names else print_specs)(console(), specs)


@click.command("solvers")
@json_option
def solvers_command(as_json: bool) -> None:
    """List the solvers, and what may follow each name after a colon.

    \b
    Example: cosma compile models/tiny_branches.onnx --scratchpad 5KiB --solver paper:highs
    """
    from cosma.report.text import print_solvers
    from cosma.solvers.registry import SOLVERS

    if as_json:
        click.echo(json.dumps([{"name": n, "what": s.what, "inner": s.inner} for n, s in SOLVERS.items()], indent=2))
    else:
        print_solvers(console(), SOLVERS)
