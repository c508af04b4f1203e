"""The space of some operators of a problem whose operators have several modes."""

from collections.abc import Sequence

from cosma.problem import Problem
from cosma.solvers.search.choices import Slot
from cosma.solvers.search.fronts import Menus, Role
from cosma.solvers.search.modal import ModalSpace


def modal_part(
    menus: Menus, operators: Sequence[int], entry: tuple[int, bool, bool] | None = None, left: int = -1
) -> ModalSpace:
    """The space of some operators, in topological order.

    entry: (tensor that the part before leaves, whether it is resident, whether the host has it). left: the tensor
    that the part leaves for the next, -1 if none. What else is used by others counts only in so far as
    it is written here or used nowhere else: then the optimum is a lower bound on what those tensors cost in any
    schedule (docs/problem.md#sub-graphs).
    """
    problem = menus.problem
    roles = _roles(problem, operators, -1 if entry is None else entry[0], left)
    tracked = [a for a, role in roles.items() if role.is_tracked]
    number = {a: k for k, a in enumerate(tracked)}
    local = {v: i for i, v in enumerate(operators)}
    own = [menus.of(v, roles) for v in operators]
    slots, inputs, outputs = [], [], []
    readers = [0] * len(tracked)
    for i, v in enumerate(operators):
        written = set(problem.graph.operators[v].outputs)
        mine = [
            Slot(p, number[a], a in written, bool(own[i].streamable >> p & 1))
            for p, a in enumerate(problem.operands[v])
            if a in number
        ]
        slots.append(tuple(mine))
        inputs.append(tuple(s.tensor for s in mine if not s.is_written))
        outputs.append(tuple(s.tensor for s in mine if s.is_written))
        for a in inputs[-1]:
            readers[a] |= 1 << i
    needs = [sum(1 << local[p] for p in problem.graph.predecessors[v] if p in local) for v in operators]
    extra = [menu.whole for menu in own]
    if left >= 0:  # the reader that never runs: it comes after everything, itself included
        readers[number[left]] |= 1 << len(operators)
        needs.append((2 << len(operators)) - 1)
        inputs.append((number[left],))
        outputs.append(())
        extra.append(0)
    stores = [problem.needs_store(a) for a in tracked]
    counted = (a for a, role in roles.items() if role is not Role.PASSING and (entry is None or a != entry[0]))
    return ModalSpace(
        capacity=problem.memory.capacity_bytes,
        operators=tuple(operators),
        tensors=tuple(tracked),
        sizes=tuple(problem.sizes[a] for a in tracked),
        eviction=tuple(problem.sizes[a] * (2 if store else 1) for a, store in zip(tracked, stores, strict=True)),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        extra=tuple(extra),
        readers=tuple(readers),
        needs=tuple(needs),
        start_resident=1 << number[entry[0]] if entry is not None and entry[1] else 0,
        menus=tuple(own),
        slots=tuple(slots),
        start_hosted=1 << number[entry[0]] if entry is not None and entry[2] else 0,
        left=number[left] if left >= 0 else -1,
        paid_anyway=sum(problem.compulsory(a) for a in counted),
    )


def _roles(problem: Problem, operators: Sequence[int], entry: int, left: int) -> dict[int, Role]:
    """What each operand of some operators is to the states."""
    graph = problem.graph
    local = set(operators)
    roles: dict[int, Role] = {}
    for v in operators:
        for a in problem.operands[v]:
            inside = sum(r in local for r in graph.readers[a])
            tensor = graph.tensors[a]
            if graph.producer[a] in local:
                is_sent = tensor.kind == "output"
                if inside or a == left:
                    roles[a] = Role.SENT if is_sent else Role.MADE
                else:
                    roles[a] = Role.OWN if is_sent else Role.DROPPED
            elif a == entry or (tensor.is_home and inside == len(graph.readers[a]) > 1):
                roles[a] = Role.READ
            elif tensor.is_home and inside == len(graph.readers[a]):
                roles[a] = Role.OWN
            else:
                roles[a] = Role.PASSING
    return roles
