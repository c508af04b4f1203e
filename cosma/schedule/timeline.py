"""A fixed schedule seen from its tensors: uses, and gaps between uses in which a tensor may be out.

Between two consecutive uses a tensor is either kept or evicted right after the first and loaded
right before the second; anything in between helps nobody (docs/problem.md#keep-or-evict). So a residency
decision is a set of kept gaps, and everything else follows from it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cosma.plan import Residency
from cosma.problem import Problem
from cosma.schedule.placement import Block


@dataclass(frozen=True, slots=True)
class Gap:
    """Tensor `tensor` is used at steps `first` < `second` and at none between."""

    tensor: int
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """A schedule of `problem`: operator order[t] runs at step t, operator v in mode modes[v].

    Derived: `uses[a]`, the steps at which a must be resident; `gaps`, by tensor, then in time;
    `room[t]`, bytes that step t leaves to tensors it does not use.
    """

    problem: Problem
    order: tuple[int, ...]
    modes: tuple[int, ...]
    uses: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    gaps: tuple[Gap, ...] = field(init=False, repr=False)
    room: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problem = self.problem
        uses = problem.uses(self.order, self.modes)
        gaps = [Gap(a, s, e) for a, steps in enumerate(uses) for s, e in pairwise(steps)]
        room = [problem.capacity_bytes - problem.mode_bytes(problem.modes[v][self.modes[v]]) for v in self.order]
        object.__setattr__(self, "uses", tuple(tuple(steps) for steps in uses))
        object.__setattr__(self, "gaps", tuple(gaps))
        object.__setattr__(self, "room", tuple(room))

    @classmethod
    def of(cls, problem: Problem, order: Sequence[int]) -> "Timeline":
        """The timeline of an order with every operator in its smallest mode."""
        return cls(problem, tuple(order), problem.smallest_modes)

    def cost(self, evicted: Iterable[int]) -> int:
        """Non-compulsory bytes when the gaps with these indices are evicted: a load each, a store a tensor."""
        gone = [self.gaps[g].tensor for g in evicted]
        sizes = self.problem.sizes
        return (
            sum(sizes[a] for a in gone)
            + sum(sizes[a] for a in set(gone) if self.problem.needs_store(a))
            + sum(self.problem.modes[v][self.modes[v]].moved_bytes for v in self.order)
        )

    def intervals(self, evicted: Iterable[int]) -> list[tuple[int, int, int]]:
        """Residencies as (tensor, start, end) when these gaps are evicted, by tensor, then in time."""
        cuts: dict[int, set[int]] = {}
        for g in evicted:
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

    def blocks(self, evicted: Iterable[int]) -> list[Block]:
        """What has to be placed: the intervals, in their order, then each mode's working bytes at its step."""
        sizes, modes = self.problem.sizes, self.problem.modes
        rows = [Block(start, end, sizes[a]) for a, start, end in self.intervals(evicted)]
        workspaces = [(t, modes[v][self.modes[v]].workspace_bytes) for t, v in enumerate(self.order)]
        return rows + [Block(t, t + 1, size) for t, size in workspaces if size > 0]

    def residencies(self, evicted: Iterable[int], offsets: Sequence[int]) -> tuple[Residency, ...]:
        """The plan's table for placed intervals, by start, then by offset."""
        names, sizes = self.problem.graph.tensors, self.problem.sizes
        rows = [
            Residency(names[a].name, start, end, offset, sizes[a])
            for (a, start, end), offset in zip(self.intervals(evicted), offsets, strict=True)
        ]
        return tuple(sorted(rows, key=lambda r: (r.start, r.offset_bytes, r.tensor)))
