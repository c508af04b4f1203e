"""Options that commands share, and what they make of them: hardware, settings, limits."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from cosma.cli.terminal import warn_of
from cosma.errors import InputError
from cosma.graph import DType, Fusion

if TYPE_CHECKING:
    from cosma.compile import Prepared, Settings
    from cosma.deadline import Deadline
    from cosma.plan import Plan
    from cosma.solvers.options import Options
    from cosma.target.hardware import Hardware
    from cosma.target.mode_sets import Modes

Command = TypeVar("Command", bound=Callable[..., Any])
_MOST_DIGITS = 100  # of a number, more than any has


def together(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several decorators as one."""

    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


hardware_options = together(
    click.option("--hw", metavar="SPEC", help="Hardware: a name from 'cosma specs' or a YAML file."),
    click.option(
        "--scratchpad", metavar="SIZE", help="Scratchpad capacity, e.g. 512KiB; alone or instead of the spec's."
    ),
)
model_options = together(
    click.option(
        "--dtype",
        type=click.Choice(get_args(DType)),
        help="Element type of all tensors.  [default: as in the file]",
    ),
    click.option("--fusion", type=click.Choice(get_args(Fusion)), help="Operator fusion.  [default: the spec's]"),
    click.option(
        "--weights/--no-weights", default=None, help="Whether parameters share the scratchpad.  [default: the spec's]"
    ),
    click.option(
        "--modes",
        metavar="SETS",
        help="How operators may run: tile (operands streamed piece by piece), all, or paper (every operand in the "
        "scratchpad).  [default: all, or paper for solvers that cannot choose]",
    ),
    click.option(
        "--dim", "dims", multiple=True, metavar="NAME=N", help="Set a dynamic dimension, e.g. batch=1 or input:0=1."
    ),
)
_time_limit = click.option(
    "--time-limit", type=click.FloatRange(0.0, 1e9), default=60.0, show_default=True, metavar="SECONDS",
    help="Wall-clock time for reading and solving; the best verified plan so far is the answer then.",
)  # fmt: skip
_memory_limit = click.option(
    "--memory-limit", default="4GiB", show_default=True, metavar="SIZE",
    help="Memory for reading, for the states of a search, or for an integer programme.",
)  # fmt: skip
reading_limit_options = together(_time_limit, _memory_limit)
limit_options = together(
    _time_limit,
    click.option(
        "--state-limit", type=click.IntRange(1, 10**12), default=500_000, show_default=True, metavar="N",
        help="States that one search may generate: a limit that strikes alike on every machine.",
    ),
    _memory_limit,
)  # fmt: skip
solver_options = together(
    click.option(
        "--solver", default="auto", show_default=True, metavar="NAME[:INNER]",
        help="auto searches all schedules; 'cosma solvers' lists the others and what may follow the colon.",
    ),
    limit_options,
    click.option(
        "--jobs", type=click.IntRange(1, 1024), metavar="N",
        help="Processes for divide and conquer; the answer does not depend on it.  [default: one a core]",
    ),
    click.option(
        "--without", multiple=True, metavar="STRENGTHENING",
        help="Solver paper: leave out windows, liveness, pairs, big-m, capacity, symmetry, warm-start, cutoff, or all.",
    ),
    click.option("--root-bound", is_flag=True, help="Solve the relaxation of the integer programme too and report it."),
    click.option(
        "--write-model", type=click.Path(path_type=Path), metavar="FILE", help="Write the programme as .lp or .mps."
    ),
    click.option("--solver-log", is_flag=True, help="Show the log of the solver of the programme, on standard error."),
)  # fmt: skip
rows_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path),
    help="Append rows to this .csv or .jsonl; what is there is skipped.",
)  # fmt: skip
FIGURES = (".png", ".svg", ".pdf")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")


def hardware_of(name: str | None, scratchpad: str | None) -> "Hardware":
    """The spec, with another capacity if one is given. Raises InputError."""
    from cosma.target.hardware import Hardware, load_hardware
    from cosma.units import parse_bytes

    capacity = None if scratchpad is None else parse_bytes(scratchpad, "--scratchpad")
    if name is not None:
        spec = load_hardware(name)
        return spec if capacity is None else replace(spec, capacity_bytes=capacity)
    if capacity is None:
        raise InputError("no hardware given; add --hw SPEC (see 'cosma specs') or --scratchpad SIZE, e.g. 512KiB")
    return Hardware("scratchpad", capacity)


def plan_and_settings(plan: Path, hw: str | None, scratchpad: str | None) -> "tuple[Plan, Hardware, Settings]":
    """A plan, the hardware given or else the scratchpad that the plan states, and how the plan's model is read.

    Raises InputError.
    """
    from cosma.compile import Settings
    from cosma.plan import read_plan
    from cosma.target.hardware import Hardware

    document = read_plan(plan)
    source = document.source
    if hw is None and scratchpad is None:
        hardware = Hardware(
            document.hardware, document.capacity_bytes, alignment_bytes=document.alignment_bytes, tiler=source.tiler
        )
    else:
        hardware = hardware_of(hw, scratchpad)
    return document, hardware, Settings(source.dtype, source.fusion, source.weights, source.dims, source.modes)


def planned(plan: Path, model: Path, hw: str | None, scratchpad: str | None) -> "tuple[Plan, Prepared, Hardware]":
    """A plan and its model, read as the plan says, on the hardware of `plan_and_settings`.

    Raises InputError. Whether the plan is valid there is for the caller to check.
    """
    from cosma.compile import prepare

    document, hardware, settings = plan_and_settings(plan, hw, scratchpad)
    return document, prepare(model, hardware, settings), hardware


