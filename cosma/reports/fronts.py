"""Fronts of operators as a figure: bytes moved against scratchpad, beside what no tiling can go below."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from cosma.analysis.fronts import Front
from cosma.reports.figure import label, save
from cosma.units import format_bytes

_PANELS = 12
_ACROSS = 4
_LETTERS = 40  # of a name
_BOUND_POINTS = 60  # of the curve of a lower bound


def draw(groups: Sequence[Sequence[Front]], form: str) -> bytes:
    """A panel for each of the first dozen groups of fronts that are alike, on logarithmic axes: png, svg or pdf.

    Dashed: the bound of a matrix product. Dotted: each touched byte of the operands once.
    """
    shown = groups[:_PANELS]
    across = min(_ACROSS, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(max(4.6, 3.4 * across), 2.9 * down + 0.6), dpi=120, layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for same, axes in zip(shown, panels, strict=False):
        _paint(axes, same)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    handles = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return save(figure, form)


def _paint(axes: Any, same: Sequence[Front]) -> None:
    front, others = same[0], len(same) - 1
    room, moved = (np.array(column) for column in zip(*front.points, strict=True))
    end = max(2 * room[-1], 4 * room[0])
    axes.step([*room, end], [*moved, moved[-1]], where="post", color="#0072b2", label="least bytes moved")
    axes.axhline(front.compulsory_bytes, color="#5a6068", linestyle=":", label="each touched byte once")
    product = front.product
    if product is not None:
        at = np.geomspace(room[0], end, _BOUND_POINTS)
        bound = [product.lower_bound(x) for x in at]
        axes.plot(at, bound, color="#c43c00", linestyle="--", linewidth=1, label="2mnk/√S + outputs")
    size = "" if product is None else f", {product.m} × {product.k} × {product.n}"
    name = front.operator if len(front.operator) <= _LETTERS else f"…{front.operator[1 - _LETTERS :]}"
    more = f", and {others} more alike" if others else ""
    axes.set_title(label(f"{name}\n{front.op_type}{size}{more}"), fontsize=7.5)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda x, _: format_bytes(round(x)))
    axes.yaxis.set_major_formatter(lambda y, _: format_bytes(round(y)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.set_xlabel("scratchpad", fontsize=7.5)
