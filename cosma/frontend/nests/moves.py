"""Nests of what only moves data: Concat, Split, Slice, Pad, Transpose, Gather, Resize and the like."""

from collections.abc import Callable, Sequence

import numpy as np

from cosma.frontend.nests.site import NoRuleError, Site, at
from cosma.frontend.sized import Sizes
from cosma.nest import Index


def concat(first: int = 0, step: int = 1) -> Callable[[Site], None]:
    """The rule of Concat, whose parts are every step-th operand: each is the part of the result that it fills."""

    def rule(site: Site) -> None:
        made = site.result()
        axis = site.number("axis") % len(made)
        axes = site.loops(made)
        start = 0
        for position in range(first, len(site.node.inputs), step):
            if site.value(position) is not None:
                site.read(position, *_shifted(axes, axis, -start))
                start += site.operand(position)[axis]
        site.write(0, *map(at, axes))

    return rule


def split(site: Site) -> None:
    """Results are the parts of the operand, one after another."""
    sizes = site.operand(0)
    axis = site.number("axis") % len(sizes)
    axes = site.loops(sizes)
    site.read(0, *map(at, axes))
    start = 0
    for i in range(len(site.node.outputs)):
        site.write(i, *_shifted(axes, axis, -start))
        start += site.result(i)[axis]


def _shifted(axes: Sequence[int], shifted: int, offset: int) -> list[Index]:
    return [at(a, offset=offset if i == shifted else 0) for i, a in enumerate(axes)]


def slice_(site: Site) -> None:
    """Along each axis from a start in steps, which may be negative."""
    sizes, made = site.operand(0), site.result()
    starts = site.integers(1, "starts")
    axes = site.integers(3, "axes") or [*range(len(starts or ()))]
    steps = site.integers(4, "steps") or [1] * len(axes)
    if starts is None or not len(starts) == len(axes) == len(steps):
        raise NoRuleError
    begin, step = [0] * len(sizes), [1] * len(sizes)
    for start, axis, by in zip(starts, axes, steps, strict=True):
        n = sizes[axis]
        from_front = start + n if start < 0 else start
        begin[axis] = min(max(from_front, 0), n - (by < 0))
        step[axis] = by
    loops = site.loops(made)
    site.read(0, *(at((a, by), offset=b) for a, by, b in zip(loops, step, begin, strict=True)))
    site.write(0, *map(at, loops))


def pad(site: Site) -> None:
    """Elements around the operand, which stay outside of it; copies of its own need all of it along that axis."""
    sizes, made = site.operand(0), site.result()
    pads, chosen = site.integers(1, "pads"), site.integers(3, "axes")
    if pads is None:
        raise NoRuleError
    padded = range(len(sizes)) if chosen is None else [axis % len(sizes) for axis in chosen]
    before = dict(zip(padded, pads, strict=False))
    loops = site.loops(made)
    if site.text("mode", "constant") == "constant":
        seen = [at(a, offset=-before.get(i, 0)) for i, a in enumerate(loops)]
    else:
        seen = [
            at(a) if made[i] == n and not before.get(i) else _all_of(site, i, n)
            for i, (a, n) in enumerate(zip(loops, sizes, strict=True))
        ]
    site.read(0, *seen)
    site.write(0, *map(at, loops))


def _all_of(site: Site, i: int, size: int) -> Index:
    return at(site.axis(f"all{i}", size, whole=True))


def transpose(site: Site) -> None:
    """Axis i of the result is axis perm[i] of the operand."""
    sizes = site.operand(0)
    order = site.numbers("perm", range(len(sizes))[::-1])
    loops = site.loops(tuple(sizes[i] for i in order))
    site.read(0, *(at(loops[order.index(i)]) for i in range(len(sizes))))
    site.write(0, *map(at, loops))


def tile(site: Site) -> None:
    """Repetition of axes that have one element; of longer ones no affine index tells."""
    sizes, repeats = site.operand(0), site.constant(1)
    if any(n > 1 and r > 1 for n, r in zip(sizes, repeats, strict=True)):
        raise NoRuleError
    loops = site.loops(site.result())
    site.spread(0, loops)
    site.write(0, *map(at, loops))


