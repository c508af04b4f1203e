"""The search over schedules and modes, its rules and parts, against brute force over orders, modes and residencies."""

import itertools
import random
from dataclasses import dataclass, fields, replace

import pytest

from cosma.deadline import Deadline
from cosma.graph import Graph, Operator, Tensor
from cosma.modes import Mode, Stream
from cosma.problem import Memory, Problem
from cosma.schedule.placed import violations
from cosma.schedule.replacement import solve_programme
from cosma.solvers.options import Options
from cosma.solvers.search import modal_ways, portfolio
from cosma.solvers.search.chain import Chain
from cosma.solvers.search.fronts import Menus
from cosma.solvers.search.modal import ModalSpace
from cosma.solvers.search.modal_bounds import Alone
from cosma.solvers.search.modal_parts import modal_part
from cosma.solvers.search.modal_prices import Priced, modal_bounds
from cosma.solvers.search.modal_programme import SCALE, Prices
from cosma.solvers.search.parts import split
from cosma.solvers.search.space import Rules, State, bits
from cosma.solvers.search.strategies import Bound, beam, best_first, largest
from cosma.solvers.search.windows import modal_window_bound, windows
from tests import oracle
from tests.solvers.test_search import branching, chain_of
from tests.strategies import modal_problem, with_modes

ALL_RULES = [Rules(*switches) for switches in itertools.product((False, True), repeat=4)]
FOREVER = Deadline.after(10**6)
NO_LIMIT = 10**9
BIG = 2**62


def nothing(_: object) -> int:
    return 0


def tight(problem: Problem, seed: int) -> Problem:
    """The problem on the smallest scratchpad for it, or a little more."""
    capacity = problem.smallest_capacity_bytes + random.Random(seed).choice((0, 0, 1, 2, 3, 5))
    return problem.with_capacity(max(1, capacity))


def branching_modes(seed: int) -> Problem:
    """Branches of equal shape whose operators have equal modes, now and then."""
    problem = branching(seed)
    modes = []
    for v, operator in enumerate(problem.graph.operators):
        rng = random.Random(f"{seed} {problem.sizes[operator.outputs[0]]} {len(operator.inputs)}")
        some = []
        for _ in range(rng.choice((1, 2, 2, 3))):
            streams = (
                Stream(a, rng.randint(0, 2), problem.sizes[a] * rng.choice((1, 1, 2)))
                for a in problem.operands[v]
                if rng.random() < 0.6
            )
            some.append(Mode(tuple(streams), rng.choice((0, 0, 1))))
        modes.append(tuple(some))
    return replace(problem, modes=tuple(modes))


def problem_of(seed: int) -> Problem:
    if seed % 4 == 3:
        return tight(branching_modes(seed), seed)
    problem = modal_problem(seed, 5, seed % 2 == 0)
    return tight(problem, seed) if seed % 3 else problem


def whole(problem: Problem) -> ModalSpace:
    return modal_part(Menus(problem), range(len(problem.graph.operators)))


def agree(problem: Problem, seed: int) -> int:
    """Every combination of rules finds the optimum of brute force; returns it."""
    best = oracle.least_traffic(problem)
    space = whole(problem)
    assert space.base <= best, seed
    for rules, to_come in itertools.product(ALL_RULES, (nothing, Alone(space).to_come, largest(modal_bounds(space)))):
        found = best_first(space, to_come, BIG, NO_LIMIT, FOREVER, rules)
        assert (found.cost, found.bound, found.complete) == (best, best, True), (seed, rules)
    return best


@pytest.mark.parametrize("start", range(0, 300, 100))
def test_all_rules_find_the_optimum(start: int) -> None:
    costs = [agree(problem_of(seed), seed) for seed in range(start, start + 100)]
    assert sum(cost > 0 for cost in costs) > 20


@pytest.mark.slow
@pytest.mark.parametrize("start", range(10_000, 20_000, 500))
def test_all_rules_find_the_optimum_of_10000_graphs(start: int) -> None:
    for seed in range(start, start + 500):
        agree(problem_of(seed), seed)


def test_twins_are_found_among_modes() -> None:
    """Not where the operator that reads both has other modes for one of them."""
    assert sum(any(whole(branching_modes(seed)).older_twins) for seed in range(100)) > 5
    tensors = [Tensor("x", 1, "input"), *(Tensor(f"t{i}", 2, "activation") for i in range(2)), Tensor("y", 1, "output")]
    operators = (
        Operator("a", "", (0,), (1,)),
        Operator("b", "", (0,), (2,)),
        Operator("c", "", (1, 2), (3,)),
    )
    graph = Graph("twins", tuple(tensors), operators)
    both = (Mode((Stream(1, 1, 2), Stream(2, 1, 2))),)
    one = (Mode((Stream(1, 1, 2),)),)
    paper = (Mode(),)
    for modes, twins in ((both, (0, 1, 0)), (one, (0, 0, 0))):
        assert whole(Problem(graph, Memory(9), modes=(paper, paper, modes))).older_twins == twins


