"""cosma compile."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosma import __version__
from cosma.cli.options import (
    FIGURES,
    hardware_of,
    hardware_options,
    json_option,
    model_options,
    options_of,
    prepared_within,
    solver_options,
)
from cosma.cli.report import EXPLAINING_S
from cosma.cli.run import execution_json
from cosma.cli.streams import say
from cosma.cli.terminal import console, progress, warn
from cosma.deadline import Deadline
from cosma.errors import INFEASIBLE_EXIT_CODE, InputError

if TYPE_CHECKING:
    from cosma.compile import Prepared
    from cosma.execute.run import Execution, Network
    from cosma.execute.symbolic import Symbolic
    from cosma.graph import Graph
    from cosma.solvers.options import Result
    from cosma.target.hardware import Hardware


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@hardware_options
@model_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the plan as JSON.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the memory map (.png, .svg or .pdf).")
@click.option("--report", type=click.Path(path_type=Path), help="Write a page that explains the plan (.html).")
@click.option("--check", is_flag=True, help="Run the plan on real tensors at once, as 'cosma run' does.")
@click.option("--listing", is_flag=True, help="Print the LOAD/EXEC/STORE/DROP steps with addresses.")
@json_option
@solver_options
@click.option("-v", "--verbose", is_flag=True, help="Say how the plan was found and what the proof rests on.")
def compile_command(
    model: Path, hw: str | None, scratchpad: str | None, output: Path | None, plot: Path | None,
    report: Path | None, check: bool, listing: bool, as_json: bool, verbose: bool, **flags: Any,
) -> int:  # fmt: skip
    """Compile the ONNX file MODEL to a verified plan for a scratchpad.

    \b
    Example: cosma compile models/densenet121.onnx --hw hexagon_8mib --no-weights -o plan.json --plot map.png
    """
    start = time.perf_counter()
    spec = Path(hw) if hw is not None and hw.endswith((".yaml", ".yml")) else None
    targets = _check_targets({"plan": output, "plot": plot, "report": report}, model, spec, flags["write_model"])
    deadline = Deadline.after(flags["time_limit"])
    with progress(f"compiling {model.name}"):
        options = options_of(**flags, model=model)
        prepared, hardware = prepared_within(
            model, deadline, lambda: hardware_of(hw, scratchpad), for_running=check, **flags
        )
        from cosma.compile import solve

        begin = time.monotonic()
        network, refusal = _network(prepared, model, bool(targets))
        deadline = deadline.paused(time.monotonic() - begin)  # the plan must not depend on whether it is checked
        result = solve(prepared, hardware, options, deadline)
        earlier = _write_outputs(prepared, hardware, result, targets)
        execution = None
        if network is not None and result.plan is not None:
            from cosma.execute.run import execute

            execution = execute(result.plan, prepared.problem, network)
        if refusal is not None and result.plan is not None:
            written = ", ".join(str(path) for path in targets.values())
            raise InputError(f"{model.name} cannot be run, see the warning; {written} written all the same")
    seconds = time.perf_counter() - start
    if as_json:
        document = _compile_json(prepared, hardware, result, seconds, output) | {"earlier_files": earlier}
        click.echo(json.dumps(document | {"run": execution and execution_json(execution)}, indent=2))
    else:
        _print_result(prepared, hardware, result, execution, seconds, targets, verbose)
    if listing and result.plan is not None:
        for line in result.plan.listing():
            say(line, err=as_json)
    return INFEASIBLE_EXIT_CODE if result.status == "infeasible" else 0


def _network(
    prepared: "Prepared", model: Path, may_refuse: bool
) -> "tuple[Network | Symbolic | None, InputError | None]":
    """The model ready to be run, or why it cannot be; neither if it was not read for running or has no plan.

    Raises InputError where it cannot be run, unless `may_refuse`: then there is a warning.
    """
    folded = prepared.imported.folded_model
    if folded is None or prepared.problem.shortage() is not None:
        return None, None
    from cosma.execute.run import ready
    from cosma.frontend.runnable import read_runnable

    try:
        return ready(prepared, read_runnable(model, prepared.source.dims, folded)), None
    except InputError as error:
        if not may_refuse:
            raise
        warn(f"the plan will be written, but cannot be run: {error}")
        return None, error


def _check_targets(asked: dict[str, Path | None], *kept: Path | None) -> dict[str, Path]:
    """Refuse outputs that are unwritable or would overwrite each other or `kept`, before any work is done."""
    from cosma.files import check_suffix, check_writable

    targets = {kind: path for kind, path in asked.items() if path is not None}
    for kind, path in targets.items():
        check_writable(path, *kept, *(other for also, other in targets.items() if also != kind))
    for kind, suffixes in (("plot", FIGURES), ("report", (".html",))):
        if kind in targets:
            check_suffix(targets[kind], f"--{kind}", suffixes)
    return targets


def _write_outputs(prepared: "Prepared", hardware: "Hardware", result: "Result", targets: dict[str, Path]) -> list[str]:
    """Write what was asked for. Without a plan that is the page alone; names the earlier files that stay, and warns."""
    from cosma.files import write_atomic

    if result.plan is None:
        left = dict(targets)
        if "report" in targets and result.shortage is not None:
            from cosma.analysis.no_plan import why_no_plan
            from cosma.reports.infeasible import page

            write_atomic(left.pop("report"), page(prepared, hardware, why_no_plan(prepared, hardware)).encode())
        earlier = [str(path) for path in left.values() if path.is_file()]
        for name in earlier:
            warn(f"there is no plan; {name} is an earlier file and was not touched")
        return earlier
    contents = {}
    if "plan" in targets:
        contents["plan"] = result.plan.to_json().encode()
    if "plot" in targets:
        from cosma.reports.memory_map import draw

        kinds = {t.name: t.kind for t in prepared.problem.graph.tensors}
        contents["plot"] = draw(result.plan, dict(kinds), targets["plot"].suffix[1:])
    if "report" in targets:
        from cosma.analysis.explain import explain
        from cosma.reports.html import render

        explanation = explain(result.plan, prepared.problem, Deadline.after(EXPLAINING_S))
        contents["report"] = render(explanation).encode()
    for kind, content in contents.items():
        write_atomic(targets[kind], content)
    return []


def _compile_json(
    prepared: "Prepared", hardware: "Hardware", result: "Result", seconds: float, output: Path | None
) -> dict[str, Any]:
    from cosma.reports.text import host_operators
    from cosma.target.mode_sets import assumed

    problem = prepared.problem
    claims = None if result.plan is None else result.plan.claims
    extra = None if result.non_compulsory_bytes is None else problem.compulsory_bytes + result.non_compulsory_bytes
    return {
        "model": prepared.source.model,
        "hardware": hardware.name,
        "solver": result.solver,
        "status": result.status,
        "capacity_bytes": problem.memory.capacity_bytes,
        "working_set_bytes": problem.working_set_bytes,
        "smallest_capacity_bytes": problem.smallest_capacity_bytes,
        "modes": list(prepared.source.modes) or ["paper"],
        "assumed_modes": list(assumed(prepared.source.modes, hardware)),
        "host_operators": host_operators(problem),
        "peak_bytes": problem.peak_bytes(range(len(problem.graph.operators))),
        "compulsory_bytes": problem.compulsory_bytes,
        "non_compulsory_bytes": result.non_compulsory_bytes,
        "total_bytes": extra,
        "streamed_bytes": None if claims is None else claims.streamed_bytes,
        "tiles": None if claims is None else claims.tiles,
        "transfers": None if claims is None else claims.transfers,
        "bound_bytes": result.bound_bytes,
        "gap": result.gap,
        "belady_bytes": result.belady_bytes,
        "peak_use_bytes": None if claims is None else claims.peak_use_bytes,
        "bound": result.bound_name,
        "fragmentation_bytes": result.fragmentation_bytes,
        "states": result.states,
        "model_size": None if result.size is None else asdict(result.size),
        "first_plan_s": None if result.first_s is None else round(result.first_s, 3),
        "estimates": None if extra is None else _estimates_json(hardware, extra, problem.graph),
        "why": list(result.why),
        "shortage": None
        if result.shortage is None
        else {**asdict(result.shortage), "missing_bytes": result.shortage.missing_bytes},
        "too_large": [
            {"operator": s.operator, "needed_bytes": s.needed_bytes, "missing_bytes": s.missing_bytes}
            for s in problem.shortages()
        ],
        "seconds": round(seconds, 3),
        "plan": str(output) if output is not None and result.plan is not None else None,
        "version": __version__,
    }


def _estimates_json(hardware: "Hardware", moved_bytes: int, graph: "Graph") -> dict[str, Any] | None:
    from cosma.analysis.estimate import assumptions, count_left_out, estimate, known_macs

    made = estimate(hardware, moved_bytes, known_macs(graph))
    if not made.known:
        return None
    left_out = [f"compute time: without {count_left_out(graph.uncounted)}"] if graph.uncounted else []
    return {
        **made.row(),
        "macs": graph.macs,
        "uncounted": graph.uncounted,
        "assumptions": [*assumptions(hardware), *left_out],
    }


def _print_result(
    prepared: "Prepared",
    hardware: "Hardware",
    result: "Result",
    execution: "Execution | None",
    seconds: float,
    targets: dict[str, Path],
    verbose: bool,
) -> None:
    from cosma.reports import text

    screen = console()
    if result.shortage is not None:
        from cosma.analysis.no_plan import why_no_plan
        from cosma.reports.infeasible import print_shortages

        print_shortages(screen, prepared, hardware, why_no_plan(prepared, hardware))
        if "report" in targets:
            text.print_rows(screen, [("report", f"written to {targets['report']}")])
        return
    if result.plan is None:
        text.print_failure(screen, prepared, result)
        return
    rows = text.summary_rows(prepared, hardware, result, seconds)
    if verbose:
        rows += [("how", line) for line in result.why[1:]]
    if execution is not None:
        rows += text.execution_rows(execution)
    text.print_rows(screen, [*rows, *((kind, f"written to {path}") for kind, path in targets.items())])
