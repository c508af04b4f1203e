"""Nests of what works element by element, and of sums and norms along axes."""

from collections.abc import Callable, Sequence

from cosma.frontend.nests.site import NoRuleError, Site, at

Rule = Callable[[Site], None]


def elementwise(*operands: int) -> Rule:
    """The rule of operators whose operands at these positions (none: all) are read element by element, broadcast."""

    def rule(site: Site) -> None:
        axes = site.loops(site.result())
        for position in operands or range(len(site.node.inputs)):
            site.spread(position, axes)
        site.write(0, *map(at, axes))

    return rule


def by_channel(*operands: int, axis: int = 1, whole: bool = False) -> Rule:
    """The rule of operators with one number a channel in these operands; whole: channels see their neighbours."""

    def rule(site: Site) -> None:
        sizes = site.operand(0)
        channel = site.number("axis", axis)
        if site.number("training_mode") or site.number("block_size"):
            raise NoRuleError
        channel = channel % len(sizes) if -len(sizes) <= channel < len(sizes) else 0  # of one scale no axis matters
        axes = site.loops(sizes, [channel] if whole else [])
        site.read(0, *map(at, axes))
        for position in operands:
            site.along(position, at(axes[channel]) if axes else at())
        site.write(0, *map(at, axes))

    return rule


def along_axis(*operands: int, default: int = -1, operand: int | None = None) -> Rule:
    """The rule of operators that need whole rows along an axis; the rest are read element by element.

    operand: where the axis is a constant operand instead of an attribute.
    """

    def rule(site: Site) -> None:
        sizes = site.operand(0)
        row = site.number("axis", default) if operand is None else int(site.constant(operand)[0])
        axes = site.loops(sizes, [row % len(sizes)])
        for position in (0, *operands):
            site.spread(position, axes)
        site.write(0, *map(at, axes))

    return rule


def softmax(site: Site) -> None:
    """Softmax and its like: before opset 13 along all axes from the given one on."""
    sizes = site.operand(0)
    old = site.number("opset", site.version) < 13  # com.microsoft.QLinearSoftmax says whose rules it goes by
    axis = site.number("axis", 1 if old else -1) % len(sizes)
    axes = site.loops(sizes, range(axis, len(sizes)) if old else [axis])
    site.read(0, *map(at, axes))
    site.write(0, *map(at, axes))


def layer_norm(*operands: int, skip: int | None = None, default: int = -1) -> Rule:
    """The rule of norms over all axes from one on; operands of that shape scale and shift, `skip` is added before.

    Besides the result there may be a mean and a deviation for each row, and the sum that was normalised.
    """

    def rule(site: Site) -> None:
        sizes = site.operand(0)
        first = site.number("axis", default) % len(sizes)
        axes = site.loops(sizes, range(first, len(sizes)))
        site.read(0, *map(at, axes))
        for position in (*operands, *([] if skip is None else [skip])):
            site.spread(position, axes)
        each = [at(axis) for axis in axes]
        site.write(0, *each)
        for position, value in enumerate(site.node.outputs[1:], 1):
            if value.name:
                full = site.result(position) == sizes
                site.write(position, *each[:first], *(each[first:] if full else [at() for _ in axes[first:]]))

    return rule


def instance_norm(site: Site) -> None:
    """One mean and deviation for each image and channel."""
    sizes = site.operand(0)
    axes = site.loops(sizes, range(2, len(sizes)))
    site.read(0, *map(at, axes))
    site.along(1, at(axes[1]))
    site.along(2, at(axes[1]))
    site.write(0, *map(at, axes))


def group_norm(site: Site) -> None:
    """One mean and deviation for each image and group of channels; scale and bias for each channel or group."""
    n, c, *image = site.operand(0)
    groups = site.number("num_groups", 1)
    batch, group = site.axis("n", n, "batch"), site.axis("g", groups, "channel")
    inner = site.axis("c", c // groups, "channel", whole=True)
    rest = [site.axis(f"i{i}", extent, whole=True) for i, extent in enumerate(image)]
    channel = at((group, c // groups), inner)
    site.read(0, at(batch), channel, *map(at, rest))
    for position in (1, 2):
        site.along(position, channel if site.operand(position) == (c,) else at(group))
    site.write(0, at(batch), channel, *map(at, rest))


def over_axes(default: Sequence[int]) -> Rule:
    """The rule of a norm over the axes of an attribute, which has no other operands."""

    def rule(site: Site) -> None:
        sizes = site.operand(0)
        axes = site.loops(sizes, [axis % len(sizes) for axis in site.numbers("axes", default)])
        site.read(0, *map(at, axes))
        site.write(0, *map(at, axes))

    return rule


def reduction(whole: bool = False, single: bool = False) -> Rule:
    """The rule of Reduce and ArgMax: one result along the axes. whole: it cannot add up; single: one `axis`, or 0."""

    def rule(site: Site) -> None:
        sizes = site.operand(0)
        given = [site.number("axis")] if single else site.integers(1, "axes")
        if not given and site.number("noop_with_empty_axes"):
            return elementwise(0)(site)
        reduced = {axis % len(sizes) for axis in (given if given else range(len(sizes)))}
        kept = [a for a in range(len(sizes)) if a not in reduced]
        names = {a: site.axis(f"i{a}", sizes[a]) for a in kept}
        names |= {a: site.axis(f"i{a}", sizes[a], whole=whole) for a in sorted(reduced)}
        site.read(0, *(at(names[a]) for a in range(len(sizes))))
        keeps = site.number("keepdims", 1)
        site.write(0, *(at() if a in reduced else at(names[a]) for a in range(len(sizes)) if keeps or a in kept))
        return None

    return rule