def options_of(
    time_limit: float, state_limit: int, memory_limit: str, solver: str = "auto", jobs: int | None = None,
    without: tuple[str, ...] = (), root_bound: bool = False, write_model: Path | None = None, solver_log: bool = False,
    model: Path | None = None, **_: Any,
) -> "Options":  # fmt: skip
    """The limits and the solver's options. Raises InputError, also where a programme would overwrite `model`."""
    from cosma.files import check_suffix, check_writable
    from cosma.solvers.options import DivideOptions, Options, ProgrammeOptions
    from cosma.units import parse_bytes

    if math.isnan(time_limit):
        raise InputError("--time-limit: nan is no number of seconds; write e.g. --time-limit 60")
    if write_model is not None:
        check_suffix(write_model, "--write-model", (".lp", ".mps"))
        check_writable(write_model, model)
    return Options(
        solver=solver,
        time_limit_s=time_limit,
        state_limit=state_limit,
        memory_limit_bytes=parse_bytes(memory_limit, "--memory-limit"),
        programme=ProgrammeOptions(
            _strengthenings(without) if without else frozenset(), root_bound, write_model, solver_log
        ),
        divide=DivideOptions(jobs or os.cpu_count() or 1),
    )


def _strengthenings(names: tuple[str, ...]) -> frozenset[str]:
    """Those that are named, or all. Raises InputError for one that there is not."""
    from cosma.solvers.programmes.paper.indices import STRENGTHENINGS

    for name in names:
        if name not in (*STRENGTHENINGS, "all"):
            raise InputError(f"--without {name!r}: no such strengthening; use one of {', '.join(STRENGTHENINGS)}, all")
    return frozenset(STRENGTHENINGS if "all" in names else names)


def prepared_within(
    model: Path, deadline: "Deadline", hardware: "Callable[[], Hardware]", memory_limit: str, dtype: Any,
    dims: tuple[str, ...], for_running: bool = False, **flags: Any,
) -> "tuple[Prepared, Hardware]":  # fmt: skip
    """A model read as its flags say, in a process that can be ended, and the hardware, read meanwhile.

    Says on standard error what the model declares and does not hold. Raises InputError.
    """
    from cosma.frontend.limited import Reading
    from cosma.units import parse_bytes

    limit = parse_bytes(memory_limit, "--memory-limit")
    with Reading(model, dims_of(dims), dtype, deadline, limit, for_running) as reading:
        from cosma.compile import state
        from cosma.reports import text  # noqa: F401, libraries are loaded while the model is read

        machine = hardware()
        settings = settings_of(dtype, dims=dims, hardware=machine, **flags)
        prepared = state(reading.result(), model.name, machine, settings)
    warn_of(model.name, prepared.imported)
    return prepared, machine


def check_plot(plot: Path | None, *kept: Path | None) -> None:
    """Raise InputError, before any work is done, where a figure could not be written or would replace one of `kept`."""
    from cosma.files import check_suffix, check_writable

    if plot is not None:
        check_suffix(plot, "--plot", FIGURES)
        check_writable(plot, *kept)


def settings_of(
    dtype: Any, fusion: Any, weights: bool | None, dims: tuple[str, ...], hardware: "Hardware",
    modes: str | None = None, solver: str = "auto", solvers: Sequence[str] = (), **_: Any,
) -> "Settings":  # fmt: skip
    """How the model is to be read. Raises InputError."""
    from cosma.compile import Settings

    return Settings(dtype, fusion, weights, dims_of(dims), modes_of(modes, solvers or [solver], hardware))


def modes_of(text: str | None, solvers: Sequence[str], hardware: "Hardware") -> "Modes":
    """The mode sets that a flag declares; where it is not given, all of the machine, if all solvers can choose.

    Raises InputError.
    """
    from cosma.solvers.registry import SOLVERS
    from cosma.target.mode_sets import parse_modes

    if text is None:
        names = [solver.split(":")[0] for solver in solvers]
        text = "all" if all(name not in SOLVERS or SOLVERS[name].chooses_modes for name in names) else "paper"
    return parse_modes(text, hardware)


def check_choice(modes: "Modes", options: "Options") -> None:
    """Raise InputError for a solver that is not there, and for one that cannot choose how operators run."""
    from cosma.solvers.registry import SOLVERS, find

    if not find(options).chooses_modes and modes:
        those = ", ".join(name for name, entry in SOLVERS.items() if entry.chooses_modes)
        raise InputError(
            f"--modes {','.join(modes)}: solver {options.name!r} cannot choose how operators run; use --modes paper, "
            f"or one of {those}"
        )


def dims_of(texts: tuple[str, ...]) -> dict[str, int]:
    """Sizes of dimensions, which are called as they are shown. Raises InputError."""
    from cosma.names import shown

    sizes: dict[str, int] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        digits = value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
        if not equals or not name or not digits or not 0 < int(value) < 2**31:
            raise InputError(f"--dim {text!r} is not NAME=N with N from 1 to 2147483647; write e.g. --dim batch=1")
        name = shown(name)
        if sizes.setdefault(name, int(value)) != int(value):
            raise InputError(f"--dim {name}={sizes[name]} and --dim {text}: two sizes for one dimension; give one")
    return sizes
