"""Trace of a run in Chrome's format for the Perfetto UI: tracks for compute, loads, stores, resident bytes."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from cosma.execute.machine import Event

_TRACKS = {"exec": 1, "load": 2, "store": 3}  # kind -> thread; drops show in the counter alone
_NAMES = {1: "compute", 2: "loads", 3: "stores"}
# Without wall time a step takes a millisecond: loads in its first quarter, the operator in the middle, stores last.
_SLOTS = {"load": (0.0, 250.0), "exec": (250.0, 500.0), "store": (750.0, 250.0), "drop": (1000.0, 0.0)}


def to_json(events: Sequence[Event], wall_time: bool) -> str:
    """Trace as JSON. Times are in microseconds: measured, or 1000 per step, which is reproducible."""
    times = [(1e6 * e.start_s, 1e6 * e.seconds) for e in events] if wall_time else list(_step_times(events))
    rows: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}} for tid, name in _NAMES.items()
    ]
    rows.append({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "scratchpad"}})
    for event, (start, duration) in zip(events, times, strict=True):
        at, end = _tick(start), _tick(start + duration)
        if event.kind in _TRACKS:
            row = {
                "ph": "X", "name": event.name, "cat": event.kind, "pid": 1, "tid": _TRACKS[event.kind],
                "ts": at, "dur": end - at,
            }  # fmt: skip
            rows.append(row | {"args": {"step": event.step, "bytes": event.bytes}})
        if event.kind != "store":  # which leaves as much resident as there was
            # What is loaded or written counts from the start, what is dropped until it is gone.
            rows.append(
                {"ph": "C", "name": "bytes resident", "pid": 1, "ts": at, "args": {"bytes": event.resident_bytes}}
            )
    lines = ",\n".join(json.dumps(row) for row in rows)
    return f'{{"displayTimeUnit": "ms", "traceEvents": [\n{lines}\n]}}\n'


def _tick(time: float) -> float:
    """Round to an eighth of a microsecond: whole nanoseconds, exact in binary, differences too.

    Perfetto multiplies by 1000, truncates, and drops slices that overlap by even 1 ns.
    """
    return round(8 * time) / 8


def _step_times(events: Sequence[Event]) -> Iterator[tuple[float, float]]:
    """Start and duration of each event in step time; events in one slot share its time evenly."""
    slots: dict[tuple[int, str], int] = defaultdict(int)
    for event in events:
        slots[event.step, event.kind] += 1
    seen: dict[tuple[int, str], int] = defaultdict(int)
    for event in events:
        key = (event.step, event.kind)
        offset, length = _SLOTS[event.kind]
        duration = length / slots[key]
        yield 1000.0 * event.step + offset + duration * seen[key], duration
        seen[key] += 1
