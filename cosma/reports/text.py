"""Results and problems as text for a terminal."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cosma.analysis.estimate import Estimates, count_left_out, estimate, known_macs
from cosma.compile import Prepared
from cosma.graph import Graph
from cosma.milp.programme import Size
from cosma.problem import Problem
from cosma.solvers.options import Result
from cosma.solvers.registry import Entry
from cosma.target.hardware import Hardware
from cosma.target.quantisation import DEQUANTIZE, INTO_PADDING, QUANTIZE, UNDOING
from cosma.units import format_bytes, format_si

if TYPE_CHECKING:  # printing a plan need not load what runs one
    from cosma.execute.run import Execution

_WHY = dict.fromkeys(QUANTIZE | DEQUANTIZE | {UNDOING}, "quantised") | {INTO_PADDING: "pads"}  # label -> why it joined
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
    """The dozen lines that sum up a compilation that has a plan."""
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
        ("lower bound", f"{both(claims.bound_bytes)} non-compulsory, over all schedules"),
        ("gap", f"{100 * (result.gap or 0):.1f} %"),
        ("status", f"{result.status}{proved}: {result.why[0]}"),
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


def _describe_budget(problem: Problem) -> str:
    peak = problem.peak_bytes(range(len(problem.graph.operators)))
    capacity, least = both(problem.memory.capacity_bytes), both(problem.working_set_bytes)
    return f"{capacity}; M_R {least}; peak in exported order {both(peak)}"


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


def print_inspection(console: Console, prepared: Prepared, verbose: bool) -> None:
    """What `cosma inspect` shows: sizes, budgets, the largest working sets, what was folded and fused."""
    problem, imported = prepared.problem, prepared.imported
    graph = problem.graph
    kinds = Counter(t.kind for t in graph.tensors)
    weights = [t for t in imported.graph.tensors if t.kind == "weight"]
    padding = sum(problem.sizes) - sum(t.size_bytes for t in graph.tensors)
    joined = _joined(prepared)
    print_rows(
        console,
        [
            ("model", describe_model(prepared)),
            ("tensors", ", ".join(f"{count} {kind}s" for kind, count in sorted(kinds.items()))),
            ("weights", f"{len(weights)}, {both(sum(t.size_bytes for t in weights))}"),
            (
                "order",
                "one schedule only"
                if graph.has_single_order
                else f"{graph.count_free_pairs():,} pairs of operators in either order",
            ),
            ("M_R", f"{both(problem.working_set_bytes)}, the largest working set"),
            ("peak", f"{both(problem.peak_bytes(range(len(graph.operators))))} in the exported order, nothing evicted"),
            ("compulsory", both(problem.compulsory_bytes)),
            (
                "padding",
                f"{both(padding)}, to align {len(graph.tensors)} tensors to {problem.memory.alignment_bytes} B",
            ),
            ("MACs", _describe_macs(graph)),
            ("operators", _counts((v.name, v.op_type) for v in graph.operators)),
            *(("note", line) for line in imported.notes),
            *((what, text) for what, groups in joined.items() if (text := _describe_joined(what, groups, prepared))),
            ("folded", f"{len(imported.folded)} computed from constants or shapes: {_counts(imported.folded)}"),
            ("views", f"{len(imported.views)} move no data: {_counts(imported.views)}"),
            ("unused", f"{len(imported.dead)} feed no output: {_counts(imported.dead)}"),
        ],
    )
    table = Table(title=f"the {SHOWN} largest working sets", title_justify="left", box=None)
    for column in ("operator", "type", "operands"):
        table.add_column(column, overflow="fold")
    table.add_column("bytes", justify="right")
    for name, op_type, operands, size in largest_working_sets(problem):
        table.add_row(name, op_type, ", ".join(f"{format_bytes(s)}" for _, s in operands), f"{size:,}")
    console.print(table)
    if verbose:
        for what, groups in joined.items():
            for name, members in groups.items():
                console.print(f"{what} {name}: {' + '.join(members)}", markup=False, highlight=False)
        for what, nodes in (("folded", imported.folded), ("view", imported.views), ("unused", imported.dead)):
            for name, op_type in nodes:
                console.print(f"{what} {op_type} {name}", markup=False, highlight=False)


def _describe_macs(graph: Graph) -> str:
    without = f", without {count_left_out(graph.uncounted)}" if graph.uncounted else ""
    return f"{graph.macs:,} multiply-accumulates in convolutions and matrix products{without}"


def _joined(prepared: Prepared) -> dict[str, dict[str, list[str]]]:
    """What runs as part of which operator: why -> operator -> nodes, itself among those that are fused."""
    reasons = {v.name: _WHY.get(v.op_type, "fused") for v in prepared.imported.graph.operators}
    found: dict[str, dict[str, list[str]]] = {"quantised": {}, "pads": {}, "fused": {}}
    for v in prepared.problem.graph.operators:
        for name in v.members:
            found["fused" if name == v.name else reasons[name]].setdefault(v.name, []).append(name)
        if len(found["fused"][v.name]) == 1:
            del found["fused"][v.name]
    return found


def _describe_joined(what: str, groups: Mapping[str, list[str]], prepared: Prepared) -> str:
    """How many nodes belong to other operators; nothing where the model has none of the kind."""
    count = len({name for members in groups.values() for name in members})
    if what == "fused":
        return f"{count} operators into {len(groups)}"
    before = sum(_WHY.get(v.op_type) == what for v in prepared.imported.graph.operators)
    nodes = {"quantised": "nodes that quantise", "pads": "Pads that suit padding"}[what]
    return f"{count} of {before} {nodes} belong to the operators around them" if before else ""


def largest_working_sets(problem: Problem) -> list[tuple[str, str, list[tuple[str, int]], int]]:
    """(operator, type, [(operand, bytes)], bytes) of the operators that need most at once."""
    ranked = sorted(range(len(problem.working_sets)), key=lambda v: (-problem.working_sets[v], v))[:SHOWN]
    rows = []
    for v in ranked:
        operands = [(problem.graph.tensors[a].name, problem.sizes[a]) for a in problem.operands[v]]
        operator = problem.graph.operators[v]
        rows.append((operator.name, operator.op_type, operands, problem.working_sets[v]))
    return rows


def _counts(nodes: Iterable[tuple[str, str]]) -> str:
    counts = Counter(op_type for _, op_type in nodes)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"


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


def inspection(prepared: Prepared) -> dict[str, object]:
    """What `cosma inspect --json` prints."""
    problem, imported = prepared.problem, prepared.imported
    weights = [t for t in imported.graph.tensors if t.kind == "weight"]
    return {
        "model": prepared.source.model,
        "operators": len(problem.graph.operators),
        "tensors": len(problem.graph.tensors),
        "weights": len(weights),
        "weight_bytes": sum(t.size_bytes for t in weights),
        "single_order": problem.graph.has_single_order,
        "working_set_bytes": problem.working_set_bytes,
        "peak_bytes": problem.peak_bytes(range(len(problem.graph.operators))),
        "compulsory_bytes": problem.compulsory_bytes,
        "macs": problem.graph.macs,
        "uncounted": list(problem.graph.uncounted),
        "largest_working_sets": [
            {"operator": name, "type": op_type, "operands": dict(operands), "bytes": size}
            for name, op_type, operands, size in largest_working_sets(problem)
        ],
        **_joined(prepared),
        "folded": [list(node) for node in imported.folded],
        "views": [list(node) for node in imported.views],
        "unused": [list(node) for node in imported.dead],
        "notes": list(imported.notes),
    }
