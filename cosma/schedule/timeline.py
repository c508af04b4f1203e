"""A fixed schedule seen from its tensors: uses, and gaps between uses in which a tensor may be out.

Between two consecutive uses a tensor is either kept or evicted right after the first and loaded
right before the second; anything in between saves nothing (docs/problem.md#keep-or-evict). So a residency
decision is a set of kept gaps, and everything else follows from it.

```
step       0     1     2     3     4     uses of the tensor: 0, 2, 4
uses       o           o           o     gap (0, 2) is kept, gap (2, 4) evicted:
tensor     [=================]     [===] two residencies; stored and dropped at the end of step 2,
                                         loaded at step 4, perhaps at another address
```
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from cosma.modes import Effects, Run
from cosma.problem import Problem
from cosma.schedule.placement import Block


@dataclass(frozen=True, slots=True)
class Gap:
    """Tensor `tensor` is used at steps `first` < `second` and at none between."""

    tensor: int
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What has to be placed: blocks, and where in them everything lies.

    places: (block, bytes after its start) of each residency, in the order of `Timeline.intervals`, then of each
    buffer, in the order of `Timeline.buffers`. is_exact: no block is larger than what lies in it at any step;
    otherwise that the blocks cannot be placed proves nothing.
    """

    blocks: tuple[Block, ...]
    places: tuple[tuple[int, int], ...]
    is_exact: bool

    def offsets(self, found: Sequence[int]) -> tuple[int, ...]:
        """Addresses of residencies and buffers, of those of the blocks."""
        return tuple(found[block] + shift for block, shift in self.places)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A schedule of `problem`: operator order[t] runs at step t, operator v as runs[v] says.

    Derived: `effects[t]`; `uses[a]`, the steps at which a lies in the scratchpad as an operand; `gaps`, by tensor,
    then in time; `lost`, those that no plan keeps, as the tensor is overwritten at their first step; `room[t]`, bytes
    that step t leaves to tensors it does not use; `hosted`, the tensors of which the host has a copy even if nothing
    is evicted; `base_bytes`, non-compulsory bytes if nothing is evicted, but for what is lost.
    """

    problem: Problem
    order: tuple[int, ...]
    runs: tuple[Run, ...]
    effects: tuple[Effects, ...] = field(init=False, repr=False)
    uses: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    gaps: tuple[Gap, ...] = field(init=False, repr=False)
    lost: frozenset[int] = field(init=False, repr=False)
    room: tuple[int, ...] = field(init=False, repr=False)
    hosted: frozenset[int] = field(init=False, repr=False)
    base_bytes: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problem = self.problem
        effects = tuple(problem.effects(v, self.runs[v]) for v in self.order)
        uses: list[list[int]] = [[] for _ in problem.sizes]
        for t, e in enumerate(effects):
            for a in e.resident:
                uses[a].append(t)
        gaps = tuple(Gap(a, s, e) for a, steps in enumerate(uses) for s, e in pairwise(steps))
        gone = {(w.input, t) for t, e in enumerate(effects) for w in e.overwrites}
        hosted = {a for a, tensor in enumerate(problem.graph.tensors) if not problem.needs_store(a)}
        hosted |= {a for e in effects for a in (*e.fetched, *e.sent)}
        object.__setattr__(self, "effects", effects)
        object.__setattr__(self, "uses", tuple(tuple(steps) for steps in uses))
        object.__setattr__(self, "gaps", gaps)
        object.__setattr__(self, "lost", frozenset(g for g, gap in enumerate(gaps) if (gap.tensor, gap.first) in gone))
        room = (problem.memory.capacity_bytes - problem.bytes_of(e) for e in effects)
        object.__setattr__(self, "room", tuple(room))
        object.__setattr__(self, "hosted", frozenset(hosted))
        object.__setattr__(self, "base_bytes", self._moved_anyway() - problem.compulsory_bytes)

    def _moved_anyway(self) -> int:
        """Bytes that move though nothing is evicted: streams, first loads of home tensors, stores for the host."""
        touched = (self.problem.sizes[a] for a in self.hosted if self.uses[a])  # loaded if it is there, else stored
        return sum(e.moved_bytes for e in self.effects) + sum(touched)

    @classmethod
    def of(cls, problem: Problem, order: Sequence[int]) -> "Timeline":
        """The timeline of an order with every operator run in the way that `Problem.runs` has."""
        return cls(problem, tuple(order), problem.runs)

    def with_runs(self, runs: tuple[Run, ...]) -> "Timeline":
        """The same order with operators run in other ways."""
        return replace(self, runs=runs)

    def cost(self, evicted: Iterable[int]) -> int:
        """Non-compulsory bytes when the gaps with these indices are evicted: a load each, a store a tensor."""
        gone = [self.gaps[g].tensor for g in self.lost.union(evicted)]
        sizes = self.problem.sizes
        return self.base_bytes + sum(sizes[a] for a in gone) + sum(sizes[a] for a in set(gone) - self.hosted)

    def footprint(self) -> list[int]:
        """Bytes in the scratchpad at each step when every tensor stays from its first to its last use."""
        change = [0] * (len(self.order) + 1)
        for gap in self.gaps:
            change[gap.first + 1] += self.problem.sizes[gap.tensor]
            change[gap.second] -= self.problem.sizes[gap.tensor]
        taken, across = [], 0
        for t, room in enumerate(self.room):
            across += change[t]
            taken.append(across + self.problem.memory.capacity_bytes - room)
        return taken

    def intervals(self, evicted: Iterable[int]) -> list[tuple[int, int, int]]:
        """Residencies as (tensor, start, end) when these gaps are evicted, by tensor, then in time."""
        cuts: dict[int, set[int]] = {}
        for g in self.lost.union(evicted):
            cuts.setdefault(self.gaps[g].tensor, set()).add(self.gaps[g].first)
        rows = []
        for a, steps in enumerate(self.uses):
            if not steps:
                continue
            start = steps[0]
            for t, later in zip(steps, (*steps[1:], None), strict=True):
                if later is None or t in cuts.get(a, ()):
                    rows.append((a, start, t + 1))
                    start = t if later is None else later
        return rows

    def buffers(self) -> list[tuple[int, int | None, int]]:
        """(step, streamed tensor or None for the workspace, aligned bytes) of everything that lives for one step."""
        return [(t, a, self.problem.aligned(n)) for t, e in enumerate(self.effects) for a, n in e.buffers]

    def tops(self) -> tuple[int, ...]:
        """For each step, the address at which its buffers begin if they end where the scratchpad does."""
        return tuple(self.problem.memory.usable_bytes - self.problem.buffer_bytes(e) for e in self.effects)

    def buffers_on_top(self) -> tuple[int, ...]:
        """Addresses of the buffers, one after the other at the end of the scratchpad."""
        offsets, tops = [], list(self.tops())
        for t, _, size in self.buffers():
            offsets.append(tops[t])
            tops[t] += size
        return tuple(offsets)

    def layout(self, evicted: Iterable[int]) -> Layout:
        """What has to be placed when these gaps are evicted.

        A residency that overwrites another makes one block with it, as large as both where they lie, for as long as
        either is there; where that is more than they take at some step, the layout is not exact.
        """
        intervals, sizes = self.intervals(evicted), self.problem.sizes
        group = list(range(len(intervals)))  # of which block each is a part, by the number of its first member
        shift = [0] * len(intervals)
        is_exact = True
        for i, j, distance in self._overwriting(intervals):
            moved = shift[i] - distance - shift[j]
            is_exact &= not distance and sizes[intervals[i][0]] == sizes[intervals[j][0]]
            old = group[j]
            for k in (k for k, g in enumerate(group) if g == old):
                group[k], shift[k] = group[i], shift[k] + moved
        members: dict[int, list[int]] = {}
        for k, g in enumerate(group):
            members.setdefault(g, []).append(k)
        blocks: list[Block] = []
        places = [(0, 0)] * len(intervals)
        for inside in members.values():
            low = min(shift[k] for k in inside)
            high = max(shift[k] + sizes[intervals[k][0]] for k in inside)
            for k in inside:
                places[k] = (len(blocks), shift[k] - low)
            blocks.append(Block(min(intervals[k][1] for k in inside), max(intervals[k][2] for k in inside), high - low))
        for t, _, size in self.buffers():
            places.append((len(blocks), 0))
            blocks.append(Block(t, t + 1, size))
        return Layout(tuple(blocks), tuple(places), is_exact)

    def _overwriting(self, intervals: Sequence[tuple[int, int, int]]) -> Iterable[tuple[int, int, int]]:
        """(overwritten residency, the one over it, distance in bytes) of everything that is overwritten."""
        pairs = [(t, w) for t, e in enumerate(self.effects) for w in e.overwrites]
        ends = {(a, end): k for k, (a, _, end) in enumerate(intervals)} if pairs else {}
        starts = {(a, start): k for k, (a, start, _) in enumerate(intervals)} if pairs else {}
        for t, w in pairs:
            yield ends[w.input, t + 1], starts[w.output, t], self.problem.aligned(w.distance_bytes)
