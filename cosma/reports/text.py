"""Results and problems as text for a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cosma.analysis.estimate import Estimates, count_left_out, estimate, known_macs
from cosma.compile import Prepared
from cosma.milp.programme import Size
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.solvers.options import Result
from cosma.solvers.registry import Entry
from cosma.target.hardware import Hardware
from cosma.target.mode_sets import Modes, assumed
from cosma.units import format_bytes, format_si

if TYPE_CHECKING:  # printing a plan need not load what runs one
    from cosma.execute.run import Execution

SHOWN = 10  # rows of a listing that is cut short


def both(count: int) -> str:
    """Bytes exactly, and rounded for the eye."""
    return f"{count:,} B" + (f" ({format_bytes(count)})" if count >= 1024 else "")


def print_rows(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Label and value, aligned."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(label, value)
    console.print(table)


def summary_rows(prepared: Prepared, hardware: Hardware, result: Result, seconds: float) -> list[tuple[str, str]]:
    """The lines that sum up a compilation that has a plan."""
    problem, plan = prepared.problem, result.plan
    assert plan is not None
    claims = plan.claims
    used = 100 * claims.peak_use_bytes / problem.memory.capacity_bytes
    scratchpad = f"{format_bytes(hardware.capacity_bytes)} scratchpad, aligned to {hardware.alignment_bytes} B"
    total = claims.compulsory_bytes + claims.non_compulsory_bytes
    proved = f" (proved: {result.bound_name})" if result.status == "optimal" else ""
    size = [] if result.size is None else [("programme", _describe_size(result.size))]
    return [
        ("model", describe_model(prepared)),
        ("hardware", f"{hardware.name}: {scratchpad}"),
        ("budget", _describe_budget(problem)),
        ("compulsory", both(claims.compulsory_bytes)),
        ("non-compulsory", both(claims.non_compulsory_bytes)),
        ("total traffic", both(total)),
        *_streaming_rows(plan),
        *_host_rows(problem),
        ("lower bound", f"{both(claims.bound_bytes)} non-compulsory, over {_scope(prepared)}"),
        ("gap", f"{100 * (result.gap or 0):.1f} %"),
        ("status", f"{result.status}{proved}: {result.why[0]}"),
        ("modes", describe_modes(prepared.source.modes, hardware)),
        *size,
        *([] if result.belady_bytes is None else [("Belady", _describe_belady(result, result.belady_bytes))]),
        ("fragmentation", _describe_fragmentation(result)),
        ("peak use", f"{both(claims.peak_use_bytes)}, {used:.1f} % of the scratchpad"),
        ("verified", f"replayed {len(plan.order)} steps, {len(plan.moves)} moves: no violations"),
        *_estimate_rows(estimate(hardware, total, known_macs(problem.graph)), prepared),
        ("wall time", f"{seconds:.2f} s"),
    ]


def execution_rows(execution: "Execution") -> list[tuple[str, str]]:
    """What a run of a plan found; only its last line differs from run to run."""
    total = execution.compulsory_bytes + execution.non_compulsory_bytes
    outputs = [f"{name} ({size:,} B)" for name, size in execution.outputs[:SHOWN]]
    left = len(execution.outputs) - len(outputs)
    found = execution.difference
    peak = f"{execution.peak_use_bytes:,} B"
    more = f" and {left} more" if left else ""
    exact = f"every operator's result; output {', '.join(outputs) or 'none'}{more}"
    rows = [
        ("run", f"{execution.steps} steps, {execution.loads} loads, {execution.stores} stores; peak use {peak}"),
        ("moved", f"{both(total)}, as claimed: {both(execution.non_compulsory_bytes)} of it non-compulsory"),
        ("bit-exact", f"{exact} as in {'an ordinary run' if found is None else 'a run operator by operator'}"),
    ]
    if execution.symbolic:
        rows[-1] = ("symbolic", f"every byte was where its reader expects it; no values: {execution.symbolic}")
    if execution.tiles_run < execution.tiles:
        rows.append(
            ("tiles", f"{execution.tiles_run:,} of {execution.tiles:,} run one by one: corners, and others drawn")
        )
    elif execution.tiles:
        rows.append(("tiles", f"all {execution.tiles:,} run one by one"))
    if found is not None:
        where = f"{found.operator!r} ({found.op_type}) by up to {found.ulps:,} ULPs in {found.tensor!r}"
        rows.append(("whole model", f"differs: its kernels give other bits in one run, first in {where}"))
    if execution.drawn:
        rows.append(("inputs", f"drawn {execution.drawn}: in a larger range they make NaN"))
    if execution.stripped:
        files = ", ".join(repr(name) for name in execution.absent)
        why = f": {files} not there" if files else ""
        rows.append(("weights", f"{execution.stripped} without data, drawn at random{why}"))
    return [*rows, ("run time", f"{execution.seconds:.2f} s")]


def describe_model(prepared: Prepared) -> str:
    """A model in one line: its size and how it was read."""
    source, graph = prepared.source, prepared.problem.graph
    what = "activations and weights" if source.weights else "activations only"
    dims = "".join(f", {key}={value}" for key, value in source.dims.items())
    return (
        f"{source.model}: {len(graph.operators)} operators (fusion: {source.fusion}), "
        f"{len(graph.tensors)} tensors, {source.dtype or 'element types as in the file'}, {what}{dims}"
    )


def describe_modes(modes: Modes, hardware: Hardware) -> str:
    """What operators may do, as `--modes` declares it, and whether that is known of the machine."""
    if not modes:
        return "paper: every operand lies in the scratchpad while its operator runs"
    open_ = assumed(modes, hardware)
    why = f" ({', '.join(open_)} assumed: the spec does not say whether the machine can)" if open_ else ""
    return f"{', '.join(modes)}: operands may be streamed, operators tiled{why}"


def _scope(prepared: Prepared) -> str:
    """What a bound holds for."""
    return "all schedules and declared modes" if prepared.source.modes else "all schedules"


def _streaming_rows(plan: Plan) -> list[tuple[str, str]]:
    """What goes through buffers and in how many pieces; nothing of a plan that does neither stream nor tile."""
    claims = plan.claims
    if not claims.streamed_bytes and claims.tiles == len(plan.order):
        return []
    streams = sum(b.tensor is not None for step in plan.order for b in step.buffers)
    pieces = f"{claims.tiles:,} tiles, {claims.transfers:,} transfers"
    return [("streamed", f"{both(claims.streamed_bytes)} of it in {streams:,} streams; {pieces}")]


def _host_rows(problem: Problem) -> list[tuple[str, str]]:
    """The operators that run on the host, by name, and from what capacity on there are none."""
    names = host_operators(problem)
    if not names:
        return []
    what = "1 operator runs" if len(names) == 1 else f"{len(names)} operators run"
    least = f"none does from {both(problem.smallest_capacity_bytes)} on"
    return [("host", f"{what} on the host: {listed(names)}; {least}")]


def host_operators(problem: Problem) -> list[str]:
    """Names of the operators that run on the host."""
    return [problem.graph.operators[v].name for v in problem.on_host]


def listed(names: Sequence[str]) -> str:
    """The first few of some names, and how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _describe_budget(problem: Problem) -> str:
    peak = problem.peak_bytes(range(len(problem.graph.operators)))
    text = f"{both(problem.memory.capacity_bytes)}; M_R {both(problem.working_set_bytes)}"
    if problem.has_choices:
        text += f"; smallest capacity without host operators {both(problem.smallest_capacity_bytes)}"
    return f"{text}; peak in exported order {both(peak)}"


