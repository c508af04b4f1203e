"""Search over all schedules: beams for good plans, best-first search for proofs, and the smallest peak.

Costs are bytes of non-compulsory traffic, addresses left out. Nothing here is random, and nothing but
the deadline depends on the machine.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

from cosma.deadline import Deadline
from cosma.solvers.search.space import Rules, Space, State, TooManyEvictions

ALL_RULES = Rules()
_LOOK_AT_CLOCK = 32  # states between two looks
_BEAM_EVICTIONS = 32  # eviction sets that a beam tries for one operator

Bound = Callable[[State], int]  # a lower bound on the cost still to come


def largest(bounds: Sequence[Bound]) -> Bound:
    """The largest of lower bounds."""
    return lambda state: max(bound(state) for bound in bounds)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search knows. order: operators of the space, or None. bound: proven for all schedules.

    complete: whether the search ran to its end, so that no schedule costs less than min(cost, cutoff). end: the state
    that the order ends in.
    """

    order: tuple[int, ...] | None
    cost: int
    bound: int
    states: int
    complete: bool
    end: State | None = None


# How a state was reached: the operators run last, and what was before. It outlives the state, so it holds none.
_Trail = tuple[tuple[int, ...], "_Trail | None"]


class _Node(NamedTuple):
    state: State
    cost: int
    trail: _Trail


def _order(node: _Node) -> tuple[int, ...]:
    pieces = []
    at: _Trail | None = node.trail
    while at is not None:
        piece, at = at
        pieces.append(piece)
    return tuple(v for piece in reversed(pieces) for v in piece)


def best_first(
    space: Space,
    to_come: Bound,
    cutoff: int,
    state_limit: int,
    deadline: Deadline,
    rules: Rules = ALL_RULES,
    variant: int = 0,
) -> SearchResult:
    """A* over the states: the optimum, or proof that none is below `cutoff` (bytes), or a lower bound.

    `to_come` never exceeds what a state still has to pay, so a state's cost plus that bounds every
    schedule through it; states are expanded in the order of this sum, and when the first complete one
    comes up nothing cheaper is left. States are dropped when the sum reaches the cutoff or a state with
    the same operators executed dominates them. Stops at `state_limit` states or the deadline; the
    least sum still open is then the bound. `variant` breaks ties differently: another optimum, maybe.
    """
    return next(ends(space, to_come, cutoff, state_limit, deadline, rules, variant))


def ends(
    space: Space,
    to_come: Bound,
    cutoff: int,
    state_limit: int,
    deadline: Deadline,
    rules: Rules = ALL_RULES,
    variant: int = 0,
) -> Iterator[SearchResult]:
    """The states in which a schedule may end, the cheapest first, as `best_first` finds them; the last has no end.

    Those that another dominates are left out.
    """
    search = _BestFirst(space, to_come, cutoff, state_limit, deadline, rules, variant)
    search.add(_first(space, rules))
    while search.heap:
        bound, _, _, node = heappop(search.heap)
        if node.state.executed == space.everything:
            yield SearchResult(_order(node), node.cost, node.cost, search.states, True, node.state)
        elif not search.expand(node):
            yield SearchResult(None, cutoff, bound, search.states, False)
            return
    yield SearchResult(None, cutoff, cutoff, search.states, True)


def _first(space: Space, rules: Rules) -> _Node:
    path: list[int] = []
    state = space.start()
    if rules.finish:
        state = space.free_moves(state, path)
    return _Node(state, space.base, (tuple(path), None))


