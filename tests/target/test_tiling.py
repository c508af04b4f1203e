"""The engine against two slower ways to count, its fronts against all tilings, and against published numbers."""

import random
from itertools import combinations
from pathlib import Path

import pytest

from cosma.frontend.load import load
from cosma.graph import Graph, Operator, Tensor
from cosma.modes import PAPER, Mode
from cosma.nest import Nest, Tiler
from cosma.problem import Memory, Problem
from cosma.recount import recount
from cosma.target.fusion import fuse
from cosma.target.loops import shape_of
from cosma.target.tiling import larger, modes_of
from tests.conftest import MODELS
from tests.nests import all_tilings, convolution, product_of, random_nest, run

TILERS = [Tiler(), Tiler(2, 4), Tiler(1, 2, 4), Tiler(2, None, 1, (("channel", 2), ("row", 3)))]
CONVOLUTIONS = [
    {"c": c, "k": 2, "size": size, "kernel": kernel, "stride": stride, "dilation": dilation, "pad": pad, "groups": groups}
    for size in (5, 6, 9)
    for kernel in (1, 2, 3)
    for stride in (1, 2, 3)
    for dilation in (1, 2, 3)
    for pad in range(kernel)
    for c, groups in ((3, 1), (1, 3))
]  # fmt: skip


