"""The compact ILP of optimal replacement under a fixed schedule.

One binary a gap that some step is short of room for: keep the tensor (1) or evict it (0).

    minimise    sum size (1 - keep)  +  sum size stored
    subject to  at each step         sum size keep over the gaps across it <= room
                for each gap of an activation   stored >= 1 - keep
                for each cut K (gaps that cannot be placed together)   sum keep over K <= |K| - 1

The COSMA paper's time-indexed formulation needs a binary for each tensor and timestep; see
docs/problem.md#keep-or-evict.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

from cosma.deadline import Deadline
from cosma.milp.programme import Model
from cosma.schedule.timeline import Timeline


@dataclass(frozen=True, slots=True)
class CompactILP:
    """The model, bytes divided by `unit`, and the gap that each of its first columns decides."""

    model: Model
    unit: int
    gaps: tuple[int, ...]


def build(
    timeline: Timeline, cuts: Iterable[frozenset[int]], incumbent: frozenset[int], deadline: Deadline
) -> CompactILP:
    """State the ILP for a timeline; `cuts` are sets of gap indices, `incumbent` the gaps evicted so far.

    Requires room >= 0 at every step. Raises ModelTooLargeError.
    """
    cuts = list(cuts)
    crossing = _binding_rows(timeline)
    chosen = sorted({g for gaps, _ in crossing for g in gaps} | {g for cut in cuts for g in cut})
    size_of = {g: timeline.problem.sizes[timeline.gaps[g].tensor] for g in chosen}
    unit = gcd(*size_of.values()) or 1
    model = Model("replacement", deadline)
    keep = {g: model.binary(f"keep{g}", -size_of[g] // unit) for g in chosen}
    model.offset = sum(size_of.values()) // unit
    for gaps, room in crossing:
        model.at_most("room", ((keep[g], size_of[g] // unit) for g in gaps), room // unit)
    stored: dict[int, int] = {}
    for g in chosen:
        a = timeline.gaps[g].tensor
        if timeline.problem.needs_store(a):
            if a not in stored:
                stored[a] = model.binary(f"stored{a}", size_of[g] // unit)
            model.at_least("store", ((stored[a], 1), (keep[g], 1)), 1)
    for cut in cuts:
        model.at_most("cut", ((keep[g], 1) for g in cut), len(cut) - 1)
    model.hint = {keep[g]: int(g not in incumbent) for g in chosen}
    model.hint |= dict.fromkeys(stored.values(), 0)
    model.hint |= {stored[a]: 1 for g in incumbent & keep.keys() if (a := timeline.gaps[g].tensor) in stored}
    return CompactILP(model, unit, tuple(chosen))


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
