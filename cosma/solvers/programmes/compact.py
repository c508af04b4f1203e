"""Schedules worth a look without a search for traffic: exported, depth first, smallest peak; and a solver of them."""

from cosma.deadline import Deadline
from cosma.graph import Graph
from cosma.milp import backends
from cosma.problem import Problem
from cosma.schedule import replacement
from cosma.schedule.placed import Placed
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.solvers.outcome import Outcome, named
from cosma.solvers.search.space import Space, whole
from cosma.solvers.search.strategies import smallest_peak

LARGEST_SPACE = 12_000  # operators; bit masks grow with them
_MOST_STATES = 10**7
PEAK_STATES = 50_000  # for an order without evictions; where there is one it is found soon


def solve(problem: Problem, options: Options, deadline: Deadline) -> Outcome:
    """The compact integer programme on three orders, optimal if the graph allows no other. Capacity >= M_R."""
    backend = backends.chosen(options.inner)
    exported = Timeline.of(problem, range(len(problem.graph.operators)))
    best = replacement.optimise(exported, backend, deadline.share(0.3))
    first_s = deadline.elapsed_s
    if best.cost_bytes == 0:
        why = "the exported order fits without evictions"
        return Outcome(best, 0, "nothing to evict", (why,), 0, 0, first_s=first_s)
    if problem.graph.has_single_order:
        why = "the graph allows one schedule only"
        name = named("integer programme", best.rests_on)
        return Outcome(best, best.bound_bytes, name, (why,), 0, first_s=first_s)
    best, which = best_of(problem, options, backend, deadline, best)
    exact = "optimal" if best.cost_bytes == best.bound_bytes else "not proved optimal"
    why = f"{which}: replacement {exact} for it, other orders were not searched"
    return Outcome(best, 0, "trivial", (why,), first_s=first_s)


def three_orders(problem: Problem, options: Options, backend: str, deadline: Deadline) -> Placed:
    """The best plan of the exported order, the depth-first one and that of smallest peak."""
    exported = Timeline.of(problem, range(len(problem.graph.operators)))
    best = replacement.optimise(exported, backend, deadline.share(0.5))
    return best_of(problem, options, backend, deadline, best)[0] if best.cost_bytes else best


def best_of(problem: Problem, options: Options, backend: str, deadline: Deadline, best: Placed) -> tuple[Placed, str]:
    """The best of a plan and those of two more orders, depth first and smallest peak, and which it is."""
    which = "the order so far"
    candidates = [("depth-first order", depth_first(problem.graph))]
    peak = order_of_smallest_peak(problem, options, deadline.share(0.3))
    candidates += [("order of smallest peak", peak)] if peak is not None else []
    for name, order in candidates:
        if not deadline.passed:
            placed = replacement.optimise(Timeline.of(problem, order), backend, deadline)
            if placed.cost_bytes < best.cost_bytes:
                best, which = placed, name
    return best, which


def order_of_smallest_peak(problem: Problem, options: Options, deadline: Deadline) -> tuple[int, ...] | None:
    """An order whose footprint without evictions is M_P; None if it is not found within the limits."""
    if len(problem.graph.operators) > LARGEST_SPACE:
        return None
    space = whole(problem)
    return smallest_peak(space, min(PEAK_STATES, state_limit(space, options)), deadline).order


def smallest_peak_bytes(problem: Problem, deadline: Deadline) -> int | None:
    """M_P, proved: the smallest footprint over all schedules when nothing is evicted; None if not found in time."""
    if len(problem.graph.operators) > LARGEST_SPACE:
        return None
    found = smallest_peak(whole(problem), _MOST_STATES, deadline, problem.working_set_bytes)
    return found.cost if found.complete else None


def depth_first(graph: Graph) -> tuple[int, ...]:
    """A topological order that finishes what an operator needs before anything else is begun."""
    order: list[int] = []
    seen: set[int] = set()
    stack = [v for v in range(len(graph.operators)) if not graph.successors[v]][::-1]
    while stack:
        v = stack.pop()
        waiting = [p for p in graph.predecessors[v] if p not in seen]
        if v in seen:
            continue
        if waiting:
            stack += [v, *reversed(waiting)]
        else:
            seen.add(v)
            order.append(v)
    return tuple(order)


def state_limit(space: Space, options: Options) -> int:
    """States that fit into the memory limit: each takes about 600 bytes and five bit masks."""
    masks = len(space.operators) // 8 * 3 + len(space.tensors) // 8 * 2
    return max(1, min(options.state_limit, options.memory_limit_bytes // (600 + masks)))
