"""Placement step by step, evicting what is in the way: always ends, in one pass, with a valid plan.

For residency decisions that do not fit side by side. Not optimal, but there is nothing that it cannot
place: at the worst a step starts afresh, with its own operands alone in the scratchpad.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cosma.modes import Overwrite
from cosma.schedule.timeline import Timeline


@dataclass(slots=True)
class _Live:
    """A resident tensor: where, since which step, and the gap (index) that keeps it, if it is between uses."""

    offset: int
    start: int
    gap: int | None = None


@dataclass(slots=True)
class _Machine:
    timeline: Timeline
    tops: tuple[int, ...]
    evicted: set[int]
    live: dict[int, _Live] = field(default_factory=dict)
    offsets: dict[tuple[int, int], int] = field(default_factory=dict)  # (tensor, start) -> offset

    def step(self, t: int, ending: dict[int, int | None]) -> None:
        """Run step t. `ending`: operand -> the gap that starts here, None after the last use."""
        over = {w.output: w for w in self.timeline.effects[t].overwrites}
        wanted = sorted((a for a in ending if a not in self.live), key=lambda a: (a in over, -self._size(a), a))
        fits = self._clear_top(t, ending)
        if not fits or not all(self._lay_over(over[a], t) if a in over else self._put(a, t, ending) for a in wanted):
            self._start_afresh(t, ending, over)
        for a, gap in ending.items():
            if gap is None or gap in self.evicted:
                del self.live[a]
            else:
                self.live[a].gap = gap

    def _clear_top(self, t: int, operands: dict[int, int | None]) -> bool:
        """Evict what lies where the step's buffers go; whether no operand does."""
        there = [b for b, place in self.live.items() if place.offset + self._size(b) > self.tops[t]]
        for b in there:
            if b not in operands:
                self._evict(b)
        return not any(b in operands for b in there)

    def _lay_over(self, over: Overwrite, t: int) -> bool:
        """Place an output over the input that it overwrites, if it meets nothing else there."""
        low = self.live[over.input].offset - self.timeline.problem.aligned(over.distance_bytes)
        high = low + self._size(over.output)
        others = ((p.offset, p.offset + self._size(b)) for b, p in self.live.items() if b != over.input)
        if low < 0 or high > self.tops[t] or any(start < high and low < end for start, end in others):
            return False
        self._settle(over.output, low, t)
        return True

    def _put(self, a: int, t: int, operands: dict[int, int | None]) -> bool:
        """Place a tensor where it costs least: 0 in a free range, else the eviction of what lies there."""
        size, best = self._size(a), None
        tops = [0, *(place.offset + self._size(b) for b, place in self.live.items())]
        for low in sorted(set(tops)):
            if low + size > self.tops[t]:
                break
            there = [b for b, p in self.live.items() if p.offset < low + size and low < p.offset + self._size(b)]
            if size and any(b in operands for b in there):
                continue
            cost = sum(self._size(b) for b in there) if size else 0
            if best is None or cost < best[0]:
                best = (cost, low, there if size else [])
        if best is None:
            return False
        for b in best[2]:
            self._evict(b)
        self._settle(a, best[1], t)
        return True

    def _start_afresh(self, t: int, operands: Iterable[int], over: dict[int, Overwrite]) -> None:
        """Evict everything, the operands that were here already too, and lay the operands side by side."""
        for b, place in list(self.live.items()):
            if place.start == t:
                del self.live[b], self.offsets[b, t]
            else:
                self._evict(b)
        top = 0
        pairs = {w.input: w for w in over.values()}
        for a in operands:
            if a in pairs:
                before = self.timeline.problem.aligned(pairs[a].distance_bytes)
                self._settle(a, top + max(0, before), t)
                self._settle(pairs[a].output, top + max(0, -before), t)
                top = max(place.offset + self._size(b) for b, place in self.live.items())
            elif a not in over:
                self._settle(a, top, t)
                top += self._size(a)

    def _evict(self, b: int) -> None:
        gap = self.live.pop(b).gap
        assert gap is not None
        self.evicted.add(gap)

    def _settle(self, a: int, offset: int, t: int) -> None:
        self.live[a] = _Live(offset, t)
        self.offsets[a, t] = offset

    def _size(self, a: int) -> int:
        return self.timeline.problem.sizes[a]


def place_online(timeline: Timeline, evicted: Iterable[int]) -> tuple[frozenset[int], tuple[int, ...]]:
    """Gaps to evict, at least those given, and offsets for the intervals that result and the buffers. Capacity >= M_R.

    O(steps x resident tensors^2).
    """
    machine = _Machine(timeline, timeline.tops(), set(timeline.lost.union(evicted)))
    ending: list[dict[int, int | None]] = [{} for _ in timeline.order]
    for a, steps in enumerate(timeline.uses):
        if steps:
            ending[steps[-1]][a] = None
    for g, gap in enumerate(timeline.gaps):
        ending[gap.first][gap.tensor] = g
    for t, operands in enumerate(ending):
        machine.step(t, operands)
    gone = frozenset(machine.evicted)
    placed = (machine.offsets[a, start] for a, start, _ in timeline.intervals(gone))
    return gone, (*placed, *timeline.buffers_on_top())
