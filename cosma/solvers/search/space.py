"""The state space of schedules: what a partial schedule leaves behind, and which moves are worth trying.

A state is (executed operators, resident tensors, resident tensors with a host copy), as bit masks.
Evictions are charged when they happen, a load and, without a host copy, a store; so the cost of a
partial schedule is known and the future depends on the state alone (docs/problem.md#charge-at-eviction). A tensor
that still has readers and is not resident lies in host memory, its load already paid. Only tensors
that still have readers are kept track of.

Each rule that leaves moves out has a switch in `Rules` and its argument in its docstring; the tests
compare all combinations with brute force.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from cosma.problem import Problem
from cosma.solvers.search.twins import older_twins

MAX_FINISH = 64  # operators that one free move may run
_MOST_EFFECTS = 20_000  # remembered effects of such moves; a bound on memory
MAX_EVICTION_STEPS = 200_000  # of the enumeration of eviction sets before one operator


class TooManyEvictions(Exception):  # noqa: N818 - a limit, no error
    """The sets worth evicting before one operator are too many to list."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Which of the rules that leave moves out are on."""

    finish: bool = True
    interchange: bool = True
    dominance: bool = True
    twins: bool = True


class State(NamedTuple):
    """Bit masks over the operators and tensors of a Space; `live`: bytes of the resident tensors."""

    executed: int
    resident: int
    hosted: int
    live: int
    ready: int


