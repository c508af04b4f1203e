"""Lower bounds that hold for every schedule, and potentials: bounds on what a state still has to pay.

The forced-residency bound (docs/problem.md#forced-residency). While operator v runs, a tensor that an
ancestor of v has used and a descendant of v will use is pending, whatever the order. If those and
the operands of v exceed the capacity by e bytes, e bytes of them are out at v, and the next reader
of each has to load it. As a linear programme, with z[t,v] how much of t is out at v, x[t,r] a load
of t for reader r, s[t] its store:

    minimise   sum size[t] x[t,r]  +  sum size[t] s[t]
    subject to sum size[t] z[t,v] >= e[v],   z[t,v] <= sum x[t,r] over readers r that are no ancestors of v,
               z[t,v] <= s[t] unless the host has a copy anyway,   0 <= z <= 1

Its dual solution is rounded to integers and made feasible again by construction, so that no
floating-point number enters a proof.
"""

import importlib
from dataclasses import dataclass, field
from math import gcd
from typing import Any

from cosma.solvers.search.space import Space, State, bits

_SCALE = 1 << 20  # integer units of a dual price
_MOST_TERMS = 100_000  # of the linear programme; beyond, the bound is left out


@dataclass(frozen=True, slots=True)
class Row:
    """Operator v needs `excess` bytes of the `forced` tensors (a mask) out of the scratchpad."""

    operator: int
    excess: int
    forced: int


def pending_across(space: Space) -> list[int]:
    """For each operator the mask of tensors that are pending while it runs, whatever the order; operands left out.

    A reader that never runs here counts as one that comes after everything.
    """
    count = len(space.needs)
    before, after = [0] * count, [0] * count
    touched = [i | sum(1 << a for a in o) for i, o in zip(space.input_masks, space.outputs, strict=True)]
    for v in range(count):
        before[v] = space.start_resident
        for p in bits(space.needs[v]):
            before[v] |= before[p] | touched[p]
    for v in range(count - 1, -1, -1):
        for s in bits(space.successors[v]):
            after[v] |= after[s] | space.input_masks[s]
    return [before[v] & after[v] & ~touched[v] for v in range(count)]


def _forced_bytes(space: Space) -> list[tuple[int, int]]:
    """For each operator (bytes at least pending or in use while it runs, mask of the pending tensors)."""
    # Added up by the binary digits of the sizes: the masks of large spaces have too many ones to visit each.
    digits = range(max(space.sizes, default=0).bit_length())
    having = [sum(1 << a for a, size in enumerate(space.sizes) if size >> k & 1) for k in digits]
    result = []
    for v, mask in enumerate(pending_across(space)):
        working = space.fresh[v] + sum(space.sizes[a] for a in space.inputs[v])
        result.append((working + sum((mask & having[k]).bit_count() << k for k in digits), mask))
    return result


def peak_bound(space: Space) -> int:
    """A lower bound on the peak (bytes) of every schedule without evictions: forced residency."""
    return max(size for size, _ in _forced_bytes(space))


def rows(space: Space) -> list[Row]:
    """The operators at which something is out in every schedule."""
    over = ((v, size - space.capacity, mask) for v, (size, mask) in enumerate(_forced_bytes(space)))
    return [Row(v, excess, mask) for v, excess, mask in over if excess > 0]


@dataclass(slots=True)
class _Prices:
    """A feasible dual solution in units of 1 / _SCALE bytes: worth of each row, and per tensor its
    load and store prices by row (operator, price)."""

    worth: dict[int, int] = field(default_factory=dict)
    loads: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    stores: dict[int, list[tuple[int, int]]] = field(default_factory=dict)


def _solve(space: Space, rows: list[Row]) -> _Prices:
    pywraplp: Any = importlib.import_module("ortools.linear_solver.pywraplp")  # it is not typed
    solver = pywraplp.Solver.CreateSolver("GLOP")
    objective = solver.Objective()
    objective.SetMinimization()
    infinity = solver.infinity()
    moves: dict[tuple[int, int], Any] = {}  # (tensor, reader), or (tensor, -1) for the store

    def move(t: int, reader: int) -> Any:
        if (t, reader) not in moves:
            moves[t, reader] = solver.NumVar(0, infinity, "")
            objective.SetCoefficient(moves[t, reader], space.sizes[t])
        return moves[t, reader]

    covers, loads, stores = [], [], []
    for row in rows:
        cover = solver.Constraint(row.excess, infinity)
        covers.append(cover)
        for t in bits(row.forced):
            out = solver.NumVar(0, 1, "")
            cover.SetCoefficient(out, space.sizes[t])
            link = solver.Constraint(0, infinity)
            link.SetCoefficient(out, -1)
            for reader in bits(space.readers[t] & ~space.ancestors[row.operator]):
                link.SetCoefficient(move(t, reader), 1)
            loads.append((t, row.operator, link))
            if space.eviction[t] > space.sizes[t]:
                link = solver.Constraint(0, infinity)
                link.SetCoefficient(out, -1)
                link.SetCoefficient(move(t, -1), 1)
                stores.append((t, row.operator, link))
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        return _Prices()
    prices = _Prices()
    for t, v, link in loads:
        prices.loads.setdefault(t, []).append((v, _integer(link.dual_value())))
    for t, v, link in stores:
        prices.stores.setdefault(t, []).append((v, _integer(link.dual_value())))
    _make_feasible(space, prices, rows, [_integer(cover.dual_value()) for cover in covers])
    return prices