def gather(site: Site) -> None:
    """Rows of the operand by index: known ones that follow one another, or else as many as there are indices."""
    sizes, indices = site.operand(0), site.operand(1)
    axis = site.number("axis") % len(sizes)
    loops = site.loops(site.result())
    chosen = loops[axis : axis + len(indices)]
    before, after = [at(a) for a in loops[:axis]], [at(a) for a in loops[axis + len(indices) :]]
    rows, known = _row(site, sizes[axis], indices, chosen)
    site.read(0, *before, rows, *after, rows=None if known else axis)
    site.read(1, *map(at, chosen))
    site.write(0, *map(at, loops))


def _row(site: Site, size: int, indices: Sizes, loops: Sequence[int]) -> tuple[Index, bool]:
    """The index of the row that is read, and whether it is known."""
    try:
        values = [int(i) % size for i in site.constant(1)]
    except NoRuleError:
        values = []
    if values and len(indices) < 2 and values == [*range(values[0], values[0] + len(values))]:
        return at(*loops, offset=values[0]), True
    strides = [int(np.prod(indices[i + 1 :], dtype=np.int64)) for i in range(len(indices))]
    return at(*zip(loops, strides, strict=True)), False


def depth_to_space(site: Site) -> None:
    """Channel (b, b', c) becomes column and row inside of a block; or (c, b, b')."""
    block, (n, channels, height, width) = site.number("blocksize"), site.result()
    batch, c, h, w, row, column = _blocks(site, (n, channels, height // block, width // block), block)
    if site.text("mode", "DCR") == "DCR":
        channel = at((row, block * channels), (column, channels), c)
    else:
        channel = at((c, block * block), (row, block), column)
    site.read(0, at(batch), channel, at(h), at(w))
    site.write(0, at(batch), at(c), at((h, block), row), at((w, block), column))


def space_to_depth(site: Site) -> None:
    """The reverse: rows and columns of a block become channels (b, b', c)."""
    block, (n, channels, height, width) = site.number("blocksize"), site.operand(0)
    batch, c, h, w, row, column = _blocks(site, (n, channels, height // block, width // block), block)
    site.read(0, at(batch), at(c), at((h, block), row), at((w, block), column))
    site.write(0, at(batch), at((row, block * channels), (column, channels), c), at(h), at(w))


def _blocks(site: Site, sizes: Sizes, block: int) -> list[int]:
    axes = site.loops(sizes)
    return [*axes, site.axis("block_row", block, whole=True), site.axis("block_column", block, whole=True)]


def resize(site: Site) -> None:
    """Output element s o + rest sees the neighbours of input element o; all of the axis where s is no whole number."""
    sizes, made = site.operand(0), site.result()
    reach = _reach(site)
    loops, writes, seen = [], [], []
    for i, (n, out) in enumerate(zip(sizes, made, strict=True)):
        times = out // n if reach is not None and out % n == 0 and _is_scaled(site, i, n, out) else 0
        name = f"i{i}"
        loops.append(site.axis(name, n if times else out))
        rest = [site.axis(f"{name}_rest", times, whole=True)] if times > 1 else []
        writes.append(at((loops[-1], times or 1), *rest))
        if out == n:
            seen.append(at(loops[-1]))
        elif times and reach is not None:
            near = [site.axis(f"{name}_near", 2 * reach + 1, whole=True)] if reach else []
            seen.append(at(loops[-1], *near, offset=-reach))
        else:
            seen.append(_all_of(site, i, n))
    site.read(0, *seen)
    site.write(0, *writes)


def _reach(site: Site) -> int | None:
    """How many neighbours to either side an output element depends on; None: it is not known of them where they lie."""
    where = site.text("coordinate_transformation_mode", "half_pixel" if site.node.op_type == "Resize" else "asymmetric")
    if site.node.op_type == "Resize" and site.version < 11:
        where = "asymmetric"
    if where not in ("asymmetric", "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        return None
    if site.numbers("axes") or site.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    mode, rounded = site.text("mode", "nearest"), site.text("nearest_mode", "round_prefer_floor")
    old = site.node.op_type == "Upsample" or site.version < 11
    if mode == "nearest" and (old or ((rounded == "floor") == (where == "asymmetric") and rounded != "ceil")):
        return 0  # s o + rest lies beside o alone
    return {"nearest": 1, "linear": 1, "cubic": 2}.get(mode)


def _is_scaled(site: Site, axis: int, size: int, made: int) -> bool:
    """Whether the factor is exactly that of the sizes: a scale that is given may be another."""
    position = 1 if site.node.op_type == "Upsample" or site.version < 11 else 2
    if position == 2 and site.value(3) is not None:
        return True
    scales = site.constant(position)
    return bool(len(scales) > axis and scales[axis] * size == made)
