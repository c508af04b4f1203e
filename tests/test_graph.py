"""Graph invariants, fusion, and the numbers a Problem derives."""

import pytest
from hypothesis import given, settings

from cosma.errors import InputError
from cosma.graph import Graph, Operator, Tensor
from cosma.modes import Mode, Overwrite, Stream
from cosma.problem import Memory, Problem
from cosma.target.fusion import fuse
from tests import oracle
from tests.strategies import problems


def graph(operators: list[tuple[str, str, str, str]], kinds: dict[str, str] | None = None) -> Graph:
    """Graph from (name, type, "inputs", "outputs"); names starting with x are inputs, w weights, y outputs."""
    names = list(dict.fromkeys(n for _, _, i, o in operators for n in (i + " " + o).split()))
    kind = {"x": "input", "w": "weight", "y": "output"}
    tensors = tuple(Tensor(n, 10, (kinds or {}).get(n, kind.get(n[0], "activation"))) for n in names)  # type: ignore[arg-type]
    return Graph(
        "g",
        tensors,
        tuple(
            Operator(n, t, tuple(map(names.index, i.split())), tuple(map(names.index, o.split())), (n,))
            for n, t, i, o in operators
        ),
    )


CHAIN = [("a", "Conv", "x w", "p"), ("b", "Relu", "p", "q"), ("c", "Conv", "q", "y")]


@pytest.mark.parametrize(
    ("operators", "complaint"),
    [
        ([], "no operators"),
        ([("a", "Op", "x", "y"), ("a", "Op", "x", "y2")], "two operators are called 'a'"),
        ([("a", "Op", "x", "y"), ("b", "Op", "x", "y")], "produced by two operators"),
        ([("a", "Op", "p", "y")], "activation 'p' is produced by no operator"),
        ([("a", "Op", "y", "x")], "'y' is produced by no operator|input 'x' is also produced"),
        ([("a", "Op", "q", "y"), ("b", "Op", "x", "q")], "'a' is listed before 'b'"),
    ],
)
def test_invalid_graphs(operators: list[tuple[str, str, str, str]], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        graph(operators)


def test_sizes_must_fit_63_bits() -> None:
    for size in (-1, 2**63):
        with pytest.raises(InputError, match="between 0 and 2"):
            Graph("g", (Tensor("x", size, "input"), Tensor("y", 1, "output")), (Operator("a", "Op", (0,), (1,)),))
    big = Graph("g", (Tensor("x", 2**62, "input"), Tensor("y", 2**62, "output")), (Operator("a", "Op", (0,), (1,)),))
    with pytest.raises(InputError, match="add up to"):
        Problem(big, Memory(1))


def test_links_and_free_pairs() -> None:
    g = graph([("a", "Op", "x", "p"), ("b", "Op", "p", "q"), ("c", "Op", "p", "r"), ("d", "Op", "q r", "y")])
    assert g.successors == ((1, 2), (3,), (3,), ())
    assert g.predecessors == ((), (0,), (0,), (1, 2))
    assert g.count_free_pairs() == 1
    assert not g.has_single_order
    assert graph(CHAIN).has_single_order
    assert graph(CHAIN).count_free_pairs() == 0


def test_without_weights() -> None:
    g = graph(CHAIN).without_weights()
    assert [t.name for t in g.tensors] == ["x", "p", "q", "y"]
    assert [len(v.inputs) for v in g.operators] == [1, 1, 1]


def members(g: Graph, fusion: str = "pointwise") -> list[tuple[str, ...]]:
    return [v.members for v in fuse(g, fusion).operators]  # type: ignore[arg-type]


def test_fusion() -> None:
    assert members(graph(CHAIN), "none") == [("a",), ("b",), ("c",)]
    assert members(graph(CHAIN)) == [("a", "b"), ("c",)]
    # Read twice, so it cannot join its producer; it joins its only reader.
    shared = [("a", "Conv", "x", "p"), ("b", "Relu", "p", "q"), ("c", "Conv", "q", "r"), ("d", "Add", "p r", "y")]
    assert members(graph(shared)) == [("a",), ("b", "c"), ("d",)]
    # An output has to be written, and a producer with two outputs takes nobody in.
    assert members(graph([("a", "Conv", "x", "y1"), ("b", "Relu", "y1", "y2")])) == [("a",), ("b",)]
    split = [("a", "Split", "x", "p q"), ("b", "Relu", "p", "y1"), ("c", "Conv", "q", "y2")]
    assert members(graph(split)) == [("a",), ("b",), ("c",)]
    pad = [("a", "Pad", "x", "p"), ("b", "MaxPool", "p", "y")]
    assert members(graph(pad)) == [("a", "b")]
    with pytest.raises(InputError, match="unknown"):
        members(graph(CHAIN), "everything")


@settings(max_examples=200, deadline=None)
@given(problems)
def test_problem_numbers(problem: Problem) -> None:
    order = range(len(problem.graph.operators))
    assert problem.working_set_bytes <= oracle.least_peak(problem) <= problem.peak_bytes(order)
    assert problem.compulsory_bytes == sum(
        t.size_bytes for a, t in enumerate(problem.graph.tensors) if t.kind != "activation" and (t.kind == "output" or problem.graph.readers[a])
    )  # fmt: skip
    assert problem.shortage() is None
    if problem.working_set_bytes > 1:
        shortage = problem.with_capacity(problem.working_set_bytes - 1).shortage()
        assert shortage is not None
        assert shortage.missing_bytes == 1
        assert sum(size for _, size in shortage.operands) == shortage.needed_bytes == problem.working_set_bytes


@settings(max_examples=50, deadline=None)
@given(problems)
def test_at_m_p_nothing_has_to_leave(problem: Problem) -> None:
    peak = oracle.least_peak(problem)
    assert oracle.least_traffic(problem.with_capacity(max(1, peak))) == 0


def test_alignment_and_modes() -> None:
    g = graph([("a", "Op", "x", "p"), ("b", "Op", "p", "y")])
    problem = Problem(g, Memory(64, 16))
    assert problem.sizes == (16, 16, 16)
    assert problem.working_set_bytes == 32
    # A mode that streams x through 3 bytes (16 of the scratchpad); one in which y is written over p.
    modes = ((Mode(), Mode((Stream(0, 0, 16),))), (Mode(overwrites=(Overwrite(2, 1),)),))
    other = Problem(g, Memory(64, 16), modes)
    assert other.working_sets == (32, 16)
    assert (other.least_bytes, other.smallest_capacity_bytes) == ((16, 16), 16)
    assert [run.mode for run in other.with_capacity(16).runs] == [1, 0]
    assert other.fingerprint() != problem.fingerprint()
    assert problem.with_capacity(32).fingerprint() == problem.fingerprint()
