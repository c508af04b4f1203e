"""cosma solvers: the solvers by name."""

import json

import click

from cosma.cli.options import json_option
from cosma.cli.terminal import console


@click.command("solvers")
@json_option
def solvers_command(as_json: bool) -> None:
    """List the solvers, and what may follow each name after a colon.

    \b
    Example: cosma compile models/tiny_branches.onnx --scratchpad 5KiB --solver paper:highs
    """
    from cosma.reports.text import print_solvers
    from cosma.solvers.registry import SOLVERS

    if as_json:
        click.echo(json.dumps([{"name": n, "what": s.what, "inner": s.inner} for n, s in SOLVERS.items()], indent=2))
    else:
        print_solvers(console(), SOLVERS)
