"""The compact ILP of optimal replacement under a fixed schedule, as plain data.

One binary a gap that some step is short of room for: keep the tensor (1) or evict it (0).

    minimise    sum size (1 - keep)  +  sum size stored
    subject to  at each step         sum size keep over the gaps across it <= room
                for each gap of an activation   stored >= 1 - keep
                for each cut K (gaps that cannot be placed together)   sum keep over K <= |K| - 1

The COSMA paper's time-indexed formulation needs a binary for each tensor and timestep; see
problem.md, fact (a). `compact_ortools.py` and `compact_pulp.py` state it to the solvers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd

from cosma.solvers.timeline import Timeline


@dataclass(frozen=True, slots=True)
class CompactILP:
    """Indices below are positions in `gaps`; byte quantities are divided by `unit`, their common divisor.

    gaps: the gap indices that have a binary. load[i]: bytes of its load. rows: (gaps, their sizes,
    room). stores: (size, gaps) of each activation. cuts: sets of gaps of which one must go.
    """

    unit: int
    gaps: tuple[int, ...]
    load: tuple[int, ...]
    rows: tuple[tuple[tuple[int, ...], tuple[int, ...], int], ...]
    stores: tuple[tuple[int, tuple[int, ...]], ...]
    cuts: tuple[tuple[int, ...], ...]

    def bytes_of(self, kept: Sequence[bool]) -> int:
        """Objective in bytes of a keep vector, moved bytes of the modes left out."""
        loads = sum(size for size, keep in zip(self.load, kept, strict=True) if not keep)
        stores = sum(size for size, gaps in self.stores if not all(kept[i] for i in gaps))
        return (loads + stores) * self.unit

    def admits(self, kept: Sequence[bool]) -> bool:
        """Whether a keep vector satisfies every row and cut exactly, in integers."""
        fits = all(sum(s for i, s in zip(g, sizes, strict=True) if kept[i]) <= room for g, sizes, room in self.rows)
        return fits and all(not all(kept[i] for i in cut) for cut in self.cuts)


@dataclass(frozen=True, slots=True)
class CompactSolution:
    """kept: the best keep vector found, or None. bound_bytes: proven lower bound on the objective."""

    kept: tuple[bool, ...] | None
    bound_bytes: int


def build(timeline: Timeline, cuts: Iterable[frozenset[int]] = ()) -> CompactILP:
    """State the ILP for a timeline; `cuts` are sets of gap indices. Requires room >= 0 at every step."""
    cuts = list(cuts)
    crossing = _binding_rows(timeline)
    chosen = sorted({g for gaps, _ in crossing for g in gaps} | {g for cut in cuts for g in cut})
    position = {g: i for i, g in enumerate(chosen)}
    size_of = [timeline.problem.sizes[timeline.gaps[g].tensor] for g in chosen]
    by_tensor: dict[int, list[int]] = {}
    for g in chosen:
        if timeline.problem.needs_store(timeline.gaps[g].tensor):
            by_tensor.setdefault(timeline.gaps[g].tensor, []).append(position[g])
    unit = gcd(*size_of) or 1
    return CompactILP(
        unit=unit,
        gaps=tuple(chosen),
        load=tuple(size // unit for size in size_of),
        rows=tuple(
            (tuple(position[g] for g in gaps), tuple(size_of[position[g]] // unit for g in gaps), room // unit)
            for gaps, room in crossing
        ),
        stores=tuple((timeline.problem.sizes[a] // unit, tuple(gaps)) for a, gaps in by_tensor.items()),
        cuts=tuple(tuple(position[g] for g in sorted(cut)) for cut in cuts),
    )


def _binding_rows(timeline: Timeline) -> list[tuple[tuple[int, ...], int]]:
    """(gaps across, room) of the steps at which keeping everything does not fit.

    Of consecutive steps crossed by the same gaps only the tightest counts, and a step crossed by a
    subset of its neighbour's gaps with no less room adds nothing.
    """
    opening: dict[int, list[int]] = {}
    for g, gap in enumerate(timeline.gaps):
        if gap.second - gap.first > 1 and timeline.problem.sizes[gap.tensor]:
            opening.setdefault(gap.first + 1, []).append(g)
    across: set[int] = set()
    closing: dict[int, list[int]] = {}
    live = 0
    tightest: dict[tuple[int, ...], int] = {}
    for t, room in enumerate(timeline.room):
        for g in closing.pop(t, []):
            across.discard(g)
            live -= timeline.problem.sizes[timeline.gaps[g].tensor]
        for g in opening.get(t, []):
            across.add(g)
            live += timeline.problem.sizes[timeline.gaps[g].tensor]
            closing.setdefault(timeline.gaps[g].second, []).append(g)
        if live > room:
            gaps = tuple(sorted(across))
            tightest[gaps] = min(room, tightest.get(gaps, room))
    return list(tightest.items())
