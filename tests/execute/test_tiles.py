"""Operators run tile by tile on real tensors: bit-exact in every mode that the engine makes, with poison all round."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from cosma.compile import Settings, prepare
from cosma.deadline import Deadline
from cosma.errors import CosmaError, VerificationError
from cosma.execute.run import execute
from cosma.modes import Run
from cosma.nest import Tiler
from cosma.plan import Plan, Source
from cosma.problem import Problem
from cosma.schedule.placed import to_plan
from cosma.schedule.replacement import settle
from cosma.schedule.timeline import Timeline
from cosma.target.hardware import Hardware
from cosma.target.tiling import modes_of
from cosma.verify import check
from tests.conftest import model, node, save, value
from tests.planned import network_of, weight

RNG = np.random.default_rng(0)


def w(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


# name -> (node, shape of x, weights by name)
OPERATORS = {
    "conv": (node("Conv", "x w b", "y", pads=[1, 1, 1, 1]), (1, 4, 7, 6), {"w": w(6, 4, 3, 3), "b": w(6)}),
    "strided conv": (node("Conv", "x w", "y", strides=[2, 2], pads=[1, 2, 0, 1]), (1, 4, 9, 8), {"w": w(6, 4, 3, 3)}),
    "dilated conv": (node("Conv", "x w", "y", dilations=[2, 3], pads=[2, 3, 2, 3]), (1, 2, 9, 11), {"w": w(3, 2, 3, 3)}),
    "grouped conv": (node("Conv", "x w", "y", group=2), (1, 4, 6, 6), {"w": w(6, 2, 2, 2)}),
    "depthwise conv": (node("Conv", "x w", "y", group=4, pads=[1, 1, 1, 1]), (2, 4, 6, 6), {"w": w(4, 1, 3, 3)}),
    "1-D conv": (node("Conv", "x w", "y", pads=[3, 0]), (1, 3, 12), {"w": w(5, 3, 4)}),
    "same conv": (node("Conv", "x w", "y", auto_pad="SAME_LOWER", strides=[2, 2]), (1, 3, 7, 8), {"w": w(4, 3, 2, 3)}),
    "transposed conv": (node("ConvTranspose", "x w", "y", strides=[2, 2]), (1, 4, 5, 4), {"w": w(4, 3, 3, 3)}),
    "max pool": (node("MaxPool", "x", "y", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]), (1, 3, 8, 7), {}),
    "average pool": (node("AveragePool", "x", "y", kernel_shape=[2, 2], ceil_mode=1, strides=[2, 2]), (1, 3, 7, 7), {}),
    "global pool": (node("GlobalAveragePool", "x", "y"), (1, 6, 5, 5), {}),
    "matmul": (node("MatMul", "x w", "y"), (2, 6, 8), {"w": w(8, 10)}),
    "batched matmul": (node("MatMul", "x w", "y"), (2, 3, 6, 8), {"w": w(3, 8, 5)}),
    "gemm": (node("Gemm", "x w b", "y", transB=1), (6, 8), {"w": w(10, 8), "b": w(10)}),
    "gemm of a transposed": (node("Gemm", "x w b", "y", transA=1), (8, 6), {"w": w(8, 5), "b": w(6, 1)}),
    "add": (node("Add", "x w", "y"), (2, 6, 5), {"w": w(2, 6, 5)}),
    "add a row": (node("Add", "x w", "y"), (2, 6, 5), {"w": w(6, 1)}),
    "softmax": (node("Softmax", "x", "y", axis=1), (3, 7, 4), {}),
    "layer norm": (node("LayerNormalization", "x w b", "y"), (5, 3, 8), {"w": w(8), "b": w(8)}),
    "reduce": (node("ReduceMax", "x", "y", axes=[1]), (3, 7, 4), {}),
    "transpose": (node("Transpose", "x", "y", perm=[2, 0, 1]), (3, 7, 4), {}),
    "concat": (node("Concat", "x w", "y", axis=1), (2, 3, 5), {"w": w(2, 4, 5)}),
    "slice": (node("Slice", "x s e a t", "y"), (4, 9, 5), {
        "s": np.array([1]), "e": np.array([8]), "a": np.array([1]), "t": np.array([3])}),
    "pad": (node("Pad", "x p", "y"), (3, 5, 4), {"p": np.array([0, 2, 1, 0, 1, 3])}),
    "gather": (node("Gather", "x i", "y", axis=0), (6, 5), {"i": np.array([[5, 0], [2, 2]])}),
    "batch norm": (node("BatchNormalization", "x a b c d", "y"), (1, 6, 4, 4), {
        "a": w(6), "b": w(6), "c": w(6), "d": abs(w(6))}),
    "upsample": (helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest"), (1, 3, 4, 5), {"s": np.array([1, 1, 2, 2], np.float32)}),
}  # fmt: skip


def problem_of(name: str, folder: Path, tiler: Tiler) -> tuple[Path, Problem, Source]:
    """A model of one operator, and the problem of running it in its modes."""
    operator, shape, weights = OPERATORS[name]
    path = save(
        folder, model([operator], [value("x", shape)], [value("y", None)], [weight(n, a) for n, a in weights.items()])
    )
    prepared = prepare(path, Hardware("h", 2**20), Settings(None, "none", True))
    graph = prepared.problem.graph
    modes = modes_of(graph, prepared.problem.memory, tiler)
    return path, replace(prepared.problem, modes=modes, tiler=tiler), prepared.source


def streamed(problem: Problem, source: Source, mode: int) -> Plan:
    """The plan that runs the one operator in a mode with everything streamed that can be."""
    run = Run(mode, frozenset(s.tensor for s in problem.modes[0][mode].streams))
    placed, _ = settle(Timeline(problem, (0,), (run,)), frozenset(), Deadline.after(60))
    return to_plan(placed, 0, replace(source, fingerprint=problem.fingerprint()), "", "", "")


@pytest.mark.parametrize("name", OPERATORS)
def test_every_mode_runs_bit_exactly(name: str, tmp_path: Path) -> None:
    seen = 0
    for tiler in (Tiler(), Tiler(buffers=2, accumulator_bytes=4, burst_bytes=8)):
        path, problem, source = problem_of(name, tmp_path, tiler)
        network = network_of(path)
        numbers = list(range(1, len(problem.modes[0])))
        for mode in random.Random(0).sample(numbers, min(10, len(numbers))):
            plan = streamed(problem, source, mode)
            assert not check(plan, problem).violations
            assert execute(plan, problem, network).difference is None, problem.modes[0][mode]
            seen += 1
    assert seen > 3


@pytest.mark.parametrize("name", ["conv", "strided conv", "max pool", "matmul", "pad", "slice", "softmax"])
def test_a_tile_that_reads_too_little_is_noticed(name: str, tmp_path: Path) -> None:
    """One element less along each axis of x that is cut: the machine has to find other bytes, in one mode at least."""
    path, problem, source = problem_of(name, tmp_path, Tiler())
    network, operator = network_of(path), problem.graph.operators[0]
    assert operator.nest is not None
    caught = 0
    for mode in range(1, len(problem.modes[0])):
        plan = streamed(problem, source, mode)
        cut = {axis for axis, _ in problem.modes[0][mode].tiling}
        for at, access in enumerate(operator.nest.accesses):
            for k, index in enumerate(access.indices):
                if access.written or not cut & {operator.nest.axes[a].name for a, _ in index.terms}:
                    continue
                moved = replace(index, offset=index.offset + 1)
                wrong = replace(access, indices=(*access.indices[:k], moved, *access.indices[k + 1 :]))
                accesses = (*operator.nest.accesses[:at], wrong, *operator.nest.accesses[at + 1 :])
                other = replace(operator, nest=replace(operator.nest, accesses=accesses))
                broken = replace(problem, graph=replace(problem.graph, operators=(other,)))
                with pytest.raises(CosmaError):
                    execute(plan, broken, network)
                caught += 1
        if caught > 10:
            break
    assert caught


def test_a_tile_larger_than_its_buffer_is_noticed(tmp_path: Path) -> None:
    path, problem, source = problem_of("conv", tmp_path, Tiler())
    mode = next(m for m, some in enumerate(problem.modes[0]) if len(some.streams) == 4)
    smaller = tuple(replace(s, buffer_bytes=s.buffer_bytes - 1) for s in problem.modes[0][mode].streams)
    modes = (*problem.modes[0][:mode], replace(problem.modes[0][mode], streams=smaller))
    problem = replace(problem, modes=(modes,))
    with pytest.raises(VerificationError, match="does not fit into its buffer"):
        execute(streamed(problem, source, mode), problem, network_of(path))