# --- two rules that hold with the paper's modes and not with others


def graph_of(sizes: dict[str, int], *operators: tuple[str, str, str]) -> Graph:
    """Operators as (name, what it reads, what it writes), tensors by one letter; home if nobody writes them."""
    written = {a for _, _, writes in operators for a in writes}
    read = {a for _, reads, _ in operators for a in reads}
    kinds = {a: "input" if a not in written else "activation" if a in read else "output" for a in sizes}
    number = {a: i for i, a in enumerate(sizes)}
    return Graph(
        "example",
        tuple(Tensor(a, size, kinds[a]) for a, size in sizes.items()),  # type: ignore[arg-type]
        tuple(Operator(v, "", tuple(map(number.get, r)), tuple(map(number.get, w))) for v, r, w in operators),  # type: ignore[arg-type]
    )


@dataclass(frozen=True, slots=True)
class OldFinishing(ModalSpace):
    """With the finishing rule as it is for the paper's modes: what leaves is loaded again."""

    def must_pay(self, a: int, state: State) -> int:
        return self.eviction_cost(a, state.hosted)


@dataclass(frozen=True, slots=True)
class OldInterchange(ModalSpace):
    """With the interchange rule as it is for the paper's modes: one operator may read both tensors."""

    def _interchange(self, state, movable):
        pending = {a: self.readers[a] & ~state.executed for a in movable}
        result = []
        for b in movable:
            mask, r = 0, pending[b].bit_length() - 1
            for a in movable if not pending[b] & (pending[b] - 1) else ():
                alike = self.sizes[a] == self.sizes[b]
                if a > b and alike and all(w == r or self.ancestors[w] >> r & 1 for w in bits(pending[a])):
                    mask |= 1 << a
            result.append(mask)
        return result


def old(kind: type[ModalSpace], space: ModalSpace) -> ModalSpace:
    return kind(**{name: getattr(space, name) for name, f in ModalSpace.__dataclass_fields__.items() if f.init})


def test_finishing_compares_with_the_least_read() -> None:
    """The reader of i may stream half of it: to make n at once, as large as i, costs more than to let i leave."""
    sizes = {"x": 1, "i": 4, "y": 4, "z": 4, "n": 4, "o": 1}
    graph = graph_of(sizes, ("p", "x", "i"), ("q", "y", "z"), ("r", "i", "n"), ("w", "nz", "o"))
    modes = ((Mode(workspace_bytes=4),), (Mode(),), (Mode((Stream(1, 1, 2),)),), (Mode(),))
    problem = Problem(graph, Memory(9), modes=modes)
    agree(problem, 0)
    space = whole(problem)
    best = best_first(space, nothing, BIG, NO_LIMIT, FOREVER)
    worse = best_first(old(OldFinishing, space), nothing, BIG, NO_LIMIT, FOREVER)
    assert (best.cost + problem.compulsory_bytes, worse.cost + problem.compulsory_bytes) == (12, 14)


def test_interchange_does_not_hold_where_one_operator_reads_both() -> None:
    """r streams b through a byte, so that a and z stay; with a out in place of b, both have to lie there."""
    sizes = {"x": 1, "y": 1, "u": 1, "b": 4, "a": 4, "z": 4, "o": 1}
    graph = graph_of(sizes, ("p", "x", "b"), ("q", "y", "a"), ("s", "u", "z"), ("r", "abz", "o"))
    paper = (Mode(),)
    problem = Problem(graph, Memory(10), modes=(paper, paper, paper, (Mode((Stream(3, 1, 4),)),)))
    agree(problem, 0)
    space = whole(problem)
    best = best_first(space, nothing, BIG, NO_LIMIT, FOREVER)
    worse = best_first(old(OldInterchange, space), nothing, BIG, NO_LIMIT, FOREVER)
    assert (best.cost + problem.compulsory_bytes, worse.cost + problem.compulsory_bytes) == (12, 20)


# --- parts, beams, plans


def chain_with_modes(seed: int) -> Problem:
    return tight(with_modes(chain_of(2, seed), seed, seed % 2 == 0), seed)


def chain(problem: Problem) -> Chain:
    return Chain(problem, split(problem), lambda _: (nothing,), lambda _: NO_LIMIT, FOREVER)


def test_parts_add_up_over_the_states_of_their_cuts() -> None:
    several = 0
    for seed in range(200):
        problem = chain_with_modes(seed)
        found = chain(problem).solve()
        alone = best_first(whole(problem), nothing, BIG, NO_LIMIT, FOREVER)
        assert (found.cost, found.bound) == (alone.cost, alone.cost), seed
        guided = Chain(problem, split(problem), modal_bounds, lambda _: NO_LIMIT, FOREVER).solve()
        assert (guided.cost, guided.bound) == (alone.cost, alone.cost), seed
        unfinished = Chain(problem, split(problem), modal_bounds, lambda _: 3, FOREVER).solve()
        assert unfinished.bound <= alone.cost <= unfinished.cost, seed
        if len(problem.graph.operators) <= 6:
            assert found.cost == oracle.least_traffic(problem), seed
        several += len(split(problem)) > 1 and found.cost > 0
    assert several > 50


