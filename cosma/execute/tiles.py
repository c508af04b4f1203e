"""Tiles: an operator run the way its mode says, each tile with nothing but what it reads.

ONNX Runtime's kernels round otherwise for other shapes, so a tile is run at full shape: all that it does not read is
poison, and of the results only the tile's own elements are kept. They have the bits of an ordinary run if and
only if what was brought in is what they depend on.

```
streamed input        buffer          what the kernel sees      what is kept of its result
+-----------+        +------+         +-----------+             +-----------+
|           |  rows  | rows |  rows   |xxxxxxxxxxx|    run      |           |
|===========| -----> |======| ----->  |===========|  -------->  |===========| -----> output
|           |        +------+         |xxxxxxxxxxx|             |           |
+-----------+                         +-----------+             +-----------+
```
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cosma.errors import VerificationError
from cosma.execute.kernels import Operator
from cosma.execute.runtime import Bytes, Value, allocate
from cosma.nest import Access, Nest, Tiling

POISON = 0xFF  # NaN for floating-point numbers, -1 or the largest value for integers
MOST_TILES = 24  # of one operator that are run; of more, corners and others drawn from a fixed seed
_Rounds = dict[int, range]  # axis -> the rounds of a tile


def run_tiles(
    kernel: Operator, nest: Nest, tiling: Tiling, values: Mapping[int, Value], buffers: Mapping[int, Bytes]
) -> tuple[int, int]:
    """Run an operator tile by tile and return how many tiles were run, of how many.

    values: all operands by tensor, in the scratchpad where they are resident, else with the host; outputs are written
    there. buffers: the scratchpad bytes through which the streamed ones go. Where not all tiles are run, the rest of
    the outputs comes from a run of the whole. Tiles of sums are run together, each through the buffer on its own.
    Raises VerificationError where a tile does not fit into its buffer.
    """
    loops = _loops(nest, tiling)
    kept = {axis for access in nest.accesses if access.written for index in access.indices for axis, _ in index.terms}
    outer = {axis: tiles for axis, tiles in loops.items() if axis in kept}
    summed = {axis: tiles for axis, tiles in loops.items() if axis not in kept}
    every = prod(map(len, outer.values()))
    chosen = list(_rounds(outer)) if every <= MOST_TILES else _sample(outer)
    outputs = {a: values[a] for a in kernel.outputs}
    if every > MOST_TILES or not _covers(nest, outputs):
        kernel.run(values)
    else:
        for value in outputs.values():
            value.data[:] = POISON
    for tile in chosen:
        _run_tile(kernel, nest, [tile | chunk for chunk in _rounds(summed)], values, buffers)
    return len(chosen), every


def _covers(nest: Nest, outputs: Iterable[int]) -> bool:
    """Whether the nest says of each output what of it a tile writes."""
    return set(outputs) <= {access.tensor for access in nest.accesses if access.written}


def _run_tile(
    kernel: Operator,
    nest: Nest,
    chunks: Sequence[_Rounds],
    values: Mapping[int, Value],
    buffers: Mapping[int, Bytes],
) -> None:
    """Run one tile of the outputs, of which `chunks` are the rounds, one after the other where it is a sum."""
    shown = dict(values)
    for a in buffers.keys() - set(kernel.outputs):
        shown[a] = _poisoned(values[a])
        for chunk in chunks:
            for access in (access for access in nest.accesses if access.tensor == a):
                _copy(values[a], shown[a], _region(nest, access, chunk, values[a]), buffers[a])
    made = {a: _poisoned(values[a]) for a in kernel.outputs}
    kernel.run(shown | made)
    for access in nest.accesses:
        if access.written:
            a = access.tensor
            _copy(made[a], values[a], _region(nest, access, chunks[0], values[a]), buffers.get(a))


def _poisoned(value: Value) -> Value:
    data = allocate(value.data.size)
    data[:] = POISON
    return Value(value.elem_type, value.shape, data)


class _Region(NamedTuple):
    """Some elements of an operand: along each axis of the shape that the operator sees, which."""

    shape: tuple[int, ...]
    along: tuple[npt.NDArray[np.int64], ...]


def _copy(source: Value, target: Value, region: _Region | None, buffer: Bytes | None) -> None:
    """Copy some elements, through a buffer of the scratchpad where there is one; all of them where no part is known."""
    if region is None:
        target.data[:] = source.data
        return
    seen = (*region.shape, source.data.size // prod(region.shape))
    at = np.ix_(*region.along)
    block = source.data.reshape(seen)[at]
    if buffer is not None:
        if block.size > buffer.size:
            raise VerificationError(f"a tile of {block.size} B does not fit into its buffer of {buffer.size} B")
        buffer[: block.size] = block.reshape(-1)
        block = buffer[: block.size].reshape(block.shape).copy()
        buffer[: block.size] = POISON
    target.data.reshape(seen)[at] = block


def _region(nest: Nest, access: Access, rounds: _Rounds, value: Value) -> _Region | None:
    """What a tile touches; None where elements take less than a byte, or which ones are read depends on data."""
    shape = tuple(index.size for index in access.indices)
    if access.lookup or access.bits % 8 or prod(shape) * access.bits != 8 * value.data.size:
        return None
    along = []
    for index in access.indices:
        found = np.array([index.offset], np.int64)
        for axis, stride in index.terms:
            rows = rounds.get(axis, range(nest.axes[axis].extent))
            found = np.unique(found[:, None] + stride * np.arange(rows.start, rows.stop))
        along.append(found[(found >= 0) & (found < index.size)])
    return _Region(shape, tuple(along))


def _loops(nest: Nest, tiling: Tiling) -> dict[int, list[range]]:
    """The rounds of each tile of each axis that is cut, the outermost loop first."""
    number = {axis.name: i for i, axis in enumerate(nest.axes)}
    return {
        number[name]: [
            range(i, min(i + size, nest.axes[number[name]].extent))
            for i in range(0, nest.axes[number[name]].extent, size)
        ]
        for name, size in tiling
    }


def _rounds(loops: Mapping[int, Sequence[range]]) -> Iterator[_Rounds]:
    return (dict(zip(loops, tile, strict=True)) for tile in product(*loops.values()))


def _sample(loops: Mapping[int, Sequence[range]]) -> list[_Rounds]:
    """Corners, then others: the first and the last tiles are where borders go wrong."""
    rng = random.Random(0)
    corners = {axis: list(dict.fromkeys([tiles[0], tiles[-1]])) for axis, tiles in loops.items()}
    chosen = list(_rounds(corners))[:MOST_TILES]
    while len(chosen) < MOST_TILES:
        tile = {axis: rng.choice(tiles) for axis, tiles in loops.items()}
        if tile not in chosen:
            chosen.append(tile)
    return chosen
