"""Lower bounds from prices, where operators have modes: forced residency, stores and reads as a linear programme.

The programme (docs/problem.md#prices). y[v,w]: operator v runs in way w; x[t,r]: tensor t is loaded for its reader r;
s[t]: it is stored; z[t,v]: it is out while v runs. Y[t,r] is the sum of y[r,w] over ways that stream t.

    minimise   sum moved[v,w] y[v,w]  +  sum size[t] x[t,r]  +  sum store[t] s[t]
    subject to sum of y[v,w] over w = 1
      room     sum of size[t] z[t,v] over what is pending at v >= sum of excess[v,w] y[v,w]
      back     z[t,v] <= sum of x[t,r] + Y[t,r] over readers r that are no ancestors of v
      copy     z[t,v] <= s[t] + Y[t,writer],  and  host     x[t,r] + Y[t,r] <= s[t] + Y[t,writer]
      first    Y[t,writer], or 1 if t is out at the start, <= sum of x[t,r] + Y[t,r] over all readers

Instead of its optimum the Lagrangian bound at given prices of these rows is taken: for each variable on its own the
least that it can add. That is a bound at any prices that are not negative, so those that the solver found are rounded
down to integers and nothing else is asked of them; no floating-point number enters a proof.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cosma.solvers.search.bounds import pending_across
from cosma.solvers.search.modal import ModalSpace
from cosma.solvers.search.modal_bounds import Alone
from cosma.solvers.search.modal_ways import Way, ways_of
from cosma.solvers.search.space import State, bits

_SCALE = 1 << 20  # integer units of a price
_MOST_TERMS = 200_000  # ways and pending tensors of the programme; beyond, the bound is left out

Pair = tuple[int, int]


@dataclass(slots=True)
class _Prices:
    """Prices of the rows, in units of 1 / _SCALE bytes: room by operator; back and copy by (tensor, operator); host by
    (tensor, reader); first by tensor."""

    room: dict[int, int] = field(default_factory=dict)
    back: dict[Pair, int] = field(default_factory=dict)
    copy: dict[Pair, int] = field(default_factory=dict)
    host: dict[Pair, int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the rows are about: pending tensors and ways by operator; by tensor the readers that run here, and its
    writer or -1; whether it has to be stored before it can leave, and whether something later reads it."""

    space: ModalSpace
    pending: Sequence[int]
    ways: Sequence[list[Way]]
    readers: Sequence[int]
    writer: Sequence[int]

    @staticmethod
    def of(space: ModalSpace) -> "_Rows":
        count = len(space.operators)
        pending = pending_across(space)
        forced = [sum(space.sizes[t] for t in bits(mask)) for mask in pending[:count]]
        writer = [-1] * len(space.sizes)
        for v, outputs in enumerate(space.outputs):
            for a in outputs:
                writer[a] = v
        here = [mask & space.everything for mask in space.readers]
        return _Rows(space, pending[:count], [ways_of(space, v, forced[v]) for v in range(count)], here, writer)

    @property
    def terms(self) -> int:
        return sum(map(len, self.ways)) + sum(mask.bit_count() for mask in self.pending)

    def is_stored(self, t: int) -> bool:
        return self.space.eviction[t] > self.space.sizes[t]

    def returns(self, t: int) -> bool:
        """Whether it is known that a reader here is the next to bring t back: no later part may do so instead."""
        return t != self.space.left


