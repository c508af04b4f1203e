"""A plan explained in text and as JSON: what it moves, what is proved, why tensors leave, what would help."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from cosma.analysis.explain import Explanation
from cosma.analysis.streaming import Streamed
from cosma.reports.text import SHOWN, print_rows
from cosma.units import format_bytes


def summary_rows(explanation: Explanation) -> list[tuple[str, str, str]]:
    """(label, value, remark) of the figures that sum up a plan."""
    e, claims, source = explanation, explanation.plan.claims, explanation.plan.source
    used = f"{100 * claims.peak_use_bytes / e.capacity_bytes:.1f} % of the scratchpad"
    evicted = len({eviction.tensor for eviction in e.evictions})
    what = "activations and weights" if source.weights else "activations only"
    dims = "".join(f", {key}={value}" for key, value in source.dims.items())
    return [
        ("Non-compulsory traffic", *_bytes(claims.non_compulsory_bytes)),
        ("Compulsory traffic", *_bytes(claims.compulsory_bytes)),
        ("Total traffic", *_bytes(claims.compulsory_bytes + claims.non_compulsory_bytes)),
        ("Lower bound, non-compulsory", *_bytes(claims.bound_bytes)),
        ("Scratchpad", *_bytes(e.capacity_bytes, f"aligned to {e.alignment_bytes} B")),
        ("Peak use", *_bytes(claims.peak_use_bytes, used)),
        *_streaming(e),
        ("Largest working set (M_R)", *_bytes(e.working_set_bytes, _about_working_set(e))),
        ("Peak of this order", *_bytes(e.peak_bytes, "needed to evict nothing")),
        ("Evictions", f"{len(e.evictions):,}", f"tensors: {evicted:,}" if evicted else "nothing leaves early"),
        ("Model", f"{len(e.steps):,} operators", f"{len(e.tensors):,} tensors, fusion {source.fusion}"),
        ("Read as", source.dtype or "element types as in the file", what + dims),
    ]  # fmt: skip


def _about_working_set(e: Explanation) -> str:
    return "with every operand resident" if e.has_choices else "needed by any plan"


def _streaming(e: Explanation) -> list[tuple[str, str, str]]:
    """What is streamed, in which modes, and how many operators run on the host; nothing where modes leave no choice."""
    if not e.has_choices:
        return []
    claims, host = e.plan.claims, sum(step.mode == "on the host" for step in e.steps)
    pieces = f"{claims.tiles:,} tiles, {claims.transfers:,} transfers"
    modes = ", ".join(e.plan.source.modes) or "paper"
    return [
        ("Streamed", *_bytes(claims.streamed_bytes, pieces)),
        ("Modes", modes, f"operators on the host: {host:,}" if host else "no operator runs on the host"),
    ]


def _bytes(count: int, remark: str = "") -> tuple[str, str]:
    rounded = format_bytes(count) if count >= 1024 else ""
    return f"{count:,} B", ", ".join(part for part in (rounded, remark) if part)


def facts(explanation: Explanation) -> dict[str, Any]:
    """What `cosma report --json` prints: summary, evictions, streams, would_help; bytes as integers."""
    plan = explanation.plan
    return {
        "summary": {
            "model": plan.source.model,
            "hardware": plan.hardware,
            "solver": plan.solver,
            "capacity_bytes": explanation.capacity_bytes,
            **asdict(plan.claims),
            "peak_bytes": explanation.peak_bytes,
            "proof": explanation.proof,
            "order": explanation.order,
        },
        "evictions": [asdict(e) for e in explanation.evictions],
        "streams": [asdict(stream) for stream in explanation.streams],
        "would_help": [asdict(lever) for lever in explanation.levers],
    }


def print_explanation(console: Console, explanation: Explanation) -> None:
    """The dearest evictions and what would help, for a terminal."""
    plan, evictions = explanation.plan, explanation.evictions
    rows = [("plan", f"{plan.source.model} on {plan.hardware}"), ("proof", explanation.proof)]
    rows += [(label, value + (f" ({remark})" if remark else "")) for label, value, remark in summary_rows(explanation)]
    print_rows(console, rows)
    dearest = sorted(evictions, key=lambda e: (-e.cost_bytes, e.leaves, e.tensor))
    for e in dearest[:SHOWN]:
        console.print(f"\n{e.tensor}: out from after step {e.leaves - 1} until step {e.returns}, {e.cost_bytes:,} B")
        console.print(f"  {e.why}")
        for other in e.alternatives[:1]:
            console.print(f"  To keep it, evict {' and '.join(other.evict)} instead: {other.extra_bytes:+,} B.")
    if len(evictions) > SHOWN:
        console.print(f"\nand {len(evictions) - SHOWN} more evictions: --json or -o report.html has all")
    _print_streams(console, explanation.streams)
    console.print("\nwhat would help")
    for lever in explanation.levers:
        console.print(f"  {lever.change}: saves {lever.saved_bytes:,} B ({lever.assumes})")
    console.print(f"  {explanation.order}")


def _print_streams(console: Console, streams: Sequence[Streamed]) -> None:
    """Why the operands that move most are streamed, each once for all the steps between which it could have stayed.

    First those that would move less if they did; the others move each byte once.
    """
    spans: dict[tuple[str, int, int], list[Streamed]] = {}
    for stream in streams:
        spans.setdefault((stream.tensor, stream.first, stream.last), []).append(stream)
    dearest = sorted(spans.values(), key=lambda same: (same[0].moves_once, -sum(s.moved_bytes for s in same)))
    for same in dearest[:SHOWN]:
        steps = " and ".join(f"{s.direction} at step {s.step}" for s in same)
        moved = sum(stream.moved_bytes for stream in same)
        console.print(f"\n{same[0].tensor}: streamed {steps}, {moved:,} B", markup=False, highlight=False)
        console.print(f"  {same[0].why}", markup=False, highlight=False)
    if len(spans) > SHOWN:
        console.print(f"\nand {len(spans) - SHOWN} more that are streamed: --json or -o report.html has all")
