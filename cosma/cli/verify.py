"""cosma verify: replay a plan and check every rule."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from cosma.cli.options import hardware_options, json_option, planned
from cosma.cli.streams import say
from cosma.cli.terminal import progress
from cosma.errors import VerificationError


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
