"""Seeded graphs for benchmarks: randomly wired networks, and stacks of cells and blocks of any length. int8."""

import random
from collections.abc import Sequence

import networkx as nx

from cosma.graph import Graph, Operator, Tensor


class _Builder:
    """Collects operators in topological order."""

    def __init__(self, name: str, input_bytes: int) -> None:
        self.name = name
        self.tensors = [Tensor("input", input_bytes, "input")]
        self.operators: list[Operator] = []

    def add(self, op_type: str, reads: Sequence[int], size_bytes: int) -> int:
        number = len(self.tensors)
        self.tensors.append(Tensor(f"{op_type}_{number}", size_bytes, "activation"))
        self.operators.append(Operator(f"{op_type}_{number}", op_type, tuple(dict.fromkeys(reads)), (number,)))
        return number

    def finish(self) -> Graph:
        last = self.tensors[-1]
        self.tensors[-1] = Tensor(last.name, last.size_bytes, "output")
        return Graph(self.name, tuple(self.tensors), tuple(self.operators))


def randwire(seed: int, weighted_sums: bool, nodes: int = 32, channels: int = 78) -> Graph:
    """RandWire-WS(4, 0.75), small regime, 224 x 224 (Xie et al., ICCV 2019, section 4).

    Three randomly wired stages of 28, 14 and 7 pixels. Edges run from the lower to the higher node; nodes
    without predecessor read the stage's input, the others' mean is its output. With `weighted_sums` a node
    with several inputs is two operators, the sum and the convolution; without, the sum is part of the latter.
    """
    net = _Builder(f"randwire_{seed}{'_sums' if weighted_sums else ''}", 3 * 224 * 224)
    last = net.add("conv", [0], channels // 2 * 112 * 112)
    last = net.add("conv", [last], channels * 56 * 56)
    for stage, (pixels, width) in enumerate(((28, channels), (14, 2 * channels), (7, 4 * channels))):
        wiring = nx.connected_watts_strogatz_graph(nodes, 4, 0.75, seed=3 * seed + stage)
        size = pixels * pixels * width
        made: list[int] = []
        for node in range(nodes):
            reads = [made[other] for other in sorted(wiring[node]) if other < node] or [last]
            if weighted_sums and len(reads) > 1:
                reads = [net.add("sum", reads, size)]
            made.append(net.add("conv", reads, size))
        ends = [made[node] for node in range(nodes) if all(other < node for other in wiring[node])]
        last = net.add("mean", ends, size)
    net.add("head", [last], 1280)
    return net.finish()


def random_dag(seed: int, operators: int) -> Graph:
    """Operators that read one to three of the last five tensors; sizes of 1 to 8 bytes."""
    dice = random.Random(seed)
    net = _Builder(f"random_{operators}_{seed}", dice.randint(1, 8))
    for _ in range(operators):
        recent = range(max(0, len(net.tensors) - 5), len(net.tensors))
        net.add("op", sorted(dice.sample(recent, min(len(recent), dice.randint(1, 3)))), dice.randint(1, 8))
    return net.finish()


def nas_stack(cells: int) -> Graph:
    """Cells that read the outputs of the two cells before them, 21 operators each: no tensor separates them."""
    net = _Builder(f"nas_stack_{cells}", 1)
    before = last = net.add("stem", [0], 64)
    for _ in range(cells):
        left, right = net.add("conv", [before], 16), net.add("conv", [last], 16)
        sums = []
        for k in range(4):
            arms = [net.add("sep", [(left, right)[(k + j) % 2]], 16) for j in range(2)]
            arms = [net.add("sep", [arm], 16) for arm in arms[: 1 + k % 2]] + arms[1 + k % 2 :]
            sums.append(net.add("add", arms, 16))
        before, last = last, net.add("concat", sums, 64)
    net.add("head", [last], 1)
    return net.finish()


def transformer_stack(blocks: int) -> Graph:
    """Encoder blocks, 18 operators each, separated by the residual stream."""
    net = _Builder(f"transformer_stack_{blocks}", 64)
    x = net.add("embed", [0], 64)
    for _ in range(blocks):
        normed = net.add("norm", [x], 64)
        q, k, v = (net.add("proj", [normed], 64) for _ in range(3))
        q, k = net.add("split", [q], 64), net.add("transpose", [k], 64)
        scores = net.add("softmax", [net.add("scale", [net.add("matmul", [q, k], 128)], 128)], 128)
        mixed = net.add("proj", [net.add("merge", [net.add("matmul", [scores, v], 64)], 64)], 64)
        x = net.add("add", [x, mixed], 64)
        hidden = net.add("gelu", [net.add("up", [net.add("norm", [x], 64)], 256)], 256)
        x = net.add("add", [x, net.add("down", [hidden], 64)], 64)
    net.add("head", [x], 1)
    return net.finish()