class _Programme:
    """The linear programme, in a solver."""

    def __init__(self, rows: _Rows) -> None:
        self.rows, self.space = rows, rows.space
        self.pywraplp: Any = importlib.import_module("ortools.linear_solver.pywraplp")  # it is not typed
        self.solver = self.pywraplp.Solver.CreateSolver("GLOP")
        self.objective = self.solver.Objective()
        self.objective.SetMinimization()
        self.infinity = self.solver.infinity()
        self.ways = [[self._variable(way.moved) for way in ways] for ways in rows.ways]
        for ways in self.ways:
            if ways:
                self._row([(way, 1) for way in ways], 1)
        space = self.space
        self.loads = {
            (t, r): self._variable(space.sizes[t]) for t in range(len(space.sizes)) for r in bits(rows.readers[t])
        }
        stored = filter(rows.is_stored, range(len(space.sizes)))
        self.stores = {t: self._variable(space.eviction[t] - space.sizes[t]) for t in stored}

    def _variable(self, cost: int) -> Any:
        variable = self.solver.NumVar(0, self.infinity, "")
        self.objective.SetCoefficient(variable, cost)
        return variable

    def _row(self, terms: Sequence[tuple[Any, int]], least: int) -> Any:
        row = self.solver.Constraint(least, self.infinity)
        for variable, factor in terms:
            row.SetCoefficient(variable, factor)
        return row

    def _streams(self, t: int, v: int) -> list[tuple[Any, int]]:
        """Y[t,v], for a reader or the writer of t. Where the ways of v are not listed nothing is known of it: 1 at no cost."""
        if v < 0:
            return []
        if not self.rows.ways[v]:
            return [(self.solver.NumVar(0, 1, ""), 1)]
        listed = zip(self.ways[v], self.rows.ways[v], strict=True)
        return [(y, 1) for y, way in listed if (way.read | way.written) >> t & 1]

    def _brought(self, t: int, readers: int) -> list[tuple[Any, int]]:
        """x[t,r] + Y[t,r] over readers r."""
        return [term for r in bits(readers) for term in ((self.loads[t, r], 1), *self._streams(t, r))]

    def prices(self) -> _Prices:
        """The prices at the optimum, rounded; none if the solver fails."""
        rows, space = self.rows, self.space
        room, back, copy = {}, {}, {}
        for v, mask in enumerate(rows.pending):
            out = {t: self.solver.NumVar(0, 1, "") for t in bits(mask)}
            taken = [(y, -way.excess) for y, way in zip(self.ways[v], rows.ways[v], strict=True) if way.excess]
            if not taken:
                continue
            room[v] = self._row([*((z, space.sizes[t]) for t, z in out.items()), *taken], 0)
            for t, z in out.items():
                if rows.returns(t):
                    back[t, v] = self._row([(z, -1), *self._brought(t, rows.readers[t] & ~space.ancestors[v])], 0)
                if rows.is_stored(t):
                    copy[t, v] = self._row([(z, -1), (self.stores[t], 1), *self._streams(t, rows.writer[t])], 0)
        host, first = {}, {}
        for t in range(len(space.sizes)):
            sent = self._streams(t, rows.writer[t])
            if rows.is_stored(t):
                for r in bits(rows.readers[t]):
                    brought = [(y, -1) for y, _ in self._brought(t, 1 << r)]
                    host[t, r] = self._row([*brought, (self.stores[t], 1), *sent], 0)
            if rows.returns(t):
                is_out = int(space.is_out_at_start(t))
                first[t] = self._row([*self._brought(t, rows.readers[t]), *((y, -1) for y, _ in sent)], is_out)
        if self.solver.Solve() != self.pywraplp.Solver.OPTIMAL:
            return _Prices()
        return _Prices(
            *({key: _integer(row.dual_value()) for key, row in d.items()} for d in (room, back, copy, host, first))
        )


def _integer(price: float) -> int:
    return max(0, int(price * _SCALE))


