"""Replacement rules that compilers use: what to evict when a step of a fixed schedule lacks room; bytes only."""

from collections.abc import Callable, Sequence

from cosma.schedule.timeline import Timeline

_MOST_SUMS = 200_000  # distinct sums of sizes that `least_bytes` keeps; networks have a few dozen

# (gaps that are kept so far, bytes to free) -> gaps to evict
Rule = Callable[[Sequence[int], int], Sequence[int]]


class TooManySumsError(Exception):
    """The subsets of the candidates have more distinct sizes than can be listed."""


def belady(timeline: Timeline) -> frozenset[int]:
    """Gaps evicted by Belady's rule: whenever a step lacks room, evict the furthest next use first.

    Optimal for equal sizes and costs; not for tensors, which differ in both. Requires capacity >= M_R.
    Source: L. A. Belady, IBM Systems Journal 5(2), 1966; tensors without a later use are freed first.
    """
    sizes, gaps = timeline.problem.sizes, timeline.gaps

    def furthest(kept: Sequence[int], deficit: int) -> list[int]:
        gone = []
        for g in sorted(kept, key=lambda g: (-gaps[g].second, -sizes[gaps[g].tensor], g)):
            if deficit <= 0:
                break
            gone.append(g)
            deficit -= sizes[gaps[g].tensor]
        return gone

    return _evict(timeline, furthest)


def least_bytes(timeline: Timeline) -> frozenset[int]:
    """Gaps evicted by the greedy ILP: at each shortage the set with the least bytes that makes room.

    Of equal sets the one with fewer tensors, then the one that comes first in tensor order. Exact, by
    dynamic programming over sums. Raises TooManySumsError. Source: the COSMA paper's second replacement baseline.
    """
    sizes, gaps = timeline.problem.sizes, timeline.gaps

    def least(kept: Sequence[int], deficit: int) -> Sequence[int]:
        sums: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}  # bytes -> (tensors, gaps), the first such set
        for g in kept:
            size = sizes[gaps[g].tensor]
            for total, (count, chosen) in list(sums.items()):
                entry = (count + 1, (*chosen, g))
                if total < deficit and entry < sums.get(total + size, (count + 2, ())):
                    sums[total + size] = entry
            if len(sums) > _MOST_SUMS:
                raise TooManySumsError(f"the {len(kept)} candidates make more than {_MOST_SUMS:,} different sums")
        return sums[min(total for total in sums if total >= deficit)][1]

    return _evict(timeline, least)


def _evict(timeline: Timeline, rule: Rule) -> frozenset[int]:
    """Walk over the steps, asking the rule at each that lacks room."""
    size_of = [timeline.problem.sizes[gap.tensor] for gap in timeline.gaps]
    opening: dict[int, list[int]] = {}
    for g, gap in enumerate(timeline.gaps):
        if gap.second - gap.first > 1 and size_of[g]:
            opening.setdefault(gap.first, []).append(g)
    evicted: set[int] = set()
    kept: set[int] = set()
    closing: dict[int, list[int]] = {}
    live = 0
    for t, room in enumerate(timeline.room):
        for g in closing.pop(t, []):
            if g in kept:
                kept.remove(g)
                live -= size_of[g]
        if live > room:
            gone = rule(sorted(kept), live - room)
            evicted.update(gone)
            kept.difference_update(gone)
            live -= sum(size_of[g] for g in gone)
        for g in opening.get(t, []):
            kept.add(g)
            live += size_of[g]
            closing.setdefault(timeline.gaps[g].second, []).append(g)
    return frozenset(evicted)
