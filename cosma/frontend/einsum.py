"""Count the multiplications of an Einsum from its equation and shapes."""

from collections import Counter
from collections.abc import Sequence
from math import prod

_DOTS = "..."


def count_products(equation: str, shapes: Sequence[Sequence[int]]) -> int:
    """Count the multiplications when operands are multiplied one after the other, from left to right.

    An index that only one operand has, and not the result, is summed before that operand is multiplied; any other
    index is summed as soon as neither a later operand nor the result has it. A product takes one multiplication for
    each point of its index space: "bik,bkj->bij" takes b * i * k * j, as MatMul does, "ij,ij->ij" takes i * j, an
    Einsum of one operand none. (Another order may take fewer for three or more operands.)
    Raises LookupError if equation and shapes do not match.
    """
    terms, result = _read(equation, [len(shape) for shape in shapes])
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for index, size in zip(term, shape, strict=True):
            sizes[index] = size if sizes.get(index, 1) == 1 else sizes[index]  # a size of 1 is broadcast
    wanted = [set(result).union(*terms[i + 1 :]) for i in range(len(terms))]  # after each operand
    left, total = set(terms[0]) & wanted[0], 0
    for i in range(1, len(terms)):
        space = left | (set(terms[i]) & (left | wanted[i]))
        total += prod(sizes[index] for index in space)
        left = space & wanted[i]
    return total


def _read(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The indices of each operand and of the result; those that "..." stands for are numbers, counted from the right.

    Without an arrow the result has what "..." stands for, then the letters that occur once, in order.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise LookupError(f"{len(ranks)} operands for {equation!r}")
    terms = [_indices(part, rank) for part, rank in zip(parts, ranks, strict=True)]
    widest = max((sum(index.isdigit() for index in term) for term in terms), default=0)
    dots = [str(i) for i in reversed(range(widest))]
    if not arrow:
        counts = Counter(index for term in terms for index in term if not index.isdigit())
        return terms, dots + sorted(index for index, count in counts.items() if count == 1)
    before, found, after = right.partition(_DOTS)
    result = [*before, *(dots if found else ()), *after]
    if not set(result) <= {index for term in terms for index in term}:
        raise LookupError(f"{equation!r} has a result of indices that no operand has")
    return terms, result


def _indices(part: str, rank: int) -> list[str]:
    before, found, after = part.partition(_DOTS)
    letters = before + after
    hidden = rank - len(letters)
    if hidden < 0 or (hidden and not found) or (letters and not letters.isalpha()):
        raise LookupError(f"{part!r} does not fit {rank} dimensions")
    return [*before, *(str(i) for i in reversed(range(hidden))), *after]