def graph_of(nest: Nest) -> Graph:
    """One operator with this nest; sizes are those of the largest shape in which it sees a tensor."""
    sizes: dict[int, int] = {}
    for access in nest.accesses:
        bits = access.bits
        for i in access.indices:
            bits *= i.size
        sizes[access.tensor] = max(sizes.get(access.tensor, 0), -(-bits // 8))
    number = {a: i for i, a in enumerate(sizes)}
    written = {a.tensor for a in nest.accesses if a.written}
    tensors = tuple(Tensor(f"t{a}", size, "output" if a in written else "input") for a, size in sizes.items())
    reads, writes = (tuple(number[a] for a in sizes if (a in written) == w) for w in (False, True))
    return Graph("g", tensors, (Operator("v", "Op", reads, writes, nest=nest.renumbered(number)),))


def tiled(graph: Graph, memory: Memory, tiler: Tiler) -> tuple[Nest, tuple[Mode, ...]]:
    [operator], [modes] = graph.operators, modes_of(graph, memory, tiler)
    assert operator.nest is not None
    assert modes[0] is PAPER
    return operator.nest, modes[1:]


def agree(nest: Nest, tiler: Tiler, mode: Mode, alignment: int) -> None:
    found = recount(nest, tiler, mode.tiling, alignment)
    assert (found.tiles, found.workspace_bytes) == (mode.tiles, mode.workspace_bytes)
    for s in mode.streams:
        assert found.operands[s.tensor] == (s.buffer_bytes, s.moved_bytes, s.transfers), mode


def nests() -> list[Nest]:
    found = [n for c in CONVOLUTIONS if (n := convolution(**c)) is not None]
    found += [n for c in CONVOLUTIONS[::7] if (n := convolution(**c, columns=6)) is not None]
    rng = random.Random(1)
    return [*found, *(random_nest(rng) for _ in range(300))]


@pytest.mark.parametrize("tiler", TILERS, ids=range(len(TILERS)))
def test_modes_are_what_is_counted_tile_by_tile(tiler: Tiler) -> None:
    count = 0
    for nest in nests():
        own, modes = tiled(graph_of(nest), Memory(2**20, 4), tiler)
        for mode in modes:
            agree(own, tiler, mode, 4)
            count += 1
    assert count > 500


def test_tile_by_tile_is_element_by_element() -> None:
    rng = random.Random(3)
    count = 0
    for nest in nests():
        tilings = all_tilings(nest, Tiler())
        for tiling in rng.sample(tilings, min(4, len(tilings))):
            found = recount(nest, Tiler(), tiling).operands
            for tensor, accesses in run(nest, tiling).items():
                bits = [a.bits for a in nest.accesses if a.tensor == tensor]
                buffers = sum(-(-most * b // 8) for (most, _, _), b in zip(accesses, bits, strict=True))
                moved = sum(-(-n * b // 8) for (_, n, _), b in zip(accesses, bits, strict=True))
                assert found[tensor] == (buffers, moved, sum(n for _, _, n in accesses)), (nest, tiling)
                count += 1
    assert count > 4000


def test_tilings_that_are_none() -> None:
    nest = product_of(4, 6, 5)
    for tiling in ((("x", 1),), (("m", 4),), (("m", 0),), (("m", 1), ("m", 2)), (("k", 1), ("m", 1))):
        with pytest.raises(ValueError):
            recount(nest, Tiler(), tiling)
    with pytest.raises(ValueError, match="'m' can be cut into tiles of 3"):
        recount(nest, Tiler(granularity=(("row", 2),)), (("m", 3),))


def costs(mode: Mode, chosen: frozenset[int], sizes: dict[int, int], memory: Memory) -> tuple[int, int]:
    """Room and bytes of a mode in which the chosen operands are not resident, or if it holds them whole, as if."""
    room, moved = memory.aligned(mode.workspace_bytes), 0
    streams = {s.tensor: s for s in mode.streams}
    for a in chosen:
        room += min(memory.aligned(sizes[a]), memory.aligned(streams[a].buffer_bytes) if a in streams else 2**60)
        moved += streams[a].moved_bytes if a in streams else memory.aligned(sizes[a])
    return room, moved


def is_tried_in_full(nest: Nest) -> bool:
    """Whether no axes are cut one after another, no window has holes, and no tensor is read in two ways."""
    cuts = [loop.cuts for loop in shape_of(nest, Tiler()).loops]
    dense = all(c is None or (c.live == c.most).all() for loop in cuts for cut in loop for c in cut.counts)
    once = len({a.tensor for a in nest.accesses}) == len(nest.accesses)
    return dense and once and all(len(loop) == 1 for loop in cuts) and 0 < len(cuts) < 5


SMALL = [
    product_of(3, 4, 5),
    product_of(7, 2, 6),
    *(n for c in CONVOLUTIONS[::5] if (n := convolution(**c)) is not None and is_tried_in_full(n)),
    *(n for c in CONVOLUTIONS[::8] if (n := convolution(**c, columns=5)) is not None and is_tried_in_full(n)),
    *filter(is_tried_in_full, map(random_nest, [random.Random(7)] * 150)),
]


@pytest.mark.parametrize("memory", [Memory(2**20), Memory(2**20, 4)], ids=["1", "4"])
@pytest.mark.parametrize("tiler", [Tiler(), Tiler(1, 4)], ids=["plain", "accumulators"])
def test_no_tiling_is_missing(memory: Memory, tiler: Tiler) -> None:
    """For every set of operands, every tiling of all: some mode has no more room and no more bytes."""
    assert len(SMALL) > 60
    for nest in SMALL:
        graph = graph_of(nest)
        own, modes = tiled(graph, memory, tiler)
        sizes = {a: t.size_bytes for a, t in enumerate(graph.tensors)}
        everything = []
        for tiling in all_tilings(own, tiler):
            found = recount(own, tiler, tiling, memory.alignment_bytes)
            if tiling:
                everything.append((found, tiling))
        for n in range(1, len(sizes) + 1):
            for chosen in map(frozenset, combinations(sizes, n)):
                kept = [costs(m, chosen, sizes, memory) for m in (PAPER, *modes)]
                for found, tiling in everything:
                    room = memory.aligned(found.workspace_bytes) + sum(
                        min(memory.aligned(found.operands[a].buffer_bytes), memory.aligned(sizes[a])) for a in chosen
                    )
                    moved = sum(found.operands[a].moved_bytes for a in chosen)
                    assert any(r <= room and b <= moved for r, b in kept), (nest, chosen, tiling)


def front(nest: Nest, tiler: Tiler = Tiler()) -> list[tuple[int, int]]:  # noqa: B008
    """(bytes of scratchpad, bytes moved) of one operator alone: what is resident is loaded or stored once."""
    graph = graph_of(nest)
    memory = Memory(2**40)
    _, modes = tiled(graph, memory, tiler)
    sizes = [t.size_bytes for t in graph.tensors]
    found = {(sum(sizes), sum(sizes))}
    for mode in modes:
        for n in range(1, len(mode.streams) + 1):
            for chosen in combinations(mode.streams, n):
                room = mode.workspace_bytes + sum(sizes) + sum(s.buffer_bytes - sizes[s.tensor] for s in chosen)
                found.add((room, sum(sizes) + sum(s.moved_bytes - sizes[s.tensor] for s in chosen)))
    kept: list[tuple[int, int]] = []
    for room, moved in sorted(found):
        if not kept or moved < kept[-1][1]:
            kept.append((room, moved))
    return kept


@pytest.mark.parametrize(
    ("m", "n", "k", "largest"),
    [(1024, 1024, 1024, 1_049_601), (4096, 4096, 4096, 16_781_313), (2048, 8192, 2048, 4_196_353)],
)
def test_fronts_of_products_are_orojenesis(m: int, n: int, k: int, largest: int) -> None:
    """Largest useful buffer: smallest operand, smallest rank and 1. Below it, 2mnk / sqrt(S) + mn within 5 %."""
    found = front(product_of(m, n, k))
    assert found[-1] == (largest, m * k + k * n + m * n)
    for room, moved in found:
        if room > 1000:
            assert moved <= 1.05 * (2 * m * n * k / room**0.5 + m * n)
            if room < min(m * k, k * n, m * n) // 2:
                assert moved >= 2 * m * n * k / room**0.5


@pytest.mark.parametrize(("kib", "ragged", "divisors"), [(64, 20.56, 28.56), (384, 8.56, 10.78), (1024, 5.44, 7.22)])
def test_ragged_tiles_beat_divisors(kib: int, ragged: float, divisors: float) -> None:
    """A product of 4k x 16k by 16k x 4k in float16, times what has to move at least."""
    m, k, n = 4096, 16384, 4096
    least = 2 * (m * n + n * k + m * k)
    found = min(moved for room, moved in front(product_of(m, n, k, 16)) if room <= kib * 1024) / least
    best = min(
        2 * (m * n + m // i * n * k + n // j * m * k)
        for i in range(1, m + 1) if m % i == 0
        for j in range(1, n + 1) if n % j == 0 and 2 * (i * j + i + j) <= kib * 1024
    ) / least  # fmt: skip
    assert (round(found, 2), round(best, 2)) == (ragged, divisors)


def test_larger_tiles_in_the_same_bytes() -> None:
    graph = fuse(load(MODELS / "tiny_chain.onnx", dtype="int8").graph, "pointwise")
    memory, tiler = Memory(4096, 64), Tiler()
    for v, modes in enumerate(modes_of(graph, memory, tiler)):
        nest = graph.operators[v].nest
        assert nest is not None
        for mode in modes[1:]:
            streamed = {s.tensor for s in mode.streams}
            own = memory.aligned(mode.workspace_bytes) + sum(memory.aligned(s.buffer_bytes) for s in mode.streams)
            for room in (own, 2 * own):
                grown = larger(graph, v, mode, streamed, room, memory, tiler)
                agree(nest, tiler, grown, 64)
                assert grown.tiles <= mode.tiles
                assert {s.tensor for s in grown.streams} >= streamed
                taken = memory.aligned(grown.workspace_bytes) + sum(
                    memory.aligned(s.buffer_bytes) for s in grown.streams if s.tensor in streamed
                )
                assert taken <= room
                before = {s.tensor: s.moved_bytes for s in mode.streams}
                assert all(s.moved_bytes <= before[s.tensor] for s in grown.streams if s.tensor in before)


def test_a_network_in_a_few_hundred_bytes() -> None:
    """ResNet-50 in int8, parameters included: no operator needs more than a few rows."""
    graph = fuse(load(MODELS / "resnet50.onnx", dtype="int8").graph, "pointwise")
    memory = Memory(2**18, 16)
    problem = Problem(graph, memory, modes_of(graph, memory, Tiler()))
    assert problem.working_set_bytes == 2_485_248
    assert problem.smallest_capacity_bytes == 160
    again = modes_of(graph, memory, Tiler())
    assert problem.modes == again
    assert all(v.nest is not None for v in graph.operators)


def test_operators_without_a_rule_have_the_papers_mode() -> None:
    graph = Graph("g", (Tensor("x", 8, "input"), Tensor("y", 8, "output")), (Operator("v", "Op", (0,), (1,)),))
    assert modes_of(graph, Memory(64), Tiler()) == ((PAPER,),)


def test_the_rule_of_a_tensor_that_is_left_out_goes_with_it() -> None:
    graph = fuse(load(Path(MODELS / "tiny_chain.onnx")).graph, "pointwise").without_weights()
    for v in graph.operators:
        assert v.nest is not None
        assert {a.tensor for a in v.nest.accesses} == {*v.inputs, *v.outputs}
