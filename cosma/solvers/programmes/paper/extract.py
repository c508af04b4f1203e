"""Between plans and values of the time-indexed programme's columns: both ways."""

from collections.abc import Sequence

from cosma.schedule.placed import Placed
from cosma.schedule.timeline import Timeline
from cosma.solvers.programmes.paper.rules import TimeIndexed


def order(stated: TimeIndexed, values: Sequence[int]) -> tuple[int, ...]:
    """The schedule: operators by the step at which they run."""
    steps = sorted((t, v) for (v, t), column in stated.ran.items() if values[column])
    return tuple(v for _, v in steps)


def decode(stated: TimeIndexed, values: Sequence[int]) -> Placed:
    """The plan that a solution stands for: bytes held longer than their uses ask for are let go."""
    index = stated.index
    timeline = Timeline.of(index.problem, order(stated, values))
    stays = {key for key, column in stated.preserved.items() if values[column]}
    evicted = frozenset(
        g
        for g, gap in enumerate(timeline.gaps)
        if not all((gap.tensor, t) in stays for t in range(gap.first + 1, gap.second + 1))
    )
    address = stated.address
    offsets = tuple(
        values[address[a, start]] * index.unit if (a, start) in address else 0
        for a, start, _ in timeline.intervals(evicted)
    )
    return Placed(timeline, evicted, (*offsets, *timeline.buffers_on_top()), timeline.cost(evicted), 0)


def encode(stated: TimeIndexed, placed: Placed) -> dict[int, int]:
    """Values of the columns for a plan. Complete if the plan obeys the strengthenings that are on."""
    index, timeline = stated.index, placed.timeline
    ones: set[int | None] = {stated.ran.get((v, t)) for t, v in enumerate(timeline.order)}
    where: dict[tuple[int, int], int] = {}
    stored: set[int] = set()
    written = {a: t for t, v in enumerate(timeline.order) for a in index.problem.graph.operators[v].outputs}
    intervals = timeline.intervals(placed.evicted)
    for (a, start, end), offset in zip(intervals, placed.offsets, strict=False):
        first = stated.created if written.get(a) == start else stated.retrieved
        ones.add(first.get((a, start)))
        for t in range(start, end):
            where[a, t] = offset // index.unit
            if t > start:
                ones |= {stated.preserved.get((a, t)), stated.kept.get((a, t))}
        comes_back = any(b == a and later >= end for b, later, _ in intervals)
        if comes_back and a not in stored:
            stored.add(a)
            ones.add(stated.spilled.get((a, end)))
    hint = {column: int(column in ones) for family in _binaries(stated) for column in family}
    hint |= {column: where.get(key, 0) for key, column in stated.address.items()}
    for (a, b, t), column in stated.below.items():
        here, there = where.get((a, t)), where.get((b, t))
        both = here is not None and there is not None
        hint[column] = int(both and here + index.sizes[a] <= there)  # type: ignore[operator]
        hint[stated.above[a, b, t]] = int(both and there + index.sizes[b] <= here)  # type: ignore[operator]
    return hint


def _binaries(stated: TimeIndexed) -> list[list[int]]:
    families = (
        stated.ran, stated.created, stated.preserved, stated.spilled, stated.retrieved, stated.kept
    )  # fmt: skip
    return [list(family.values()) for family in families]
