"""cosma specs: the machines that are known, every figure with its source."""

import json

import click

from cosma.cli.options import json_option
from cosma.cli.terminal import console
from cosma.errors import InputError


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
        from cosma.reports.specs import print_keys
        from cosma.target.spec import json_schema

        if as_json:
            click.echo(json.dumps(json_schema(), indent=2))
        else:
            print_keys(console())
        return
    from cosma.reports.specs import print_figures, print_specs
    from cosma.target.hardware import load_hardware, spec_names

    specs = [load_hardware(name) for name in names or spec_names()]
    if as_json:
        rows = [
            {"name": s.name, "title": s.title, "figures": {key: figure.model_dump() for key, figure in s.figures}}
            for s in specs
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        (print_figures if names else print_specs)(console(), specs)
