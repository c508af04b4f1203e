"""Lower bounds from prices, where operators have modes: what a state still pays for room, stores and reads.

At any prices of the rows of `Programme` that are not negative the Lagrangian bound holds: for each variable on its own
the least that it can add, and the right-hand sides at their prices (docs/problem.md#prices). The prices come from
a solver and are rounded down to integers; the bound is computed from them in integers, so that nothing that the solver
says, and no floating-point number, enters a proof.
"""

from typing import NamedTuple

from cosma.solvers.search.modal import ModalSpace
from cosma.solvers.search.modal_bounds import Alone
from cosma.solvers.search.modal_programme import SCALE, Pair, Prices, Programme, Rows
from cosma.solvers.search.space import State, bits
from cosma.solvers.search.strategies import Bound

_MOST_TERMS = 100_000  # of the programme; beyond, the bound is left out


class _Open(NamedTuple):
    """What is worth something once these operators have run, in units of 1 / SCALE bytes.

    worth: of what is to come in any case. there: what is there and read later: (tensor as a mask, worth if it is out,
    worth if it is resident and the host has a copy).
    """

    worth: int
    there: list[tuple[int, int, int]]


class Priced:
    """`to_come(state)`: a lower bound on the bytes that are charged from `state` on, by prices of the rows.

    For the future, rows of operators that have run say: what is out comes back, and what the host has need not be
    stored. So each row keeps its price in every state, and what a variable adds at least does not depend on
    the state; only the right-hand sides do.
    """

    def __init__(self, space: ModalSpace) -> None:
        rows = Rows(space)
        self.space, self.rows = space, rows
        self.use(Programme(rows).prices() if rows.terms <= _MOST_TERMS else Prices())

    def use(self, prices: Prices) -> None:
        """Take these prices from here on, in whatever way they were found; none may be negative."""
        self.prices = prices
        self._brought, self._copied = self._worth_of_moves()
        self._least = [self._least_of(v) for v in range(len(self.space.operators))]
        prices_of_stores = ((t, self.space.eviction[t] - size) for t, size in enumerate(self.space.sizes))
        self._stores = sum(min(0, n * SCALE - self._copied[t]) for t, n in prices_of_stores if n)
        self._known: dict[int, _Open] = {}

    def _worth_of_moves(self) -> tuple[dict[Pair, int], list[int]]:
        """What it is worth to bring a tensor to a reader, and to have a copy of it with the host."""
        rows, prices, ancestors = self.rows, self.prices, self.space.ancestors
        copied = [0] * len(self.space.sizes)
        brought = {(t, r): prices.first.get(t, 0) for t, mask in enumerate(rows.readers) for r in bits(mask)}
        for (t, r), price in prices.host.items():
            brought[t, r] -= price
            copied[t] += price
        for (t, _), price in prices.copy.items():
            copied[t] += price
        for (t, v), price in prices.back.items():
            for r in bits(rows.readers[t] & ~ancestors[v]):
                brought[t, r] += price
        return brought, copied

    def _least_of(self, v: int) -> int:
        """The least that operator v, the loads for it, and what is out while it runs add, beyond its floor."""
        space, menu, prices = self.space, self.space.menus[v], self.prices
        inputs = {slot.tensor for slot in space.slots[v] if not slot.is_written}
        loads = {t: min(0, space.sizes[t] * SCALE - self._brought[t, v]) for t in inputs}
        sent = {t: self._copied[t] - prices.first.get(t, 0) for t in space.outputs[v]}
        room = prices.room.get(v, 0)
        total = sum(loads.values()) - menu.floor * SCALE
        for t in bits(self.rows.pending[v]):
            total -= max(0, space.sizes[t] * room - prices.back.get((t, v), 0) - prices.copy.get((t, v), 0))
        worth = {t: self._brought[t, v] + loads[t] for t in inputs} | sent
        if v in self.rows.loose:
            return total + self._loosely(v, room, worth)
        ways = self.rows.ways[v]
        return total + min(w.moved * SCALE + w.excess * room - sum(worth[t] for t in bits(w.streamed)) for w in ways)

    def _loosely(self, v: int, room: int, worth: dict[int, int]) -> int:
        """What an operator adds whose ways are not listed: each operand is streamed or not on its own."""
        loose = self.rows.loose[v]
        streamed = (moved * SCALE - freed * room - worth[t] for t, freed, moved in loose.streams)
        return self.space.menus[v].floor * SCALE + loose.excess * room + sum(min(0, n) for n in streamed)

    def to_come(self, state: State) -> int:
        """A lower bound on the bytes that are charged from `state` on."""
        worth, there = self._known.get(state.executed) or self._open(state.executed)
        for t, if_out, if_hosted in there:
            if not t & state.resident:
                worth += if_out
            elif t & state.hosted:
                worth += if_hosted
        return max(0, -(-worth // SCALE))

    def _open(self, executed: int) -> _Open:
        space, rows, prices = self.space, self.rows, self.prices
        worth = self._stores + sum(n for v, n in enumerate(self._least) if not executed >> v & 1)
        back, copied = [0] * len(space.sizes), [0] * len(space.sizes)
        for (t, v), price in prices.back.items():
            back[t] += price if executed >> v & 1 else 0
        for table in (prices.copy, prices.host):
            for (t, v), price in table.items():
                copied[t] += 0 if executed >> v & 1 else price
        there = []
        for t, writer in enumerate(rows.writer):
            left = space.readers[t] & ~executed
            if left and (writer < 0 or executed >> writer & 1):
                if_out = prices.first.get(t, 0) + back[t] - space.owed(t, left) * SCALE
                there.append((1 << t, if_out - copied[t], -copied[t]))
        self._known[executed] = known = _Open(worth, there)
        return known


def modal_bounds(space: ModalSpace) -> tuple[Bound, Bound]:
    """Two lower bounds on what a state still pays: each operator on its own, and prices.

    Neither is always the larger: the one knows which sets of operands fit together, the other mixes them.
    """
    return Alone(space).to_come, Priced(space).to_come
