"""Independent parts: where every path passes through one tensor, what comes before and after are separate.

Cut tensors (docs/problem.md#cut-tensors). Let c be an operator before which all earlier ones have to run and after
which all later ones do, and let its output be the only tensor used on both sides. When c has run, that tensor is
resident and nothing else is pending, whatever happened before: the costs of both sides add up.
"""

from dataclasses import dataclass
from itertools import pairwise

from cosma.problem import Problem
from cosma.solvers.search.space import Space, part


@dataclass(frozen=True, slots=True)
class Part:
    """Operators [start, end) of a problem; `resident`: the tensors that the part before leaves."""

    start: int
    end: int
    resident: tuple[int, ...]

    def space(self, problem: Problem) -> Space:
        """The state space of this part."""
        return part(problem, range(self.start, self.end), self.resident)


def split(problem: Problem) -> list[Part]:
    """The parts of a problem in order, one if it has no such tensor. O(operators + tensors)."""
    graph = problem.graph
    count = len(graph.operators)
    change = [0] * (count + 1)
    crossing = [-1] * (count + 1)  # some tensor that crosses from step k - 1 to step k
    for a, steps in enumerate(problem.uses(range(count))):
        if steps and steps[-1] > steps[0]:
            change[steps[0] + 1] += 1
            change[steps[-1] + 1 if steps[-1] + 1 <= count else count] -= 1
            crossing[steps[0] + 1] = a
    cuts = []
    open_tensors = 0
    sinks = 0  # operators before k - 1 that nothing follows
    sources_left = sum(1 for before in graph.predecessors if not before)
    for k in range(1, count):
        open_tensors += change[k]
        sources_left -= not graph.predecessors[k - 1]
        a = crossing[k]
        if open_tensors == 1 and not sinks and not sources_left and a >= 0 and graph.producer[a] == k - 1:
            cuts.append((k, a))
        sinks += not graph.successors[k - 1]
    edges = [(0, -1), *cuts, (count, -1)]
    return [Part(k, end, () if a < 0 else (a,)) for (k, a), (end, _) in pairwise(edges)]
