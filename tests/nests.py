"""Random small nests, and the plainest way to run their tiles: element by element."""

import random
from itertools import permutations, product

from cosma.nest import Access, Axis, Index, Nest, Tiler, Tiling, checked


def index(size: int, *terms: int | tuple[int, int], offset: int = 0) -> Index:
    return Index(size, tuple((t, 1) if isinstance(t, int) else t for t in terms), offset)


def convolution(
    c: int,
    k: int,
    size: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    pad: int = 0,
    groups: int = 1,
    columns: int = 1,
    bits: int = 8,
) -> Nest | None:
    """Rows (and columns, if more than one) of an image through a kernel; None where no output row is left."""
    made = [(n + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for n in (size, columns)]
    if made[0] < 1 or (columns > 1 and made[1] < 1):
        return None
    p, q = made[0], made[1] if columns > 1 else 1
    axes = [
        Axis("g", groups, "channel"),
        Axis("k", k, "channel"),
        Axis("p", p, "row"),
        Axis("q", q, "column"),
        Axis("c", c, "channel"),
    ]
    axes += [Axis("r", kernel, whole=True), Axis("s", kernel if columns > 1 else 1, whole=True)]
    rows = index(size, (2, stride), (5, dilation), offset=-pad)
    cols = index(columns, (3, stride), (6, dilation), offset=-pad) if columns > 1 else index(1)
    return checked(axes, [
        Access(0, (index(groups * c, (0, c), 4), rows, cols), bits),
        Access(1, (index(groups * k, (0, k), 1), index(c, 4), index(kernel, 5), index(axes[6].extent, 6)), bits),
        Access(2, (index(groups * k, (0, k), 1),), 32),
        Access(3, (index(groups * k, (0, k), 1), index(p, 2), index(q, 3)), bits, True),
    ])  # fmt: skip


def product_of(m: int, n: int, k: int, bits: int = 8) -> Nest:
    axes = [Axis("m", m, "row"), Axis("n", n, "channel"), Axis("k", k, "channel")]
    reads = [Access(0, (index(m, 0), index(k, 2)), bits), Access(1, (index(k, 2), index(n, 1)), bits)]
    nest = checked(axes, [*reads, Access(2, (index(m, 0), index(n, 1)), bits, True)])
    assert nest is not None
    return nest


def random_nest(rng: random.Random) -> Nest:
    """Any nest: axes that index outputs, reduced ones and whole ones; broadcast, shifted, strided, overlapping reads."""
    while True:
        shown, reduced = rng.randint(1, 3), rng.randint(0, 2)
        axes = [
            Axis(f"i{a}", rng.randint(1, 6), rng.choice(["row", "channel", "other"])) for a in range(shown + reduced)
        ]
        axes += [Axis(f"w{a}", rng.randint(1, 3), whole=True) for a in range(rng.randint(0, 2))]
        accesses = []
        for tensor in range(rng.randint(1, 3)):
            free = list(range(len(axes)))
            rng.shuffle(free)
            indices = []
            for _ in range(rng.randint(0, 3)):
                terms = [
                    (free.pop(), rng.choice([1, 1, 1, 2, 3, -1]))
                    for _ in range(min(rng.choice([0, 1, 1, 2]), len(free)))
                ]
                reach = sum(abs(s) * (axes[a].extent - 1) for a, s in terms) + 1
                offset = sum(-s * (axes[a].extent - 1) for a, s in terms if s < 0) + rng.choice([0, 0, -1, -2, 1])
                indices.append(Index(max(1, reach + rng.choice([0, 0, -1, 1])), tuple(terms), offset))
            accesses.append(Access(rng.choice([tensor, 0]), tuple(indices), rng.choice([4, 8, 16])))
        out = tuple(index(axes[a].extent, a) for a in range(shown))
        nest = checked(axes, [*accesses, Access(9, out, rng.choice([8, 16]), True)])
        if nest is not None:
            return nest


def all_tilings(nest: Nest, tiler: Tiler) -> list[Tiling]:
    """Every loop order in which no incomplete sum leaves, and every choice of sizes: the least of each number of tiles."""
    shown = {a for x in nest.accesses if x.written for i in x.indices for a, _ in i.terms}
    choices = []
    for a, axis in enumerate(nest.axes):
        cut = range(0 if axis.whole else axis.extent - 1, 0, -1)
        sizes = {-(-axis.extent // t): t for t in cut if t % tiler.step(axis) == 0}.values()
        choices.append([(a, t) for t in (*sizes, axis.extent)])
    found = []
    for sizes in product(*choices):
        loops = [(a, t) for a, t in sizes if t < nest.axes[a].extent]
        for order in permutations(loops):
            kinds = [a in shown for a, _ in order]
            if kinds == sorted(kinds, reverse=True):
                found.append(tuple((nest.axes[a].name, t) for a, t in order))
    return found


def run(nest: Nest, tiling: Tiling) -> dict[int, list[tuple[int, int, int]]]:
    """Run every tile; for each tensor, (most elements held, elements moved, transfers) of each access in turn.

    An access holds elements only as long as its innermost loop sweeps, each from its first use in the sweep to its
    last.
    """
    names = [axis.name for axis in nest.axes]
    loops = [(names.index(name), size) for name, size in tiling]
    steps = [range(0, nest.axes[a].extent, size) for a, size in loops]
    found: dict[int, list[tuple[int, int, int]]] = {}
    for access in nest.accesses:
        own = {a for i in access.indices for a, _ in i.terms}
        inner = max((i for i, (a, _) in enumerate(loops) if a in own), default=-1)
        most = moved = transfers = 0
        for outer in product(*steps[: max(inner, 0)]):
            sweep = []
            for last in steps[inner] if inner >= 0 else [0]:
                at = dict(zip([a for a, _ in loops], [*outer, last], strict=False)) if inner >= 0 else {}
                rounds = [
                    range(at[a], min(at[a] + dict(loops)[a], axis.extent)) if a in at else range(axis.extent)
                    for a, axis in enumerate(nest.axes)
                ]
                used = sorted(own)
                sweep.append({
                    element
                    for r in product(*(rounds[a] for a in used))
                    if (element := _element(access, dict(zip(used, r, strict=True)))) is not None
                })  # fmt: skip
            seen: set[tuple[int, ...]] = set()
            for t, step in enumerate(sweep):
                later = set().union(*sweep[t:])
                most = max(most, len(step | (seen & later)))
                moved += len(step - seen)
                transfers += bool(step - seen)
                seen |= step
        found.setdefault(access.tensor, []).append((most, moved, transfers))
    return found


def _element(access: Access, at: dict[int, int]) -> tuple[int, ...] | None:
    found = tuple(i.offset + sum(s * at[a] for a, s in i.terms) for i in access.indices)
    return found if all(0 <= x < i.size for x, i in zip(found, access.indices, strict=True)) else None
