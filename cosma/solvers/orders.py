"""Schedules by heuristics: orders whose peak footprint is small."""

from typing import NamedTuple

from cosma.problem import Problem
from cosma.solvers.base import Deadline


class _State(NamedTuple):
    peak: int
    live: int
    executed: int  # bit mask over operators
    resident: int  # bit mask over tensors
    ready: tuple[int, ...]
    path: "tuple[int, object] | None"  # linked list of operators, last first


def small_peak_order(problem: Problem, deadline: Deadline, width: int = 16) -> tuple[int, ...] | None:
    """A topological order found by a beam over executed sets, least (peak, live bytes) first.

    Every operator runs in its smallest mode and nothing is evicted. Deterministic but for the
    deadline, at which None is returned. O(operators x width x ready operators) mask operations.
    """
    graph = problem.graph
    modes = problem.smallest_modes()
    readers = [sum(1 << v for v in r) for r in graph.readers]
    needs = [sum(1 << p for p in before) for before in graph.predecessors]
    start = tuple(v for v, mask in enumerate(needs) if not mask)
    beam = [_State(0, 0, 0, 0, start, None)]
    for _ in graph.operators:
        best: dict[int, _State] = {}
        for state in beam:
            if deadline.passed:
                return None
            for v in state.ready:
                after = _execute(problem, state, v, modes[v], readers, needs)
                known = best.get(after.executed)
                if known is None or after[:2] < known[:2]:
                    best[after.executed] = after
        beam = sorted(best.values(), key=lambda s: s[:2])[:width]
    order: list[int] = []
    path = beam[0].path
    while path is not None:
        v, path = path  # type: ignore[assignment]
        order.append(v)
    return tuple(reversed(order))


def _execute(problem: Problem, state: _State, v: int, mode: int, readers: list[int], needs: list[int]) -> _State:
    graph, sizes = problem.graph, problem.sizes
    chosen = problem.modes[v][mode]
    executed = state.executed | 1 << v
    live, resident = state.live, state.resident
    for a in chosen.resident:
        if not resident >> a & 1:
            resident |= 1 << a
            live += sizes[a]
    peak = max(state.peak, live + chosen.workspace_bytes)
    for a in chosen.resident:
        if not readers[a] & ~executed:
            resident &= ~(1 << a)
            live -= sizes[a]
    ready = [w for w in state.ready if w != v]
    ready += [w for w in graph.successors[v] if not needs[w] & ~executed]
    return _State(peak, live, executed, resident, tuple(ready), (v, state.path))
