"""The linear programme of forced residency, stores and reads, where operators have modes; its prices (no proof).

docs/problem.md#prices. y[v,w]: operator v runs in way w; x[t,r]: tensor t is loaded for its reader r; s[t]: it is
stored; z[t,v]: it is pending while v runs, and out. Y[t,r] is the sum of y[r,w] over ways that stream t.

    minimise   sum moved[v,w] y[v,w]  +  sum size[t] x[t,r]  +  sum store[t] s[t]
    subject to sum of y[v,w] over w = 1
      room     sum of size[t] z[t,v] over what is pending >= sum of excess[v,w] y[v,w]; where ways are not listed
               >= excess[v] less sum of freed[t,v] Y[t,v]
      back     z[t,v] <= sum of x[t,r] + Y[t,r] over readers r that are no ancestors of v
      copy     z[t,v] <= s[t] + Y[t,writer],  and  host     x[t,r] + Y[t,r] <= s[t] + Y[t,writer]
      first    Y[t,writer], or 1 if t is out at the start, <= sum of x[t,r] + Y[t,r] over all readers
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cosma.solvers.search.bounds import pending_across
from cosma.solvers.search.modal import ModalSpace
from cosma.solvers.search.modal_ways import Loose, loose_of, ways_of
from cosma.solvers.search.space import bits

SCALE = 1 << 20  # integer units of a price

Pair = tuple[int, int]
_Row = tuple[str, int | Pair, Any]  # the name of its table, its key there, the row


@dataclass(slots=True)
class Prices:
    """Prices of the rows, in units of 1 / SCALE bytes, none negative.

    room by operator; back and copy by (tensor, operator); host by (tensor, reader); first by tensor.
    """

    room: dict[int, int] = field(default_factory=dict)
    back: dict[Pair, int] = field(default_factory=dict)
    copy: dict[Pair, int] = field(default_factory=dict)
    host: dict[Pair, int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)


class Rows:
    """What the rows are about: by operator the tensors pending (a mask) and its ways, or what is known of it
    without listing them; by tensor its readers here (a mask) and its writer or -1."""

    def __init__(self, space: ModalSpace) -> None:
        count = len(space.operators)
        self.space = space
        self.pending = pending_across(space)[:count]
        pending_bytes = [sum(space.sizes[t] for t in bits(mask)) for mask in self.pending]
        self.ways = [ways_of(space, v, pending) for v, pending in enumerate(pending_bytes)]
        unlisted = (v for v, ways in enumerate(self.ways) if not ways)
        self.loose = {v: loose_of(space, v, pending_bytes[v]) for v in unlisted}
        self.readers = [mask & space.everything for mask in space.readers]
        self.writer = [-1] * len(space.sizes)
        for v, outputs in enumerate(space.outputs):
            for a in outputs:
                self.writer[a] = v

    @property
    def terms(self) -> int:
        """How large the programme is."""
        return sum(map(len, self.ways)) + sum(mask.bit_count() for mask in self.pending)

    def is_stored(self, t: int) -> bool:
        """Whether tensor t has to be stored before it can leave, at a price."""
        return self.space.eviction[t] > self.space.sizes[t]

    def returns(self, t: int) -> bool:
        """Whether a reader here brings tensor t back; what a later part reads may stay out."""
        return t != self.space.left


class Programme:
    """The programme, in a solver."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.space = rows, rows.space
        self.pywraplp: Any = importlib.import_module("ortools.linear_solver.pywraplp")  # it is not typed
        self.solver = self.pywraplp.Solver.CreateSolver("GLOP")
        self.objective = self.solver.Objective()
        self.objective.SetMinimization()
        space, tensors = self.space, range(len(rows.space.sizes))
        self.ways = [[self._variable(way.moved) for way in ways] for ways in rows.ways]
        self.loose = {
            (t, v): self._variable(moved, 1) for v, loose in rows.loose.items() for t, _, moved in loose.streams
        }
        self.loads = {(t, r): self._variable(space.sizes[t]) for t in tensors for r in bits(rows.readers[t])}
        stored = [t for t in tensors if rows.is_stored(t)]
        self.stores = {t: self._variable(space.eviction[t] - space.sizes[t]) for t in stored}
        for ways in filter(None, self.ways):
            self._row(ways, (), 1)

    def _variable(self, cost: int, most: int | None = None) -> Any:
        variable = self.solver.NumVar(0, self.solver.infinity() if most is None else most, "")
        self.objective.SetCoefficient(variable, cost)
        return variable

    def _row(self, more: Sequence[Any], less: Sequence[Any], least: int) -> Any:
        """One side is no less than the other by `least`."""
        row = self.solver.Constraint(least, self.solver.infinity())
        for variables, sign in ((more, 1), (less, -1)):
            for variable in variables:
                row.SetCoefficient(variable, row.GetCoefficient(variable) + sign)
        return row

    def _streams(self, t: int, v: int) -> list[Any]:
        """Y[t,v], for a reader or the writer of t."""
        if (t, v) in self.loose:
            return [self.loose[t, v]]
        return (
            []
            if v < 0
            else [y for y, way in zip(self.ways[v], self.rows.ways[v], strict=True) if way.streamed >> t & 1]
        )

    def _brought(self, t: int, readers: int) -> list[Any]:
        """x[t,r] + Y[t,r] over readers r."""
        return [term for r in bits(readers) for term in (self.loads[t, r], *self._streams(t, r))]

    def _copied(self, t: int) -> list[Any]:
        """s[t] + Y[t,writer]."""
        return [self.stores[t], *self._streams(t, self.rows.writer[t])]

    def prices(self) -> Prices:
        """The prices at the optimum, rounded down; none if the solver fails."""
        rows = [row for v in range(len(self.ways)) for row in self._rows_of_operator(v)]
        rows += [row for t in range(len(self.space.sizes)) for row in self._rows_of_tensor(t)]
        prices = Prices()
        if self.solver.Solve() == self.pywraplp.Solver.OPTIMAL:
            for table, key, row in rows:
                getattr(prices, table)[key] = max(0, int(row.dual_value() * SCALE))
        return prices

    def _rows_of_operator(self, v: int) -> Iterator[_Row]:
        """Its room, and what is out while it runs."""
        rows, listed = self.rows, self.rows.ways[v]
        if listed and not any(way.excess for way in listed):
            return
        loose = rows.loose.get(v, Loose(0, ()))
        room = self._row((), (), loose.excess)
        for y, way in zip(self.ways[v], listed, strict=True):
            room.SetCoefficient(y, -way.excess)
        for t, freed, _ in loose.streams:
            room.SetCoefficient(self.loose[t, v], freed)
        for t in bits(rows.pending[v]):
            out = self._variable(0, 1)
            room.SetCoefficient(out, self.space.sizes[t])
            if rows.returns(t):
                later = rows.readers[t] & ~self.space.ancestors[v]
                yield "back", (t, v), self._row(self._brought(t, later), [out], 0)
            if rows.is_stored(t):
                yield "copy", (t, v), self._row(self._copied(t), [out], 0)
        yield "room", v, room

    def _rows_of_tensor(self, t: int) -> Iterator[_Row]:
        """Whether it has a copy with the host when it comes from there, and whether it comes back if it is there."""
        rows = self.rows
        if rows.is_stored(t):
            for r in bits(rows.readers[t]):
                yield "host", (t, r), self._row(self._copied(t), self._brought(t, 1 << r), 0)
        if rows.returns(t):
            sent = self._streams(t, rows.writer[t])
            is_out = int(self.space.is_out_at_start(t))
            yield "first", t, self._row(self._brought(t, rows.readers[t]), sent, is_out)
