"""Search over all schedules and modes, part by part.

A tensor that all later operators come after (docs/problem.md#cut-tensors) is in one of three states where it is cut:
resident, resident and with the host, or with the host alone. The least cost of the whole is a shortest path over these
states, whose steps are the costs of each part from an entry state to an exit state. Those are found as far
as the path needs them: of each part and entry the cheapest exits first. Parts alike are solved once an entry state.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from cosma.deadline import Deadline
from cosma.problem import Problem
from cosma.schedule.timeline import Timeline
from cosma.solvers.search.fronts import Menus
from cosma.solvers.search.modal import ModalSpace
from cosma.solvers.search.modal_parts import modal_part
from cosma.solvers.search.parts import Part
from cosma.solvers.search.space import State, bits
from cosma.solvers.search.strategies import Bound, SearchResult, beam, ends, largest
from cosma.solvers.search.windows import modal_window_bound, windows

_NO_CUTOFF = 2**63
_WIDTHS = (10, 40)  # of the beams where the search does not end
_WINDOWS = (12, 36)  # operators in a window
_EXACT, _BEAMS = 0.4, 0.85  # of the time, when the search ends and when the beams do; windows have the rest
_EXITS = ((True, False), (True, True), (False, True))  # (resident, with the host)


@dataclass(slots=True)
class Ends:
    """What is known of one part from one entry state: the ends found so far, by exit, and a bound on all others.

    guides: lower bounds on what a state still pays; the search takes the largest, a beam one after the other, since
    the closest bound is not always the best guide. size, store: bytes of the tensor that it leaves, and what storing it
    costs; 0 if it leaves none.
    """

    space: ModalSpace
    guides: tuple[Bound, ...]
    size: int
    store: int
    bound: int
    found: dict[int, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    coming: Iterator[SearchResult] = field(default_factory=lambda: iter(()))
    states: int = 0  # of beams
    searched: int = 0  # of the search
    stopped: bool = False

    def advance(self) -> None:
        """Find the next end, or why there is none."""
        result = next(self.coming)
        self.bound = max(self.bound, result.bound)
        self.searched = result.states
        if result.end is not None:
            self.keep(result, result.end)
        else:
            self.stopped = not result.complete

    def keep(self, result: SearchResult, end: State) -> None:
        """Remember an end, if it is the cheapest of its exit."""
        left = self.space.left
        here = left < 0 or bool(end.resident >> left & 1)
        exit_ = _EXITS.index((here, not here or (left >= 0 and bool(end.hosted >> left & 1))))
        if result.order is not None and result.cost < self.cheapest(exit_)[0]:
            self.found[exit_] = (result.cost, result.order)

    def cheapest(self, exit_: int) -> tuple[int, tuple[int, ...]]:
        """The cheapest way found to an exit, what was found for others and changed at the end included."""
        return min(
            ((cost + self.change(other, exit_), steps) for other, (cost, steps) in sorted(self.found.items())),
            key=lambda x: x[0],
            default=(_NO_CUTOFF, ()),
        )

    def change(self, before: int, after: int) -> int:
        """Bytes that it takes to make one exit of another: store the tensor, leave it, or load it again."""
        stored = self.store if before == 0 and after != 0 else 0
        return stored + (self.size if before == 2 and after != 2 else 0)

    def least(self, exit_: int) -> int:
        """A lower bound on the cost of an exit."""
        return min(self.cheapest(exit_)[0], self.bound)


@dataclass(frozen=True, slots=True)
class Found:
    """The best timeline that was found and the gaps to evict, None if none; their cost; a bound for all; the effort."""

    timeline: Timeline | None
    evicted: frozenset[int]
    cost: int
    bound: int
    states: int
    kinds: int


class Chain:
    """The parts of a problem in a row. `guides` makes the lower bounds of a space on what a state still pays."""

    def __init__(
        self,
        problem: Problem,
        parts: Sequence[Part],
        guides: Callable[[ModalSpace], tuple[Bound, ...]],
        state_limit: Callable[[ModalSpace], int],
        deadline: Deadline,
    ) -> None:
        self.problem, self.parts, self.deadline = problem, parts, deadline
        self.guides, self.state_limit = guides, state_limit
        self.exact, self.beams = deadline.share(_EXACT), deadline.share(_BEAMS)
        self.menus = Menus(problem)
        self.ends: dict[tuple[object, ...], Ends] = {}
        self.steps: dict[tuple[int, int], Ends] = {}  # by part and entry
        self.tensors: dict[tuple[int, int], tuple[int, ...]] = {}  # the problem's numbers of its tensors

    def _ends(self, k: int, entry: int) -> Ends:
        """What is known of part k from an entry state; operators as those of the first part of its kind."""
        if (k, entry) not in self.steps:
            space = self.space(k, entry)
            known = self.ends.get(space.key)
            if known is None:
                known = self.ends[space.key] = self._begin(space)
            self.steps[k, entry], self.tensors[k, entry] = known, space.tensors
        return self.steps[k, entry]

    def _begin(self, space: ModalSpace) -> Ends:
        """A part before its search: what a narrow beam finds, and no more than that is searched for."""
        size = space.sizes[space.left] if space.left >= 0 else 0
        store = space.eviction[space.left] - size if space.left >= 0 else 0
        guides = self.guides(space)
        to_come = largest(guides)
        known = Ends(space, guides, size, store, space.base + to_come(space.start()))
        self._beam(known, 1)
        best = min((cost for cost, _ in known.found.values()), default=_NO_CUTOFF)
        cutoff = min(_NO_CUTOFF, best + size + store + 1)
        known.coming = ends(space, to_come, cutoff, self.state_limit(space), self.exact)
        return known

    def _beam(self, known: Ends, width: int) -> None:
        for guide in known.guides:
            best = min((cost for cost, _ in known.found.values()), default=_NO_CUTOFF)
            result = beam(known.space, guide, width, best, self.beams)
            if result is not None and result.end is not None:
                known.states += result.states
                known.keep(result, result.end)

    def _raise_bounds(self, path: Sequence[tuple[Ends, int]]) -> None:
        """Where the search of a part did not end: add up the optima of windows of it, each kind once."""
        done = set()
        for k, (step, exit_) in enumerate(path):
            if id(step) not in done and step.cheapest(exit_)[0] > step.bound and not self.deadline.passed:
                done.add(id(step))
                taken = step.space.decode(step.cheapest(exit_)[1])
                order = [self.parts[k].start + way.operator for way in taken]
                for length in _WINDOWS:
                    found, states = modal_window_bound(self.menus, windows(order, length, length), self.deadline)
                    step.bound = max(step.bound, found)
                    step.states += states

    def space(self, k: int, entry: int) -> ModalSpace:
        """The space of part k from an entry state."""
        part = self.parts[k]
        before = (part.resident[0], *_EXITS[entry]) if part.resident else None
        after = self.parts[k + 1].resident[0] if k + 1 < len(self.parts) else -1
        return modal_part(self.menus, range(part.start, part.end), before, after)

    def solve(self) -> Found:
        """The optimum, or what the limits allow."""
        while True:
            path, bound = self._path(self._least)
            waiting = {id(step): step for step, exit_ in path if step.cheapest(exit_)[0] > step.bound}
            open_ = [step for step in waiting.values() if not step.stopped]
            if not open_ or self.exact.passed:
                break
            for step in open_:
                step.advance()
        for width in _WIDTHS:
            for step in {id(step): step for step, exit_ in path if step.cheapest(exit_)[0] > step.bound}.values():
                self._beam(step, width)
        self._raise_bounds(path)
        _, bound = self._path(self._least)
        best, cost = self._path(lambda k, entry, exit_: self._ends(k, entry).cheapest(exit_)[0])
        states = sum(step.states + step.searched for step in self.ends.values())
        if cost >= _NO_CUTOFF:
            return Found(None, frozenset(), _NO_CUTOFF, bound, states, len(self.ends))
        return Found(*self._joined(best), cost, bound, states, len(self.ends))

    def _least(self, k: int, entry: int, exit_: int) -> int:
        """A lower bound on the cost of part k from an entry state to an exit state.

        A part may begin by making another entry state of its own, so it costs at most that more than from there.
        """
        best = self._ends(k, entry).least(exit_)
        if k:
            before = self._ends(k - 1, 0)
            for other in range(len(_EXITS)):
                if other != entry and (k, other) in self.steps:
                    best = max(best, self.steps[k, other].least(exit_) - before.change(other, entry))
        return best

    def _path(self, price: Callable[[int, int, int], int]) -> tuple[list[tuple[Ends, int]], int]:
        """The cheapest path through the exits of all parts: (part, exit) each, and its price; settled ones first."""
        best: dict[int, tuple[int, int, list[tuple[Ends, int]]]] = {0: (0, 0, [])}
        for k in range(len(self.parts)):
            after: dict[int, tuple[int, int, list[tuple[Ends, int]]]] = {}
            exits = range(len(_EXITS) if k + 1 < len(self.parts) else 1)
            for (entry, (paid, open_, path)), exit_ in product(best.items(), exits):
                step = self._ends(k, entry)
                total, unsettled = paid + price(k, entry, exit_), open_ + (step.cheapest(exit_)[0] > step.bound)
                if exit_ not in after or (total, unsettled) < after[exit_][:2]:
                    after[exit_] = (total, unsettled, [*path, (step, exit_)])
            best = after
        total, _, path = best[0]
        return path, total

    def _joined(self, path: Sequence[tuple[Ends, int]]) -> tuple[Timeline, frozenset[int]]:
        """The timeline of the whole, and the gaps in which a tensor leaves."""
        order: list[int] = []
        runs = list(self.problem.runs)
        leaving: dict[int, list[int]] = {}  # tensor -> steps before which it leaves
        entry = 0
        for k, (step, exit_) in enumerate(path):
            start, tensors = self.parts[k].start, self.tensors[k, entry]
            for way in step.space.decode(step.cheapest(exit_)[1]):
                v = start + way.operator
                for a in bits(way.evicted):
                    leaving.setdefault(tensors[a], []).append(len(order))
                order.append(v)
                runs[v] = step.space.menus[way.operator].run(way.number, way.streamed, self.problem.operands[v])
            if not _EXITS[exit_][0]:
                leaving.setdefault(self.parts[k + 1].resident[0], []).append(len(order))
            entry = exit_
        timeline = Timeline(self.problem, tuple(order), tuple(runs))
        gaps = enumerate(timeline.gaps)
        gone = (g for g, gap in gaps if any(gap.first < t <= gap.second for t in leaving.get(gap.tensor, ())))
        return timeline, frozenset(gone) | timeline.lost
