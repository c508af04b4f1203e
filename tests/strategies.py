"""Random small problems for hypothesis and for seeded loops."""

import random
from dataclasses import replace

from hypothesis import strategies as st

from cosma.graph import Graph, Operator, Tensor
from cosma.modes import Mode, Overwrite, Stream
from cosma.problem import Memory, Problem


def random_graph(seed: int, most_operators: int = 7, sizes: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 8)) -> Graph:
    """A random DAG: shared inputs, weights, several outputs an operator, outputs that are read again."""
    rng = random.Random(seed)
    tensors: list[Tensor] = []
    operators: list[Operator] = []

    def new(kind: str) -> int:
        tensors.append(Tensor(f"{kind}{len(tensors)}", rng.choice(sizes), kind))  # type: ignore[arg-type]
        return len(tensors) - 1

    inputs = [new("input") for _ in range(rng.randint(1, 2))]
    weights = [new("weight") for _ in range(rng.randint(0, 2))]
    produced: list[int] = []
    for v in range(rng.randint(1, most_operators)):
        pool = produced[-4:] + inputs
        reads = rng.sample(pool, min(len(pool), rng.choice((1, 1, 2, 2, 3))))
        if weights and rng.random() < 0.4:
            reads.append(rng.choice(weights))
        writes = [new("activation") for _ in range(rng.choice((1, 1, 1, 2)))]
        produced += writes
        operators.append(Operator(f"op{v}", "Op", tuple(dict.fromkeys(reads)), tuple(writes)))
    read = {a for v in operators for a in v.inputs}
    for a in produced:
        if a not in read or rng.random() < 0.1:
            t = tensors[a]
            tensors[a] = Tensor(t.name, t.size_bytes, "output")
    used = [a for a in range(len(tensors)) if a in read or a in produced]
    return Graph(f"random{seed}", tuple(tensors), tuple(operators)).restrict(used, operators)


def random_problem(seed: int, most_operators: int = 7) -> Problem:
    """A random graph on a scratchpad between M_R and the peak of its order."""
    graph = random_graph(seed, most_operators)
    problem = Problem(graph, Memory(2**40))
    low, high = problem.working_set_bytes, problem.peak_bytes(range(len(graph.operators)))
    return problem.with_capacity(max(1, random.Random(seed).randint(low, max(low, high))))


problems = st.integers(0, 10**9).map(random_problem)


def with_modes(problem: Problem, seed: int, in_place: bool = True) -> Problem:
    """The problem with up to three random modes an operator: streams of any buffer, workspaces, outputs over inputs."""
    rng = random.Random(seed)
    modes = tuple(
        tuple(_mode(problem, v, rng, in_place) for _ in range(rng.choice((1, 1, 2, 3))))
        for v in range(len(problem.graph.operators))
    )
    return replace(problem, modes=modes)


def _mode(problem: Problem, v: int, rng: random.Random, in_place: bool) -> Mode:
    operator, sizes = problem.graph.operators[v], problem.sizes
    over: tuple[Overwrite, ...] = ()
    if in_place and rng.random() < 0.3:
        output, read, distance = rng.choice(operator.outputs), rng.choice(operator.inputs), rng.choice((0, 0, 0, 1, -1))
        if max(0, distance) < sizes[output] and max(0, -distance) < sizes[read]:
            over = (Overwrite(output, read, distance),)
    taken = {a for w in over for a in (w.output, w.input)}
    streams = []
    for a in problem.operands[v]:
        if a not in taken and rng.random() < 0.5:
            times = rng.choice((1, 1, 2)) if a in operator.inputs else 1
            streams.append(Stream(a, rng.randint(0, sizes[a]), sizes[a] * times))
    return Mode(tuple(streams), rng.choice((0, 0, 0, 1, 2)), over)


def modal_problem(seed: int, most_operators: int = 5, in_place: bool = True) -> Problem:
    """A random problem with modes, on a scratchpad from its smallest capacity on; one in four with a host from half."""
    problem = with_modes(Problem(random_graph(seed, most_operators), Memory(2**40)), seed, in_place)
    low, high = problem.smallest_capacity_bytes, problem.peak_bytes(range(len(problem.graph.operators)))
    if seed % 4 == 0:
        low, problem = low // 2, replace(problem, uses_host=True)
    return problem.with_capacity(max(1, random.Random(-seed).randint(low, max(low, high))))
