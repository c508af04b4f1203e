"""cosma whatif."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from cosma.cli.options import (
    check_choice,
    check_plot,
    json_option,
    limit_options,
    modes_of,
    options_of,
    rows_option,
    settings_of,
    together,
)
from cosma.cli.streams import say
from cosma.cli.terminal import console, keeping, progress, warn, warn_of
from cosma.errors import INFEASIBLE_EXIT_CODE, InputError
from cosma.graph import DType, Fusion

if TYPE_CHECKING:
    from cosma.compile import Prepared
    from cosma.experiments.row_files import RowFile
    from cosma.experiments.rows import Swept
    from cosma.experiments.sweep import Case
    from cosma.frontend.imported import Imported
    from cosma.solvers.options import Options
    from cosma.target.hardware import Hardware
    from cosma.target.mode_sets import Modes

_axes = together(
    click.option("--hw", "hws", multiple=True, metavar="SPEC", help="Hardware, or 'all' of 'cosma specs'."),
    click.option(
        "--scratchpad", "pads", multiple=True, metavar="SIZES",
        help="Sizes 64KiB,1MiB; ranges 128KiB:8MiB:x2 or 1MiB:2MiB:+64KiB; M_R; or auto, the exact staircase.  "
        "[default: the spec's]",
    ),
    click.option(
        "--set", "sets", multiple=True, metavar="KEY=A,B",
        help="Figures of the specs, e.g. dram.bandwidth=8GB/s,16GB/s.",
    ),
    click.option("--dtype", "dtypes", multiple=True, type=click.Choice(get_args(DType))),
    click.option("--fusion", "fusions", multiple=True, type=click.Choice(get_args(Fusion))),
    click.option(
        "--weights", multiple=True, type=click.Choice(["yes", "no"]), help="Whether they share the scratchpad."
    ),
    click.option(
        "--modes", "mode_sets", multiple=True, metavar="SETS",
        help="How operators may run, as for compile: tile, all or paper.  [default: all, or paper for solvers that "
        "cannot choose]",
    ),
    click.option("--dim", "dims", multiple=True, metavar="NAME=A,B", help="Dynamic dimensions, e.g. batch=1,2,4."),
    click.option("--solver", "solvers", multiple=True, default=["auto"], show_default=True, metavar="NAME[:INNER]"),
)  # fmt: skip


@click.command("whatif")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@_axes
@limit_options
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Processes.  [default: one a core]")
@click.option("--dask", metavar="ADDRESS", help="Run on a Dask cluster instead, e.g. tcp://10.0.0.1:8786.")
@rows_option
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the curves (.png, .svg or .pdf).")
@click.option("--no-cache", is_flag=True, help="Neither use nor fill the cache of results.")
@json_option
def whatif_command(
    models: tuple[Path, ...], jobs: int | None, dask: str | None, output: Path | None, plot: Path | None,
    no_cache: bool, as_json: bool, **flags: Any,
) -> int:  # fmt: skip
    """Sweep MODELS over hardware, capacities and settings: the product of everything that is given more than once.

    \b
    Example: cosma whatif models/densenet121.onnx --dtype int8 --scratchpad auto --plot curve.png
    Bytes are facts, each from a verified plan; times and energies are estimates from the figures of the spec.
    """
    from cosma.experiments.row_files import RowFile
    from cosma.experiments.rows import Swept
    from cosma.files import write_atomic

    check_plot(plot, *models, output)
    file = None if output is None else RowFile(output, Swept)
    with progress("reading the models"):
        cases = list(_cases(models, flags))
    with keeping(file):
        rows, new = _finish(cases, file, jobs or os.cpu_count() or 1, dask, no_cache)
    order = {(c.prepared.source.model, c.hardware.name): i for i, c in reversed(list(enumerate(cases)))}
    rows.sort(key=lambda row: (order[row.model, row.hardware], _settings(row), row.capacity_bytes))
    found = any(row.moved_bytes is not None for row in rows)
    if plot is not None and found:
        from cosma.reports.rows import draw

        write_atomic(plot, draw(rows, plot.suffix[1:]))
    elif plot is not None:
        warn(f"no row has a plan; {plot} is not drawn")
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _show(cases, rows)
        if new < len(rows) and file is not None:
            say(f"{len(rows) - new} of {len(rows)} rows were in {output} already")
    return 0 if found else INFEASIBLE_EXIT_CODE


def _settings(row: "Swept") -> tuple[Any, ...]:
    """A sort key for rows of one model and hardware, without the capacity."""
    return row.dims, str(row.dtype), row.fusion, row.weights, row.modes, row.instead, row.spec, row.solver


def _show(cases: "Sequence[Case]", rows: "list[Swept]") -> None:
    """Staircases as such, everything else one line a row."""
    from cosma.reports import capacity

    if any(case.capacities is not None for case in cases):
        capacity.print_points(console(), rows)
        return
    curves = capacity.series(rows)
    for key, name in capacity.labels(list(curves)).items():
        capacity.print_staircase(console(), name, curves[key])
    capacity.print_reasons(console(), rows)


def _cases(models: Sequence[Path], flags: dict[str, Any]) -> "Iterator[Case]":
    """The product of all that was given. Raises InputError before anything runs."""
    from cosma.analysis.estimate import count_left_out
    from cosma.compile import state
    from cosma.deadline import Deadline
    from cosma.experiments.sweep import Case
    from cosma.frontend.limited import Reading

    hardware = list(_hardware(flags["hws"], flags["sets"], bool(flags["pads"])))
    rated = any(spec.macs_per_s is not None for spec, _ in hardware)

    @lru_cache(maxsize=1)
    def read(model: Path, dims: tuple[tuple[str, int], ...], dtype: DType | None) -> "Imported":
        deadline = Deadline.after(options[0].time_limit_s)
        imported = Reading(model, dict(dims), dtype, deadline, options[0].memory_limit_bytes).result()
        warn_of(model.name, imported)
        if rated and imported.graph.uncounted:
            left_out = count_left_out(imported.graph.uncounted)
            warn(f"{model.name}: no estimate of compute because of {left_out}")
        return imported

    options = [options_of(**flags, solver=solver, jobs=1) for solver in flags["solvers"]]
    for each in options:
        if "auto" in flags["pads"] and each.name.startswith(("tflite", "best-fit")):
            raise InputError(f"--scratchpad auto needs traffic that falls with capacity; --solver {each.name} has none")
    for model, dims, dtype in product(models, _dims(flags["dims"]), flags["dtypes"] or [None]):
        stated: dict[tuple[Any, ...], Prepared] = {}
        for fusion, weights, (spec, instead) in product(
            flags["fusions"] or [None], flags["weights"] or [None], hardware
        ):
            for modes, chosen in _declared(flags["mode_sets"], options, spec).items():
                weighed = None if weights is None else weights == "yes"
                settings = replace(settings_of(dtype, fusion, weighed, dims, spec, "paper"), modes=modes)
                alike = modes, fusion or spec.fusion, weights or spec.weights, spec.alignment_bytes, spec.tiler
                if alike not in stated:  # most machines differ in nothing but capacity and figures
                    imported = read(model, tuple(sorted(settings.dims.items())), dtype)
                    stated[alike] = state(imported, model.name, spec, settings)
                for each, capacities in product(chosen, _capacities(flags["pads"], stated[alike], spec)):
                    yield Case(stated[alike], spec, each, capacities, instead)


def _declared(texts: tuple[str, ...], options: "Sequence[Options]", spec: "Hardware") -> "dict[Modes, list[Options]]":
    """Each mode set with the solvers to run in it: the sets that are given, or the most that each solver can choose.

    Raises InputError for a set in which a solver cannot run, and for a solver that is not there.
    """
    declared: dict[Modes, list[Options]] = {}
    for each, text in product(options, texts or [None]):
        modes = modes_of(text, [each.solver], spec)
        check_choice(modes, each)
        declared.setdefault(modes, []).append(each)
    return {modes: list(dict.fromkeys(chosen)) for modes, chosen in declared.items()}


def _dims(texts: tuple[str, ...]) -> list[tuple[str, ...]]:
    """--dim batch=1,2 --dim seq=8 -> (batch=1, seq=8), (batch=2, seq=8)."""
    choices: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.rpartition("=")
        if not equals:
            raise InputError(f"--dim {text!r} is not NAME=N; write e.g. --dim batch=1,2,4")
        choices.setdefault(name, []).extend(f"{name}={value.strip()}" for value in values.split(","))
    return list(product(*(dict.fromkeys(values) for values in choices.values())))


def _hardware(names: tuple[str, ...], sets: tuple[str, ...], sized: bool) -> "Iterator[tuple[Hardware, str]]":
    """Each spec with each combination of the figures that --set gives, and these as text."""
    from cosma.experiments.sweep import instead_text, read_instead
    from cosma.target.hardware import Hardware, load_hardware, spec_names

    if not names:
        if not sized:
            raise InputError("no hardware given; add --hw SPEC (see 'cosma specs') or --scratchpad SIZES, e.g. auto")
        if sets:
            raise InputError(f"--set {sets[0]}: there is no spec to set it in; add --hw SPEC")
        yield Hardware("any", 2**62), ""
        return
    choices: dict[str, list[tuple[str, str]]] = {}
    for text in sets:
        key, values = _setting(text)
        if key == "scratchpad.capacity" and sized:
            raise InputError(f"--set {text!r} and --scratchpad both give the capacity; leave one out")
        choices.setdefault(key, []).extend((key, value) for value in values)
    known = [spec for name in names for spec in (spec_names() if name == "all" else [name])]
    for name, chosen in product(dict.fromkeys(known), product(*map(dict.fromkeys, choices.values()))):
        text = instead_text(chosen)
        yield load_hardware(name, instead=read_instead(text)), text


def _setting(text: str) -> tuple[str, list[str]]:
    """dram.bandwidth=8GB/s,16GB/s -> the key and its values. Raises InputError."""
    from cosma.target.spec import check_key

    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or "." not in key or not values or "=" in values:
        raise InputError(
            f"--set {text!r} is not KEY=VALUE; write e.g. --set dram.bandwidth=16GB/s ('cosma specs --keys' lists keys)"
        )
    try:
        check_key(key)
    except InputError as error:
        raise InputError(f"--set {text!r}: {error}") from None
    return key, [value.strip() for value in values.split(",")]


def _capacities(pads: tuple[str, ...], prepared: "Prepared", spec: "Hardware") -> list[tuple[int, ...] | None]:
    """What to solve for: a tuple of sizes, aligned down, or None for the staircase."""
    if not pads:
        return [(spec.capacity_bytes,)]
    parts = [part.strip() for text in pads for part in text.split(",")]
    if "auto" in parts:
        if len(parts) > 1:
            raise InputError("--scratchpad auto finds every capacity that matters; give it alone")
        return [None]
    sizes: set[int] = set()
    for part in parts:
        sizes |= set(_sizes(part, prepared))
    alignment = prepared.problem.memory.alignment_bytes
    return [tuple(sorted({max(alignment, size // alignment * alignment) for size in sizes}))]


def _sizes(text: str, prepared: "Prepared") -> list[int]:
    """512KiB, M_R, 128KiB:8MiB:x2 or 1MiB:2MiB:+64KiB -> bytes. Raises InputError."""
    from cosma.units import parse_bytes

    if text == "M_R":
        return [prepared.problem.working_set_bytes]
    if ":" not in text:
        return [parse_bytes(text, "--scratchpad")]
    parts = text.split(":")
    if len(parts) != 3 or parts[2][:1] not in ("x", "+"):
        raise InputError(f"--scratchpad {text!r} is no range; write e.g. 128KiB:8MiB:x2 or 1MiB:2MiB:+64KiB")
    size, last = parse_bytes(parts[0], "--scratchpad"), parse_bytes(parts[1], "--scratchpad")
    factor = _factor(parts[2][1:], text) if parts[2][0] == "x" else 1.0
    more = parse_bytes(parts[2][1:], "--scratchpad") if parts[2][0] == "+" else 0
    if not 0 < size <= last or (factor <= 1 and not more):
        raise InputError(f"--scratchpad {text!r} does not go up; write e.g. 128KiB:8MiB:x2")
    sizes: list[int] = []
    while size <= last:
        sizes.append(size)
        size = max(size + 1, int(size * factor)) if not more else size + more
        if len(sizes) > 100_000:
            raise InputError(f"--scratchpad {text!r} has more than 100,000 sizes; take larger steps")
    return sizes


def _factor(text: str, whole: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):  # float reads digits of all scripts, and 1_0
        raise InputError(f"--scratchpad {whole!r}: {text!r} is no number; write e.g. 128KiB:8MiB:x2")
    return float(text)


def _finish(
    cases: "Sequence[Case]", file: "RowFile[Swept] | None", jobs: int, dask: str | None, no_cache: bool
) -> "tuple[list[Swept], int]":
    """All rows of the cases, and how many are new."""
    from cosma.cli.screen import bar
    from cosma.experiments.cache import Cache, default_folder
    from cosma.experiments.rows import key_of
    from cosma.experiments.sweep import run
    from cosma.workers import pool

    cache = None if no_cache else Cache(default_folder(), warn)
    there = list(file.rows) if file else []
    rows: dict[tuple[Any, ...], Swept] = {}
    count = 0
    progress = bar("{task.completed} rows, {task.description}")
    with progress, pool.dask(dask) if dask is not None else pool.processes(jobs) as workers:
        task = progress.add_task("starting", total=None)
        for row, new in run(cases, workers, cache, there):
            rows[key_of(row)] = row
            count += new
            if new and file is not None:
                file.append(row)
            progress.update(task, advance=1, description=f"{row.model} {row.hardware} {row.capacity_bytes:,} B")
    return list(rows.values()), count
