"""The front of an operator on its own: what it has to move on how large a scratchpad.

```
bytes ^  *                      every operand streamed, small tiles
      |     *
      |          *              larger tiles, some operands resident
      +---------------*-------> all of them resident: each byte moves once
        smallest      working set
        working set
```
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import sqrt

from cosma.modes import Mode
from cosma.nest import Nest
from cosma.problem import Problem

Point = tuple[int, int]  # scratchpad bytes; bytes moved


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product of m x k by k x n elements of `bits` each, with a sum of m x n."""

    m: int
    n: int
    k: int
    bits: int

    def lower_bound(self, capacity_bytes: int) -> float:
        """Bytes that have to move: 2 m n k / sqrt(S) for the operands, S in elements, and the output once.

        The bound of red-blue pebbling, as in Orojenesis (ISCA 2024). It leaves lower terms out, so near a scratchpad
        that holds a whole operand legal tilings move less; then each byte once is the better bound.
        """
        size = self.bits / 8
        return (2 * self.m * self.n * self.k / sqrt(capacity_bytes / size) + self.m * self.n) * size


@dataclass(frozen=True, slots=True)
class Front:
    """What an operator moves on its own, all of its operands coming from the host and going there.

    points: (scratchpad bytes, bytes moved), ascending in the former and descending in the latter; the first is the
    smallest working set. compulsory_bytes: of its operands, each touched byte once. product: where it is one.
    """

    operator: str
    op_type: str
    points: tuple[Point, ...]
    compulsory_bytes: int
    product: Product | None

    def moved_bytes(self, capacity_bytes: int) -> int | None:
        """The least bytes moved on a scratchpad of this size; None where it is too small."""
        return min((moved for room, moved in self.points if room <= capacity_bytes), default=None)


def all_fronts(problem: Problem) -> list[Front]:
    """The front of every operator, in the order of the graph."""
    return [front_of(problem, v) for v in range(len(problem.graph.operators))]


def alike(fronts: Iterable[Front]) -> list[list[Front]]:
    """Fronts that differ in nothing but the operator, together, in the order of their firsts."""
    groups: dict[Front, list[Front]] = {}
    for front in fronts:
        groups.setdefault(replace(front, operator=""), []).append(front)
    return list(groups.values())


def front_of(problem: Problem, v: int) -> Front:
    """The front of operator v over its modes in the scratchpad, whatever the problem's capacity is.

    In each mode every streamable operand is streamed or resident as is best.
    """
    operator = problem.graph.operators[v]
    found = (point for mode in problem.modes[v] if not mode.on_host for point in _points(problem, v, mode))
    least = (min((problem.sizes[a], *_moved(problem, v, a))) for a in problem.operands[v])
    return Front(operator.name, operator.op_type, tuple(_best(found)), sum(least), product_of(operator.nest))


def _moved(problem: Problem, v: int, a: int) -> Iterable[int]:
    return (s.moved_bytes for mode in problem.modes[v] for s in mode.streams if s.tensor == a)


def _points(problem: Problem, v: int, mode: Mode) -> list[Point]:
    """The best of all choices of what one mode streams: operand by operand, since they do not depend on each other."""
    streams = {s.tensor: s for s in mode.streams}
    found = [(problem.aligned(mode.workspace_bytes), 0)]
    for a in problem.operands[v]:
        choices = [(problem.sizes[a], problem.sizes[a])]
        if a in streams:
            choices.append((problem.aligned(streams[a].buffer_bytes), streams[a].moved_bytes))
        found = _best((room + r, moved + n) for room, moved in found for r, n in choices)
    return found


def _best(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats: with no more room and no more bytes."""
    kept: list[Point] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def product_of(nest: Nest | None) -> Product | None:
    """The matrix product that a nest is: two matrices, and besides at most operands with fewer axes; no batch."""
    if nest is None:
        return None
    cut = {i for i, axis in enumerate(nest.axes) if axis.extent > 1}
    axes = [{a for index in access.indices for a, _ in index.terms} & cut for access in nest.accesses]
    written = [i for i, access in enumerate(nest.accesses) if access.written]
    read = [i for i, access in enumerate(nest.accesses) if not access.written and len(axes[i]) == 2]
    if len(written) != 1 or len(read) != 2:
        return None
    (y,), (a, b) = written, read
    shared = axes[a] & axes[y], axes[b] & axes[y], axes[a] & axes[b]
    bits = {nest.accesses[i].bits for i in (a, b, y)}
    if any(len(x) != 1 for x in shared) or cut != set.union(*shared) or len(bits) > 1:
        return None
    m, n, k = (nest.axes[min(x)].extent for x in shared)
    return Product(m, n, k, min(bits))
