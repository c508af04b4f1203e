"""The twins rule: of branches that look alike the first may go first (docs/problem.md#twins).

A branch is a chain of operators, each reading nothing but the result of the one before, up to a tensor with one
reader. Two branches that read the same tensors, look alike and end at the same operator can be exchanged without
changing anything else; so of two that have not begun, the one with the smaller number may go first. What an operator
looks like includes its modes, and the operator at the end has to treat both alike: their results play one role in it.
"""

from collections.abc import Callable, Sequence

Shape = tuple[object, ...]  # what an operator takes and moves, and its outputs


def older_twins(
    inputs: Sequence[tuple[int, ...]],
    outputs: Sequence[tuple[int, ...]],
    readers: Sequence[int],
    shapes: Sequence[Shape],
    role: Callable[[int, int], int],
) -> list[int]:
    """For each operator the mask of earlier ones that start a branch just like the one that it starts.

    readers: masks of operators by tensor. role(v, a): equal for inputs of operator v that can be exchanged.
    """
    first: dict[tuple[tuple[int, ...], int], int] = {}
    older = [0] * len(inputs)
    for v, branch in enumerate(_branches(inputs, outputs, readers, shapes, role)):
        if branch is not None:
            key = (inputs[v], branch)
            older[v] = first.get(key, 0)
            first[key] = older[v] | 1 << v
    return older


def _branches(
    inputs: Sequence[tuple[int, ...]],
    outputs: Sequence[tuple[int, ...]],
    readers: Sequence[int],
    shapes: Sequence[Shape],
    role: Callable[[int, int], int],
) -> list[int | None]:
    """For each operator the number of the branch that it starts, its inputs left out; alike have the same number.

    None where the branch ends in several places or nowhere: no two of those are alike.
    """
    numbers: dict[tuple[Shape, int, int, int], int] = {}
    branches: list[int | None] = [None] * len(inputs)
    for v in range(len(inputs) - 1, -1, -1):
        after = readers[outputs[v][0]] if len(outputs[v]) == 1 else 0
        if not after or after & (after - 1):
            continue
        reader = after.bit_length() - 1
        ends = len(inputs[reader]) > 1
        rest = -1 if ends else branches[reader]
        if rest is not None:
            end, part = (reader, role(reader, outputs[v][0])) if ends else (-1, 0)
            branches[v] = numbers.setdefault((shapes[v], end, part, rest), len(numbers))
    return branches