Step = tuple[int, list[int], State]  # what it costs, the operators that run, the state after them
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Space:
    """Part of a problem, numbered from 0: `operators` (indices into the problem, topological order).

    `tensors[a]` is the problem's number of tensor a; those that need not be kept track of (see `part`) are
    in `extra[v]`, the bytes that operator v takes besides.
    `start` is the state before the first operator: what earlier parts leave is resident.
    """

    capacity: int
    operators: tuple[int, ...]
    tensors: tuple[int, ...]
    sizes: tuple[int, ...]
    eviction: tuple[int, ...]  # bytes to evict and bring back a tensor without a host copy
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    extra: tuple[int, ...]
    readers: tuple[int, ...]  # tensor -> mask of operators
    needs: tuple[int, ...]  # operator -> mask of operators before it
    start_resident: int
    input_masks: tuple[int, ...] = field(init=False)
    fresh: tuple[int, ...] = field(init=False)  # bytes that running an operator adds, its loads left out
    successors: tuple[int, ...] = field(init=False)
    ancestors: tuple[int, ...] = field(init=False)
    finishing: tuple[int, ...] = field(init=False)  # tensor -> its readers and all their ancestors
    older_twins: tuple[int, ...] = field(init=False)  # operator -> mask of those to run first, see twins.py
    _effects: dict[int, tuple[int, int, int]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.needs)
        successors, ancestors = [0] * n, [0] * n
        for v in range(n):
            for p in bits(self.needs[v]):
                successors[p] |= 1 << v
                ancestors[v] |= ancestors[p] | 1 << p
        finishing = []
        for mask in self.readers:
            whole = mask
            for r in bits(mask):
                whole |= ancestors[r]
            finishing.append(whole)
        object.__setattr__(self, "input_masks", tuple(sum(1 << a for a in i) for i in self.inputs))
        fresh = (e + sum(self.sizes[a] for a in o) for e, o in zip(self.extra, self.outputs, strict=True))
        object.__setattr__(self, "fresh", tuple(fresh))
        object.__setattr__(self, "successors", tuple(successors))
        object.__setattr__(self, "ancestors", tuple(ancestors))
        object.__setattr__(self, "finishing", tuple(finishing))
        shapes = [(self.kind(v), *((self.sizes[a], self.eviction[a]) for a in o)) for v, o in enumerate(self.outputs)]
        twins = older_twins(self.inputs, self.outputs, self.readers, shapes, self.role)
        object.__setattr__(self, "older_twins", tuple(twins))

    def kind(self, v: int) -> int:
        """Equal for operators that take and move alike, names left out."""
        return self.extra[v]

    def role(self, _v: int, _a: int) -> int:
        """Equal for inputs of operator v that can be exchanged without changing what it takes and moves."""
        return 0

    def moves(self, state: State, rules: Rules) -> Iterator[int]:
        """The operators worth running next."""
        for v in bits(state.ready):
            if not (rules.twins and self.older_twins[v] & ~state.executed):
                yield v

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for parts that have the same answer: everything but the names."""
        return (
            self.capacity, self.sizes, self.eviction, self.inputs, self.outputs, self.extra, self.needs,
            self.start_resident,
        )  # fmt: skip

    @property
    def everything(self) -> int:
        """The mask of all operators."""
        return (1 << len(self.operators)) - 1

    def start(self) -> State:
        """The state before anything runs."""
        live = sum(self.sizes[a] for a in bits(self.start_resident))
        ready = sum(1 << v for v, needs in enumerate(self.needs) if not needs)
        return State(0, self.start_resident, 0, live, ready)

    @property
    def base(self) -> int:
        """Bytes that every schedule pays, charged at the start."""
        return 0

    def steps(self, state: State, budget: int, rules: Rules, most: int | None = None) -> Iterator[Step]:
        """The ways on from a state that are worth trying, of cost below `budget`.

        For each operator at most `most` eviction sets, if given. Raises TooManyEvictions unless it is.
        """
        for v in self.moves(state, rules):
            for cost, _, before in some(self.evictions(state, v, budget, rules), most):
                path = [v]
                after = self.run(before, v)
                if rules.finish:
                    after = self.free_moves(after, path)
                yield cost, path, after

    def must_pay(self, a: int, state: State) -> int:
        """The least bytes that evicting tensor a costs in the end, whatever follows."""
        return self.eviction_cost(a, state.hosted)

    def eviction_cost(self, a: int, hosted: int) -> int:
        """Bytes that evicting tensor a costs in the end: its load, and its store if the host has no copy."""
        return self.sizes[a] if hosted >> a & 1 else self.eviction[a]

    def run(self, state: State, v: int) -> State:
        """The state after operator v, all of whose inputs are resident or can be loaded; nothing is evicted."""
        executed = state.executed | 1 << v
        resident, hosted, live = state.resident, state.hosted, state.live
        for a in self.inputs[v]:
            if not resident >> a & 1:
                live += self.sizes[a]
                resident |= 1 << a
                hosted |= 1 << a  # it came from there
            if not self.readers[a] & ~executed:
                live -= self.sizes[a]
                resident &= ~(1 << a)
                hosted &= ~(1 << a)
        for a in self.outputs[v]:
            if self.readers[a] & ~executed:
                live += self.sizes[a]
                resident |= 1 << a
        ready = state.ready & ~(1 << v)
        for w in bits(self.successors[v]):
            if not self.needs[w] & ~executed:
                ready |= 1 << w
        return State(executed, resident, hosted, live, ready)

    def shortage(self, state: State, v: int) -> int:
        """Bytes that have to leave before operator v can run; not positive if it fits."""
        missing = self.input_masks[v] & ~state.resident
        loads = sum(self.sizes[a] for a in bits(missing)) if missing else 0
        return state.live + loads + self.fresh[v] - self.capacity

    def free_moves(self, state: State, path: list[int], capacity: int | None = None) -> State:
        """Run everything that can be run at once without losing the optimum; append it to `path`.

        The finishing rule. Let tensor i be resident, S all its readers and their ancestors that have not
        run, and N the tensors alive after S that S made. If S fits now with nothing evicted or loaded,
        and N has no more bytes than i and costs no more to evict, then running S at once is optimal.
        Every last operator of S reads i, so in any other schedule i is pending until S is complete. Run
        S first and let the members of N that the other schedule has not made yet take the place of i:
        they fit where i lies, leave when i leaves, at no higher cost, and are back (their loads being
        paid) when the other schedule makes them. Nothing else of S is alive. (N empty: i just ends.)
        """
        capacity = self.capacity if capacity is None else capacity
        again = True
        while again:
            again = False
            for i in bits(state.resident):
                after = self._finish(state, i, capacity, path)
                if after is not None:
                    state, again = after, True
                    break
        return state

    def _finish(self, state: State, i: int, capacity: int, path: list[int]) -> State | None:
        todo = self.finishing[i] & ~state.executed
        needed, size, cost = self._effect(todo)
        if needed & ~state.resident or size > self.sizes[i] or cost > self.must_pay(i, state):
            return None
        at = len(path)
        for v in bits(todo):
            if state.live + self.fresh[v] > capacity:
                del path[at:]
                return None
            state = self.run(state, v)
            path.append(v)
        return state

    def _effect(self, todo: int) -> tuple[int, int, int]:
        """(tensors needed from outside, bytes of the tensors left, bytes to evict those) of running these operators."""
        known = self._effects.get(todo)
        if known is None:
            needed = made = 0
            if todo.bit_count() <= MAX_FINISH:
                for v in bits(todo):
                    needed |= self.input_masks[v]
                    made |= sum(1 << a for a in self.outputs[v])
            else:
                needed = -1  # more than anything has resident
            left = [a for a in bits(made) if self.readers[a] & ~todo]
            known = needed & ~made, sum(self.sizes[a] for a in left), sum(self.eviction[a] for a in left)
            if len(self._effects) == _MOST_EFFECTS:
                self._effects.clear()
            self._effects[todo] = known
        return known

    def evictions(self, state: State, v: int, budget: int, rules: Rules) -> Iterator[tuple[int, int, State]]:
        """(cost, evicted tensors, state without them) for the sets worth evicting before operator v.

        Inclusion-minimal sets of tensors that v does not use, of cost below `budget`: evicting later or less never
        costs more (docs/problem.md#evict-late-and-minimally). Raises TooManyEvictions.
        """
        deficit = self.shortage(state, v)
        if deficit <= 0:
            yield 0, 0, state
            return
        movable = [a for a in bits(state.resident & ~self.input_masks[v]) if self.sizes[a]]
        movable.sort(key=lambda a: (-self.sizes[a], self.eviction_cost(a, state.hosted), a))
        costs = [self.eviction_cost(a, state.hosted) for a in movable]
        with_it = self._interchange(state, movable) if rules.interchange else [0] * len(movable)
        left = [0] * (len(movable) + 1)
        for k in range(len(movable) - 1, -1, -1):
            left[k] = left[k + 1] + self.sizes[movable[k]]
        stack = [(0, 0, 0, 0)]  # (next candidate, evicted, bytes, cost)
        for _ in range(MAX_EVICTION_STEPS):
            if not stack:
                return
            k, gone, freed, cost = stack.pop()
            if freed >= deficit:
                members = [j for j, a in enumerate(movable) if gone >> a & 1]
                if all(freed - self.sizes[movable[j]] < deficit and not with_it[j] & ~gone for j in members):
                    yield cost, gone, self._without(state, gone, freed)
                continue
            if k == len(movable) or freed + left[k] < deficit:
                continue
            stack.append((k + 1, gone, freed, cost))
            if cost + costs[k] < budget:
                stack.append((k + 1, gone | 1 << movable[k], freed + self.sizes[movable[k]], cost + costs[k]))
        raise TooManyEvictions

    def _without(self, state: State, gone: int, freed: int) -> State:
        return state._replace(resident=state.resident & ~gone, hosted=state.hosted & ~gone, live=state.live - freed)

    def _interchange(self, state: State, movable: Sequence[int]) -> list[int]:
        """For each candidate the tensors that have to be evicted with it, if it is.

        The interchange rule. Let b have one reader left, r, and let no reader of a come before r. If a
        is no smaller and costs no more to evict, evicting b but not a is no better than a instead of b:
        until r runs a is not used, so b may stay in its place; if a is evicted then after all, b is
        instead, and the same has been paid; when b is loaded for r, a is, and after r b is no more.
        Of tensors alike in all of this the one with the larger number goes first.
        """
        pending = {a: self.readers[a] & ~state.executed for a in movable}
        result = []
        for b in movable:
            mask = 0
            readers = pending[b]
            if not readers & (readers - 1):
                r = readers.bit_length() - 1
                size, cost = self.sizes[b], self.eviction_cost(b, state.hosted)
                for a in movable:
                    other = self.eviction_cost(a, state.hosted)
                    if a == b or self.sizes[a] < size or other > cost:
                        continue
                    if pending[a] == readers:
                        if self.sizes[a] > size or other < cost or a > b:
                            mask |= 1 << a
                    elif all(w == r or self.ancestors[w] >> r & 1 for w in bits(pending[a])):
                        mask |= 1 << a
            result.append(mask)
        return result

    def dominates(self, _executed: int, cost: int, a: tuple[int, int], other: int, b: tuple[int, int]) -> bool:
        """Whether a state (resident, hosted) reached at `cost` makes another with the same operators executed useless.

        Dominance (docs/problem.md#dominance). The first can imitate the second: it evicts what it alone
        holds, now, and pays for the stores that the second has paid already; what the second alone
        holds it has paid to load.
        """
        for t in bits(a[0] & ~b[0]):
            cost += self.sizes[t] if a[1] >> t & 1 else self.eviction[t]
            if cost > other:
                return False
        for t in bits(a[0] & b[0] & b[1] & ~a[1]):
            cost += self.eviction[t] - self.sizes[t]
        return cost <= other


def some(ways: Iterator[T], most: int | None) -> Iterator[T]:
    """The first few of the ways on, or all; a beam need not see them all, nor know that there are too many."""
    if most is None:
        yield from ways
    else:
        with suppress(TooManyEvictions):
            yield from islice(ways, most)


def bits(mask: int) -> Iterator[int]:
    """The positions of the ones, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def whole(problem: Problem) -> Space:
    """The space of the whole problem, of which every operator has one mode."""
    return part(problem, range(len(problem.graph.operators)), ())


def part(problem: Problem, operators: Sequence[int], resident: Sequence[int]) -> Space:
    """The space of some operators, in topological order, starting with some of the problem's tensors resident.

    Readers outside are left out. A tensor that comes from outside and is not among `resident` costs
    nothing to bring back, so it is no part of the state: it takes its bytes while its readers run. That
    holds exactly for inputs and weights with one reader, and otherwise relaxes: the optimum is then a
    lower bound on what the tensors written here, and those used nowhere else, cost in any schedule.
    """
    graph = problem.graph
    local = {v: i for i, v in enumerate(operators)}
    wanted = [problem.operands[v] for v in operators]
    readers: dict[int, int] = {}
    for i, v in enumerate(operators):
        reads = set(graph.operators[v].inputs)
        for a in wanted[i]:
            readers[a] = readers.get(a, 0) | (1 << i if a in reads else 0)
    written_here = {a for v in operators for a in graph.operators[v].outputs}
    passing = {
        a
        for a, mask in readers.items()
        if a not in written_here
        and a not in resident
        and (not graph.tensors[a].is_home or mask.bit_count() == 1 or any(r not in local for r in graph.readers[a]))
    }
    tensors = tuple(a for a in readers if a not in passing)
    number = {a: k for k, a in enumerate(tensors)}
    inputs, outputs, extra = [], [], []
    for v, operands in zip(operators, wanted, strict=True):
        written = set(graph.operators[v].outputs)
        inputs.append(tuple(number[a] for a in operands if a not in written and a in number))
        outputs.append(tuple(number[a] for a in operands if a in written))
        workspace = problem.aligned(problem.modes[v][0].workspace_bytes)
        extra.append(workspace + sum(problem.sizes[a] for a in operands if a in passing))
    stores = [problem.needs_store(a) for a in tensors]
    return Space(
        capacity=problem.memory.capacity_bytes,
        operators=tuple(operators),
        tensors=tensors,
        sizes=tuple(problem.sizes[a] for a in tensors),
        eviction=tuple(problem.sizes[a] * (2 if store else 1) for a, store in zip(tensors, stores, strict=True)),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        extra=tuple(extra),
        readers=tuple(readers[a] for a in tensors),
        needs=tuple(sum(1 << local[p] for p in graph.predecessors[v] if p in local) for v in operators),
        start_resident=sum(1 << number[a] for a in resident),
    )