class _BestFirst:
    """The open states of a best-first search, and the undominated ones for each set of executed operators."""

    def __init__(
        self,
        space: Space,
        to_come: Bound,
        cutoff: int,
        state_limit: int,
        deadline: Deadline,
        rules: Rules,
        variant: int,
    ) -> None:
        self.space, self.to_come, self.cutoff, self.rules = space, to_come, cutoff, rules
        self.state_limit, self.deadline, self.variant = state_limit, deadline, variant
        self.heap: list[tuple[int, int, int, _Node]] = []
        self.seen: dict[int, list[tuple[int, tuple[int, int]]]] = {}
        self.states = 0  # generated, whether kept or not: what a state limit counts

    def add(self, node: _Node) -> None:
        """Keep a state, unless it is useless."""
        self.states += 1
        state, cost, _ = node
        total = cost + self.to_come(state)
        if total >= self.cutoff or self._is_useless(state, cost):
            return
        # Of equal sums the one with more operators executed first: it is closer to an end.
        tie = (-state.executed.bit_count(), state.live, -state.live)[self.variant]
        heappush(self.heap, (total, tie, self.states, node))

    def _is_useless(self, state: State, cost: int) -> bool:
        held = (state.resident, state.hosted)
        known = self.seen.setdefault(state.executed, [])
        if self.rules.dominance:
            dominates, executed = self.space.dominates, state.executed
            useless = any(c <= cost and dominates(executed, c, other, cost, held) for c, other in known)
        else:
            useless = any(c <= cost and other == held for c, other in known)
        if not useless:
            known.append((cost, held))
        return useless

    def expand(self, node: _Node) -> bool:
        """Add all successors; False if a limit struck half-way, the node's own bound is then the best."""
        try:
            for cost, path, after in self.space.steps(node.state, self.cutoff - node.cost, self.rules):
                self.add(_Node(after, node.cost + cost, (tuple(path), node.trail)))
                if self.states >= self.state_limit:
                    return False
                if self.states % _LOOK_AT_CLOCK == 0 and self.deadline.passed:
                    return False
        except TooManyEvictions:
            return False
        return True


def beam(space: Space, to_come: Bound, width: int, cutoff: int, deadline: Deadline) -> SearchResult | None:
    """A schedule by beam search: of the states with equally many operators executed the `width` best go on.

    Best is least (cost + bound to come, resident bytes). None at the deadline, or if nothing below the
    cutoff was met. No bound is proved.
    """
    rules = ALL_RULES
    count = len(space.operators)
    layers: list[dict[tuple[int, int, int], _Node]] = [{} for _ in range(count + 1)]
    first = _first(space, rules)
    layers[first.state.executed.bit_count()][first.state[:3]] = first
    states = 0
    for k in range(count):
        layer, layers[k] = layers[k], {}
        for node in sorted(layer.values(), key=lambda n: (n.cost + to_come(n.state), n.state.live))[:width]:
            if deadline.passed:
                return None
            for cost, path, after in space.steps(node.state, cutoff - node.cost, rules, _BEAM_EVICTIONS):
                states += 1
                there = layers[after.executed.bit_count()]
                known = there.get(after[:3])
                if known is None or node.cost + cost < known.cost:
                    there[after[:3]] = _Node(after, node.cost + cost, (tuple(path), node.trail))
    if not layers[count]:
        return None
    best = min(layers[count].values(), key=lambda n: n.cost)
    return SearchResult(_order(best), best.cost, 0, states, False, best.state)


def smallest_peak(space: Space, state_limit: int, deadline: Deadline, floor: int = 0) -> SearchResult:
    """The smallest peak over all schedules without evictions (M_P), best first: least peak so far, then depth.

    `cost` and `bound` are peaks in bytes; `floor` is a known lower bound. The finishing rule holds with
    the peak so far in place of the capacity. At a limit `order` is None.
    """
    path: list[int] = []
    floor = max(floor, space.start().live)
    state = space.free_moves(space.start(), path, floor)
    node = _Node(state, floor, (tuple(path), None))
    heap = [(floor, -state.executed.bit_count(), 0, node)]
    seen: dict[int, int] = {state.executed: floor}
    states = 0
    while heap:
        peak, _, _, node = heappop(heap)
        if node.state.executed == space.everything:
            return SearchResult(_order(node), peak, peak, states, True)
        for v in space.moves(node.state, ALL_RULES):
            if states >= state_limit or (states % _LOOK_AT_CLOCK == 0 and deadline.passed):
                return SearchResult(None, peak, peak, states, False)
            higher = max(peak, space.shortage(node.state, v) + space.capacity)
            path = [v]
            after = space.free_moves(space.run(node.state, v), path, higher)
            states += 1
            if seen.get(after.executed, higher + 1) > higher:
                seen[after.executed] = higher
                entry = _Node(after, higher, (tuple(path), node.trail))
                heappush(heap, (higher, -after.executed.bit_count(), states, entry))
    raise AssertionError("a validated graph always has a schedule")