class StreamPotentials:
    """`to_come(state)`: a lower bound on the bytes that are charged from `state` on, by the prices of the rows.

    Rows of operators that have run say, for the future: what is out comes back, what the host has is not stored again
    (docs/problem.md#prices). So each row keeps its price in every state, and what a variable adds at least does
    not depend on the state; only the right-hand sides do.
    """

    def __init__(self, space: ModalSpace) -> None:
        self.space = space
        self.rows = _Rows.of(space)
        self.prices = _Programme(self.rows).prices() if self.rows.terms <= _MOST_TERMS else _Prices()
        self.value()

    def value(self) -> None:
        """Find what each variable adds at least at the prices."""
        space = self.space
        self.brought, self.sent = self._worth_of_moves()
        self.least = [self._least(v) for v in range(len(space.operators))]
        self.stores = sum(min(0, self._store(t)) for t in range(len(space.sizes)) if self.rows.is_stored(t))
        self._known: dict[int, tuple[int, list[tuple[int, int, int]]]] = {}

    def _worth_of_moves(self) -> tuple[dict[Pair, int], dict[int, int]]:
        """What bringing t to reader r is worth to the rows, and what streaming t out is worth."""
        rows, prices = self.rows, self.prices
        brought = {
            (t, r): prices.first.get(t, 0) - prices.host.get((t, r), 0)
            for t in range(len(self.space.sizes))
            for r in bits(rows.readers[t])
        }
        sent = {t: -price for t, price in prices.first.items()}
        for (t, v), price in prices.back.items():
            for r in bits(rows.readers[t] & ~self.space.ancestors[v]):
                brought[t, r] += price
        for table in (prices.copy, prices.host):
            for (t, _), price in table.items():
                sent[t] = sent.get(t, 0) + price
        return brought, sent

    def _store(self, t: int) -> int:
        """What storing t costs beyond what it is worth."""
        tables = (self.prices.copy, self.prices.host)
        worth = sum(price for table in tables for (u, _), price in table.items() if u == t)
        return (self.space.eviction[t] - self.space.sizes[t]) * _SCALE - worth

    def _least(self, v: int) -> int:
        """The least that operator v and what is out while it runs add to the bound, beyond its floor."""
        space, prices = self.space, self.prices
        room = prices.room.get(v, 0)
        total = -space.menus[v].floor * _SCALE
        for t in bits(self.rows.pending[v]):
            back, copy = prices.back.get((t, v), 0), prices.copy.get((t, v), 0)
            total -= max(0, space.sizes[t] * room - back - copy)
        tensors = [slot.tensor for slot in space.slots[v] if not slot.is_written]
        loads = {t: min(0, space.sizes[t] * _SCALE - self.brought[t, v]) for t in tensors}
        all_loads = sum(loads.values())
        if not self.rows.ways[v]:
            return total + self._unlisted(v, loads)
        worths = {1 << t: self.brought[t, v] + loads[t] for t in tensors}
        worths |= {1 << t: self.sent.get(t, 0) for t in space.outputs[v]}
        best = min(
            way.moved * _SCALE
            + way.excess * room
            - sum(w for bit, w in worths.items() if (way.read | way.written) & bit)
            for way in self.rows.ways[v]
        )
        return total + all_loads + best

    def _unlisted(self, v: int, loads: dict[int, int]) -> int:
        """The same for an operator whose ways are not listed: each operand on its own, whether or not all fit."""
        space, menu = self.space, self.space.menus[v]
        total = menu.floor * _SCALE
        for position, t, is_written, is_streamable in space.slots[v]:
            if is_written:
                total += min(0, -self.sent.get(t, 0)) if is_streamable else 0
            elif is_streamable:
                total += min(0, menu.least_moved[position] * _SCALE - self.brought[t, v], loads[t])
            else:
                total += loads[t]
        return total

    @property
    def bound(self) -> int:
        """The bound on the whole space, in bytes beyond `base`."""
        return self.to_come(self.space.start())

    def to_come(self, state: State) -> int:
        """A lower bound on the bytes that are charged from `state` on."""
        worth, there = self._open(state.executed)
        for t, out, hosted in there:
            if not state.resident >> t & 1:
                worth += out
            elif state.hosted >> t & 1:
                worth += hosted
        return max(0, -(-worth // _SCALE))

    def _open(self, executed: int) -> tuple[int, list[tuple[int, int, int]]]:
        """(worth of the operators that have not run, for each tensor that is there: what it adds if out, if hosted)."""
        known = self._known.get(executed)
        if known is None:
            worth = self.stores + sum(n for v, n in enumerate(self.least) if not executed >> v & 1)
            there = []
            for t, writer in enumerate(self.rows.writer):
                left = self.space.readers[t] & ~executed
                if left and (writer < 0 or executed >> writer & 1):
                    there.append((t, *self._open_of(t, executed, left)))
            known = self._known[executed] = (worth, there)
        return known

    def _open_of(self, t: int, executed: int, left: int) -> tuple[int, int]:
        """What tensor t adds if it is out, and if it is resident and the host has it."""
        tables = (self.prices.copy, self.prices.host)
        hosted = -sum(p for table in tables for (u, v), p in table.items() if u == t and not executed >> v & 1)
        back = sum(p for (u, v), p in self.prices.back.items() if u == t and executed >> v & 1)
        paid = self.space.owed(t, left) * _SCALE
        return self.prices.first.get(t, 0) + back - paid + hosted, hosted


def alone_or_priced(space: ModalSpace) -> Callable[[State], int]:
    """The larger of two lower bounds on what a state still pays: each operator on its own, and prices.

    Neither is always the larger: the one knows which sets of operands fit together, the other mixes them.
    """
    alone, priced = Alone(space), StreamPotentials(space)
    return lambda state: max(alone.to_come(state), priced.to_come(state))
