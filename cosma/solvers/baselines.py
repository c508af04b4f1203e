"""What others do: Belady's rule on a fixed schedule (bytes only, addresses left out)."""

from heapq import heappop, heappush

from cosma.solvers.timeline import Timeline


def belady(timeline: Timeline) -> frozenset[int]:
    """Gaps evicted by Belady's rule: whenever a step lacks room, evict the furthest next use first.

    Optimal for equal sizes and costs; not for tensors, which differ in both. Requires capacity >= M_R.
    Source: L. A. Belady, IBM Systems Journal 5(2), 1966; tensors without a later use are freed first.
    """
    sizes = timeline.problem.sizes
    opening: dict[int, list[int]] = {}
    for g, gap in enumerate(timeline.gaps):
        if gap.second - gap.first > 1:
            opening.setdefault(gap.first, []).append(g)
    evicted: set[int] = set()
    waiting: list[tuple[int, int, int]] = []  # (-next use, -size, gap): the heap's top is evicted first
    open_until: dict[int, list[int]] = {}
    live = 0
    for t, room in enumerate(timeline.room):
        for g in open_until.pop(t, []):
            if g not in evicted:
                live -= sizes[timeline.gaps[g].tensor]
        while live > room:
            second, _, g = heappop(waiting)
            if -second > t:
                evicted.add(g)
                live -= sizes[timeline.gaps[g].tensor]
        for g in opening.get(t, []):
            gap = timeline.gaps[g]
            live += sizes[gap.tensor]
            open_until.setdefault(gap.second, []).append(g)
            heappush(waiting, (-gap.second, -sizes[gap.tensor], g))
    return frozenset(evicted)
