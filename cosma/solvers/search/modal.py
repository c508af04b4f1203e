"""The state space of schedules where operators can be run in several modes, with operands streamed.

States are those of `Space`. What differs is what a step is: an operator, which of its operands are streamed, what is
evicted before, and the mode that then moves least. A tensor that is out need not be loaded: it may be streamed to
each of its readers. So an eviction is charged with the least that its readers must move in any case, and what they move
beyond that when they do (docs/problem.md#charge-at-eviction). What operators move of their own operands in any
case is charged at the start.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

from cosma.solvers.search.choices import Choice, Group, Rival, Slot, Taken, is_better
from cosma.solvers.search.fronts import NEVER, Front, Menu
from cosma.solvers.search.space import MAX_EVICTION_STEPS, Rules, Space, State, Step, TooManyEvictions, bits, some

_MOST_CHOICES = 4096  # ways to stream some of the operands of one operator


@dataclass(frozen=True, slots=True)
class ModalSpace(Space):
    """A space of which operator v has the ways of `menus[v]`; `slots[v]` are its operands that states know.

    `extra[v]` is the room that it takes besides when it runs with all of them resident and moves as little as it ever
    can; more than there is if it cannot. A step's operators come as numbers (`decode`), v where v runs so.
    start_hosted: tensors that begin with a host copy. `left`: a tensor that something after this part reads, or -1;
    it has a last reader that never runs here.
    """

    menus: tuple[Menu, ...]
    slots: tuple[tuple[Slot, ...], ...]
    start_hosted: int
    left: int
    paid_anyway: int  # compulsory bytes of the tensors whose traffic is counted here
    reads: tuple[dict[int, int], ...] = field(init=False)  # tensor -> reader -> least bytes that it moves
    floors: int = field(init=False)
    _plans: list[tuple[int, int, int]] = field(
        init=False, repr=False, compare=False, default_factory=lambda: [(0, 0, 0)]
    )
    _codes: dict[tuple[int, int, int], int] = field(init=False, repr=False, compare=False, default_factory=dict)
    _roles: dict[tuple[int, int], tuple[int, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _owed: dict[tuple[int, int], int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        reads: list[dict[int, int]] = [{} for _ in self.sizes]
        for v, slots in enumerate(self.slots):
            for slot in slots:
                if not slot.is_written:
                    reads[slot.tensor][v] = self.menus[v].least_moved[slot.position]
        if self.left >= 0:
            reads[self.left][len(self.operators)] = 0
        object.__setattr__(self, "reads", tuple(reads))
        object.__setattr__(self, "floors", sum(menu.floor for menu in self.menus))
        Space.__post_init__(self)

    def decode(self, steps: Sequence[int]) -> list[Taken]:
        """What the steps that a search found stand for."""
        count = len(self.operators)
        return [Taken(s % count, *self._plans[s // count]) for s in steps]

    def _code(self, v: int, way: int, streamed: int, gone: int) -> int:
        """The number that stands for a step."""
        plan = (way, streamed, gone)
        if plan not in self._codes:
            self._codes[plan] = len(self._plans)
            self._plans.append(plan)
        return v + len(self.operators) * self._codes[plan]

    def kind(self, v: int) -> int:
        """Equal for operators that take and move alike, names left out."""
        return self.menus[v].kind if v < len(self.menus) else -1

    def role(self, v: int, a: int) -> int:
        """Equal for inputs of operator v that can be exchanged without changing what it takes and moves."""
        if v >= len(self.menus):
            return 0
        position = next(slot.position for slot in self.slots[v] if slot.tensor == a)
        return self.menus[v].classes[position]

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for parts that have the same answer: everything but the names."""
        return (
            self.capacity, self.sizes, self.eviction, self.inputs, self.outputs, self.needs, self.start_resident,
            self.start_hosted, self.left, tuple(menu.kind for menu in self.menus),
        )  # fmt: skip

    @property
    def base(self) -> int:
        """What every schedule pays, compulsory bytes left out: floors, and the reads of what is out at the start."""
        out = (a for a in range(len(self.sizes)) if self.is_out_at_start(a))
        return self.floors + sum(self.owed(a, self.readers[a]) for a in out) - self.paid_anyway

    def is_out_at_start(self, a: int) -> bool:
        """Whether the host alone has tensor a at the start."""
        written = any(a in outputs for outputs in self.outputs)
        return not written and not self.start_resident >> a & 1

    def start(self) -> State:
        """The state before anything runs."""
        return Space.start(self)._replace(hosted=self.start_hosted & self.start_resident)

    def owed(self, a: int, readers: int) -> int:
        """The least bytes that these readers of tensor a move if it is out: each streams it, or it is loaded once."""
        known = self._owed.get((a, readers))
        if known is None:
            streamed = sum(least for r, least in self.reads[a].items() if readers >> r & 1)
            known = self._owed[a, readers] = min(self.sizes[a], streamed)
        return known

    def store(self, a: int, hosted: int) -> int:
        """Bytes that tensor a costs when it leaves now."""
        return 0 if hosted >> a & 1 else self.eviction[a] - self.sizes[a]

    def must_pay(self, a: int, state: State) -> int:
        """The least bytes that evicting tensor a costs in the end: its store, and the least read of what it may be.

        The finishing rule compares with this and not with a load: i may be streamed to the one reader that is left
        when it leaves. (tests/solvers/test_modal_search.py has an example in which the load would be too much.)
        """
        left = self.readers[a] & ~state.executed
        least = min((n for r, n in self.reads[a].items() if left >> r & 1), default=0)
        return self.store(a, state.hosted) + min(least, self.sizes[a])

    def steps(self, state: State, budget: int, rules: Rules, most: int | None = None) -> Iterator[Step]:
        """The ways on from a state that are worth trying, of cost below `budget`.

        For each operator at most `most`, if given. Raises TooManyEvictions unless it is.
        """
        for v in self.moves(state, rules):
            for cost, code, after in some(self._ways(state, v, budget, rules), most):
                path = [code]
                if rules.finish:
                    after = self.free_moves(after, path)
                yield cost, path, after

    def _ways(self, state: State, v: int, budget: int, rules: Rules) -> Iterator[tuple[int, int, State]]:
        menu, slots = self.menus[v], self.slots[v]
        if menu.on_host and slots:
            yield self._host_way(state, v)
            return
        whole = self.shortage(state, v) <= 0
        if whole and not self.input_masks[v] & ~state.resident:
            yield 0, v, self.run(state, v)  # nothing is cheaper or leaves more behind
            return
        groups = self._groups(state, v, rules)
        for choice in self._choices(state, v, groups):
            for mask in menu.overwriting:
                if mask & choice.streamed:
                    continue
                front = menu.front(choice.streamed, mask)
                if not front.moved:
                    continue
                rivals = list(self._rivals(v, groups, choice.streamed, mask))
                lost = sum(1 << s.tensor for s in slots if mask >> s.position & 1)
                paid = choice.cost + self._price_of_loss(state, v, lost)
                for cost, gone, room in self._evictions(state, v, choice, front, rivals, budget - paid, rules):
                    gone |= choice.leaving
                    code = self._code(v, front.way(room), choice.streamed, gone)
                    yield paid + cost, code, self._after(state, v, gone, choice.streamed, lost)

    def _host_way(self, state: State, v: int) -> tuple[int, int, State]:
        """The one way to run an operator on the host: it takes no room, so nothing leaves for it.

        What is resident stays, and is stored where the host has no copy.
        """
        menu, later = self.menus[v], ~(state.executed | 1 << v)
        streamed = sum(1 << slot.position for slot in self.slots[v])
        front = menu.front(streamed, 0)
        cost = front.least(self.capacity) - menu.floor
        out = 0
        for _, a, is_written, _ in self.slots[v]:
            if not is_written and state.resident >> a & 1:
                cost += self.store(a, state.hosted)
                continue
            cost += self.owed(a, self.readers[a] & later)
            cost -= 0 if is_written else self.owed(a, self.readers[a] & ~state.executed)
            out |= 1 << a
        after = self.run(state, v)
        out &= after.resident
        after = self._without(after, out, sum(self.sizes[a] for a in bits(out)))
        after = after._replace(hosted=after.hosted | self.input_masks[v] & after.resident)
        return cost, self._code(v, front.way(self.capacity), streamed, 0), after

    def _groups(self, state: State, v: int, rules: Rules) -> list[Group]:
        """The operands of v in groups of which only how many are streamed is left to decide.

        Of inputs that are alike those with the smaller numbers lie in the scratchpad, so that operators with many
        inputs have few choices (`_alike`).
        """
        later = ~(state.executed | 1 << v)
        groups: dict[object, list[Slot]] = {}
        for slot in self.slots[v]:
            alike = self._alike(slot.tensor, state) if rules.twins and not slot.is_written else slot
            groups.setdefault((alike, slot.is_streamable), []).append(slot)
        result = []
        for slots in groups.values():
            _, a, is_written, is_streamable = slots[0]
            is_out = not is_written and not state.resident >> a & 1
            is_last = is_out and not self.readers[a] & later
            least, most = 0, len(slots) if is_streamable else 0
            if is_last and all(self.menus[v].cheap >> slot.position & 1 for slot in slots):
                least = most  # nobody reads them later, and each mode streams them for no more than a load
            options = [self._option(state, slots, k, later) for k in range(least, most + 1)]
            result.append(Group(slots, is_out, is_last, options))
        return result

    def _option(self, state: State, slots: Sequence[Slot], streamed: int, later: int) -> Choice:
        """What it means for operands that are alike if the last few of them are streamed."""
        _, a, is_written, _ = slots[0]
        gone, size, whole = slots[len(slots) - streamed :], self.sizes[a], len(slots) - streamed
        mask = sum(1 << slot.position for slot in gone)
        owed = self.owed(a, self.readers[a] & later)
        if is_written:
            return Choice(mask, -whole * size, streamed * owed, 0)
        if state.resident >> a & 1:
            leaving = sum(1 << slot.tensor for slot in gone)
            return Choice(mask, streamed * size, streamed * (self.store(a, state.hosted) + owed), leaving)
        paid = whole * size + streamed * owed - len(slots) * self.owed(a, self.readers[a] & ~state.executed)
        return Choice(mask, -whole * size, paid, 0)

    def _choices(self, state: State, v: int, groups: Sequence[Group]) -> Iterator[Choice]:
        """Which operands are streamed. Raises TooManyEvictions."""
        if prod(len(group.options) for group in groups) > _MOST_CHOICES:
            raise TooManyEvictions
        start = Choice(0, self.capacity - state.live, -self.menus[v].floor, 0)
        for options in product(*(group.options for group in groups)):
            yield Choice(*map(sum, zip(start, *options, strict=True)))

    def _alike(self, a: int, state: State) -> tuple[object, ...]:
        """Equal for tensors that can be exchanged: in size, price, place and readers, and in all that those can do.

        Exchanging the names of two such tensors gives a schedule of the same cost; so of two of which one leaves or is
        streamed while the other is kept or loaded, it may be the one with the larger number.
        """
        left = self.readers[a] & ~state.executed
        roles = self._roles.get((a, left))
        if roles is None:
            roles = self._roles[a, left] = tuple(self.role(r, a) for r in bits(left))
        place = (state.resident >> a & 1, state.hosted >> a & 1)
        return (self.sizes[a], self.eviction[a], left, roles, place)

    def _price_of_loss(self, state: State, v: int, lost: int) -> int:
        """What overwriting these inputs costs: those that are read again need a host copy."""
        later = ~(state.executed | 1 << v)
        total = 0
        for a in bits(lost):
            if self.readers[a] & later:
                is_here = state.resident >> a & 1  # otherwise it is loaded, and the host has it
                total += (self.store(a, state.hosted) if is_here else 0) + self.owed(a, self.readers[a] & later)
        return total

    def _rivals(self, v: int, groups: Sequence[Group], streamed: int, overwritten: int) -> Iterator[Rival]:
        """The same step with one operand less streamed, or one more: if one costs no more, this one is not needed.

        An operand is streamed only where that makes room that moves fewer bytes: with it resident the state after
        the step holds more. An input that is out and that nobody reads later leaves the same state whether it is
        loaded or streamed; of equal ways the streamed one counts. So every way left out has another that costs no
        more and either holds more afterwards, or costs less, or streams more such inputs: there is no circle.
        """
        menu = self.menus[v]
        for slots, is_out, is_last, options in groups:
            first, last = slots[0], slots[-1]  # the last are streamed, the first are not
            size = self.sizes[first.tensor]
            if len(options) == 1 or overwritten >> first.position & 1:
                continue
            if streamed >> last.position & 1:
                front = menu.front(streamed & ~(1 << last.position), overwritten)
                cost = size if is_out else self.eviction[last.tensor] - size if last.is_written else 0
                yield Rival(front, -size, cost, is_last)
            if is_last and not streamed >> first.position & 1:
                yield Rival(menu.front(streamed | 1 << first.position, overwritten), size, -size, False)

    def _evictions(
        self, state: State, v: int, choice: Choice, front: Front, rivals: Sequence[Rival], budget: int, rules: Rules
    ) -> Iterator[tuple[int, int, int]]:
        """(bytes paid and moved, evicted tensors, room then left to the front) for sets worth evicting.

        Inclusion-minimal sets of tensors that v does not use: without any of them more bytes would move
        (docs/problem.md#evict-late-and-minimally). Raises TooManyEvictions.
        """
        movable = [a for a in bits(state.resident & ~self.input_masks[v]) if self.sizes[a]]
        alike = {a: self._alike(a, state) for a in movable}
        movable.sort(key=lambda a: (-self.sizes[a], self.eviction_cost(a, state.hosted), alike[a], -a))
        following = list(range(1, len(movable) + 1))  # the next candidate if this one stays: not one just like it
        for k in range(len(movable) - 2, -1, -1):
            if rules.twins and alike[movable[k]] == alike[movable[k + 1]]:
                following[k] = following[k + 1]
        prices = [self.store(a, state.hosted) + self.owed(a, self.readers[a] & ~state.executed) for a in movable]
        with_it = self._interchange(state, movable) if rules.interchange else [0] * len(movable)
        left = [0] * (len(movable) + 1)
        for k in range(len(movable) - 1, -1, -1):
            left[k] = left[k + 1] + self.sizes[movable[k]]
        stack = [(0, 0, choice.room, 0)]  # (next candidate, evicted, room, price)
        for _ in range(MAX_EVICTION_STEPS):
            if not stack:
                return
            k, gone, room, price = stack.pop()
            moved, best = front.least(room), front.least(room + left[k])
            if best == NEVER or price + best >= budget:
                continue
            if best == moved:
                members = [j for j, a in enumerate(movable) if gone >> a & 1]
                needed = all(front.least(room - self.sizes[movable[j]]) > moved for j in members)
                allowed = not any(with_it[j] & ~gone for j in members)
                if needed and allowed and not any(is_better(rival, room, moved) for rival in rivals):
                    yield price + moved, gone, room
                continue
            stack.append((following[k], gone, room, price))
            stack.append((k + 1, gone | 1 << movable[k], room + self.sizes[movable[k]], price + prices[k]))
        raise TooManyEvictions

    def _after(self, state: State, v: int, gone: int, streamed: int, lost: int) -> State:
        """The state after a run."""
        freed = sum(self.sizes[a] for a in bits(gone))
        after = self.run(self._without(state, gone, freed), v)
        out = lost | sum(1 << s.tensor for s in self.slots[v] if streamed >> s.position & 1)
        out &= after.resident
        return self._without(after, out, sum(self.sizes[a] for a in bits(out)))

    def _interchange(self, state: State, movable: Sequence[int]) -> list[int]:
        """For each candidate the tensors that have to be evicted with it, if it is.

        The interchange rule. Let b have one reader left, r, and let all readers of a come after r. If a is no smaller,
        and storing and loading it costs no more than storing b and the least that r must read of it, then evicting b
        but not a is no better than a instead of b: until r runs a is not used, so b may stay in its place; if a is
        evicted then after all, b is instead. At r, b is used where it lies, and a is loaded after it. Where r
        reads a as well the rule does not hold: r could stream b and have a resident, but not both
        (tests/solvers/test_modal_search.py has an example), and not where r runs on the host.
        """
        result = []
        for b in movable:
            mask, readers = 0, self.readers[b] & ~state.executed
            r = readers.bit_length() - 1
            if not readers & (readers - 1) and not (r < len(self.menus) and self.menus[r].on_host):
                price = self.must_pay(b, state)
                for a in movable:
                    is_dearer = self.sizes[a] < self.sizes[b] or self.eviction_cost(a, state.hosted) > price
                    later = bits(self.readers[a] & ~state.executed)
                    if not is_dearer and all(self.ancestors[w] >> r & 1 for w in later):
                        mask |= 1 << a  # so a is not b: r is no ancestor of itself
            result.append(mask)
        return result

    def _finish(self, state: State, i: int, capacity: int, path: list[int]) -> State | None:
        """As in every space, but what a later part reads is never finished here."""
        if self.finishing[i] >> len(self.operators):
            return None
        return Space._finish(self, state, i, capacity, path)

    def dominates(self, executed: int, cost: int, a: tuple[int, int], other: int, b: tuple[int, int]) -> bool:
        """Whether a state (resident, hosted) reached at `cost` makes another with the same operators executed useless.

        Dominance (docs/problem.md#dominance). The first can imitate the second: it evicts what it alone holds, loads
        what the second alone holds, and pays for the stores that the second has paid already.
        """
        for t in bits(a[0] & ~b[0]):
            cost += self.store(t, a[1]) + self.owed(t, self.readers[t] & ~executed)
            if cost > other:
                return False
        for t in bits(b[0] & ~a[0]):
            cost += self.sizes[t] - self.owed(t, self.readers[t] & ~executed)
        for t in bits(a[0] & b[0] & b[1] & ~a[1]):
            cost += self.eviction[t] - self.sizes[t]
        return cost <= other
