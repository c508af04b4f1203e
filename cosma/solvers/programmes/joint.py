"""A joint integer programme of order and replacement whose relaxation is not zero; addresses on demand.

Binaries: before(u, v) for operators that neither the graph nor their windows order; load[t, r], tensor t is
brought back for its reader r, one for each gap between uses instead of one for each step; stored[t]; and
live[t, v], t lies unused in the scratchpad while v runs. Integers: position[v], between as many steps as v
has ancestors and as many before the end as it has descendants.

    minimise    sum size load  +  sum size stored
    subject to  stored[t] >= load[t, r]                                  for activations
                working set of v + sum size live[t, v] <= capacity       at each operator v
                live[t, v] >= before(u, v) - K before(r, v) - load[t, r] - sum over other readers q of
                              (1 - before(q, v) - before(r, q))          for users u and r of t
                position[v] >= position[u] + 1 where u is before v       big-M from the positions' bounds
                sum of what the tensors of a window cost >= the optimum of that window

The third row says: if t is in use before v, r is its next reader after v (no other q lies between) and
nothing is loaded for r, then t stays. K is one more than the q that may lie between r and v. Where the
graph settles all of this, live is 1 - load[t, r] and needs no variable; those rows alone are the
forced-residency bound (docs/problem.md#forced-residency). The last rows are facts about sub-DAGs, found by search
(docs/problem.md#sub-graphs); they raise the relaxation where the order is free.

Addresses are left out; a solution that cannot be placed is cut off by the tensors and the order of the
steps at which that fails.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

from cosma.deadline import Deadline
from cosma.milp import backends
from cosma.milp.backends import DEFAULT_BACKEND
from cosma.milp.programme import Programme, ProgrammeTooLargeError
from cosma.problem import Problem
from cosma.schedule import replacement
from cosma.schedule.packing import proved_unplaceable
from cosma.schedule.placed import Placed
from cosma.schedule.replacement import Conflict, find_conflict
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.solvers.outcome import Outcome, named
from cosma.solvers.programmes.compact import LARGEST_SPACE, three_orders
from cosma.solvers.programmes.paper.indices import Indices, index
from cosma.solvers.programmes.stating import better_of, measure, no_plan_cheaper, too_large
from cosma.solvers.search.space import bits, whole
from cosma.solvers.search.windows import window_bounds, windows

_MOST_ROUNDS = 20  # of cutting off solutions that cannot be placed
_WINDOWS = (24, 72)  # operators in a window whose optimum becomes a row; windows overlap by half


@dataclass(slots=True)
class _Linear:
    """A constant and a factor for each column."""

    constant: int
    factors: dict[int, int] = field(default_factory=dict)

    def plus(self, other: "_Linear", factor: int = 1) -> "_Linear":
        """This + factor x other."""
        factors = dict(self.factors)
        for column, f in other.factors.items():
            factors[column] = factors.get(column, 0) + factor * f
        return _Linear(self.constant + factor * other.constant, {c: f for c, f in factors.items() if f})

    @property
    def most(self) -> int:
        """The largest value for binaries."""
        return self.constant + sum(f for f in self.factors.values() if f > 0)


class Joint:
    """The programme and its columns; `build` states all rows."""

    def __init__(self, problem: Problem, options: Options, deadline: Deadline) -> None:
        self.index: Indices = index(problem, frozenset())
        self.programme = Programme("joint", deadline, options.memory_limit_bytes)
        count = len(self.index.steps)
        self.count = count
        self.ordered: list[int] = []  # operator -> mask of those that surely run after it
        self.position: list[int] = []
        self.order: dict[tuple[int, int], int] = {}  # (u, v), u < v -> 1 if u runs before v
        self.load: dict[tuple[int, int], int] = {}  # (tensor, reader)
        self.stored: dict[int, int] = {}

    def _ordered(self) -> list[int]:
        """What the graph, the positions' bounds and the twins rule say about the order."""
        after = list(self.index.descendants)
        for w, older in enumerate(whole(self.index.problem).older_twins):
            self.programme.check_limits()
            for v in bits(older):
                after[v] |= 1 << w
        beginning = [0] * (self.count + 1)  # step -> mask of the operators that cannot run before it
        for v, steps in enumerate(self.index.steps):
            beginning[steps.start] |= 1 << v
        for t in range(self.count - 1, -1, -1):
            beginning[t] |= beginning[t + 1]
        for u, steps in enumerate(self.index.steps):
            after[u] |= beginning[steps.stop]
        return after

    def build(self) -> None:
        """All columns and rows but the lazy ones. Raises ProgrammeTooLargeError."""
        self.ordered = self._ordered()
        self.add_order()
        self.add_loads()
        for v in range(self.count):
            self.fit(v)

    def add_order(self) -> None:
        """Positions, order binaries, and the rows that tie them together."""
        programme, steps = self.programme, self.index.steps
        self.position = [programme.integer(f"position{v}", s.start, s.stop - 1) for v, s in enumerate(steps)]
        for v, before in enumerate(self.index.problem.graph.predecessors):
            for u in before:
                programme.at_least("precedence", ((self.position[v], 1), (self.position[u], -1)), 1)
        for u in range(self.count):
            programme.check_limits()
            for v in range(u + 1, self.count):
                if not (self.ordered[u] >> v & 1 or self.ordered[v] >> u & 1):
                    first = self.order[u, v] = programme.binary(f"before_{u}_{v}")
                    self._order_row(u, v, first, 1, 0)
                    self._order_row(v, u, first, -1, 1)
                elif not (self.index.ancestors[v] >> u & 1 or self.index.ancestors[u] >> v & 1):
                    early, late = (u, v) if self.ordered[u] >> v & 1 else (v, u)
                    programme.at_least("precedence", ((self.position[late], 1), (self.position[early], -1)), 1)

    def _order_row(self, u: int, v: int, column: int, factor: int, constant: int) -> None:
        """position[v] >= position[u] + 1 - M (1 - (factor x column + constant))."""
        steps = self.index.steps
        big = steps[u].stop - 1 - steps[v].start + 1
        terms = ((self.position[v], 1), (self.position[u], -1), (column, -big * factor))
        self.programme.at_least("order", terms, 1 - big + big * constant)

    def before(self, u: int, v: int) -> _Linear:
        """Whether u runs before v."""
        if self.ordered[u] >> v & 1:
            return _Linear(1)
        if self.ordered[v] >> u & 1:
            return _Linear(0)
        return _Linear(0, {self.order[u, v]: 1}) if u < v else _Linear(1, {self.order[v, u]: -1})

    def add_loads(self) -> None:
        """One load a reader, where something may lie between, and one store an activation."""
        index, programme = self.index, self.programme
        for a in index.tensors:
            size = index.sizes[a]
            if not size or (index.is_home(a) and len(index.readers[a]) == 1):
                continue
            for r in index.readers[a]:
                self.load[a, r] = programme.binary(f"load_{a}_{r}", size)
            if index.problem.needs_store(a) and index.readers[a]:
                self.stored[a] = programme.binary(f"stored_{a}", size)
                for r in index.readers[a]:
                    programme.at_least("stored", ((self.stored[a], 1), (self.load[a, r], -1)), 0)

    def fit(self, v: int) -> None:
        """The capacity row of operator v, with what may lie unused beside it."""
        index = self.index
        room = index.capacity - index.workspaces[v] - sum(index.sizes[a] for a in index.operands[v])
        beside = _Linear(0)
        for a in dict.fromkeys(a for a, _ in self.load):
            if a not in index.operands[v]:
                self.programme.check_limits()
                beside = beside.plus(self.live(a, v), index.sizes[a])
        if beside.factors:
            self.programme.at_most("capacity", beside.factors.items(), room - beside.constant)

    def live(self, a: int, v: int) -> _Linear:
        """Whether tensor a, no operand of v, lies in the scratchpad while v runs; a new column if need be."""
        producer = self.index.problem.graph.producer[a]
        readers = self.index.readers[a]
        rows = []
        for u in readers if producer is None else (producer,):
            if self.ordered[v] >> u & 1:
                continue
            for r in readers:
                if r == u or self.ordered[r] >> v & 1:
                    continue
                row = self._stays(a, u, v, r)
                if len(row.factors) == 1 and row.constant == 1:
                    return row  # everything is settled but the load
                if row.most > 0:
                    rows.append(row)
        if not rows:
            return _Linear(0)
        column = self.programme.binary(f"live_{a}_{v}")
        for row in rows:
            self.programme.at_least("live", [(column, 1), *((c, -f) for c, f in row.factors.items())], row.constant)
        return _Linear(0, {column: 1})

    def _stays(self, a: int, u: int, v: int, r: int) -> _Linear:
        """1 if tensor a is used by u before v, by r next after v, and nothing is loaded for r; else at most 0."""
        between = _Linear(0)  # at least 1 if some other reader runs between v and r, 0 if none does and v is before r
        wrong = 1  # how much (r before v) has to count to make up for readers that run between r and v
        for q in self.index.readers[a]:
            if q not in (r, u):
                misses = self.before(q, v).plus(self.before(r, q))
                between = between.plus(_Linear(1)).plus(misses, -1)
                wrong += misses.most > 1
        return (
            self.before(u, v).plus(self.before(r, v), -wrong).plus(_Linear(0, {self.load[a, r]: -1})).plus(between, -1)
        )

    def add_windows(self, order: Sequence[int], deadline: Deadline) -> None:
        """Rows for what windows of a schedule cost at least, whatever the schedule."""
        pieces = [piece for length in _WINDOWS for piece in windows(order, length, length // 2)]
        for space, bound, _ in window_bounds(self.index.problem, pieces, deadline):
            columns = [(self.stored[a], a) for a in space.tensors if a in self.stored]
            inside = [
                (a, space.operators[r])
                for a, mask in zip(space.tensors, space.readers, strict=True)
                for r in bits(mask)
            ]
            columns += [(self.load[key], key[0]) for key in inside if key in self.load]
            if bound:
                terms = [(column, self.index.sizes[a]) for column, a in columns]
                self.programme.at_least("window", terms, -(-bound // self.index.unit))

    def cut(self, timeline: Timeline, conflict: Conflict) -> None:
        """Of the tensors in a conflict one is loaded again, or the steps of the conflict run in another order."""
        escape = _Linear(0)
        steps = timeline.order[conflict.start : conflict.end]
        needed = set(pairwise(steps))
        for g in conflict.gaps:
            gap = timeline.gaps[g]
            for r in self.index.readers[gap.tensor]:
                escape = escape.plus(_Linear(0, {self.load[gap.tensor, r]: 1}))
            if gap.first < conflict.start:
                needed.add((timeline.order[gap.first], steps[0]))
            if gap.second >= conflict.end:
                needed.add((steps[-1], timeline.order[gap.second]))
        for u, v in sorted(needed):
            escape = escape.plus(_Linear(1).plus(self.before(u, v), -1))
        self.programme.at_least("addresses", escape.factors.items(), 1 - escape.constant)

    def encode(self, placed: Placed) -> dict[int, int]:
        """Values of the decisions for a plan, the hint of a solver; what follows from them is left out."""
        at = {v: t for t, v in enumerate(placed.timeline.order)}
        gaps = [placed.timeline.gaps[g] for g in placed.evicted]
        loaded = {(gap.tensor, placed.timeline.order[gap.second]) for gap in gaps}
        gone = {gap.tensor for gap in gaps}
        hint = {column: at[v] for v, column in enumerate(self.position)}
        hint |= {column: int(at[u] < at[v]) for (u, v), column in self.order.items()}
        hint |= {column: int(key in loaded) for key, column in self.load.items()}
        return hint | {column: int(a in gone) for a, column in self.stored.items()}

    def decode(self, values: tuple[int, ...]) -> tuple[Timeline, frozenset[int]]:
        """The schedule and the gaps evicted."""
        order = tuple(sorted(range(self.count), key=lambda v: (values[self.position[v]], v)))
        timeline = Timeline.of(self.index.problem, order)
        loads = {key for key, column in self.load.items() if values[column]}
        return timeline, frozenset(g for g, p in enumerate(timeline.gaps) if (p.tensor, order[p.second]) in loads)


def solve(problem: Problem, options: Options, deadline: Deadline) -> Outcome:
    """The joint programme, with cuts until its optimum can be placed. Requires capacity >= M_R."""
    backend = backends.chosen(options.inner)
    best = three_orders(problem, options, DEFAULT_BACKEND, deadline.share(0.3))
    skip = no_plan_cheaper(best, False, options, deadline)
    if skip is not None:
        return skip
    first_s = deadline.elapsed_s
    if len(problem.graph.operators) > LARGEST_SPACE:
        return too_large(best, ProgrammeTooLargeError(f"more than {LARGEST_SPACE:,} operators"), options, first_s)
    joint = Joint(problem, options, deadline)
    try:
        joint.build()
    except ProgrammeTooLargeError as error:
        return too_large(best, error, options, first_s)
    with suppress(ProgrammeTooLargeError):  # they only tighten it
        joint.add_windows(best.timeline.order, deadline.share(0.3))
    size = measure(joint.programme, joint.index.unit, options, deadline)
    best, bound, rests_on, why = _rounds(joint, best, backend, options, deadline)
    name = named("joint programme", rests_on) if bound else "trivial"
    return Outcome(best, bound, name, why, size=size, first_s=first_s)


def _rounds(
    joint: Joint, best: Placed, backend: str, options: Options, deadline: Deadline
) -> tuple[Placed, int, str, tuple[str, ...]]:
    """Solve, place, cut, until bound and plan meet or a limit strikes: (plan, bound, what that rests on, why)."""
    problem, bound, rests_on = joint.index.problem, 0, ""
    why: tuple[str, ...] = ("a limit on the number of cuts was reached",)
    moved = best.timeline.cost(())
    for rounds in range(_MOST_ROUNDS):
        joint.programme.hint = joint.encode(best)
        joint.programme.known = (best.cost_bytes - moved) // joint.index.unit
        solved = backends.minimise(joint.programme, backend, deadline, options.programme.log)
        found_bound = moved + max(0, solved.bound or 0) * joint.index.unit
        if found_bound > bound:
            bound, rests_on = found_bound, solved.rests_on
        why = (f"{solved.why or f'{backend}: {solved.status}'}, {rounds} cuts for addresses",)
        if solved.values is None:
            break
        timeline, evicted = joint.decode(solved.values)
        found = replacement.optimise(timeline, DEFAULT_BACKEND, deadline)
        best, fault = better_of(best, found, backend)
        why += (fault,) if fault else ()
        if best.cost_bytes <= bound or solved.status != "optimal" or deadline.passed:
            break
        conflict = find_conflict(timeline, evicted, deadline)
        if not proved_unplaceable(conflict.blocks, problem.memory, deadline):
            why = (*why, "the optimum was not placed, and that it cannot be was not proved")
            break
        try:
            joint.cut(timeline, conflict)
        except ProgrammeTooLargeError as error:
            why = (*why, str(error))
            break
    return best, bound, rests_on, why
