"""Nests of convolutions and pools: windows that slide along the axes of an image.

Output row p sees input rows stride x p + dilation x r - pad for each tap r of the kernel.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cosma.frontend.nests.site import NoRuleError, Site, at
from cosma.nest import AxisKind, Index

_SPATIAL: tuple[tuple[str, str, AxisKind], ...] = (("o", "u", "other"), ("p", "r", "row"), ("q", "s", "column"))


class _Window(NamedTuple):
    """Along one axis of an image: sizes of input, output and kernel, and how the window slides."""

    size: int
    made: int
    kernel: int
    stride: int
    dilation: int
    pad: int


def _windows(site: Site, data: int, kernel: Sequence[int]) -> list[_Window]:
    size, made = site.operand(data)[2:], site.result()[2:]
    rank = len(size)
    strides, dilations = site.numbers("strides", [1] * rank), site.numbers("dilations", [1] * rank)
    pads = _pads(site, size, made, kernel, strides, dilations)
    if not 0 < rank <= len(_SPATIAL) or len({rank, *map(len, (made, kernel, strides, dilations, pads))}) > 1:
        raise NoRuleError
    return [_Window(*row) for row in zip(size, made, kernel, strides, dilations, pads, strict=True)]


def _pads(
    site: Site,
    size: Sequence[int],
    made: Sequence[int],
    kernel: Sequence[int],
    strides: list[int],
    dilations: list[int],
) -> list[int]:
    """Elements before the first, along each axis."""
    automatic = site.text("auto_pad", "NOTSET")
    if automatic == "VALID":
        return [0] * len(size)
    if automatic == "NOTSET":
        return site.numbers("pads", [0] * 2 * len(size))[: len(size)]
    whole = [
        max((o - 1) * s + (k - 1) * d + 1 - i, 0)
        for i, o, k, s, d in zip(size, made, kernel, strides, dilations, strict=True)
    ]
    return [n // 2 if automatic == "SAME_UPPER" else n - n // 2 for n in whole]


def convolution(kernel: int, *per_channel: int, like_output: int | None = None) -> Callable[[Site], None]:
    """The rule of convolutions whose kernel [out, in / groups, ...] is this operand.

    per_channel: operands with one element, or one for each output channel. like_output: one that is added.
    """

    def rule(site: Site) -> None:
        if site.number("channels_last"):
            raise NoRuleError
        made, weight = site.result(), site.operand(kernel)
        groups = site.number("group", 1)
        n, g = site.axis("n", made[0], "batch"), site.axis("g", groups, "channel")
        k = site.axis("k", made[1] // groups, "channel")
        windows = _windows(site, 0, weight[2:])
        outer = _outer(site, windows)
        c = site.axis("c", weight[1], "channel")
        taps = _taps(site, windows)
        channel = at((g, made[1] // groups), k)
        site.read(0, at(n), at((g, weight[1]), c), *_seen(windows, outer, taps))
        site.read(kernel, channel, at(c), *map(at, taps))
        for operand in per_channel:
            site.along(operand, channel)
        output = (at(n), channel, *map(at, outer))
        if like_output is not None and site.value(like_output) is not None:
            site.read(like_output, *output)
        site.write(0, *output)

    return rule


def _outer(site: Site, windows: Sequence[_Window]) -> list[int]:
    names = _SPATIAL[-len(windows) :]
    return [site.axis(name, w.made, kind) for (name, _, kind), w in zip(names, windows, strict=True)]


def _taps(site: Site, windows: Sequence[_Window]) -> list[int]:
    names = _SPATIAL[-len(windows) :]
    return [site.axis(name, w.kernel, whole=True) for (_, name, _), w in zip(names, windows, strict=True)]


def _seen(windows: Sequence[_Window], outer: Sequence[int], taps: Sequence[int]) -> list[Index]:
    return [at((p, w.stride), (r, w.dilation), offset=-w.pad) for w, p, r in zip(windows, outer, taps, strict=True)]


def transposed_convolution(site: Site) -> None:
    """Output element s o' + rest sees input elements o' + j for a few j: those of which a tap lands on it.

    The kernel is [in, out / groups, ...]. Every rest is taken to see all j that any sees.
    """
    if site.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or site.numbers("output_shape"):
        raise NoRuleError
    made, weight, groups = site.result(), site.operand(1), site.number("group", 1)
    n, g, k = site.axis("n", made[0], "batch"), site.axis("g", groups, "channel"), site.axis("k", weight[1], "channel")
    windows = _windows(site, 0, weight[2:])
    names = _SPATIAL[-len(windows) :]
    outer = [site.axis(name, -(-w.made // w.stride), kind) for (name, _, kind), w in zip(names, windows, strict=True)]
    rest = [
        site.axis(f"{name}_rest", min(w.stride, w.made), whole=True)
        for (name, _, _), w in zip(names, windows, strict=True)
    ]
    c = site.axis("c", weight[0] // groups, "channel")
    taps = _taps(site, windows)
    seen = [_near(site, w, p, name) for w, p, (name, _, _) in zip(windows, outer, names, strict=True)]
    channel = at((g, weight[1]), k)
    site.read(0, at(n), at((g, weight[0] // groups), c), *seen)
    site.read(1, at((g, weight[0] // groups), c), at(k), *map(at, taps))
    site.along(2, channel)
    site.write(0, at(n), channel, *(at((p, w.stride), i) for p, i, w in zip(outer, rest, windows, strict=True)))


def _near(site: Site, w: _Window, axis: int, name: str) -> Index:
    """Input element o' + j for every j such that a tap of it lands on some s o' + rest."""
    landing = (w.pad + i - w.dilation * r for i in range(min(w.stride, w.made)) for r in range(w.kernel))
    near = [x // w.stride for x in landing if x % w.stride == 0]
    if not near:
        raise NoRuleError
    return at(axis, site.axis(f"{name}_near", max(near) - min(near) + 1, whole=True), offset=min(near))


def pool(site: Site) -> None:
    """Max, average and Lp pools; a second result says where the largest was."""
    if site.number("channels_last"):
        raise NoRuleError
    made = site.result()
    n, c = site.axis("n", made[0], "batch"), site.axis("c", made[1], "channel")
    windows = _windows(site, 0, site.numbers("kernel_shape"))
    outer = _outer(site, windows)
    taps = _taps(site, windows)
    site.read(0, at(n), at(c), *_seen(windows, outer, taps))
    for i in range(len(site.node.outputs)):
        site.write(i, at(n), at(c), *map(at, outer))


def global_pool(site: Site) -> None:
    """One number for each channel of an image."""
    if site.number("channels_last"):
        raise NoRuleError
    axes = site.loops(site.operand(0))
    site.read(0, *map(at, axes))
    site.write(0, at(axes[0]), at(axes[1]), *(at() for _ in axes[2:]))
