"""A plan explained in text and as JSON: what it moves, what is proved, why tensors leave, what would help."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from cosma.analysis.levers import about_order, would_help
from cosma.analysis.why import Eviction, explain, sentence, timeline_of
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.report.text import SHOWN, print_rows
from cosma.units import format_bytes


def proof_line(plan: Plan) -> str:
    """What is proved and by whom, in words."""
    claims = plan.claims
    replay = f"An independent replay of {len(plan.order):,} steps and {len(plan.moves):,} moves found no violation"
    if claims.status == "optimal":
        return (
            f"Optimal over all schedules: the {claims.non_compulsory_bytes:,} B of non-compulsory traffic meet the "
            f"lower bound that solver {plan.solver} proved. {replay}; it recomputes everything but the bound."
        )
    gap = claims.non_compulsory_bytes - claims.bound_bytes
    return (
        f"Feasible, not proved optimal: the lower bound over all schedules by solver {plan.solver} is "
        f"{claims.bound_bytes:,} B, a gap of {gap:,} B ({100 * gap / claims.non_compulsory_bytes:.1f} %). {replay}."
    )


def summary_rows(plan: Plan, problem: Problem, evictions: Sequence[Eviction]) -> list[tuple[str, str, str]]:
    """(label, value, remark) of the figures that sum up a plan."""
    claims, source, capacity = plan.claims, plan.source, problem.capacity_bytes
    used = f"{100 * claims.peak_use_bytes / capacity:.1f} % of the scratchpad"
    timeline = timeline_of(plan, problem)
    peak = max(timeline.footprint())
    tensors = len({e.tensor for e in evictions})
    what = "activations and weights" if source.weights else "activations only"
    dims = "".join(f", {key}={value}" for key, value in source.dims.items())
    return [
        ("Non-compulsory traffic", *_bytes(claims.non_compulsory_bytes)),
        ("Compulsory traffic", *_bytes(claims.compulsory_bytes)),
        ("Total traffic", *_bytes(claims.compulsory_bytes + claims.non_compulsory_bytes)),
        ("Lower bound, non-compulsory", *_bytes(claims.bound_bytes)),
        ("Scratchpad", *_bytes(capacity, f"aligned to {problem.alignment_bytes} B")),
        ("Peak use", *_bytes(claims.peak_use_bytes, used)),
        ("Largest working set (M_R)", *_bytes(problem.working_set_bytes, "needed by any plan")),
        ("Peak of this order", *_bytes(peak, "needed to evict nothing")),
        ("Evictions", f"{len(evictions):,}", f"tensors: {tensors:,}" if evictions else "nothing leaves early"),
        ("Model", f"{len(plan.order):,} operators", f"{len(problem.graph.tensors):,} tensors, fusion {source.fusion}"),
        ("Read as", source.dtype or "element types as in the file", what + dims),
    ]  # fmt: skip


def _bytes(count: int, remark: str = "") -> tuple[str, str]:
    rounded = format_bytes(count) if count >= 1024 else ""
    return f"{count:,} B", ", ".join(part for part in (rounded, remark) if part)


def facts(plan: Plan, problem: Problem) -> dict[str, Any]:
    """What `cosma report --json` prints: summary, evictions, would_help; bytes as integers."""
    evictions = explain(plan, problem)
    timeline = timeline_of(plan, problem)
    return {
        "summary": {
            "model": plan.source.model,
            "hardware": plan.hardware,
            "solver": plan.solver,
            "capacity_bytes": problem.capacity_bytes,
            **asdict(plan.claims),
            "peak_bytes": max(timeline.footprint()),
            "proof": proof_line(plan),
            "order": about_order(plan),
        },
        "evictions": [
            {**asdict(e), "cost_bytes": e.cost_bytes, "why": sentence(e, problem.capacity_bytes)} for e in evictions
        ],
        "would_help": [asdict(lever) for lever in would_help(plan, problem, evictions)],
    }


def print_explanation(console: Console, plan: Plan, problem: Problem) -> None:
    """The dearest evictions and what would help, for a terminal."""
    evictions = explain(plan, problem)
    rows = [("plan", f"{plan.source.model} on {plan.hardware}"), ("proof", proof_line(plan))]
    rows += [
        (label, value + (f" ({remark})" if remark else ""))
        for label, value, remark in summary_rows(plan, problem, evictions)
    ]
    print_rows(console, rows)
    dearest = sorted(evictions, key=lambda e: (-e.cost_bytes, e.leaves, e.tensor))
    for e in dearest[:SHOWN]:
        console.print(f"\n{e.tensor}: out from after step {e.leaves - 1} until step {e.returns}, {e.cost_bytes:,} B")
        console.print(f"  {sentence(e, problem.capacity_bytes)}")
        for other in e.alternatives[:1]:
            console.print(f"  To keep it, evict {' and '.join(other.evict)} instead: {other.extra_bytes:+,} B.")
    if len(evictions) > SHOWN:
        console.print(f"\nand {len(evictions) - SHOWN} more evictions: --json or -o report.html has all")
    console.print("\nwhat would help")
    for lever in would_help(plan, problem, evictions):
        console.print(f"  {lever.change}: saves {lever.saved_bytes:,} B ({lever.assumes})")
    console.print(f"  {about_order(plan)}")
