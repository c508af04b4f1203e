"""Bounds from sub-DAGs: what a few operators cost in any schedule of the whole (docs/problem.md#sub-graphs).

Any schedule restricted to some operators is a schedule of them under the same capacity. What a tensor
costs is counted in the part that writes it, and only loads for readers there; so the optima of disjoint
parts (`space.part`, nothing resident) add up to a lower bound.
"""

from collections.abc import Iterator, Sequence

from cosma.deadline import Deadline
from cosma.problem import Problem
from cosma.solvers.search.bounds import Potentials
from cosma.solvers.search.fronts import Menus
from cosma.solvers.search.modal_parts import modal_part
from cosma.solvers.search.modal_prices import modal_bounds
from cosma.solvers.search.space import Space, part
from cosma.solvers.search.strategies import best_first, largest

_STATES = 4_000  # of the search in one window
_NO_CUTOFF = 2**63


def windows(order: Sequence[int], length: int, stride: int) -> list[Sequence[int]]:
    """Pieces of `length` operators of an order, one beginning every `stride` operators; the last may be shorter."""
    return [order[k : k + length] for k in range(0, len(order), stride)]


def window_bounds(
    problem: Problem, pieces: Sequence[Sequence[int]], deadline: Deadline
) -> Iterator[tuple[Space, int, int]]:
    """(space, least bytes of its tensors in any schedule, states searched for that) of each piece; each kind once.

    Stops at the deadline.
    """
    solved: dict[tuple[object, ...], int] = {}
    for piece in pieces:
        if deadline.passed:
            return
        space = part(problem, piece, ())
        states = 0
        if space.key not in solved:
            found = best_first(space, Potentials(space).to_come, _NO_CUTOFF, _STATES, deadline)
            solved[space.key], states = found.bound, found.states
        yield space, solved[space.key], states


def modal_window_bound(menus: Menus, pieces: Sequence[Sequence[int]], deadline: Deadline) -> tuple[int, int]:
    """(the same added up where operators have modes, states searched); a piece counts 0 from the deadline on."""
    solved: dict[tuple[object, ...], int] = {}
    total = states = 0
    for piece in pieces:
        if deadline.passed:
            break
        space = modal_part(menus, piece)
        if space.key not in solved:
            found = best_first(space, largest(modal_bounds(space)), _NO_CUTOFF, _STATES, deadline)
            solved[space.key] = found.bound
            states += found.states
        total += solved[space.key]
    return total, states