def _estimate_rows(made: Estimates, prepared: Prepared) -> list[tuple[str, str]]:
    """One row, or none where the spec has no figures to estimate from."""
    if not made.known:
        return []
    what = "transfers" if prepared.source.weights else "transfers (without parameters)"
    times = f"{what} {format_si(made.transfer_s, 's')}, compute {format_si(made.compute_s, 's')}"
    uncounted = prepared.problem.graph.uncounted
    if uncounted:
        times += f" without {count_left_out(uncounted)}"
    if made.serial_s is not None:
        low, high = (format_si(value, "s") for value in (made.overlapped_s, made.serial_s))
        times += f", together {low} (overlapped) to {high} (serial)"
    joules = format_si(made.transfer_energy_j, "J")
    return [("estimates", f"{times}; energy of transfers {joules}; see --json for the assumptions")]


def _describe_size(size: Size) -> str:
    root = "" if size.root_bound is None else f"; root bound {size.root_bound:,.0f} B"
    note = f"; {size.note}" if size.note else ""
    return f"{size.rows:,} rows, {size.columns:,} columns, {size.terms:,} terms{root}{note}"


def print_failure(console: Console, prepared: Prepared, result: Result) -> None:
    """Why a method has no plan although the working sets fit."""
    console.print(f"{describe_model(prepared)}", highlight=False)
    print_rows(console, [("status", f"infeasible for {result.solver}"), *(("why", line) for line in result.why)])
    print_rows(console, [("would help", "another solver, e.g. --solver auto; a plan exists at this capacity")])


def _describe_belady(result: Result, belady_bytes: int) -> str:
    assert result.non_compulsory_bytes is not None
    text = f"{both(belady_bytes)} in the exported order (addresses ignored)"
    if belady_bytes:
        change = 100 * (1 - result.non_compulsory_bytes / belady_bytes)
        text += f"; this plan moves {abs(change):.1f} % {'less' if change >= 0 else 'more'}"
    return text


def _describe_fragmentation(result: Result) -> str:
    if result.fragmentation_bytes is None:
        return "not known: the optimum without addresses is not proved"
    return f"{both(result.fragmentation_bytes)} of the traffic is there because of addresses"


def print_solvers(console: Console, solvers: Mapping[str, Entry]) -> None:
    """The solvers, and below what may follow the colon, each list once."""
    table = Table(box=None)
    table.add_column("solver", no_wrap=True)
    table.add_column("what it does", overflow="fold")
    for name, entry in solvers.items():
        table.add_row(name + (":…" if entry.inner else ""), entry.what)
    console.print(table)
    for inner in dict.fromkeys(entry.inner for entry in solvers.values() if entry.inner):
        names = ", ".join(name for name, entry in solvers.items() if entry.inner == inner)
        console.print(f"after the colon of {names}: {', '.join(inner)}; the first is the default", highlight=False)
