"""What a model asks of a scratchpad, in text and as JSON: `cosma inspect`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from cosma.analysis.estimate import count_left_out
from cosma.analysis.fronts import Front
from cosma.compile import Prepared
from cosma.graph import Graph
from cosma.problem import Problem
from cosma.reports.text import SHOWN, both, describe_model, print_rows
from cosma.target.quantisation import DEQUANTIZE, INTO_PADDING, QUANTIZE, UNDOING
from cosma.units import format_bytes

_WHY = dict.fromkeys(QUANTIZE | DEQUANTIZE | {UNDOING}, "quantised") | {INTO_PADDING: "pads"}  # label -> why it joined


def print_inspection(console: Console, prepared: Prepared, alike: Sequence[Sequence[Front]], verbose: bool) -> None:
    """What `cosma inspect` shows: sizes, budgets, the largest working sets, fronts, what was folded and fused.

    alike: the fronts of operators, those that are alike together.
    """
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
            *([("smallest", _describe_smallest(problem))] if problem.has_choices else []),
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
    if problem.has_choices:
        _print_fronts(console, alike)
    if verbose:
        for what, groups in joined.items():
            for name, members in groups.items():
                console.print(f"{what} {name}: {' + '.join(members)}", markup=False, highlight=False)
        for what, nodes in (("folded", imported.folded), ("view", imported.views), ("unused", imported.dead)):
            for name, op_type in nodes:
                console.print(f"{what} {op_type} {name}", markup=False, highlight=False)


def _describe_smallest(problem: Problem) -> str:
    return f"{both(problem.smallest_capacity_bytes)}, the capacity from which on no operator runs on the host"


def _print_fronts(console: Console, alike: Sequence[Sequence[Front]]) -> None:
    """The operators that take most for moving each byte once, and what they move on less; those alike in one row."""
    most = sorted(alike, key=lambda same: -same[0].points[-1][0])[:SHOWN]
    title = f"operators alone: the {SHOWN} that take most to move each byte once, and how often they move it on less"
    table = Table(title=title, title_justify="left", box=None)
    for column in ("operator", "type"):
        table.add_column(column, overflow="fold")
    for column in ("once from", "on half of it", "on a quarter", "smallest", "moves there"):
        table.add_column(column, justify="right")
    for f, *others in most:
        (least, least_moves), (enough, fewest) = f.points[0], f.points[-1]
        less = [f.moved_bytes(enough // part) for part in (2, 4)]
        times = ("n/a" if moved is None else f"{moved / fewest:.4g} x" for moved in (*less, least_moves))
        half, quarter, worst = times
        name = f.operator + (f" and {len(others)} more alike" if others else "")
        table.add_row(name, f.op_type, f"{enough:,} B", half, quarter, f"{least:,} B", worst)
    console.print(table)


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


def inspection(prepared: Prepared, fronts: Sequence[Front]) -> dict[str, object]:
    """What `cosma inspect --json` prints, given the front of every operator."""
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
        "smallest_capacity_bytes": problem.smallest_capacity_bytes,
        "fronts": [
            {
                "operator": f.operator,
                "type": f.op_type,
                "working_set_bytes": problem.working_sets[v],
                "smallest_working_set_bytes": f.points[0][0],
                "compulsory_bytes": f.compulsory_bytes,
                "front": [list(point) for point in f.points],
                "product": None if f.product is None else asdict(f.product),
            }
            for v, f in enumerate(fronts)
        ],
        **_joined(prepared),
        "folded": [list(node) for node in imported.folded],
        "views": [list(node) for node in imported.views],
        "unused": [list(node) for node in imported.dead],
        "notes": list(imported.notes),
    }
