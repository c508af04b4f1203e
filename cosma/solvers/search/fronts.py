"""What running one operator takes and moves, by the operands that are streamed: fronts of bytes against room.

For each set of streamed operands there may be hundreds of modes; a front keeps those of which no other takes no more
room and moves no more. Operands that concern no other operator (a weight with one reader, an output that nobody
reads) are decided inside a front, so that only the others are left to the search.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate

import numpy as np

from cosma.modes import Mode, Run
from cosma.problem import Problem

NEVER = 2**62  # bytes of what cannot be had


class Role(Enum):
    """What an operand is to the part of a problem that is searched."""

    READ = "read"  # an input that the states know
    MADE = "made"  # an output that the states know; read later
    SENT = "sent"  # the same, and an output of the graph: while it is not streamed, it is stored
    OWN = "own"  # loaded, stored or streamed by this operator alone, at its price
    DROPPED = "dropped"  # written, and read nowhere here: free unless it is streamed
    PASSING = "passing"  # comes from elsewhere; its bytes are counted there

    @property
    def is_tracked(self) -> bool:
        """Whether states know where the operand is."""
        return self in (Role.READ, Role.MADE, Role.SENT)


@dataclass(frozen=True, slots=True)
class Front:
    """Ways to run an operator, by ascending room and descending bytes moved, with their numbers."""

    room: tuple[int, ...]
    moved: tuple[int, ...]
    ways: tuple[int, ...]

    def least(self, room: int) -> int:
        """The least bytes moved in this much room; NEVER if it does not fit."""
        k = bisect_right(self.room, room)
        return self.moved[k - 1] if k else NEVER

    def way(self, room: int) -> int:
        """The number of the way that moves least in this much room."""
        return self.ways[bisect_right(self.room, room) - 1]


@dataclass(frozen=True, slots=True)
class _Table:
    """Modes that overwrite the same tracked inputs, as arrays: number and room, and by operand whether it may be
    streamed, its buffer and the bytes that move.
    """

    number: np.ndarray
    room: np.ndarray
    can: np.ndarray
    buffer: np.ndarray
    moved: np.ndarray
    on_host: np.ndarray  # whether everything has to be streamed


@dataclass(slots=True)
class Menu:
    """The ways to run one operator; operands by their position.

    classes: by position, the first operand that can be exchanged with it. streamable: mask of operands that some mode
    can stream. cheap: those that each mode can stream in no more room and for no more bytes than it takes to load them.
    floor: least bytes that operands of its own and outputs of the graph move in any way that fits. on_host: whether the
    operator runs on the host, which it does in one way. whole: room in which the operator moves no more than that, and
    streams nothing that is tracked; NEVER if it cannot. least_moved: by position, the least bytes that streaming or
    loading takes. ways: (mode, mask of streamed operands that are not tracked) by number; 0 is the one of `whole`.
    """

    kind: int
    roles: tuple[Role, ...]
    sizes: tuple[int, ...]
    capacity: int
    tables: dict[int, _Table]
    classes: tuple[int, ...] = ()
    streamable: int = 0
    cheap: int = 0
    floor: int = 0
    on_host: bool = False
    whole: int = NEVER
    least_moved: tuple[int, ...] = ()
    ways: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    _numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    _fronts: dict[tuple[int, int], Front] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tracked = [p for p, role in enumerate(self.roles) if role.is_tracked]
        self.classes = self._find_classes()
        can = np.any([t.can.any(axis=1) for t in self.tables.values()], axis=0)
        self.streamable = sum(1 << p for p in tracked if can[p])
        costs = [t.can & (np.maximum(t.buffer, t.moved) <= np.array(self.sizes)[:, None]) for t in self.tables.values()]
        cheap = np.all([c.all(axis=1) for c in costs], axis=0)
        self.cheap = sum(1 << p for p in tracked if cheap[p])
        found = [self._least(t, tracked) for t in self.tables.values()]
        self.floor = min(floor for floor, _ in found)
        self.on_host = any(t.on_host.any() for t in self.tables.values())
        self.least_moved = tuple(min(column) for column in zip(*(least for _, least in found), strict=True))
        self._find_whole()

    @property
    def overwriting(self) -> tuple[int, ...]:
        """Masks of the tracked inputs that modes overwrite."""
        return tuple(self.tables)

    @property
    def least_room(self) -> int:
        """The least workspace of all modes, less what outputs share with inputs; it may be negative."""
        return min(int(table.room.min()) for table in self.tables.values())

    @property
    def least_buffers(self) -> list[int]:
        """By position the smallest buffer of all modes; the size where none streams it."""
        rows = [np.where(t.can, t.buffer, np.array(self.sizes)[:, None]).min(axis=1) for t in self.tables.values()]
        return [int(size) for size in np.min(rows, axis=0)]

    def _find_classes(self) -> tuple[int, ...]:
        """For each operand the first that can be exchanged with it: in each mode the same can be done with both."""
        first: dict[object, int] = {}
        found = []
        for p, (role, size) in enumerate(zip(self.roles, self.sizes, strict=True)):
            columns = (
                (over, over >> p & 1, t.can[p].tobytes(), t.buffer[p].tobytes(), t.moved[p].tobytes())
                for over, t in self.tables.items()
            )
            found.append(first.setdefault((role, size, *columns), p))
        return tuple(found)

    def _canonical(self, streamed: int) -> int:
        """The same number of operands of each class, the first ones: they have the same front."""
        count = [0] * len(self.sizes)
        for p, first in enumerate(self.classes):
            count[first] += streamed >> p & 1
        mask = 0
        for p, first in enumerate(self.classes):
            if count[first]:
                mask |= 1 << p
                count[first] -= 1
        return mask

    def _find_whole(self) -> None:
        front = self.front(0, 0) if 0 in self.tables else Front((), (), ())
        sends = any(
            role is Role.MADE and self.least_moved[p] < self.sizes[p] for p, role in enumerate(self.roles)
        )  # it could be had with the host for less than a store
        if front.moved and front.moved[-1] == self.floor and not sends:
            self.whole = front.room[-1]
            self.ways[0] = self.ways[front.ways[-1]]

    def _least(self, table: _Table, tracked: list[int]) -> tuple[int, list[int]]:
        """(floor, by operand the least bytes moved) over the modes of a table that fit at all."""
        room, moved = table.room.copy(), np.zeros(len(table.room), dtype=np.int64)
        smallest = room.copy()
        for p, size in enumerate(self.sizes):
            least = np.where(table.can[p], np.minimum(table.buffer[p], size), size)
            smallest += least
            if p in tracked:
                room += least
                if self.roles[p] is Role.SENT:
                    moved += np.where(table.can[p], np.minimum(table.moved[p], size), size)
        front = self._front(table, table.number, room, moved)
        least_moved = []
        for p, size in enumerate(self.sizes):
            here = np.minimum(np.where(table.can[p], table.buffer[p], size), size)
            fits = table.can[p] & (smallest - here + table.buffer[p] <= self.capacity)
            least_moved.append(min(size, int(table.moved[p][fits].min(initial=size))))
        return front.least(self.capacity), least_moved

    def front(self, streamed: int, overwritten: int) -> Front:
        """The front while these tracked operands are streamed, and those overwritten.

        Its room leaves out what tracked operands take that are not streamed.
        """
        known = self._fronts.get((streamed, overwritten))
        if known is None and (first := self._canonical(streamed)) != streamed:
            known = self._fronts[streamed, overwritten] = self.front(first, overwritten)
        if known is None:
            table = self.tables[overwritten]
            positions = [p for p in range(len(self.roles)) if streamed >> p & 1]
            possible = np.all(table.can[positions], axis=0) if positions else np.ones(len(table.room), dtype=bool)
            if any(role.is_tracked and not streamed >> p & 1 for p, role in enumerate(self.roles)):
                possible &= ~table.on_host
            room = (table.room + table.buffer[positions].sum(axis=0))[possible]
            moved = table.moved[positions].sum(axis=0)[possible]
            moved += sum(
                self.sizes[p] for p, role in enumerate(self.roles) if role is Role.SENT and not streamed >> p & 1
            )
            number = table.number[possible]
            known = self._front(table, number, room, moved)
            self._fronts[streamed, overwritten] = known
        return known

    def _front(self, table: _Table, number: np.ndarray, room: np.ndarray, moved: np.ndarray) -> Front:
        """The front of some modes of a table, with the operands that are not tracked streamed or not, as is best.

        Such an operand is streamed where that takes no more room and moves no more, not where it takes and moves
        more, and otherwise both.
        """
        place, streamed = np.searchsorted(table.number, number), np.zeros(len(number), dtype=np.int64)
        for p, (role, size) in enumerate(zip(self.roles, self.sizes, strict=True)):
            if role.is_tracked:
                continue
            paid = size if role is Role.OWN else 0
            buffer, charged = table.buffer[p][place], table.moved[p][place] * (role is not Role.PASSING)
            can = table.can[p][place] & ~((buffer >= size) & (charged >= paid))
            can |= table.on_host[place]
            whole = ~(can & (buffer <= size) & (charged <= paid)) & ~table.on_host[place]
            place = np.concatenate((place[whole], place[can]))
            room = np.concatenate((room[whole] + size, room[can] + buffer[can]))
            moved = np.concatenate((moved[whole] + paid, moved[can] + charged[can]))
            streamed = np.concatenate((streamed[whole], streamed[can] | 1 << p))
        place, room, moved, streamed = _undominated(place, room, moved, streamed, self.capacity)
        ways = (self._number(int(table.number[k]), int(s)) for k, s in zip(place, streamed, strict=True))
        return Front(tuple(room.tolist()), tuple(moved.tolist()), tuple(ways))

    def _number(self, mode: int, streamed: int) -> int:
        if (mode, streamed) not in self._numbers:
            self._numbers[mode, streamed] = len(self.ways)
            self.ways.append((mode, streamed))
        return self._numbers[mode, streamed]

    def run(self, way: int, streamed: int, operands: tuple[int, ...]) -> Run:
        """The run that a way is, with these tracked operands streamed."""
        mode, own = self.ways[way]
        return Run(mode, frozenset(a for p, a in enumerate(operands) if (streamed | own) >> p & 1))


def _undominated(
    place: np.ndarray, room: np.ndarray, moved: np.ndarray, streamed: np.ndarray, capacity: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Those that fit, by ascending room, each moving less than all before it; of equals the first."""
    order = np.lexsort((moved, room))
    order = order[room[order] <= capacity]
    least = list(accumulate(moved[order].tolist(), min))
    falls = np.array([k == 0 or least[k] < least[k - 1] for k in range(len(least))], dtype=bool)
    kept = order[falls]
    return place[kept], room[kept], moved[kept], streamed[kept]


