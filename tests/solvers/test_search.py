"""The search, its rules, bounds and parts against brute force over all schedules."""

import itertools
import random

import pytest
from hypothesis import given, settings

from cosma.analysis.levers import least_bytes
from cosma.deadline import Deadline
from cosma.graph import Graph, Operator, Tensor
from cosma.problem import Memory, Problem
from cosma.schedule import replacement
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.solvers.programmes.compact import depth_first
from cosma.solvers.search import portfolio
from cosma.solvers.search.bounds import Potentials, Row, peak_bound, pending_across, rows
from cosma.solvers.search.parts import split
from cosma.solvers.search.space import Rules, Space, bits, part, whole
from cosma.solvers.search.strategies import beam, best_first, smallest_peak
from cosma.solvers.search.windows import windows
from tests import oracle
from tests.strategies import problems, random_problem

ALL_RULES = [Rules(*switches) for switches in itertools.product((False, True), repeat=4)]
FOREVER = Deadline.after(10**6)
NO_LIMIT = 10**9
BIG = 2**62


def branching(seed: int) -> Problem:
    """Branches of equal shape from one tensor into one operator, and a few that differ."""
    rng = random.Random(seed)
    tensors, operators = [Tensor("x", 3, "input")], []

    def add(reads: list[int], size: int) -> int:
        tensors.append(Tensor(f"t{len(tensors)}", size, "activation"))
        operators.append(Operator(f"op{len(operators)}", "Op", tuple(dict.fromkeys(reads)), (len(tensors) - 1,)))
        return len(tensors) - 1

    root = add([0], rng.randint(1, 4))
    ends = []
    for shape in rng.choice(
        ([(2, 1), (2, 1), (3,)], [(1,), (1,), (1,), (4, 2)], [(3, 2), (3, 2)], [(2,), (2,), (2, 2)])
    ):
        last = root
        for size in shape:
            last = add([last], size)
        ends.append(last)
    split = rng.randint(1, len(ends))
    last = add(ends[:split], 2)
    last = add([last, *ends[split:], *([root] if rng.random() < 0.5 else [])], 1)
    tensors[-1] = Tensor("y", 1, "output")
    problem = Problem(Graph("branching", tuple(tensors), tuple(operators)), Memory(2**20))
    return problem.with_capacity(problem.working_set_bytes + rng.choice((0, 0, 1, 2)))


def nothing(_: object) -> int:
    return 0


def tight(seed: int, most_operators: int = 7) -> Problem:
    """A random problem at M_R or a little above, where most has to be decided."""
    problem = random_problem(seed, most_operators)
    return problem.with_capacity(max(1, problem.working_set_bytes + random.Random(seed).choice((0, 0, 1, 2))))


def agree(problem: Problem) -> None:
    """Every combination of rules, with and without potentials, finds the optimum that brute force finds."""
    best = oracle.least_traffic(problem)
    space = whole(problem)
    potentials = Potentials(space)
    assert potentials.bound <= best
    for rules in ALL_RULES:
        for to_come in (nothing, potentials.to_come):
            found = best_first(space, to_come, BIG, NO_LIMIT, FOREVER, rules)
            assert (found.cost, found.bound, found.complete) == (best, best, True), (rules, to_come)
            assert sorted(found.order) == list(range(len(space.operators)))
            # The order is as good as claimed: the integer programme on it alone says the same, addresses left out.
            timeline = Timeline.of(problem, [space.operators[v] for v in found.order])
            assert least_bytes(timeline, FOREVER) == best
    for variant in (1, 2):
        assert best_first(space, nothing, BIG, NO_LIMIT, FOREVER, variant=variant).cost == best


@settings(max_examples=150, deadline=None)
@given(problems)
def test_all_rules_find_the_optimum(problem: Problem) -> None:
    agree(problem)


@pytest.mark.parametrize("block", range(4))
def test_all_rules_find_the_optimum_where_memory_is_tight(block: int) -> None:
    for seed in range(300 * block, 300 * (block + 1)):
        agree(tight(seed))


def test_all_rules_find_the_optimum_among_twins() -> None:
    twins = 0
    for seed in range(250):
        problem = branching(seed)
        agree(problem)
        twins += any(whole(problem).older_twins)
    assert twins > 150


def older_twins(space: Space) -> tuple[int, ...]:
    """The twins rule by its words: walk each branch to its end and write down what it looks like."""
    first: dict[tuple[str, int], int] = {}
    older = [0] * len(space.operators)
    for v in range(len(space.operators)):
        shape: list[object] = [space.inputs[v]]
        at, readers = v, [v]
        while len(readers) == 1 and (at == v or len(space.inputs[at]) == 1):
            outputs = space.outputs[at]
            shape.append((space.extra[at], [(space.sizes[a], space.eviction[a]) for a in outputs]))
            readers = list(bits(space.readers[outputs[0]])) if len(outputs) == 1 else []
            at = readers[0] if readers else at
        if len(readers) == 1:
            older[v] = first.get((repr(shape), at), 0)
            first[repr(shape), at] = older[v] | 1 << v
    return tuple(older)


