"""cosma diff and check: what changed, and whether it is too much."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosma.cli.common import (
    console,
    hardware_of,
    hardware_options,
    json_option,
    model_options,
    options_of,
    prepared_within,
    progress,
    solver_options,
)
from cosma.deadline import Deadline
from cosma.errors import EXCEEDED_EXIT_CODE, INFEASIBLE_EXIT_CODE, InputError
from cosma.names import markdown

if TYPE_CHECKING:
    from cosma.compile import Prepared
    from cosma.diff import Difference
    from cosma.solvers.base import Result

_SHOWN = 10  # lines of a listing that is cut short


@click.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@json_option
def diff_command(before: Path, after: Path, as_json: bool) -> None:
    """Say what changed from plan BEFORE to plan AFTER: bytes, order, residencies. The exit code is 0 either way.

    \b
    Example: cosma diff old.json new.json
    """
    from cosma.diff import diff
    from cosma.plan import read_plan

    found = diff(read_plan(before), read_plan(after))
    if as_json:
        click.echo(json.dumps(asdict(found) | {"is_empty": found.is_empty}, indent=2))
        return
    from cosma.report.text import print_rows

    print_rows(console(), _lines(found))


def _lines(found: "Difference") -> list[tuple[str, str]]:
    """Label and value for everything that changed."""
    if found.is_empty:
        return [("no change", "the plans do the same at the same addresses")]
    lines = [] if found.same_problem else [("problem", "the plans are for different problems; compared by name")]
    lines += [(change.what, f"{_show(change.before)} -> {_show(change.after)}") for change in found.facts]
    for label, changes, unit in (("traffic of", found.traffic, " B"), ("returns of", found.evictions, "")):
        lines += [(label, f"{c.what}  {c.before:,} -> {c.after:,}{unit}") for c in changes[:_SHOWN]]
        if len(changes) > _SHOWN:
            lines.append(("", f"and {len(changes) - _SHOWN} more tensors"))
    if found.first_change is not None:
        names = ", ".join(found.moved_operators[:_SHOWN]) + (", …" if len(found.moved_operators) > _SHOWN else "")
        lines.append(
            ("order", f"first differs at step {found.first_change}; moved ({len(found.moved_operators)}): {names}")
        )
    if found.retimed:
        names = ", ".join(found.retimed[:_SHOWN]) + (", …" if len(found.retimed) > _SHOWN else "")
        lines.append(("residencies", f"{len(found.retimed)} tensors come or go with other operators: {names}"))
    if found.replaced:
        names = ", ".join(found.replaced[:_SHOWN]) + (", …" if len(found.replaced) > _SHOWN else "")
        lines.append(("addresses", f"{len(found.replaced)} tensors stay as long and lie elsewhere: {names}"))
    return lines


def _show(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


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
        f"{len(prepared.problem.graph.operators)} operators, scratchpad {prepared.problem.capacity_bytes:,} B, "
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
