"""Operators that fit in no mode run on the host: the search is exact there too."""

import random
from dataclasses import replace

import pytest

from cosma.compile import Prepared, solve
from cosma.plan import Source
from cosma.problem import Memory, Problem
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from tests import oracle
from tests.strategies import random_graph, with_modes


def is_exact(seed: int) -> bool:
    """Compare with brute force; whether anything runs on the host."""
    problem = with_modes(Problem(random_graph(seed, 5), Memory(2**40)), seed, in_place=seed % 2 == 0)
    problem = replace(problem, uses_host=True)
    capacity = max(1, random.Random(seed).randint(1, max(1, problem.smallest_capacity_bytes + 3)))
    problem = problem.with_capacity(capacity)
    if not problem.on_host:
        return False
    source = Source("", problem.fingerprint(), None, "none", True, {})
    found = solve(Prepared(None, problem, source), Hardware("h", capacity), Options())  # type: ignore[arg-type]
    best = oracle.least_traffic(problem)
    assert found.bound_bytes is not None
    assert found.bound_bytes <= best <= found.non_compulsory_bytes, seed
    assert found.status != "optimal" or found.non_compulsory_bytes == best, seed
    return True


def test_the_search_is_exact_with_a_host() -> None:
    assert sum(map(is_exact, range(150))) > 50


@pytest.mark.slow
def test_the_search_is_exact_with_a_host_on_5000_graphs() -> None:
    assert sum(map(is_exact, range(1000, 6000))) > 2000
