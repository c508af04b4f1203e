"""Models that say one thing and hold another: each kind that was once read wrongly, with the right values worked out by hand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cosma.compile import Settings, prepare
from cosma.errors import InputError
from cosma.frontend.load import load
from cosma.graph import Graph
from cosma.target.hardware import Hardware
from tests.conftest import ROOT, model, node, save, value
from tests.planned import compiled, run_plan

CASES = ROOT / "tests" / "cases"
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL


def read(folder: Path, proto: onnx.ModelProto, **options):
    return load(save(folder, proto), **options)


def sizes(graph: Graph) -> dict[str, int]:
    return {t.name: t.size_bytes for t in graph.tensors}


def operands(graph: Graph, name: str) -> list[str]:
    operator = next(v for v in graph.operators if v.name == name)
    return [graph.tensors[a].name for a in operator.inputs]


def problem(name: str, weights: bool = False, fusion: str = "none", **dims: int):
    settings = Settings(None, fusion, weights, {key.replace("_", ":"): n for key, n in dims.items()})  # type: ignore[arg-type]
    return prepare(CASES / f"{name}.onnx", Hardware("h", 2**30), settings).problem


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def floats(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 100, name)


# --- the shape of a view that is computed at run time


def test_a_view_waits_for_its_shape() -> None:
    graph = problem("runtime_shape").graph
    assert operands(graph, "t") == ["a", "sh"]
    assert graph.producer[operands_index(graph, "sh")] == next(
        i for i, v in enumerate(graph.operators) if v.name == "cc"
    )


def operands_index(graph: Graph, name: str) -> int:
    return next(i for i, t in enumerate(graph.tensors) if t.name == name)


def test_the_optimum_with_a_shape_computed_at_run_time() -> None:
    # Relu's 1,024 bytes wait for the shape. Mul reads and writes 16,384 and takes 4 besides, all there is: 32,772.
    plan, prepared = compiled(CASES / "runtime_shape.onnx", budget="32772B")
    assert prepared.problem.working_set_bytes == 2 * 16_384 + 4
    assert (plan.claims.status, plan.claims.non_compulsory_bytes) == ("optimal", 2 * 1_024)
    assert run_plan(plan, prepared, CASES / "runtime_shape.onnx").difference is None


def test_a_shape_that_is_an_input_of_the_model(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "a", "a"), node("Reshape", "a s", "b"), node("Tanh", "b", "y", "t")]
    proto = model(nodes, ["x", value("s", (2,), INT64)], [value("y", (2, 4))])
    graph = read(tmp_path, proto).graph
    assert operands(graph, "t") == ["a", "s"]
    assert sizes(graph) == {"x": 32, "a": 32, "s": 16, "y": 32}


def test_a_view_of_a_view_waits_for_both(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", "a"), node("Reshape", "a s", "b"), node("Unsqueeze", "b ax", "c"), node("Tanh", "c", "y", "t"),
    ]  # fmt: skip
    inputs = ["x", value("s", (2,), INT64), value("ax", (1,), INT64)]
    graph = read(tmp_path, model(nodes, inputs, [value("y", (1, 2, 4))], value_info=[value("b", (2, 4))])).graph
    assert operands(graph, "t") == ["a", "s", "ax"]


def test_a_view_that_is_returned_cannot_wait_and_is_an_operator(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "a"), node("Reshape", "a s", "b", "r"), node("Identity", "b", "y")]
    graph = read(tmp_path, model(nodes, ["x", value("s", (2,), INT64)], [value("y", (2, 4))])).graph
    assert operands(graph, "r") == ["a", "s"]
    assert [t.kind for t in graph.tensors] == ["input", "activation", "input", "output"]


# --- declared and inferred


@pytest.mark.parametrize(("name", "dims"), [("stale_batch", {}), ("stale_value_info", {"N": 4})])
def test_inferred_shapes_win_over_stale_ones(name: str, dims: dict[str, int]) -> None:
    # Four times 4 x 8 x 8 floats are 4,096 bytes; Add reads two and writes one. In: 4 x 3 x 8 x 8 floats = 3,072.
    found = problem(name, **dims)
    assert (found.working_set_bytes, found.compulsory_bytes) == (3 * 4_096, 3_072 + 4_096)
    assert len(load(CASES / f"{name}.onnx", dims).notes) == (3 if name == "stale_batch" else 2)


def test_stale_shapes_are_told(run, tmp_path: Path) -> None:
    outcome = run("compile", CASES / "stale_batch.onnx", "--scratchpad", "12KiB")
    assert outcome.code == 0
    assert "warning: stale_batch.onnx: 'a' is declared float [1, 4, 8, 8], but the operators make it" in outcome.err


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("contradiction_matmul", r"operator 'mm' \(MatMul\) cannot run on its operands \(x float \[4, 8\], w float \[9, 4\]\)"),
        ("contradiction_concat", r"operator 'cat' \(Concat\) cannot run on its operands \(x float \[4, 8\], z float \[4, 7\]\)"),
    ],
)  # fmt: skip
def test_contradictory_operands(name: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load(CASES / f"{name}.onnx")


CONTRADICTIONS = {
    "Add": ([node("Add", "x z", "y", "n")], [("x", (4, 8)), ("z", (4, 7))], r"'n' \(Add\) cannot run .*x float \[4, 8\], z float"),
    "elements": ([node("Reshape", "x s", "y", "n")], [("x", (4, 8))], r"'n' \(Reshape\) makes 'y' of shape \[5, 5\] from 'x' of shape \[4, 8\]"),
    "channels": (
        [node("Conv", "x w", "y", "n")], [("x", (1, 4, 8, 8)), ("w", (4, 3, 3, 3))],
        r"'n' \(Conv\) reads data of shape \[1, 4, 8, 8\] with a kernel of shape \[4, 3, 3, 3\] in 1 groups: 4 channels where the kernel takes 3",
    ),
    "groups": (
        [node("Conv", "x w", "y", "n", group=2)], [("x", (1, 4, 8, 8)), ("w", (3, 2, 3, 3))], r"\(Conv\) reads data .* in 2 groups",
    ),
    "bias": (
        [node("Conv", "x w b", "y", "n")], [("x", (1, 3, 8, 8)), ("w", (4, 3, 3, 3)), ("b", (5,))],
        r"'n' \(Conv\) makes 4 channels, but its bias has shape \[5\]",
    ),
    "transposed": (
        [node("ConvTranspose", "x w", "y", "n")], [("x", (1, 4, 8, 8)), ("w", (3, 4, 3, 3))], r"4 channels where the kernel takes 3",
    ),
    "element types": ([node("Add", "x i", "y", "n")], [("x", (4, 8)), ("i", (4, 8))], r"'n' \(Add\) cannot run .* i int64 \[4, 8\]"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_contradictions(tmp_path: Path, kind: str) -> None:
    nodes, shapes, complaint = CONTRADICTIONS[kind]
    inputs = [value(name, shape, INT64 if name == "i" else TensorProto.FLOAT) for name, shape in shapes]
    with pytest.raises(InputError, match=complaint):
        read(tmp_path, model(nodes, inputs, [value("y", None)], [ints("s", 5, 5)] if kind == "elements" else ()))


def test_fitting_convolutions_pass(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w b", "a", "c", group=2), node("ConvTranspose", "a v", "y", "t", group=2)]
    weights = [floats("w", 6, 2, 3, 3), floats("b", 6), floats("v", 6, 5, 3, 3)]
    graph = read(tmp_path, model(nodes, [value("x", (1, 4, 8, 8))], [value("y", None)], weights)).graph
    assert sizes(graph)["a"] == 6 * 6 * 6 * 4
    assert sizes(graph)["y"] == 10 * 8 * 8 * 4


def test_a_declared_element_type_that_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'y' is declared int8, but operator 'n' \(Relu\) makes float"):
        read(tmp_path, model([node("Relu", "x", "y", "n")], outputs=[value("y", (1, 8), TensorProto.INT8)]))


def test_a_batch_that_a_constant_shape_contradicts(tmp_path: Path) -> None:
    # Reshape to [1, 8] was exported for a batch of 1: with 4 there are 32 elements.
    nodes = [node("Relu", "x", "a"), node("Reshape", "a s", "b", "r"), node("Tanh", "b", "y")]
    proto = model(nodes, [value("x", ("N", 8))], [value("y", None)], [ints("s", 1, 8)])
    assert sizes(read(tmp_path, proto, dims={"N": 1}).graph)["y"] == 32
    with pytest.raises(
        InputError, match=r"operator 'r' \(Reshape\) makes 'b' of shape \[1, 8\] from 'a' of shape \[4, 8\]"
    ):
        read(tmp_path, proto, dims={"N": 4})


def test_unknown_operators_are_believed_and_what_follows_is_inferred(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("X", ["x"], ["a"], domain="acme"), node("Relu", "a", "b"),
        helper.make_node("X", ["b"], ["c"], domain="acme"), node("Relu", "c", "y"),
    ]  # fmt: skip
    infos = [value("a", (2, 8)), value("b", (9, 9)), value("c", (3, 8))]  # b is stale
    proto = model(nodes, outputs=[value("y", None)], value_info=infos, imports=[helper.make_opsetid("acme", 1)])
    imported = read(tmp_path, proto)
    assert sizes(imported.graph) == {"x": 32, "a": 64, "b": 64, "c": 96, "y": 96}
    assert imported.notes == ("'b' is declared float [9, 9], but the operators make it float [2, 8], which counts",)


# --- constants of branches and loops


def test_weights_of_a_branch_are_operands() -> None:
    found = problem("weights_in_branch", weights=True)
    assert found.working_set_bytes == 64 + 1 + 64 + 16 * 16 * 4 + 16 * 4
    assert problem("weights_in_branch").working_set_bytes == 64 + 1 + 64


def test_weights_of_a_branch_are_run() -> None:
    path = CASES / "weights_in_branch.onnx"
    plan, prepared = compiled(path, weights=True, budget="1217B")
    assert run_plan(plan, prepared, path).difference is None


def test_equal_names_in_two_branches_and_constants_any_deep(tmp_path: Path) -> None:
    def branch(name: str, deeper: bool) -> onnx.GraphProto:
        nodes = [node("Add", "x w", f"{name}_o")] if not deeper else [
            helper.make_node("If", ["c"], [f"{name}_o"], then_branch=branch("deep", False), else_branch=branch("deep2", False)),
        ]  # fmt: skip
        constant = helper.make_node("Constant", [], ["w"], value=floats("", 1, 8))
        return helper.make_graph([*([] if deeper else [constant]), *nodes], name, [], [value(f"{name}_o")])

    then, other = branch("then", True), branch("else", False)
    nodes = [helper.make_node("If", ["c"], ["y"], name="choose", then_branch=then, else_branch=other)]
    proto = model(nodes, ["x", value("c", (), BOOL)])
    graph = read(tmp_path, proto).graph
    # Three constants called w, of 32 bytes each.
    assert sorted(t.size_bytes for t in graph.tensors if t.kind == "weight") == [32, 32, 32]
    path = tmp_path / "model.onnx"
    plan, prepared = compiled(path, weights=True)
    assert run_plan(plan, prepared, path).difference is None


def test_a_loop_with_a_weight_that_it_returns(tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Mul", "s w", "t")], "body",
        [value("i", (), INT64), value("go", (), BOOL), value("s")],
        [value("on", (), BOOL), value("t"), value("w")], [floats("w", 1, 8)],
    )  # fmt: skip
    nodes = [helper.make_node("Loop", ["n", "", "x"], ["y", "z"], name="loop", body=body)]
    proto = model(nodes, outputs=["y", value("z", (3, 1, 8))], initializers=[numpy_helper.from_array(np.array(3), "n")])
    path = save(tmp_path, proto)
    graph = load(path).graph
    assert sizes(graph) == {"x": 32, "w": 32, "y": 32, "z": 96}
    plan, prepared = compiled(path, weights=True)
    assert run_plan(plan, prepared, path).difference is None


def test_sparse_weights_of_branches(tmp_path: Path) -> None:
    def sparse(name: str) -> onnx.SparseTensorProto:
        return helper.make_sparse_tensor(
            numpy_helper.from_array(np.array([3, 5], np.float32), name), ints(f"{name}_places", 1, 6), [1, 8]
        )

    def branch(name: str, constants: list[onnx.NodeProto], weights: list[onnx.SparseTensorProto]) -> onnx.GraphProto:
        nodes, outputs = [*constants, node("Add", "x w", f"{name}_o")], [value(f"{name}_o")]
        return helper.make_graph(nodes, name, [], outputs, sparse_initializer=weights)

    constant = helper.make_node("Constant", [], ["w"], sparse_value=sparse(""))
    then, other = branch("then", [], [sparse("w")]), branch("else", [constant], [])
    nodes = [helper.make_node("If", ["c"], ["y"], name="choose", then_branch=then, else_branch=other)]
    path = save(tmp_path, model(nodes, ["x", value("c", (), BOOL)]))
    # The zeros count as well: a runtime makes dense tensors of both, 32 bytes each.
    assert sorted(t.size_bytes for t in load(path).graph.tensors if t.kind == "weight") == [32, 32]
    plan, prepared = compiled(path, weights=True)
    assert run_plan(plan, prepared, path).difference is None


def test_what_only_steers_in_a_branch_is_no_weight(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node("Reshape", "x s", f"{name}_o")], name, [], [value(f"{name}_o", (2, 4))], [ints("s", 2, 4)]
        )

    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch("then"), else_branch=branch("else"))]
    graph = read(tmp_path, model(nodes, ["x", value("c", (), BOOL)], [value("y", (2, 4))])).graph
    assert sizes(graph) == {"x": 32, "c": 1, "y": 32}


def test_a_body_that_returns_an_outer_value() -> None:
    with pytest.raises(
        InputError, match=r"body 'body' of operator 'loop' \(Loop\) returns 'a', which it does not make"
    ):
        load(CASES / "loop_returns_outer.onnx")


# --- operators by domain and type


def test_an_operator_of_another_domain_is_not_its_namesake() -> None:
    # acme.Tanh makes 4 x 4 x 4 of 4 x 8 x 8: Conv runs alone, 1,024 bytes in and as many out.
    found = problem("custom_domain", fusion="pointwise")
    assert found.working_set_bytes == 2_048
    assert [v.op_type for v in found.graph.operators] == ["Conv", "acme.Tanh"]


def test_a_constant_of_another_domain_is_an_operator(tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], ["k"], name="k", domain="acme"), node("Add", "x k", "y")]
    proto = model(nodes, value_info=[value("k")], imports=[helper.make_opsetid("acme", 1)])
    graph = read(tmp_path, proto).graph
    assert {t.name: t.kind for t in graph.tensors} == {"k": "activation", "x": "input", "y": "output"}


def test_a_domain_that_is_not_imported(tmp_path: Path) -> None:
    nodes = [helper.make_node("X", ["x"], ["y"], domain="acme")]
    with pytest.raises(InputError, match="operators of domain 'acme' are used, but not imported"):
        read(tmp_path, model(nodes))


def function_model(body_version: int, op: str, **attributes: object) -> onnx.ModelProto:
    body = helper.make_function(
        "local", "F", ["i"], ["o"], [helper.make_node(op, ["i"], ["o"], **attributes)], [helper.make_opsetid("", body_version)]
    )  # fmt: skip
    call = helper.make_node("F", ["x"], ["y"], domain="local")
    return model([call], imports=[helper.make_opsetid("local", 1)], functions=[body])


def test_functions_of_another_version(tmp_path: Path) -> None:
    assert [v.op_type for v in read(tmp_path, function_model(14, "Relu")).graph.operators] == [
        "Relu"
    ]  # unchanged since 14
    with pytest.raises(
        InputError, match=r"function 'F' is written for version 11 .* the model for 17, and Softmax differs"
    ):
        read(tmp_path, function_model(11, "Softmax", axis=0))


def test_sparse_constants() -> None:
    with_weights, without = problem("sparse_constant", weights=True), problem("sparse_constant")
    assert with_weights.working_set_bytes == with_weights.compulsory_bytes == 64 * 64 * 4 + 2 * 8 * 64 * 4
    assert without.working_set_bytes == without.compulsory_bytes == 2 * 8 * 64 * 4


def test_sparse_constants_are_run() -> None:
    path = CASES / "sparse_constant.onnx"
    plan, prepared = compiled(path, weights=True)
    assert run_plan(plan, prepared, path).difference is None


def test_an_output_that_is_listed_twice(tmp_path: Path) -> None:
    path = save(tmp_path, model([node("Relu", "x", "y")], outputs=["y", "y"]))
    plan, prepared = compiled(path)
    assert prepared.problem.compulsory_bytes == 64
    assert run_plan(plan, prepared, path).difference is None


def test_a_weight_that_is_listed_as_another_input(tmp_path: Path) -> None:
    proto = model([node("MatMul", "x w", "y")], ["x", value("w", (8, 9))], initializers=[floats("w", 8, 8)])
    with pytest.raises(InputError, match=r"weight 'w' has shape \[8, 8\], but is listed among the inputs as \[8, 9\]"):
        read(tmp_path, proto)


# --- operands that only steer


def test_scales_of_a_resize_are_no_weights(tmp_path: Path) -> None:
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    roi = numpy_helper.from_array(np.zeros(8, np.float32), "roi")
    nodes = [node("Resize", "x roi scales", "y", mode="nearest")]
    graph = read(tmp_path, model(nodes, [value("x", (1, 1, 2, 2))], [value("y", None)], [scales, roi])).graph
    assert sizes(graph) == {"x": 16, "y": 64}


def test_a_batch_normalization_that_trains_is_not_pointwise(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "a", "c"), node("BatchNormalization", "a s b m v", "y rm rv", "bn", training_mode=1),
    ]  # fmt: skip
    weights = [floats("w", 4, 4, 1, 1), *(floats(n, 4) for n in "sbmv")]
    outputs = [value("y", None), value("rm", None), value("rv", None)]
    path = save(tmp_path, model(nodes, [value("x", (1, 4, 8, 8))], outputs, weights))
    graph = prepare(path, Hardware("h", 2**30), Settings(None, "pointwise", False)).problem.graph
    assert [v.op_type for v in graph.operators] == ["Conv", "BatchNormalization (training)"]


def test_sizes_that_are_only_declared_are_told(tmp_path: Path) -> None:
    nodes = [node("NonZero", "x", "i"), node("Cast", "i", "y", to=1)]
    imported = read(tmp_path, model(nodes, outputs=[value("y", None)], value_info=[value("i", (2, 5), INT64)]))
    assert sizes(imported.graph)["y"] == 2 * 5 * 4
    assert imported.notes == ("the shape of 'i' is taken as declared, int64 [2, 5], since its operator does not tell",)


def test_branches_of_two_shapes_are_told(tmp_path: Path) -> None:
    def branch(name: str, reads: str, rows: int) -> onnx.GraphProto:
        return helper.make_graph([node("Relu", reads, f"{name}_o")], name, [], [value(f"{name}_o", (rows, 8))])

    nodes = [
        helper.make_node("If", ["c"], ["r"], name="n", then_branch=branch("t", "x", 1), else_branch=branch("e", "z", 3))
    ]
    proto = model(
        [*nodes, node("Relu", "r", "y")], ["x", value("z", (3, 8)), value("c", (), BOOL)], [value("y", (3, 8))]
    )
    imported = read(tmp_path, proto)
    assert sizes(imported.graph)["r"] == 3 * 8 * 4
    assert any("is taken as declared" in line for line in imported.notes)


def test_the_standard_domain_has_two_names(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"], domain="ai.onnx"), node("Tanh", "a", "y")]
    assert [v.op_type for v in read(tmp_path, model(nodes)).graph.operators] == ["Relu", "Tanh"]
