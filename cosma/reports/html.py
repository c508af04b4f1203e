"""A plan as one HTML file that opens from disk: map, reasons, remedies, tables. Nothing is fetched."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from cosma.analysis.explain import Explanation
from cosma.analysis.levers import Lever
from cosma.analysis.streaming import Streamed
from cosma.analysis.why import Eviction
from cosma.reports.explanation import summary_rows

_FOLDER = Path(__file__).resolve().parent
_FRAME = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="$policy">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
$body</body>
</html>
""")


def render(explanation: Explanation) -> str:
    """The page for a plan. Equal explanations give equal bytes."""
    plan = explanation.plan
    return framed(
        "plan.html",
        f"{plan.source.model} on {plan.hardware}",
        packaged("plan.js") + packaged("map.js"),
        status=plan.claims.status,
        proof=escape(explanation.proof),
        summary="".join(_figure(*row) for row in summary_rows(explanation)),
        evictions=escape(_about_evictions(explanation)),
        without_streams="" if explanation.streams else "hidden",
        order=escape(explanation.order),
        levers=_lever_table(explanation.levers),
        made=escape(f"Made by {plan.generator}, solver {plan.solver}; problem {plan.source.fingerprint}."),
        data=embed(page_data(explanation)),
    )


def framed(body: str, title: str, script: str, **parts: str) -> str:
    """A self-contained page: `body`, a file beside this module, filled with `parts`, which are HTML, and the script."""
    filled = Template(packaged(body)).substitute(parts, script=script)
    return _FRAME.substitute(policy=_policy(script), title=escape(title), style=packaged("plan.css"), body=filled)


def _policy(script: str) -> str:
    """A content policy: whatever a model's names smuggle in, only this script runs, and nothing is fetched."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


@cache
def packaged(name: str) -> str:
    """The text of a file that lies beside this module."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def embed(data: object) -> str:
    """JSON that no content can break out of: in a script element only `<` could end it."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")


def _figure(label: str, value: str, remark: str) -> str:
    small = f"<small>{escape(remark)}</small>" if remark else ""
    return f"<div><dt>{escape(label)}</dt><dd><strong>{escape(value)}</strong>{small}</dd></div>"


def _about_evictions(explanation: Explanation) -> str:
    if not explanation.evictions:
        return f"None does: every tensor {_where(explanation)}stays from its first use to its last."
    runs = " and all modes" if explanation.has_choices else ""
    return (
        "Each row is a tensor that leaves the scratchpad although it is used again. Alternatives are for this "
        f"schedule with all other evictions{runs} as they are, counted in bytes: addresses might still rule one out. "
        "+0 B is a tie: the choice is arbitrary."
    )


def _where(explanation: Explanation) -> str:
    return "that is not streamed " if explanation.streams else ""


def _lever_table(levers: Sequence[Lever]) -> str:
    if not levers:
        return '<p class="note">Nothing needs help, or nothing that was tried saves bytes.</p>'
    rows = "".join(
        f'<tr><td class="wide">{escape(lever.change)}</td><td class="number">{lever.saved_bytes:,}</td>'
        f'<td class="number">{lever.non_compulsory_bytes:,}</td><td class="wide">{escape(lever.assumes)}</td></tr>'
        for lever in levers
    )
    return (
        "<p>Each row is the exact optimum of replacement for one order, by an integer programme; addresses are left "
        "out and may add to it; other modes are plans in any order. Tried: the next larger capacities, other modes, "
        "and where operators have no choice in place, smaller elements, the exported order; "
        'what saves nothing is not listed.</p><div class="scroll"><table id="levers"><thead><tr>'
        '<th scope="col">change</th><th scope="col" class="number">saves, B</th>'
        '<th scope="col" class="number">non-compulsory then, B</th><th scope="col">assumes</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def page_data(explanation: Explanation) -> dict[str, Any]:
    """What the script draws. Tensors are indices; rows are arrays of fields in order, which keeps large plans small."""
    evictions = explanation.evictions
    index = {t.name: a for a, t in enumerate(explanation.tensors)}
    ended = {(e.tensor, e.leaves): i for i, e in enumerate(evictions)}
    returned = {(e.tensor, e.returns) for e in evictions}
    # Besides where it lies: the eviction that ends a residency, -1 if none does; whether the tensor has come back.
    stays = [
        [
            index[r.tensor], r.start, r.end, r.offset_bytes,
            ended.get((r.tensor, r.end), -1), int((r.tensor, r.start) in returned),
        ]
        for r in explanation.plan.residencies
    ]  # fmt: skip
    return {
        "capacity": explanation.capacity_bytes,
        "tensors": [astuple(t) for t in explanation.tensors],
        "stays": stays,
        "buffers": _buffers(explanation, index),
        "streams": [_stream_row(s, index) for s in explanation.streams],
        "steps": [astuple(s) for s in explanation.steps],
        "evictions": [_eviction_row(e, index) for e in evictions],
    }


def _buffers(explanation: Explanation, index: dict[str, int]) -> list[list[int]]:
    """Tensor (-1: a workspace), step, offset, size, and the stream (-1: none) of what lives for one step."""
    numbers = {(s.tensor, s.step): i for i, s in enumerate(explanation.streams)}
    return [
        [index.get(b.tensor or "", -1), t, b.offset_bytes, b.size_bytes, numbers.get((b.tensor or "", t), -1)]
        for t, step in enumerate(explanation.plan.order)
        for b in step.buffers
        if b.size_bytes
    ]


def _stream_row(s: Streamed, index: dict[str, int]) -> dict[str, Any]:
    return {
        "tensor": index[s.tensor],
        "step": s.step,
        "operator": s.operator,
        "direction": s.direction,
        "buffer": s.buffer_bytes,
        "moved": s.moved_bytes,
        "transfers": s.transfers,
        "missing": max(0, s.missing_bytes),
        "extra": None if s.instead is None else s.instead.extra_bytes,
        "why": s.why,
    }


def _eviction_row(e: Eviction, index: dict[str, int]) -> dict[str, Any]:
    b = e.binding
    return {
        "tensor": index[e.tensor],
        "leaves": e.leaves,
        "returns": e.returns,
        "load": e.load_bytes,
        "store": e.store_bytes,
        "why": e.why,
        "step": None if b is None else b.step,
        "missing": 0 if b is None else b.missing_bytes,
        "workspace": 0 if b is None else b.workspace_bytes,
        "occupants": [] if b is None else [[index[o.tensor], o.next_use] for o in b.occupants],
        "alternatives": [[[index[name] for name in a.evict], a.extra_bytes] for a in e.alternatives],
    }
