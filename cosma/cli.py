"""The command line: parses, calls, prints. Heavy imports happen inside the commands."""

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cosma import __version__
from cosma.errors import INFEASIBLE_EXIT_CODE, INTERRUPTED_EXIT_CODE, CosmaError, InputError, VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from cosma.compile import Prepared, Settings
    from cosma.hardware import Hardware
    from cosma.solvers.base import Options, Result

Command = TypeVar("Command", bound=Callable[..., Any])
_PROGRESS_AFTER_S = 2.0


def main() -> None:
    """Entry point. Exit codes: 0 fine, 2 bad input, 3 infeasible, 4 verification failed, 130 interrupted."""
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except CosmaError as error:
        click.echo(f"cosma: error: {' '.join(str(error).split())}", err=True)
        if isinstance(error, VerificationError):
            for violation in error.violations:
                click.echo(f"  {violation}", err=True)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        help_of = f"; see '{context.command_path} --help'" if context else ""
        click.echo(f"cosma: error: {' '.join(error.format_message().split())}{help_of}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("cosma: interrupted; no output file was touched", err=True)
        code = INTERRUPTED_EXIT_CODE
    except BrokenPipeError:  # the reader of our output has gone, as with "| head"
        sys.stderr.close()
        code = 0
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cosma")
def cli() -> None:
    """Plan how a neural network uses a small scratchpad: schedule, addresses and transfers together.

    \b
    Example: cosma compile models/resnet50.onnx --hw coral_edge_tpu --dtype int8 -o plan.json
    Exit codes: 0 a verified plan, 2 bad input, 3 infeasible, 4 verification failed, 130 interrupted.
    """


def _options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


hardware_options = _options(
    click.option("--hw", metavar="SPEC", help="Hardware: a name from 'cosma specs' or a YAML file."),
    click.option(
        "--scratchpad", metavar="SIZE", help="Scratchpad capacity, e.g. 512KiB; alone or instead of the spec's."
    ),
)
model_options = _options(
    click.option(
        "--dtype",
        type=click.Choice(["int8", "float16", "float32"]),
        help="Element type of all tensors.  [default: as in the file]",
    ),
    click.option("--fusion", type=click.Choice(["none", "pointwise"]), help="Operator fusion.  [default: the spec's]"),
    click.option(
        "--weights/--no-weights", default=None, help="Whether parameters share the scratchpad.  [default: the spec's]"
    ),
    click.option(
        "--dim", "dims", multiple=True, metavar="NAME=N", help="Set a dynamic dimension, e.g. batch=1 or input:0=1."
    ),
)
solver_options = _options(
    click.option(
        "--solver",
        type=click.Choice(["auto", "cp-sat", "highs", "cbc"]),
        default="auto",
        show_default=True,
        help="auto searches all schedules; the others solve an integer programme for three.",
    ),
    click.option(
        "--time-limit", type=click.FloatRange(0.0, 1e9), default=60.0, show_default=True, metavar="SECONDS",
        help="Wall-clock time for solving; the best verified plan so far is the answer then.",
    ),
    click.option(
        "--state-limit", type=click.IntRange(1, 10**12), default=500_000, show_default=True, metavar="N",
        help="States that one search may generate: a limit that strikes alike on every machine.",
    ),
    click.option("--memory-limit", default="4GiB", show_default=True, metavar="SIZE", help="Memory for those states."),
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")


@cli.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@hardware_options
@model_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the plan as JSON.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the memory map (.png, .svg or .pdf).")
@click.option("--listing", is_flag=True, help="Print the LOAD/EXEC/STORE/DROP steps with addresses.")
@json_option
@solver_options
@click.option("-v", "--verbose", is_flag=True, help="Say how the plan was found and what the proof rests on.")
def compile_command(
    model: Path, hw: str | None, scratchpad: str | None, output: Path | None, plot: Path | None, listing: bool,
    as_json: bool, verbose: bool, **flags: Any,
) -> int:  # fmt: skip
    """Compile the ONNX file MODEL to a verified plan for a scratchpad.

    \b
    Example: cosma compile models/densenet121.onnx --hw hexagon_8mib --no-weights -o plan.json --plot map.png
    """
    start = time.perf_counter()
    targets = _check_targets(output, plot)
    hardware = _hardware(hw, scratchpad)
    settings, options = _settings(**flags), _solver(**flags)
    with _progress(f"compiling {model.name}"):
        from cosma.compile import prepare, solve

        prepared = prepare(model, hardware, settings)
        result = solve(prepared, hardware, options)
        _write_outputs(prepared, result, targets)
    seconds = time.perf_counter() - start
    if as_json:
        click.echo(json.dumps(_compile_json(prepared, hardware, result, seconds, output), indent=2))
    else:
        _print_result(prepared, hardware, result, seconds, targets, verbose)
    if listing and result.plan is not None:
        for line in result.plan.listing():
            click.echo(line, err=as_json)
    return INFEASIBLE_EXIT_CODE if result.status == "infeasible" else 0


@cli.command("verify")
@click.argument("plan", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@hardware_options
@json_option
def verify_command(plan: Path, model: Path, hw: str | None, scratchpad: str | None, as_json: bool) -> int:
    """Replay PLAN on MODEL, read as the plan says, and check every rule on the given hardware.

    \b
    Example: cosma verify plan.json models/densenet121.onnx --hw hexagon_8mib
    """
    hardware = _hardware(hw, scratchpad)
    with _progress(f"verifying {plan.name}"):
        from cosma.compile import Settings, prepare
        from cosma.plan import read_plan
        from cosma.verify import check

        document = read_plan(plan)
        source = document.source
        prepared = prepare(model, hardware, Settings(source.dtype, source.fusion, source.weights, source.dims))
        replay = check(document, prepared.problem)
    valid = not replay.violations
    if as_json:
        click.echo(json.dumps({"valid": valid, **asdict(replay)}, indent=2))
    elif valid:
        click.echo(
            f"valid: {len(document.order)} steps, {replay.loads} loads, {replay.stores} stores on {hardware.name}; "
            f"{replay.compulsory_bytes:,} B compulsory, {replay.non_compulsory_bytes:,} B non-compulsory, "
            f"peak use {replay.peak_use_bytes:,} B of {hardware.capacity_bytes:,} B"
        )
    else:
        raise VerificationError(f"{plan} is not valid: {len(replay.violations)} violations", replay.violations)
    return 0 if valid else VerificationError.exit_code


@cli.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@hardware_options
@model_options
@click.option("-v", "--verbose", is_flag=True, help="List every operator that was fused, folded or is a view.")
@json_option
def inspect_command(
    model: Path, hw: str | None, scratchpad: str | None, verbose: bool, as_json: bool, **reading: Any
) -> None:
    """Show what MODEL asks of a scratchpad: working sets, peak, compulsory traffic, what was folded and fused.

    \b
    Example: cosma inspect models/vit_b_16.onnx --hw nvdla_large --dtype int8
    """
    from cosma.hardware import Hardware

    unlimited = Hardware("unlimited", 2**62)
    hardware = _hardware(hw, scratchpad) if hw or scratchpad else unlimited
    with _progress(f"reading {model.name}"):
        from cosma.compile import prepare

        prepared = prepare(model, hardware, _settings(**reading))
    from cosma.report import text

    if as_json:
        click.echo(json.dumps(text.inspection(prepared), indent=2))
    else:
        text.print_inspection(_console(), prepared, verbose)


@cli.command("specs")
@json_option
def specs_command(as_json: bool) -> None:
    """List the hardware specs that come with cosma, with their figures.

    \b
    Example: cosma specs --json
    """
    from cosma.hardware import load_hardware, spec_names
    from cosma.report.text import print_specs

    specs = [load_hardware(name) for name in spec_names()]
    if as_json:
        rows = [
            {"name": s.name, "title": s.title, "figures": {key: figure.model_dump() for key, figure in s.figures}}
            for s in specs
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        print_specs(_console(), specs)


def _hardware(name: str | None, scratchpad: str | None) -> "Hardware":
    from cosma.hardware import Hardware, load_hardware
    from cosma.units import parse_bytes

    capacity = None if scratchpad is None else parse_bytes(scratchpad, "--scratchpad")
    if name is not None:
        spec = load_hardware(name)
        return spec if capacity is None else replace(spec, capacity_bytes=capacity)
    if capacity is None:
        raise InputError("no hardware given; add --hw SPEC (see 'cosma specs') or --scratchpad SIZE, e.g. 512KiB")
    return Hardware("scratchpad", capacity)


def _solver(solver: Any, time_limit: float, state_limit: int, memory_limit: str, **_: Any) -> "Options":
    from cosma.solvers.base import Options
    from cosma.units import parse_bytes

    if math.isnan(time_limit):
        raise InputError("--time-limit: nan is no number of seconds; write e.g. --time-limit 60")
    return Options(solver, time_limit, state_limit, parse_bytes(memory_limit, "--memory-limit"))


def _settings(dtype: Any, fusion: Any, weights: bool | None, dims: tuple[str, ...], **_: Any) -> "Settings":
    from cosma.compile import Settings

    sizes = {}
    for text in dims:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value.isascii() or not value.isdigit() or not 0 < int(value) < 2**31:
            raise InputError(f"--dim {text!r} is not NAME=N with N from 1 to 2147483647; write e.g. --dim batch=1")
        sizes[name] = int(value)
    return Settings(dtype, fusion, weights, sizes)


def _check_targets(output: Path | None, plot: Path | None) -> dict[str, Path]:
    """Refuse unwritable outputs before any work is done."""
    from cosma.files import check_writable

    targets = {kind: path for kind, path in (("plan", output), ("plot", plot)) if path is not None}
    for path in targets.values():
        check_writable(path)
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--plot {plot}: cannot draw {plot.suffix or 'a file without suffix'}; use .png, .svg or .pdf")
    if len(set(targets.values())) < len(targets):
        raise InputError(f"--output and --plot both name {output}; give them different files")
    return targets


def _write_outputs(prepared: "Prepared", result: "Result", targets: dict[str, Path]) -> None:
    from cosma.files import write_atomic

    if result.plan is None:
        return
    contents = {}
    if "plan" in targets:
        contents["plan"] = result.plan.to_json().encode()
    if "plot" in targets:
        from cosma.report.memory_map import draw

        kinds = {t.name: t.kind for t in prepared.problem.graph.tensors}
        contents["plot"] = draw(result.plan, dict(kinds), targets["plot"].suffix[1:])
    for kind, content in contents.items():
        write_atomic(targets[kind], content)


def _compile_json(
    prepared: "Prepared", hardware: "Hardware", result: "Result", seconds: float, output: Path | None
) -> dict[str, Any]:
    problem = prepared.problem
    claims = None if result.plan is None else result.plan.claims
    extra = None if result.non_compulsory_bytes is None else problem.compulsory_bytes + result.non_compulsory_bytes
    return {
        "model": prepared.source.model,
        "hardware": hardware.name,
        "solver": result.solver,
        "status": result.status,
        "capacity_bytes": problem.capacity_bytes,
        "working_set_bytes": problem.working_set_bytes,
        "peak_bytes": problem.peak_bytes(range(len(problem.graph.operators))),
        "compulsory_bytes": problem.compulsory_bytes,
        "non_compulsory_bytes": result.non_compulsory_bytes,
        "total_bytes": extra,
        "bound_bytes": result.bound_bytes,
        "gap": result.gap,
        "belady_bytes": result.belady_bytes,
        "peak_use_bytes": None if claims is None else claims.peak_use_bytes,
        "bound": result.bound_name,
        "fragmentation_bytes": result.fragmentation_bytes,
        "states": result.states,
        "why": list(result.why),
        "shortage": None
        if result.shortage is None
        else {**asdict(result.shortage), "missing_bytes": result.shortage.missing_bytes},
        "seconds": round(seconds, 3),
        "plan": str(output) if output is not None and result.plan is not None else None,
        "version": __version__,
    }


def _print_result(
    prepared: "Prepared",
    hardware: "Hardware",
    result: "Result",
    seconds: float,
    targets: dict[str, Path],
    verbose: bool,
) -> None:
    from cosma.report import text

    console = _console()
    if result.shortage is not None:
        text.print_shortage(console, prepared, hardware, result.shortage)
        return
    rows = text.summary_rows(prepared, hardware, result, seconds)
    if verbose:
        rows += [("how", line) for line in result.why[1:]]
    text.print_rows(console, [*rows, *((kind, f"written to {path}") for kind, path in targets.items())])


def _console() -> "Console":
    from rich.console import Console

    # Names in a model may look like markup. A pipe has no width; 100 columns then keep lines whole.
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 120)


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """A spinner on the terminal, once something has taken more than two seconds."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    status = Console(stderr=True).status(f"{what} …")
    timer = threading.Timer(_PROGRESS_AFTER_S, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