def test_twins_are_those_of_the_definition() -> None:
    found = 0
    for seed in range(400):
        for problem in (branching(seed), random_problem(seed, 30), tight(seed, 12)):
            order = range(len(problem.graph.operators))
            for space in (whole(problem), part(problem, order[len(order) // 3 :], ())):
                assert space.older_twins == older_twins(space), seed
                found += any(space.older_twins)
    assert found > 300


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_search_programme_over_every_order_and_brute_force_agree(block: int) -> None:
    """10,000 random graphs: best-first search, the compact ILP over every topological order, the oracle."""
    for seed in range(10_000 + 500 * block, 10_000 + 500 * (block + 1)):
        problem = tight(seed, 6) if seed % 2 else random_problem(seed, 6)
        best = oracle.least_traffic(problem)
        assert best_first(whole(problem), nothing, BIG, NO_LIMIT, FOREVER).cost == best
        orders = oracle.topological_orders(problem)
        assert min(replacement.optimise(Timeline.of(problem, o), "cp-sat", FOREVER).bound_bytes for o in orders) == best


@settings(max_examples=150, deadline=None)
@given(problems)
def test_portfolio(problem: Problem) -> None:
    outcome = portfolio.solve(problem, Options(), Deadline.after(60))
    best = oracle.least_traffic(problem)
    assert outcome.bound_bytes <= best <= outcome.best.cost_bytes
    assert outcome.bound_bytes == best  # nothing here is too large for the search
    if outcome.fragmentation_bytes is not None:
        assert outcome.best.cost_bytes == best + outcome.fragmentation_bytes


@settings(max_examples=150, deadline=None)
@given(problems)
def test_cutoff_beams_and_limits(problem: Problem) -> None:
    best = oracle.least_traffic(problem)
    space = whole(problem)
    below = best_first(space, nothing, best, NO_LIMIT, FOREVER)
    assert below.order is None
    assert below.complete
    assert below.bound == best
    for width in (1, 4):
        found = beam(space, nothing, width, BIG, FOREVER)
        assert found is not None
        assert found.cost >= best
    stopped = best_first(space, nothing, BIG, 3, FOREVER)
    assert stopped.bound <= best
    assert best_first(space, nothing, BIG, NO_LIMIT, Deadline.after(0)).bound <= best
    assert beam(space, nothing, 4, BIG, Deadline.after(0)) is None or len(space.operators) == 0


@settings(max_examples=200, deadline=None)
@given(problems)
def test_smallest_peak(problem: Problem) -> None:
    space = whole(problem)
    found = smallest_peak(space, NO_LIMIT, FOREVER, peak_bound(space))
    assert found.cost == oracle.least_peak(problem)
    assert problem.peak_bytes([space.operators[v] for v in found.order]) == found.cost
    assert peak_bound(space) <= found.cost


def states_on_the_way(space: Space, order: tuple[int, ...], rng: random.Random):
    """The states before each operator of an order, with evictions drawn at random."""
    state = space.start()
    for v in order:
        yield state
        _, _, state = rng.choice(list(space.evictions(state, v, BIG, Rules(False, False, False, False))))
        state = space.run(state, v)


def test_rows_of_forced_residency_add_up_what_is_pending() -> None:
    found = 0
    for seed in range(200):
        space = whole(tight(seed, 30))
        expected = []
        for v, pending in enumerate(pending_across(space)):
            there = space.fresh[v] + sum(space.sizes[a] for a in bits(space.input_masks[v] | pending))
            expected += [Row(v, there - space.capacity, pending)] if there > space.capacity else []
        assert rows(space) == expected, seed
        found += len(expected)
    assert found > 100


def test_potentials_never_exceed_what_is_still_paid() -> None:
    used = 0
    for seed in range(1500):
        space = whole(tight(seed))
        potentials = Potentials(space)
        used += potentials.bound > 0
        found = beam(space, nothing, 3, BIG, FOREVER)
        assert found is not None
        for state in states_on_the_way(space, found.order, random.Random(seed)):
            assert potentials.to_come(state) <= _continue(space, state), seed
    assert used > 100


def _continue(space: Space, state) -> int:
    """Exact cost to come of a state, by search without any rule."""
    import heapq

    heap, seen, count = [(0, 0, state)], set(), itertools.count(1)
    while heap:
        cost, _, at = heapq.heappop(heap)
        if at.executed == space.everything:
            return cost
        if at[:3] in seen:
            continue
        seen.add(at[:3])
        for v in bits(at.ready):
            for extra, _, freed in space.evictions(at, v, BIG, Rules(False, False, False, False)):
                heapq.heappush(heap, (cost + extra, next(count), space.run(freed, v)))
    raise AssertionError("no way to the end")


def chain_of(blocks: int, seed: int) -> Problem:
    """Blocks of random branches between tensors that everything passes through."""
    rng = random.Random(seed)
    tensors, operators = [Tensor("x", 4, "input")], []

    def add(reads: list[int], size: int) -> int:
        tensors.append(Tensor(f"t{len(tensors)}", size, "activation"))
        operators.append(Operator(f"op{len(operators)}", "Op", tuple(reads), (len(tensors) - 1,)))
        return len(tensors) - 1

    last = add([0], 3)
    for _ in range(blocks):
        arms = [add([last], rng.randint(1, 6)) for _ in range(rng.randint(1, 3))]
        arms = [add([a], rng.randint(1, 6)) if rng.random() < 0.5 else a for a in arms]
        last = add([*arms, *([last] if rng.random() < 0.3 else [])], rng.randint(1, 5))
    tensors[-1] = Tensor(tensors[-1].name, tensors[-1].size_bytes, "output")
    problem = Problem(Graph("chain", tuple(tensors), tuple(operators)), Memory(2**20))
    return problem.with_capacity(problem.working_set_bytes + rng.choice((0, 1)))


def test_parts_add_up() -> None:
    several = 0
    for seed in range(150):
        problem = chain_of(2, seed)
        spaces = [p.space(problem) for p in split(problem)]
        assert [v for s in spaces for v in s.operators] == list(range(len(problem.graph.operators)))
        costs = [best_first(s, nothing, BIG, NO_LIMIT, FOREVER).cost for s in spaces]
        assert sum(costs) == best_first(whole(problem), nothing, BIG, NO_LIMIT, FOREVER).cost
        if len(problem.graph.operators) <= 9:
            assert sum(costs) == oracle.least_traffic(problem)
        several += len(spaces) > 1
    assert several > 100


def test_windows_add_up_to_a_lower_bound() -> None:
    positive = 0
    for seed in range(600):
        problem = tight(seed)
        best = oracle.least_traffic(problem)
        orders = itertools.islice(oracle.topological_orders(problem), 3)
        for order, length in itertools.product(orders, (2, 3, 5)):
            spaces = [part(problem, piece, ()) for piece in windows(order, length, length)]
            total = sum(best_first(s, nothing, BIG, NO_LIMIT, FOREVER).cost for s in spaces)
            assert total <= best, (seed, order, length)
            positive += total > 0
    assert positive > 100


def test_repeated_blocks_are_solved_once() -> None:
    base = chain_of(1, 5)
    tensors, operators = [base.graph.tensors[0]], []
    last = 0
    for copy in range(50):
        number = {0: last}
        for v in base.graph.operators[1:] if copy else base.graph.operators:
            for a in v.outputs:
                number[a] = len(tensors)
                tensors.append(Tensor(f"{copy}_{a}", base.graph.tensors[a].size_bytes, "activation"))
            reads = tuple(number.get(a, last) for a in v.inputs)
            operators.append(Operator(f"{copy}_{v.name}", "Op", reads, tuple(number[a] for a in v.outputs)))
        last = len(tensors) - 1
    tensors[-1] = Tensor(tensors[-1].name, tensors[-1].size_bytes, "output")
    problem = Problem(Graph("repeated", tuple(tensors), tuple(operators)), base.memory)
    problem = problem.with_capacity(problem.working_set_bytes)
    spaces = [p.space(problem) for p in split(problem)]
    assert len(spaces) >= 50
    assert len({space.key for space in spaces}) <= 6


def test_relabelling_changes_nothing() -> None:
    for seed in range(100):
        problem = tight(seed)
        graph = problem.graph
        shuffled = list(range(len(graph.tensors)))
        random.Random(seed).shuffle(shuffled)
        new = {a: i for i, a in enumerate(shuffled)}
        operators = tuple(
            Operator(f"z{v.name}", "Op", tuple(new[a] for a in v.inputs), tuple(new[a] for a in v.outputs))
            for v in graph.operators
        )
        other = Problem(
            Graph("r", tuple(graph.tensors[a] for a in shuffled), operators), Memory(problem.memory.capacity_bytes)
        )
        assert (
            portfolio.solve(other, Options(), FOREVER).bound_bytes
            == portfolio.solve(problem, Options(), FOREVER).bound_bytes
        )


def test_depth_first_is_a_topological_order() -> None:
    for seed in range(100):
        graph = random_problem(seed).graph
        order = depth_first(graph)
        assert sorted(order) == list(range(len(graph.operators)))
        place = {v: t for t, v in enumerate(order)}
        assert all(place[p] < place[v] for v in order for p in graph.predecessors[v])


def test_a_part_of_a_problem_never_costs_more() -> None:
    for seed in range(200):
        problem = tight(seed)
        count = len(problem.graph.operators)
        cost = best_first(whole(problem), nothing, BIG, NO_LIMIT, FOREVER).cost
        prefix = part(problem, range(count // 2 + 1), ())
        assert best_first(prefix, nothing, BIG, NO_LIMIT, FOREVER).cost <= cost
