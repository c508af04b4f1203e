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
    """Least non-compulsory bytes, addresses ignored, over all schedules or for one; None if infeasible.

    Over all modes and sets of streamed operands as well.
    """
    graph = problem.graph
    n = len(graph.operators)
    start = (frozenset(), frozenset(), frozenset(a for a, t in enumerate(graph.tensors) if t.is_home))
    queue = [(0, 0, start)]
    tie = itertools.count(1)
    least = {start: 0}
    while queue:
        cost, _, state = heapq.heappop(queue)
        if cost > least[state]:
            continue
        executed = state[0]
        if len(executed) == n:
            return cost - problem.compulsory_bytes
        for v in range(n) if order is None else [order[len(executed)]]:
            if v not in executed and all(p in executed for p in graph.predecessors[v]):
                for paid, new in _moves(problem, v, *state):
                    if cost + paid < least.get(new, cost + paid + 1):
                        least[new] = cost + paid
                        heapq.heappush(queue, (cost + paid, next(tie), new))
    return None


def _moves(problem: Problem, v: int, executed: frozenset[int], resident: frozenset[int], host: frozenset[int]):
    """(bytes moved, state afterwards) of every way to run operator v now."""
    graph, sizes, align = problem.graph, problem.sizes, problem.memory.alignment_bytes
    reads, writes = frozenset(graph.operators[v].inputs), frozenset(graph.operators[v].outputs)
    after = executed | {v}
    pending = frozenset(a for a in resident if not after.issuperset(graph.readers[a]))
    for mode in problem.modes[v]:
        for k in range(len(mode.streams) if mode.on_host else 0, len(mode.streams) + 1):
            for streams in itertools.combinations(mode.streams, k):
                streamed = frozenset(s.tensor for s in streams)
                needed, made, lost = reads - streamed, writes - streamed, frozenset(w.input for w in mode.overwrites)
                # What is streamed in has to be with the host; from the scratchpad it can be stored there first.
                stored = (reads & streamed) - host
                if not stored <= resident or not needed - resident <= host:
                    continue
                extra = sum(
                    -(-size // align) * align for size in (mode.workspace_bytes, *(s.buffer_bytes for s in streams))
                )
                for w in mode.overwrites:
                    under = set(range(-w.distance_bytes, sizes[w.output] - w.distance_bytes))
                    extra -= len(set(range(sizes[w.input])) & under)
                whole, outputs = (
                    resident | needed | made,
                    frozenset(a for a in made if graph.tensors[a].kind == "output"),
                )
                taken = sum(sizes[a] for a in whole) + extra
                saved = stored | (lost & pending) - host
                paid = sum(sizes[a] for a in [*(needed - resident), *saved, *outputs]) + sum(
                    s.moved_bytes for s in streams
                )
                there = host | saved | outputs | (writes & streamed)
                free = sorted(resident - needed)
                for count in range(len(free) + 1):
                    for out in itertools.combinations(free, count):
                        if taken - sum(sizes[a] for a in out) <= problem.memory.capacity_bytes:
                            more = [a for a in out if a in pending and a not in there]
                            left = whole.difference(out, lost)
                            yield paid + sum(sizes[a] for a in more), (after, left, there.union(more))


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
    capacity, blocks = timeline.problem.memory.capacity_bytes, timeline.layout(evicted).blocks
    return {
        t for t in range(len(timeline.order)) if sum(b.size_bytes for b in blocks if b.start <= t < b.end) > capacity
    }
