"""Larger tiles in the room that a plan leaves: as many bytes, fewer pieces.

Of tilings that move the same, a search for bytes takes the one with the smallest buffers; rows of one element would be
streamed one by one. Once everything has its place, each step has holes in which nothing lies. The buffers of a step
live for that step alone, so they may be anywhere in its holes, and each step is a problem of its own.
"""

from collections.abc import Mapping
from dataclasses import replace

from cosma.modes import Mode, Run
from cosma.problem import Problem
from cosma.schedule.placed import Placed
from cosma.schedule.timeline import Timeline
from cosma.target.tiling import larger

_SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05)  # of the room, where it lies apart

_Buffers = list[tuple[int | None, int]]  # (streamed tensor, or None for the workspace; offset)


def enlarged(placed: Placed) -> Placed:
    """The same plan with each operator's tiles as large as the holes of its step allow."""
    timeline, problem = placed.timeline, placed.timeline.problem
    modes: dict[int, Mode] = {}
    buffers: dict[int, _Buffers] = {}
    holes = _holes(placed)
    for t, v in enumerate(timeline.order):
        run = timeline.runs[v]
        mode = problem.modes[v][run.mode]
        if run.streamed and mode.tiling:
            found = _grow(problem, v, mode, run, holes[t])
            if found is not None:
                modes[v], buffers[t] = found
    if not modes:
        return placed
    extended = problem.with_larger_tiles(modes)
    runs = tuple(Run(len(problem.modes[v]), run.streamed) if v in modes else run for v, run in enumerate(timeline.runs))
    new = Timeline(extended, timeline.order, runs)
    count = len(timeline.intervals(placed.evicted))
    old = {(t, a): at for (t, a, _), at in zip(timeline.buffers(), placed.offsets[count:], strict=True)}
    at = {(t, a): offset for t, some in buffers.items() for a, offset in some}
    offsets = (at[t, a] if t in buffers else old[t, a] for t, a, _ in new.buffers())
    return replace(placed, timeline=new, offsets=(*placed.offsets[:count], *offsets))


def _grow(problem: Problem, v: int, mode: Mode, run: Run, holes: list[tuple[int, int]]) -> tuple[Mode, _Buffers] | None:
    """A mode with fewer tiles that moves as much, and where its buffers lie; None if there is none."""
    room = sum(end - start for start, end in holes)
    now = {s.tensor: s.moved_bytes for s in mode.streams if s.tensor in run.streamed}
    for share in _SHARES:
        found = larger(problem.graph, v, mode, run.streamed, int(room * share), problem.memory, problem.tiler)
        if found.tiles >= mode.tiles:
            return None
        then = {s.tensor: s.moved_bytes for s in found.streams if s.tensor in run.streamed}
        places = _fit(problem, found, run, holes) if then == now else None
        if places is not None:
            return replace(found, is_larger=True), places
    return None


def _fit(problem: Problem, mode: Mode, run: Run, holes: list[tuple[int, int]]) -> _Buffers | None:
    """Addresses of a mode's buffers, the largest first, each in the smallest hole that takes it."""
    sizes: Mapping[int | None, int] = {
        **{s.tensor: problem.aligned(s.buffer_bytes) for s in mode.streams if s.tensor in run.streamed},
        **({None: problem.aligned(mode.workspace_bytes)} if mode.workspace_bytes else {}),
    }
    free = list(holes)
    places: _Buffers = []
    for a, size in sorted(sizes.items(), key=lambda x: (-x[1], x[0] is None, x[0] or 0)):
        hole = min((h for h in free if h[1] - h[0] >= size), key=lambda h: (h[1] - h[0], h), default=None)
        if hole is None:
            return None
        free.remove(hole)
        free.append((hole[0] + size, hole[1]))
        places.append((a, hole[0]))
    return places


def _holes(placed: Placed) -> list[list[tuple[int, int]]]:
    """For each step the aligned ranges of addresses in which no tensor lies."""
    timeline, memory = placed.timeline, placed.timeline.problem.memory
    sizes = timeline.problem.sizes
    begins: dict[int, list[tuple[int, int, int]]] = {}
    for (a, start, end), offset in zip(timeline.intervals(placed.evicted), placed.offsets, strict=False):
        begins.setdefault(start, []).append((offset, offset + sizes[a], end))
    here: list[tuple[int, int, int]] = []
    holes = []
    for t in range(len(timeline.order)):
        here = sorted([row for row in here if row[2] > t] + begins.get(t, []))
        free, top = [], 0
        for low, high, _ in [*here, (memory.usable_bytes, memory.usable_bytes, 0)]:
            if low > top:
                free.append((top, low))
            top = max(top, high)
        holes.append(free)
    return holes