def test_the_plan_of_a_search_costs_what_the_search_says() -> None:
    """The search knows nothing of gaps, the programme of replacement nothing of states; both get the same bytes."""
    streamed = 0
    for seed in range(200):
        problem = chain_with_modes(seed) if seed % 2 else problem_of(seed)
        outcome = portfolio.solve(problem, Options(), Deadline.after(60))
        assert outcome.best is not None
        assert not violations(outcome.best), seed
        found = chain(problem).solve()
        assert outcome.bound_bytes in (found.cost, 0) or outcome.bound_bytes == outcome.best.cost_bytes, seed
        assert found.timeline is not None
        assert found.timeline.cost(found.evicted) == found.cost, seed
        held, bound, _ = solve_programme(found.timeline, frozenset(), (), "cp-sat", FOREVER, holds_runs=True)
        assert held is not None
        assert held[0].cost(held[1]) == found.cost == bound, seed
        streamed += any(run.streamed for run in found.timeline.runs)
    assert streamed > 50


def test_beams_and_limits() -> None:
    for seed in range(80):
        problem = problem_of(seed)
        best, space = oracle.least_traffic(problem), whole(problem)
        for width in (1, 4):
            found = beam(space, nothing, width, BIG, FOREVER)
            assert found is None or found.cost >= best, seed
        assert best_first(space, nothing, BIG, 3, FOREVER).bound <= best, seed
        below = best_first(space, nothing, best, NO_LIMIT, FOREVER)
        assert (below.order, below.bound, below.complete) == (None, best, True), seed
        stopped = Chain(problem, split(problem), lambda _: (nothing,), lambda _: 3, FOREVER).solve()
        assert stopped.bound <= best <= stopped.cost, seed
        guided = Chain(problem, split(problem), modal_bounds, lambda _: 3, FOREVER).solve()
        assert stopped.bound <= guided.bound <= best <= guided.cost, seed
        late = portfolio.solve(problem, Options(), Deadline.after(0))
        assert late.best is not None
        assert not violations(late.best), seed
        assert late.bound_bytes <= best, seed


def test_windows_add_up_to_a_lower_bound() -> None:
    """Tensors from elsewhere take the least that they can, which may be a buffer."""
    positive = 0
    for seed in range(120):
        problem = problem_of(seed)
        best = oracle.least_traffic(problem)
        for order, length in itertools.product(itertools.islice(oracle.topological_orders(problem), 2), (1, 2, 3)):
            total, _ = modal_window_bound(Menus(problem), windows(order, length, length), FOREVER)
            assert total <= best, (seed, order, length)
            positive += total > 0
    assert positive > 20


def spaces_of(seed: int) -> list[ModalSpace]:
    """A whole problem, or the parts of one, from each entry state."""
    if seed % 3:
        return [whole(problem_of(seed))]
    found = chain(chain_with_modes(seed))
    return [found.space(k, entry) for k in range(len(found.parts)) for entry in range(3 if k else 1)]


@pytest.mark.parametrize("kind", [Alone, Priced])
def test_bounds_never_exceed_what_is_still_paid(kind: type[Alone | Priced]) -> None:
    equal = 0
    for seed in range(300):
        for space in spaces_of(seed):
            equal += check_bound(space, kind(space).to_come, seed)
    assert equal > 100


def test_any_prices_give_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices that no solver has seen: the bound rests on none of its arithmetic. Ways are listed or not."""
    for seed in range(200):
        monkeypatch.setattr(modal_ways, "_MOST_STREAMED", seed % 4)
        rng = random.Random(seed)
        for space in spaces_of(seed):
            bound = Priced(space)
            tables = {f.name: dict(getattr(bound.prices, f.name)) for f in fields(Prices)}
            for table in tables.values():
                for key, price in table.items():
                    table[key] = rng.choice((0, price, rng.randrange(2 * SCALE), rng.randrange(8 * SCALE)))
            for prices in (bound.prices, Prices(**tables)):
                bound.use(prices)
                check_bound(space, bound.to_come, seed)


def check_bound(space: ModalSpace, to_come: Bound, seed: int) -> int:
    """Compare with exact costs of the rest in states that a schedule without any rule meets; how often it is equal."""
    rng, state, equal = random.Random(seed), space.start(), 0
    while state.executed != space.everything:
        rest = best_first(_From(space, state), nothing, BIG, NO_LIMIT, FOREVER).cost
        assert to_come(state) <= rest, seed
        equal += 0 < rest == to_come(state)
        state = rng.choice(list(space.steps(state, BIG, Rules(False, False, False, False))))[2]
    return equal


class _From:
    """A space that begins in another state, at no cost."""

    base = 0

    def __init__(self, space: ModalSpace, state: State) -> None:
        self._space, self._state = space, state

    def start(self) -> State:
        return self._state

    def __getattr__(self, name: str) -> object:
        return getattr(self._space, name)