class Menus:
    """The menus of a problem's operators; operators alike have one together."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._known: dict[tuple[object, ...], Menu] = {}

    def of(self, v: int, roles: Mapping[int, Role]) -> Menu:
        """The menu of operator v, given the roles of tensors: for their writers, where those are in the part."""
        problem = self.problem
        operands, written = problem.operands[v], problem.graph.operators[v].outputs
        played = tuple(Role.READ if roles[a].is_tracked and a not in written else roles[a] for a in operands)
        sizes = tuple(problem.sizes[a] for a in operands)
        stated = tuple(_stated(problem, v, mode) for mode in problem.modes[v])
        key = (played, sizes, stated)
        if key not in self._known:
            tables = dict(_tables(stated, len(operands), played))
            capacity = problem.memory.capacity_bytes
            self._known[key] = Menu(len(self._known), played, sizes, capacity, tables)
        return self._known[key]


Stated = tuple[int, tuple[tuple[int, ...], ...], int, bool]  # room, streams, overwritten positions, on the host


def _stated(problem: Problem, v: int, mode: Mode) -> Stated:
    """Room, streams as (position, buffer, moved), overwritten positions, whether on the host: equal for modes alike."""
    place = {a: p for p, a in enumerate(problem.operands[v])}
    room = problem.aligned(mode.workspace_bytes) - sum(problem.shared(w) for w in mode.overwrites)
    streams = tuple((place[s.tensor], problem.aligned(s.buffer_bytes), s.moved_bytes) for s in mode.streams)
    return room, streams, sum(1 << place[w.input] for w in mode.overwrites), mode.on_host


def _tables(stated: tuple[Stated, ...], operands: int, roles: tuple[Role, ...]) -> Iterator[tuple[int, _Table]]:
    tracked = sum(1 << p for p, role in enumerate(roles) if role.is_tracked)
    for mask in sorted({overwritten & tracked for _, _, overwritten, _ in stated}):
        modes = [(m, *s[:2], s[3]) for m, s in enumerate(stated) if s[2] & tracked == mask]
        shape = (operands, len(modes))
        can, buffer, moved = np.zeros(shape, dtype=bool), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for k, (_, _, streams, _) in enumerate(modes):
            for p, size, total in streams:
                can[p, k], buffer[p, k], moved[p, k] = True, size, total
        number, room, on_host = (np.array([mode[i] for mode in modes]) for i in (0, 1, 3))
        yield mask, _Table(number, room, can, buffer, moved, on_host)
