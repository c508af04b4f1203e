"""cosma run, and the check of cosma compile."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosma.cli.options import hardware_options, json_option, plan_and_settings
from cosma.cli.terminal import console, progress
from cosma.errors import InputError

if TYPE_CHECKING:
    from cosma.execute.run import Execution


@click.command("run")
@click.argument("plan", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@hardware_options
@click.option("--inputs", type=click.Path(path_type=Path), help="Inputs of the model by name (.npz).  [default: drawn]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, metavar="N",
              help="Seed of drawn inputs, and of weights that the file lacks.")  # fmt: skip
@click.option("--trace", type=click.Path(path_type=Path), help="Write a trace for ui.perfetto.dev (.json).")
@click.option("--wall-time", is_flag=True, help="Lay the trace out in measured time, not in steps.")
@json_option
def run_command(
    plan: Path, model: Path, hw: str | None, scratchpad: str | None, inputs: Path | None, seed: int,
    trace: Path | None, wall_time: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run PLAN on real tensors in a scratchpad of bytes, and compare with an ordinary run of MODEL bit for bit.

    \b
    Without hardware the scratchpad is the one that the plan was made for. The plan is verified first.
    Example: cosma run plan.json models/densenet121.onnx --trace trace.json
    """
    from cosma.files import check_suffix, check_writable, write_atomic

    if wall_time and trace is None:
        raise InputError("--wall-time says how a trace is laid out; add --trace FILE")
    if trace is not None:
        check_suffix(trace, "--trace", (".json", ".trace"))
        check_writable(trace, plan, model, inputs)
    with progress(f"running {model.name}"):
        from cosma.compile import state
        from cosma.execute.run import run
        from cosma.execute.trace import to_json
        from cosma.frontend.load import load_runnable

        document, hardware, settings = plan_and_settings(plan, hw, scratchpad)
        imported, runnable = load_runnable(model, settings.dims, settings.dtype)
        prepared = state(imported, model.name, hardware, settings)
        execution = run(document, prepared, runnable, inputs, seed)
        if trace is not None:
            write_atomic(trace, to_json(execution.events, wall_time).encode())
    if as_json:
        click.echo(json.dumps(execution_json(execution), indent=2))
        return
    from cosma.reports.text import execution_rows, print_rows

    written = [] if trace is None else [("trace", f"written to {trace}")]
    print_rows(console(), [*execution_rows(execution), *written])


def execution_json(execution: "Execution") -> dict[str, Any]:
    """What `--json` prints of a run."""
    difference = execution.difference
    return {
        "steps": execution.steps,
        "loads": execution.loads,
        "stores": execution.stores,
        "compulsory_bytes": execution.compulsory_bytes,
        "non_compulsory_bytes": execution.non_compulsory_bytes,
        "peak_use_bytes": execution.peak_use_bytes,
        "bit_exact": None if execution.symbolic else difference is None,
        "symbolic": execution.symbolic or None,
        "tiles_run": execution.tiles_run,
        "tiles": execution.tiles,
        "difference": None if difference is None else asdict(difference),
        "outputs": dict(execution.outputs),
        "stripped_weights": execution.stripped,
        "inputs_drawn": execution.drawn or None,
        "absent_files": list(execution.absent),
        "seconds": round(execution.seconds, 3),
    }
