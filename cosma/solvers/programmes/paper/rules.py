"""The paper's programme, equation by equation (numbers as in arXiv 2311.18246).

Binaries for tensor a and step t: C created, P preserved, S spilled, R retrieved, V address kept; integer L,
the address; for two tensors at a step, D (the first lies below the second) and U (above). Where it differs:

- Inputs and weights lie in host memory from the start: no C, no S, and (4) asks no store of them. Their
  first load is compulsory, so the objective takes it off. A store of an output is compulsory, and free.
- (1) as printed forbids a store and a load of a tensor in the same step. That rules out plans that move a
  tensor between adjacent uses, and so the proof that no plan is cheaper; S and R may meet here.
- Not printed, but needed: one operator a step (`one_at_a_time`), nothing held at the first step (no columns).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from cosma.milp.programme import Programme
from cosma.solvers.programmes.paper.indices import Indices
from cosma.solvers.search.space import bits, whole

Columns = dict[tuple[int, int], int]  # (tensor or operator, step) -> column


@dataclass(slots=True)
class TimeIndexed:
    """The programme under construction and its columns. `created[v, t]` stands for operator v runs at step t."""

    index: Indices
    programme: Programme
    ran: Columns = field(default_factory=dict)
    created: Columns = field(default_factory=dict)
    preserved: Columns = field(default_factory=dict)
    spilled: Columns = field(default_factory=dict)
    retrieved: Columns = field(default_factory=dict)
    address: Columns = field(default_factory=dict)
    kept: Columns = field(default_factory=dict)
    below: dict[tuple[int, int, int], int] = field(default_factory=dict)
    above: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def add_variables(self) -> None:
        """C, P, S, R of every tensor; operators without outputs get a C of their own."""
        graph, index = self.index.problem.graph, self.index
        for v, steps in enumerate(index.steps):
            outputs = [a for a in graph.operators[v].outputs if a in index.operands[v]]
            for t in steps:
                for a in outputs:
                    self.created[a, t] = self.programme.binary(f"C_{a}_{t}")
                self.ran[v, t] = self.created[outputs[0], t] if outputs else self.programme.binary(f"C_op{v}_{t}")
        for a in index.tensors:
            home = index.is_home(a)
            for t in index.life[a]:
                if t > index.live[a].start or not home:
                    self.preserved[a, t] = self.programme.binary(f"P_{a}_{t}")
                self.retrieved[a, t] = self.programme.binary(f"R_{a}_{t}")
                if not home:
                    self.spilled[a, t] = self.programme.binary(f"S_{a}_{t}")

    def add_addresses(self) -> None:
        """L and V of every tensor that takes room; (9) as the bounds of L."""
        index = self.index
        for a in index.tensors:
            if index.sizes[a]:
                for t in index.live[a]:
                    self.address[a, t] = self.programme.integer(f"L_{a}_{t}", 0, index.capacity - index.sizes[a])
                    if (a, t) in self.preserved:
                        self.kept[a, t] = self.programme.binary(f"V_{a}_{t}")

    def resident(self, a: int, t: int) -> list[tuple[int, int]]:
        """The terms that say tensor a lies in the scratchpad at step t."""
        return [(x[a, t], 1) for x in (self.created, self.preserved, self.retrieved) if (a, t) in x]

    def terms(self, key: tuple[int, int], *families: Columns, factor: int = 1) -> list[tuple[int, int]]:
        """The columns that exist for (tensor, step) in some families."""
        return [(x[key], factor) for x in families if key in x]

    def one_state(self) -> None:
        """(1) C + P + S + R <= 1, but S and R may meet."""
        for a in self.index.tensors:
            for t in self.index.live[a]:
                self.at_most_one("eq1", self.resident(a, t))
                self.at_most_one("eq1", self.terms((a, t), self.created, self.preserved, self.spilled))

    def at_most_one(self, rule: str, terms: list[tuple[int, int]]) -> None:
        """A row that says so, unless it says nothing."""
        if len(terms) > 1:
            self.programme.at_most(rule, terms, 1)

    def preserve(self) -> None:
        """(2) P[t] <= C[t-1] + P[t-1] + R[t-1]."""
        for (a, t), column in self.preserved.items():
            before = self.terms((a, t - 1), self.created, self.preserved, self.retrieved, factor=-1)
            self.programme.at_most("eq2", [(column, 1), *before], 0)

    def spill(self) -> None:
        """(3) S[t] <= C[t-1] + P[t-1]."""
        for (a, t), column in self.spilled.items():
            before = self.terms((a, t - 1), self.created, self.preserved, factor=-1)
            self.programme.at_most("eq3", [(column, 1), *before], 0)

    def retrieve(self) -> None:
        """(4) R[t] <= sum of S[k] over k <= t, unless host memory holds the tensor anyway."""
        for (a, t), column in self.retrieved.items():
            if not self.index.is_home(a):
                stores = [(self.spilled[a, k], -1) for k in self.index.life[a] if k <= t]
                self.programme.at_most("eq4", [(column, 1), *stores], 0)

    def inputs_resident(self) -> None:
        """(5) C[a,t] <= P[b,t] + R[b,t] for every input b of a's operator."""
        for (v, t), column in self.ran.items():
            for b in self.index.operands[v]:
                if self.index.problem.graph.producer[b] != v:
                    held = self.terms((b, t), self.preserved, self.retrieved, factor=-1)
                    self.programme.at_most("eq5", [(column, 1), *held], 0)

    def siblings(self) -> None:
        """(6) All outputs of an operator are created together."""
        producer = self.index.problem.graph.producer
        for (a, t), column in self.created.items():
            v = producer[a]
            assert v is not None
            if self.ran[v, t] != column:
                self.programme.equal("eq6", [(column, 1), (self.ran[v, t], -1)], 0)

    def created_once(self) -> None:
        """(7) Every operator runs once."""
        for v, steps in enumerate(self.index.steps):
            self.programme.equal("eq7", [(self.ran[v, t], 1) for t in steps], 1)

    def spilled_once(self) -> None:
        """(8) One store is enough: tensors do not change."""
        for a in self.index.tensors:
            self.at_most_one("eq8", [(self.spilled[a, t], 1) for t in self.index.life[a] if (a, t) in self.spilled])

    def one_at_a_time(self) -> None:
        """At most one operator runs at a step."""
        for t in range(len(self.index.steps)):
            self.at_most_one("one", [(self.ran[v, t], 1) for v in range(len(self.index.steps)) if (v, t) in self.ran])

    def below_workspace(self) -> None:
        """(9) where a mode takes working bytes: they lie at the top of the scratchpad."""
        working: dict[int, list[tuple[int, int]]] = {}
        for (v, t), column in self.ran.items():
            if self.index.workspaces[v]:
                working.setdefault(t, []).append((column, self.index.workspaces[v]))
        for (a, t), column in self.address.items():
            if t in working:
                self.programme.at_most("eq9", [(column, 1), *working[t]], self.index.capacity - self.index.sizes[a])

    def no_overlap(self) -> None:
        """(10) L[a] + size <= L[b] + M (1 - D), L[b] + size <= L[a] + M (1 - U), D + U >= 1 if both are resident."""
        index, programme = self.index, self.programme
        big = index.capacity if index.has("big-m") else index.capacity + sum(index.sizes)
        for a, b, t in self._pairs():
            below = self.below[a, b, t] = programme.binary(f"D_{a}_{b}_{t}")
            above = self.above[a, b, t] = programme.binary(f"U_{a}_{b}_{t}")
            here, there = self.address[a, t], self.address[b, t]
            programme.at_most("eq10", [(here, 1), (there, -1), (below, big)], big - index.sizes[a])
            programme.at_most("eq10", [(there, 1), (here, -1), (above, big)], big - index.sizes[b])
            both = [(x, -f) for x, f in self.resident(a, t) + self.resident(b, t)]
            programme.at_least("eq10", [(below, 1), (above, 1), *both], -1)

    def _pairs(self) -> Iterator[tuple[int, int, int]]:
        """Two tensors and a step at which both may lie in the scratchpad."""
        index = self.index
        for a, b in combinations((a for a in index.tensors if index.sizes[a]), 2):
            if index.has("pairs") and index.never_meet(a, b):
                continue
            for t in range(max(index.live[a].start, index.live[b].start), min(index.live[a].stop, index.live[b].stop)):
                yield a, b, t

    def stay_in_place(self) -> None:
        """(11) P[t] <= V[t], and with V[t] the address is that of step t-1."""
        index, programme = self.index, self.programme
        for (a, t), same in self.kept.items():
            big = index.capacity - index.sizes[a] if index.has("big-m") else index.capacity + sum(index.sizes)
            now, before = self.address[a, t], self.address[a, t - 1]
            programme.at_most("eq11", [(self.preserved[a, t], 1), (same, -1)], 0)
            programme.at_most("eq11", [(now, 1), (before, -1), (same, big)], big)
            programme.at_most("eq11", [(before, 1), (now, -1), (same, big)], big)

    def traffic(self) -> list[tuple[int, int]]:
        """(12) The objective: size x (S + R), compulsory transfers left out; also returned as terms."""
        index, programme = self.index, self.programme
        for (a, _), column in self.retrieved.items():
            programme.costs[column] = index.sizes[a]
        for (a, _), column in self.spilled.items():
            programme.costs[column] = index.sizes[a] if index.problem.needs_store(a) else 0
        programme.offset = -sum(index.sizes[a] for a in index.tensors if index.is_home(a))
        return [(column, cost) for column, cost in enumerate(programme.costs) if cost]

    def fit(self) -> None:
        """The strengthening "capacity"."""
        for t in range(len(self.index.steps)):
            self.programme.at_most("capacity", self.footprint(t), self.index.capacity)

    def footprint(self, t: int) -> list[tuple[int, int]]:
        """The terms of the bytes in use at step t."""
        index = self.index
        held = [(x, index.sizes[a]) for a in index.tensors for x, _ in self.resident(a, t) if index.sizes[a]]
        return held + [(self.ran[v, t], w) for v, w in enumerate(index.workspaces) if w and (v, t) in self.ran]

    def break_symmetry(self) -> None:
        """The strengthening "symmetry"."""
        index, programme = self.index, self.programme
        for w, older in enumerate(whole(index.problem).older_twins):
            for v in bits(older):
                late = [(self.ran[w, t], t) for t in index.steps[w]]
                programme.at_least("twins", late + [(self.ran[v, t], -t) for t in index.steps[v]], 1)
        v = max(range(len(index.steps)), key=lambda v: sum(index.sizes[a] for a in index.operands[v]))
        largest = sorted(index.operands[v], key=lambda a: (-index.sizes[a], a))[:2]
        if any(index.workspaces) or len(largest) < 2 or not index.sizes[largest[1]]:
            return  # working bytes lie at the top, so layouts have no mirror image
        a, b = sorted(largest)
        for t in index.steps[v]:
            if (a, b, t) in self.below:
                programme.at_least("mirror", [(self.below[a, b, t], 1), (self.ran[v, t], -1)], 0)

    def resident_to_the_end(self) -> None:
        """(13) nothing is spilled, or retrieved but once."""
        for a in self.index.tensors:
            loads = [(self.retrieved[a, t], 1) for t in self.index.life[a]]
            if loads:
                self.programme.at_most("eq13", loads, 1 if self.index.is_home(a) else 0)
        for column in self.spilled.values():
            self.programme.highs[column] = 0

    def smallest_peak(self) -> None:
        """(14), (15) every footprint is at most the peak, which is the objective."""
        peak = self.programme.integer("peak", 0, self.index.capacity, 1)
        for t in range(len(self.index.steps)):
            self.programme.at_most("eq14", [*self.footprint(t), (peak, -1)], 0)


def schedule(stated: TimeIndexed) -> None:
    """The rules that both programmes share: order and residency."""
    stated.add_variables()
    stated.one_state()
    stated.preserve()
    stated.spill()
    stated.retrieve()
    stated.inputs_resident()
    stated.siblings()
    stated.created_once()
    stated.spilled_once()
    stated.one_at_a_time()


def least_traffic(stated: TimeIndexed, cutoff: int | None) -> None:
    """Eq. 1-12; `cutoff` is the most traffic allowed, in units."""
    schedule(stated)
    stated.add_addresses()
    stated.below_workspace()
    stated.no_overlap()
    stated.stay_in_place()
    terms = stated.traffic()
    if stated.index.has("capacity"):
        stated.fit()
    if stated.index.has("symmetry"):
        stated.break_symmetry()
    if cutoff is not None:
        stated.programme.at_most("cutoff", terms, cutoff - stated.programme.offset)


def least_peak(stated: TimeIndexed) -> None:
    """Eq. 1-8 and 13-15, without addresses. The index's capacity has to be no less than M_P."""
    schedule(stated)
    stated.resident_to_the_end()
    stated.smallest_peak()
