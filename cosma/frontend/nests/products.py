"""Nests of matrix products: y[m, n] is a sum over k of a[m, k] b[k, n]."""

from collections.abc import Callable, Sequence

from cosma.frontend.nests.site import NoRuleError, Site, at
from cosma.nest import Index


def gemm(b: int, bias: int) -> Callable[[Site], None]:
    """The rule of Gemm, whose second matrix and bias are these operands."""

    def rule(site: Site) -> None:
        rows, columns = site.result()
        m, n = site.axis("m", rows, "row"), site.axis("n", columns, "channel")
        k = site.axis("k", site.operand(0)[0 if site.number("transA") else 1], "channel")
        site.read(0, *_turned([at(m), at(k)], site.number("transA")))
        site.read(b, *_turned([at(k), at(n)], site.number("transB")))
        site.spread(bias, [m, n])
        site.write(0, at(m), at(n))

    return rule


def _turned(indices: Sequence[Index], turn: int) -> Sequence[Index]:
    return indices[::-1] if turn else indices


def matmul(b: int, columns: Sequence[int] = (), rows: Sequence[int] = ()) -> Callable[[Site], None]:
    """The rule of batched products, whose second operand is b.

    columns, rows: operands with one element, or one for each column or row of the result.
    """

    def rule(site: Site) -> None:
        first, second = site.operand(0), site.operand(b)
        if not first or not second or site.number("transBatchA") or site.number("transBatchB"):
            raise NoRuleError
        made = list(site.result())
        extents = [1 if len(second) == 1 else made.pop(), 1 if len(first) == 1 else made.pop()]
        batch = [site.axis(f"b{i}", extent, "batch") for i, extent in enumerate(made)]
        m, n = site.axis("m", extents[1], "row"), site.axis("n", extents[0], "channel")
        k = site.axis("k", first[-2 if site.number("transA") and len(first) > 1 else -1], "channel")
        _read_matrix(site, 0, batch, [at(m), at(k)] if len(first) > 1 else [at(k)], site.number("transA"))
        _read_matrix(site, b, batch, [at(k), at(n)] if len(second) > 1 else [at(k)], site.number("transB"))
        for operand in columns:
            site.along(operand, at(n))
        for operand in rows:
            site.along(operand, at(m))
        alone = [at(m)] * (len(first) > 1) + [at(n)] * (len(second) > 1)
        site.write(0, *map(at, batch), *alone)

    return rule


def _read_matrix(site: Site, position: int, batch: Sequence[int], matrix: list[Index], turn: int) -> None:
    sizes = site.operand(position)
    own = sizes[: len(sizes) - len(matrix)]
    shared = batch[len(batch) - len(own) :]
    if len(own) > len(batch):
        raise NoRuleError
    site.read(
        position,
        *(at() if n == 1 else at(axis) for axis, n in zip(shared, own, strict=True)),
        *_turned(matrix, turn and len(matrix) > 1),
    )


def einsum(site: Site) -> None:
    """Sums of products by an equation without ellipses in which no operand has a letter twice."""
    equation = site.text("equation", "").replace(" ", "")
    terms, arrow, made = equation.partition("->")
    operands = terms.split(",")
    if not arrow or "." in equation or any(len(set(t)) < len(t) for t in (*operands, made)):
        raise NoRuleError
    sizes = {letter: n for i, term in enumerate(operands) for letter, n in zip(term, site.operand(i), strict=True)}
    reduced = [letter for letter in dict.fromkeys("".join(operands)) if letter not in made]
    axis = {letter: site.axis(letter, sizes[letter]) for letter in (*made, *reduced)}
    for i, term in enumerate(operands):
        site.read(i, *(at() if n == 1 else at(axis[x]) for x, n in zip(term, site.operand(i), strict=True)))
    site.write(0, *(at(axis[letter]) for letter in made))