def _integer(price: float) -> int:
    return max(0, int(price * _SCALE))


def _make_feasible(space: Space, prices: _Prices, rows: list[Row], covers: list[int]) -> None:
    """Scale load and store prices down to what a move costs, then let each row pay for what is lacking.

    A load for reader r serves the rows whose operator r does not precede; a store serves all rows.
    """
    for t, served in prices.loads.items():
        most = max(
            sum(p for v, p in served if not space.ancestors[v] >> r & 1) for r in bits(space.readers[t])
        )  # fmt: skip
        prices.loads[t] = _scaled(served, most, space.sizes[t] * _SCALE)
    for t, served in prices.stores.items():
        prices.stores[t] = _scaled(served, sum(p for _, p in served), space.sizes[t] * _SCALE)
    paid: dict[tuple[int, int], int] = {}
    for table in (prices.loads, prices.stores):
        for t, served in table.items():
            for v, price in served:
                paid[t, v] = paid.get((t, v), 0) + price
    for row, cover in zip(rows, covers, strict=True):
        lacking = sum(max(0, cover * space.sizes[t] - paid[t, row.operator]) for t in bits(row.forced))
        worth = cover * row.excess - lacking
        if worth > 0:
            prices.worth[row.operator] = worth
    for table in (prices.loads, prices.stores):
        for t in table:
            table[t] = [(v, p) for v, p in table[t] if p and v in prices.worth]


def _scaled(served: list[tuple[int, int]], total: int, most: int) -> list[tuple[int, int]]:
    return served if total <= most else [(v, p * most // total) for v, p in served]


class Potentials:
    """Prices of the rows; `to_come(state)` is a lower bound on what the state still has to pay, in bytes.

    By weak duality the rows of operators not yet run cost at least their worth w, whichever tensors pay. What has
    been paid already serves some of them: for an evicted tensor the part of its load and store prices
    that lies in those rows, for a resident one with a host copy the part of its store price
    (docs/problem.md#potentials).
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.unit = gcd(*space.sizes) or 1  # every cost is a multiple of it
        self.rows = rows(space)
        if sum(row.forced.bit_count() for row in self.rows) > _MOST_TERMS:
            self.rows = []
        prices = _solve(space, self.rows) if self.rows else _Prices()
        self.worth = prices.worth
        self.loads, self.stores = prices.loads, prices.stores
        self.mask = sum(1 << v for v in self.worth)
        self.touching = {t: self._operators_touching(t) for t in sorted({*self.loads, *self.stores})}
        self.table: dict[int, tuple[int, dict[int, tuple[int, int]]]] = {}

    def _operators_touching(self, t: int) -> int:
        """Operators of which one has run if t has been in the scratchpad; all if it was there from the start."""
        if self.space.start_resident >> t & 1:
            return -1
        writers = sum(1 << v for v, outputs in enumerate(self.space.outputs) if t in outputs)
        return writers or self.space.readers[t]

    @property
    def bound(self) -> int:
        """The bound on the whole space, in bytes."""
        return self.to_come(self.space.start())

    def to_come(self, state: State) -> int:
        """A lower bound on the bytes that are paid from `state` on."""
        if not self.mask:
            return 0
        worth, credits_ = self._open(state.executed & self.mask)
        for t, (out, hosted) in credits_.items():
            if state.resident >> t & 1:
                if state.hosted >> t & 1:
                    worth -= hosted
            elif self.touching[t] & state.executed or self.touching[t] == -1:
                worth -= out
        step = _SCALE * self.unit
        return max(0, -(-worth // step) * self.unit)

    def _open(self, done: int) -> tuple[int, dict[int, tuple[int, int]]]:
        """(worth of the rows still open, tensor -> what it serves of them if evicted, if resident and stored)."""
        known = self.table.get(done)
        if known is None:
            worth = sum(w for v, w in self.worth.items() if not done >> v & 1)
            credits_: dict[int, tuple[int, int]] = {}
            for t in self.touching:
                load = sum(p for v, p in self.loads.get(t, ()) if not done >> v & 1)
                store = sum(p for v, p in self.stores.get(t, ()) if not done >> v & 1)
                if load or store:
                    credits_[t] = (min(load, self.space.sizes[t] * _SCALE) + store, store)
            known = self.table[done] = (worth, credits_)
        return known
