"""A lower bound on what a state still has to pay where operators have modes: each operator on its own.

Whatever the order, an operator fits into the scratchpad in the way that it runs, so what it streams moves at least the
least bytes over all sets of streamed operands that fit (docs/problem.md#potentials). A tensor that is out has paid
something in advance for its readers; that is taken off what they move of it.
"""

from itertools import combinations

from cosma.solvers.search.fronts import NEVER
from cosma.solvers.search.modal import ModalSpace
from cosma.solvers.search.space import State, bits

_MOST_STREAMED = 6  # operands that may be streamed; an operator with more counts with what it moves in any case


class Alone:
    """`to_come(state)`: bytes that operators move on their own beyond what is charged at the start and in advance."""

    def __init__(self, space: ModalSpace) -> None:
        self.space = space
        self._ways = [self._least_of(v) for v in range(len(space.operators))]
        self._made = [0] * len(space.sizes)  # tensor -> its writer, or none
        for v, outputs in enumerate(space.outputs):
            for a in outputs:
                self._made[a] = 1 << v
        self._known: dict[int, tuple[int, int]] = {}
        self._least: dict[tuple[object, ...], int] = {}

    def _least_of(self, v: int) -> list[tuple[int, int]]:
        """(streamed tensors, least bytes moved with them) of operator v; none that streams more and moves more."""
        space, menu = self.space, self.space.menus[v]
        free = [slot for slot in space.slots[v] if slot.is_streamable]
        if len(free) > _MOST_STREAMED:
            return [(0, menu.floor)]
        found: list[tuple[int, int]] = []
        for count in range(len(free) + 1):
            for streamed in combinations(free, count):
                mask = sum(1 << slot.position for slot in streamed)
                whole = sum(space.sizes[s.tensor] for s in space.slots[v] if not mask >> s.position & 1)
                rooms = (o for o in menu.overwriting if not o & mask)
                moved = min((menu.front(mask, o).least(space.capacity - whole) for o in rooms), default=NEVER)
                if moved < NEVER:
                    found.append((sum(1 << s.tensor for s in streamed if not s.is_written), moved))
        return found or [(0, menu.floor)]

    def to_come(self, state: State) -> int:
        """A lower bound on the bytes that are charged from `state` on.

        A tensor t that is out has been charged with min(size, sum of the least reads of its readers). That is given out
        to its readers, none more than its least read. If all of them stream t, they move what they were given, and
        more; if one loads it, that alone is no less than the charge. So what an operator moves of its streamed
        operands less what it was given for them is not yet paid.
        """
        total, there = self._open(state.executed)
        out = there & ~state.resident
        given: dict[int, dict[int, int]] = {}
        for t in bits(out):
            left = self.space.sizes[t]
            for r, least in self.space.reads[t].items():
                if not state.executed >> r & 1 and r < len(self._ways) and left:
                    given.setdefault(r, {})[t] = min(least, left)
                    left -= min(least, left)
        for r, advance in given.items():
            total += self._beyond(r, advance) - self._beyond(r, {})
        return total

    def _open(self, executed: int) -> tuple[int, int]:
        """(bytes of the operators that have not run if nothing is out, tensors that are there and read later)."""
        known = self._known.get(executed)
        if known is None:
            space = self.space
            total = sum(self._beyond(v, {}) for v in range(len(self._ways)) if not executed >> v & 1)
            there = sum(
                1 << a
                for a, writer in enumerate(self._made)
                if (not writer or executed & writer) and space.readers[a] & ~executed
            )
            known = self._known[executed] = (total, there)
        return known

    def _beyond(self, v: int, advance: dict[int, int]) -> int:
        """Least bytes that v moves beyond its floor and what was paid in advance for its operands."""
        key = (v, *advance.items())
        known = self._least.get(key)
        if known is None:
            least = min(
                moved - sum(paid for t, paid in advance.items() if streamed >> t & 1)
                for streamed, moved in self._ways[v]
            )
            known = self._least[key] = max(0, least - self.space.menus[v].floor)
        return known
