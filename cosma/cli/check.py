"""cosma check: whether a model needs too much, for continuous integration."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosma.cli.options import (
    hardware_of,
    hardware_options,
    json_option,
    model_options,
    options_of,
    prepared_within,
    solver_options,
)
from cosma.cli.terminal import progress
from cosma.deadline import Deadline
from cosma.errors import EXCEEDED_EXIT_CODE, INFEASIBLE_EXIT_CODE, InputError
from cosma.names import markdown

if TYPE_CHECKING:
    from cosma.compile import Prepared
    from cosma.solvers.options import Result


@click.command("check")
@click.argument("model", type=click.Path(path_type=Path))
@hardware_options
@model_options
@click.option("--max-traffic", metavar="SIZE", help="Most bytes that an inference may move, compulsory ones included.")
@click.option("--max-avoidable", metavar="SIZE", help="Most non-compulsory bytes.")
@click.option("--max-peak", metavar="SIZE", help="Highest scratchpad address that the plan may use.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the summary as Markdown.")
@json_option
@solver_options
def check_command(
    model: Path, hw: str | None, scratchpad: str | None, max_traffic: str | None, max_avoidable: str | None,
    max_peak: str | None, output: Path | None, as_json: bool, **flags: Any,
) -> int:  # fmt: skip
    """Plan MODEL and compare with limits, for continuous integration; exit code 5 where a limit is exceeded.

    \b
    Example: cosma check models/densenet121.onnx --hw hexagon_8mib --no-weights --max-traffic 2MiB --max-peak 8MiB
    """
    from cosma.files import check_suffix, check_writable, write_atomic
    from cosma.units import parse_bytes

    limits = {
        what: parse_bytes(text, option)
        for what, option, text in (
            ("moved_bytes", "--max-traffic", max_traffic),
            ("non_compulsory_bytes", "--max-avoidable", max_avoidable),
            ("peak_use_bytes", "--max-peak", max_peak),
        )
        if text is not None
    }
    if not limits:
        raise InputError("nothing to check; add --max-traffic, --max-avoidable or --max-peak SIZE")
    if output is not None:
        check_suffix(output, "--output", (".md", ".txt"))
        check_writable(output, model)
    deadline = Deadline.after(flags["time_limit"])
    with progress(f"checking {model.name}"):
        options = options_of(**flags, model=model)
        prepared, hardware = prepared_within(model, deadline, lambda: hardware_of(hw, scratchpad), **flags)
        from cosma.compile import solve

        result = solve(prepared, hardware, options, deadline)
    rows = _judge(prepared, result, limits)
    if output is not None:
        write_atomic(output, _markdown(prepared, result, hardware.name, rows).encode())
    if as_json:
        click.echo(json.dumps({"model": model.name, "status": result.status, "checks": rows}, indent=2))
    else:
        click.echo(_markdown(prepared, result, hardware.name, rows), nl=False)
    if result.plan is None:
        return INFEASIBLE_EXIT_CODE
    return 0 if all(row["passed"] for row in rows) else EXCEEDED_EXIT_CODE


def _judge(prepared: "Prepared", result: "Result", limits: dict[str, int]) -> list[dict[str, Any]]:
    """One row a limit; without a plan none is met."""
    found: dict[str, int | None] = dict.fromkeys(limits)
    floor: dict[str, int | None] = dict.fromkeys(limits)
    if result.plan is not None:
        claims, compulsory = result.plan.claims, prepared.problem.compulsory_bytes
        found |= {
            "moved_bytes": compulsory + claims.non_compulsory_bytes,
            "non_compulsory_bytes": claims.non_compulsory_bytes,
            "peak_use_bytes": claims.peak_use_bytes,
        }
        floor |= {"moved_bytes": compulsory + claims.bound_bytes, "non_compulsory_bytes": claims.bound_bytes}
    rows = []
    for what, limit in limits.items():
        value, least = found[what], floor[what]
        unproved = value is not None and least is not None and least <= limit < value
        rows.append(
            {
                "what": what, "bytes": value, "limit_bytes": limit, "passed": value is not None and value <= limit,
                "note": f"a better plan may exist: the proven bound is {least:,} B" if unproved else "",
            }
        )  # fmt: skip
    return rows


def _verdict(row: dict[str, Any]) -> str:
    return "ok" if row["passed"] else "exceeded" if row["bytes"] is not None else "not met"


def _markdown(prepared: "Prepared", result: "Result", hardware: str, rows: list[dict[str, Any]]) -> str:
    """The summary as a Markdown table."""
    passed = sum(row["passed"] for row in rows)
    verdict = "passed" if passed == len(rows) else "FAILED"
    lines = [
        f"## cosma check: {markdown(prepared.source.model)} on {markdown(hardware)}: {verdict}",
        "",
        f"{len(prepared.problem.graph.operators)} operators, scratchpad {prepared.problem.memory.capacity_bytes:,} B, "
        f"status {result.status}; {passed} of {len(rows)} limits met.",
        "",
        "| what | bytes | limit | |",
        "| --- | ---: | ---: | --- |",
    ]
    for row in rows:
        value = "no plan" if row["bytes"] is None else f"{row['bytes']:,}"
        note = f"; {row['note']}" if row["note"] else ""
        lines.append(f"| {row['what']} | {value} | {row['limit_bytes']:,} | {_verdict(row)}{note} |")
    if result.plan is None and result.shortage is None:
        lines += ["", *map(markdown, result.why)]
    if result.shortage is not None:
        lines += ["", f"Operator {markdown(result.shortage.operator)} needs {result.shortage.needed_bytes:,} B."]
    return "\n".join(lines) + "\n"
