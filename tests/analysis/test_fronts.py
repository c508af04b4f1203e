"""Fronts of operators against every choice of what is streamed, and against published figures of Gemms."""

import itertools
from collections.abc import Iterator

import pytest

from cosma.analysis.fronts import alike, all_fronts, front_of
from cosma.compile import Settings, prepare
from cosma.graph import Graph, Operator, Tensor
from cosma.modes import Mode, Run, Stream
from cosma.nest import Access, Axis, Index, Nest
from cosma.problem import Memory, Problem
from cosma.target.hardware import Hardware
from cosma.target.mode_sets import problem_of
from tests.conftest import MODELS


def matmul(m: int, n: int, k: int, alignment: int = 1) -> Problem:
    """y = x w with elements of one byte."""
    shapes = {"x": (m, k), "w": (k, n), "y": (m, n)}
    kinds = {"x": "input", "w": "weight", "y": "output"}
    tensors = tuple(Tensor(name, a * b, kinds[name]) for name, (a, b) in shapes.items())
    axes = (Axis("m", m), Axis("n", n), Axis("k", k))
    at = [tuple(Index(axes[i].extent, ((i, 1),)) for i in pair) for pair in ((0, 2), (2, 1), (0, 1))]
    accesses = tuple(Access(a, indices, 8, written=a == 2) for a, indices in enumerate(at))
    operator = Operator("mm", "MatMul", (0, 1), (2,), nest=Nest(axes, accesses))
    memory = Memory(2**40, alignment)
    hardware = Hardware("h", 2**40)
    return problem_of(Graph("g", tensors, (operator,)), memory, ("tile",), hardware.tiler)


def every_point(problem: Problem, v: int) -> Iterator[tuple[int, int]]:
    for number, mode in enumerate(problem.modes[v]):
        names = [s.tensor for s in mode.streams]
        for chosen in itertools.product((False, True), repeat=len(names)):
            run = Run(number, frozenset(a for a, is_in in zip(names, chosen, strict=True) if is_in))
            found = problem.effects(v, run)
            yield problem.bytes_of(found), found.moved_bytes + sum(problem.sizes[a] for a in found.resident)


@pytest.mark.parametrize("alignment", [1, 16])
def test_a_front_is_that_of_all_choices(alignment: int) -> None:
    problem = matmul(12, 20, 9, alignment)
    points = set(every_point(problem, 0))
    best = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
    front = front_of(problem, 0)
    assert front.points == tuple(sorted(best))
    assert front.points[0][0] == problem.smallest_capacity_bytes
    assert front.points[-1][1] == front.compulsory_bytes <= sum(problem.sizes)  # streams move no padding


def test_operands_that_are_read_in_part_count_in_part() -> None:
    """Eight of sixteen bytes are touched; a mode with a workspace, and an operand that cannot be streamed."""
    tensors = (Tensor("x", 16, "input"), Tensor("k", 4, "weight"), Tensor("y", 8, "output"))
    graph = Graph("g", tensors, (Operator("v", "Op", (0, 1), (2,)),))
    mode = Mode((Stream(0, 2, 8), Stream(2, 1, 8)), workspace_bytes=3)
    front = front_of(Problem(graph, Memory(100), ((Mode(), mode),)), 0)
    assert front.points == ((10, 20),)
    assert (front.compulsory_bytes, front.product) == (20, None)


def test_no_room_no_bytes() -> None:
    front = front_of(matmul(8, 8, 8), 0)
    assert front.moved_bytes(2) is None
    assert front.moved_bytes(3) == front.points[0][1]
    assert front.moved_bytes(2**30) == front.compulsory_bytes


def test_largest_useful_buffer_of_a_gemm() -> None:
    """The smallest operand, the smallest rank and one element (Orojenesis, ISCA 2024)."""
    assert front_of(matmul(1024, 1024, 1024), 0).points[-1][0] == 1_049_601
    assert front_of(matmul(2048, 8192, 2048), 0).points[-1][0] == 4_196_353


def test_gemms_are_near_their_bound() -> None:
    """Above a thousand bytes, and where the scratchpad is far from holding a whole operand."""
    front = front_of(matmul(1024, 1024, 1024), 0)
    assert front.product is not None
    assert (front.product.m, front.product.n, front.product.k, front.product.bits) == (1024, 1024, 1024, 8)
    far = [(room, moved) for room, moved in front.points if 1_000 < room < 2**20 // 8]
    assert len(far) > 20
    for room, moved in far:
        assert front.product.lower_bound(room) <= moved


def test_every_smallest_working_set_of_a_network() -> None:
    prepared = prepare(MODELS / "small" / "resnet8.onnx", Hardware("h", 2**40), Settings("int8", modes=("tile",)))
    problem = prepared.problem
    fronts = all_fronts(problem)
    assert [f.points[0][0] for f in fronts] == list(problem.least_bytes)
    assert sum(map(len, alike(fronts))) == len(fronts)
    for f in fronts:
        assert f.points[-1][1] >= f.compulsory_bytes
