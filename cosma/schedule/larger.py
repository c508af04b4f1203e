"""Fewer and larger pieces in the room that a plan leaves: as many bytes.

A search for bytes takes, of tilings that move the same, the one with the smallest buffers, and streams what could as
well be loaded: rows of one element, one by one. Once everything has its place, each step has holes in which nothing
lies. What a step has besides lives for that step alone, so it may be anywhere in its holes, and each step is a problem
of its own: operands that move as much when they are loaded or stored as a whole are, as far as they fit, and tiles
grow into what is left.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cosma.modes import Mode, Run
from cosma.problem import Problem
from cosma.schedule.placed import Placed
from cosma.schedule.timeline import Timeline
from cosma.target.tiling import larger

_SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05)  # of the room, where it lies apart

_Holes = list[tuple[int, int]]  # ranges of addresses in which nothing lies
_Places = dict[int | None, int]  # streamed or resident tensor, or None for the workspace -> address


@dataclass(frozen=True, slots=True)
class _Step:
    """How an operator runs instead, the mode with larger tiles if there is one, and where all that is new lies."""

    run: Run
    mode: Mode | None
    places: _Places


def enlarged(placed: Placed) -> Placed:
    """A plan that moves the same bytes in as few and as large pieces as the holes of each step allow."""
    timeline, problem = placed.timeline, placed.timeline.problem
    steps: dict[int, _Step] = {}
    holes = _holes(placed)
    for t, v in enumerate(timeline.order):
        run = timeline.runs[v]
        if run.streamed and problem.modes[v][run.mode].tiling:
            steps[t] = _better(problem, v, run, holes[t])
    return _with_steps(placed, steps) if steps else placed


def _better(problem: Problem, v: int, run: Run, holes: _Holes) -> _Step:
    """The best way to run operator v at a step with these holes."""
    mode = problem.modes[v][run.mode]
    streams = {s.tensor: s for s in mode.streams if s.tensor in run.streamed}
    alike = [a for a, s in streams.items() if s.moved_bytes == problem.sizes[a]]
    if len(alike) == len(streams) and not problem.modes[v][0].workspace_bytes:
        places = _fit(((a, problem.sizes[a]) for a in streams), holes)
        if places is not None:
            return _Step(Run(0), None, places)
    whole: list[int] = []
    for a in sorted(alike, key=lambda a: (-streams[a].transfers, a)):
        if _fit(_blocks(problem, mode, run, [*whole, a]), holes) is not None:
            whole.append(a)
    streamed = Run(run.mode, run.streamed - set(whole))
    return _grown(problem, v, mode, streamed, whole, holes)


def _grown(problem: Problem, v: int, mode: Mode, run: Run, whole: Sequence[int], holes: _Holes) -> _Step:
    """The mode with the largest tiles that fit, or the mode itself."""
    room = sum(end - start for start, end in holes) - sum(problem.sizes[a] for a in whole)
    now = {s.tensor: s.moved_bytes for s in mode.streams if s.tensor in run.streamed}
    for share in _SHARES:
        found = larger(problem.graph, v, mode, run.streamed, int(room * share), problem.memory, problem.tiler)
        if found.tiles >= mode.tiles:
            break
        then = {s.tensor: s.moved_bytes for s in found.streams if s.tensor in run.streamed}
        places = _fit(_blocks(problem, found, run, whole), holes) if then == now else None
        if places is not None:
            return _Step(Run(len(problem.modes[v]), run.streamed), replace(found, is_larger=True), places)
    places = _fit(_blocks(problem, mode, run, whole), holes)
    return _Step(run, None, {} if places is None else places)


def _blocks(problem: Problem, mode: Mode, run: Run, whole: Iterable[int]) -> Iterable[tuple[int | None, int]]:
    """What a step takes besides what lies there: (tensor or None, bytes) of wholes, buffers and workspace."""
    taken = set(whole)
    yield from ((a, problem.sizes[a]) for a in taken)
    for s in mode.streams:
        if s.tensor in run.streamed - taken:
            yield s.tensor, problem.aligned(s.buffer_bytes)
    if mode.workspace_bytes:
        yield None, problem.aligned(mode.workspace_bytes)


def _fit(blocks: Iterable[tuple[int | None, int]], holes: _Holes) -> _Places | None:
    """Addresses of blocks, the largest first, each in the smallest hole that takes it; None if one finds none."""
    free = list(holes)
    places: _Places = {}
    for a, size in sorted(blocks, key=lambda x: (-x[1], x[0] is None, x[0] or 0)):
        hole = min((h for h in free if h[1] - h[0] >= size), key=lambda h: (h[1] - h[0], h), default=None)
        if hole is None:
            return None
        free.remove(hole)
        free.append((hole[0] + size, hole[1]))
        places[a] = hole[0]
    return places


def _with_steps(placed: Placed, steps: dict[int, _Step]) -> Placed:
    """The plan in which some steps run otherwise; the plan itself should that cost more."""
    old = placed.timeline
    steps = {t: step for t, step in steps.items() if step.places}
    runs = list(old.runs)
    for t, step in steps.items():
        runs[old.order[t]] = step.run
    modes = {old.order[t]: step.mode for t, step in steps.items() if step.mode is not None}
    new = Timeline(old.problem.with_larger_tiles(modes), old.order, tuple(runs))
    kept = {gap for g, gap in enumerate(old.gaps) if g not in placed.evicted and g not in old.lost}
    evicted = frozenset(g for g, gap in enumerate(new.gaps) if gap not in kept and g not in new.lost)
    if new.cost(evicted) != placed.cost_bytes or not kept <= set(new.gaps):
        return placed
    return replace(placed, timeline=new, evicted=evicted, offsets=_offsets(placed, new, evicted, steps))


def _offsets(placed: Placed, new: Timeline, evicted: frozenset[int], steps: dict[int, _Step]) -> tuple[int, ...]:
    """The addresses of the new plan: those of the old one, and of what is new at some steps."""
    old, count = placed.timeline, len(placed.timeline.intervals(placed.evicted))
    where = dict(zip(old.intervals(placed.evicted), placed.offsets, strict=False))
    buffers = {(t, a): at for (t, a, _), at in zip(old.buffers(), placed.offsets[count:], strict=True)}
    offsets = []
    for a, start, end in new.intervals(evicted):
        at = where.get((a, start, end))
        offsets.append(steps[start].places[a] if at is None else at)
    for t, b, _ in new.buffers():
        offsets.append(steps[t].places[b] if t in steps else buffers[t, b])
    return tuple(offsets)


def _holes(placed: Placed) -> list[_Holes]:
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
