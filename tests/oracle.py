"""Brute force from the definitions of docs/problem.md, for problems of a handful of operators.

Nothing here shares a line of reasoning with the solvers: it walks over every state (operators
executed, tensors resident, tensors with a host copy, home tensors loaded before) by Dijkstra.
"""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from functools import cache

from cosma.problem import Problem
from cosma.schedule.timeline import Timeline


def least_traffic(problem: Problem, order: Sequence[int] | None = None) -> int | None:
    """Least non-compulsory bytes, addresses ignored, over all schedules or for one; None if infeasible."""
    graph, sizes = problem.graph, problem.sizes
    n = len(graph.operators)
    home = frozenset(a for a, t in enumerate(graph.tensors) if t.is_home)
    outputs = frozenset(a for a, t in enumerate(graph.tensors) if t.kind == "output")
    start = (frozenset(), frozenset(), home, frozenset())
    queue = [(0, 0, start)]
    tie = itertools.count(1)
    least = {start: 0}
    while queue:
        cost, _, state = heapq.heappop(queue)
        if cost > least[state]:
            continue
        executed, resident, host, loaded = state
        if len(executed) == n:
            return cost
        candidates = range(n) if order is None else [order[len(executed)]]
        for v in candidates:
            if v in executed or any(p not in executed for p in graph.predecessors[v]):
                continue
            for mode in problem.modes[v]:
                needed = frozenset(mode.resident)
                written = needed & frozenset(graph.operators[v].outputs)
                fetch = needed - written - resident
                if not fetch <= host:
                    continue
                load_cost = sum(sizes[a] for a in fetch if a not in home or a in loaded)
                after = executed | {v}
                for size in range(len(resident - needed) + 1):
                    for out in itertools.combinations(sorted(resident - needed), size):
                        kept = (resident - set(out)) | needed
                        if sum(sizes[a] for a in kept) + mode.workspace_bytes > problem.capacity_bytes:
                            continue
                        pending = [a for a in out if a not in host and any(r not in after for r in graph.readers[a])]
                        # A tensor that is dropped without a host copy is gone; one that is still read must be stored.
                        store_cost = sum(sizes[a] for a in pending)
                        new_host = host | set(pending) | (outputs & written)
                        new = (after, kept, frozenset(new_host), loaded | (fetch & home))
                        total = cost + load_cost + store_cost + mode.moved_bytes
                        if total < least.get(new, total + 1):
                            least[new] = total
                            heapq.heappush(queue, (total, next(tie), new))
    return None


def least_peak(problem: Problem) -> int:
    """M_P: the smallest peak over all topological orders when every tensor stays from first to last use."""
    return min(problem.peak_bytes(order) for order in topological_orders(problem))


def topological_orders(problem: Problem):
    """Every topological order."""
    graph = problem.graph

    def extend(prefix):
        if len(prefix) == len(graph.operators):
            yield tuple(prefix)
        for v in range(len(graph.operators)):
            if v not in prefix and all(p in prefix for p in graph.predecessors[v]):
                yield from extend([*prefix, v])

    yield from extend([])


def can_be_placed(blocks: Sequence[tuple[int, int, int]], capacity: int) -> bool:
    """Whether (start, end, size) blocks fit side by side, by trying every offset that some packing needs.

    In a packing pushed down each block lies at 0 or on top of another, so offsets are subset sums.
    """
    solid = [b for b in blocks if b[2] and b[1] > b[0]]
    sums = {0}
    for _, _, size in solid:
        sums |= {s + size for s in sums if s + size <= capacity}

    def fits(i: int, placed: tuple[int, ...]) -> bool:
        if i == len(solid):
            return True
        start, end, size = solid[i]
        for offset in sorted(sums):
            if offset + size > capacity:
                break
            clash = any(
                s < end and start < e and offset < o + z and o < offset + size
                for (s, e, z), o in zip(solid, placed, strict=False)
            )
            if not clash and fits(i + 1, (*placed, offset)):
                return True
        return False

    return cache(fits)(0, ())


def overfull_steps(timeline: Timeline, evicted: Iterable[int]) -> set[int]:
    """Steps at which what is resident exceeds the capacity, however it is placed."""
    capacity, blocks = timeline.problem.capacity_bytes, timeline.blocks(evicted)
    return {
        t for t in range(len(timeline.order)) if sum(b.size_bytes for b in blocks if b.start <= t < b.end) > capacity
    }
