"""ONNX files of every description -> the graph that one expects."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cosma.errors import InputError
from cosma.frontend.load import load
from tests.conftest import model, node, save, value


def read(folder: Path, proto: onnx.ModelProto, **options):
    return load(save(folder, proto), **options)


def kinds(imported) -> dict[str, str]:
    return {t.name: t.kind for t in imported.graph.tensors}


def sizes(imported) -> dict[str, int]:
    return {t.name: t.size_bytes for t in imported.graph.tensors}


def array(name: str, *shape: int, dtype=np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def test_plain(tiny: Path) -> None:
    imported = load(tiny)
    assert [v.name for v in imported.graph.operators] == ["relu", "sig", "tanh", "add"]
    assert kinds(imported) == {"x": "input", "a": "activation", "b": "activation", "c": "activation", "y": "output"}
    assert set(sizes(imported).values()) == {32}
    assert set(sizes(load(tiny, dtype="int8")).values()) == {8}
    assert set(sizes(load(tiny, dtype="float16")).values()) == {16}


def test_initializers_listed_as_inputs_are_weights(tmp_path: Path) -> None:
    w = array("w", 8, 8)
    proto = model([node("MatMul", "x w", "y")], ["x", value("w", (8, 8))], initializers=[w], opset=8)
    proto.ir_version = 3
    assert kinds(read(tmp_path, proto)) == {"x": "input", "w": "weight", "y": "output"}


def test_weights_as_constant_of_shape_and_constant(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([8, 8], np.int64), "shape")
    nodes = [
        node("ConstantOfShape", "shape", "w"),
        helper.make_node("Constant", [], ["v"], value=array("", 8, 8)),
        node("Transpose", "v", "vt"),
        node("MatMul", "x w", "a"),
        node("MatMul", "a vt", "y"),
    ]
    imported = read(tmp_path, model(nodes, initializers=[shape]))
    assert kinds(imported) == {"x": "input", "w": "weight", "a": "activation", "vt": "weight", "y": "output"}
    assert sizes(imported)["vt"] == 256


def test_absent_external_data(tmp_path: Path) -> None:
    w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8, 8], data_location=TensorProto.EXTERNAL)
    w.external_data.add(key="location", value="not_there.bin")
    imported = read(tmp_path, model([node("MatMul", "x w", "y")], initializers=[w]))
    assert sizes(imported)["w"] == 256


def test_external_shape_that_is_there_is_used(tmp_path: Path) -> None:
    np.array([4, 2], np.int64).tofile(tmp_path / "shape.bin")
    s = TensorProto(name="s", data_type=TensorProto.INT64, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", "shape.bin"), ("offset", "0"), ("length", "16")):
        s.external_data.add(key=key, value=text)
    nodes = [node("Reshape", "x s", "r"), node("Relu", "r", "y")]
    imported = read(tmp_path, model(nodes, outputs=[value("y", None)], initializers=[s]))
    assert imported.graph.tensors[1].shape == (4, 2)


def test_large_weights_are_not_kept(tmp_path: Path) -> None:
    big = array("w", 8, 2_000_000)
    proto = model([node("MatMul", "x w", "y")], outputs=[value("y", (1, 2_000_000))], initializers=[big])
    assert sizes(read(tmp_path, proto))["w"] == 64_000_000


def test_shape_and_padding_arithmetic_is_folded(tmp_path: Path) -> None:
    def i(name: str, *values: int):
        return numpy_helper.from_array(np.array(values, np.int64), name)

    nodes = [
        node("Shape", "x", "s"), node("Slice", "s two four", "hw"), node("Mod", "hw k", "m"), node("Sub", "k m", "p"),
        node("ConstantOfShape", "four", "zero", value=i("", 0)), node("Concat", "zero p", "pads0", axis=0),
        node("Reshape", "pads0 shape", "pads1"), node("Transpose", "pads1", "pads2"),
        node("Reshape", "pads2 flat", "pads"), node("Pad", "x pads", "padded", "pad"),
        node("MaxPool", "padded", "y", kernel_shape=[1, 1]),
    ]  # fmt: skip
    consts = [i("two", 2), i("four", 4), i("k", 4, 4), i("shape", 3, 2), i("flat", -1)]
    proto = model(nodes, [value("x", (1, 1, 7, 5))], [value("y", None)], consts, opset=13)
    # pads0 has 4 zeros and 2 values; the arithmetic gives eight pads only for a matching layout.
    del proto.graph.node[4:9]
    fixed = [
        node("Constant", "", "lead", value=i("", 0, 0, 0, 0)), node("Constant", "", "mid", value=i("", 0, 0)),
        node("Concat", "lead mid p", "pads", axis=0),
    ]  # fmt: skip
    for k, extra in enumerate(fixed):
        proto.graph.node.insert(4 + k, extra)
    imported = read(tmp_path, proto)
    assert [v.op_type for v in imported.graph.operators] == ["Pad", "MaxPool"]
    assert {t for _, t in imported.folded} >= {"Shape", "Slice", "Mod", "Sub", "Concat"}
    assert imported.graph.tensors[1].shape == (1, 1, 8, 8)
    assert kinds(imported).get("pads") is None  # pads steer the operator; they are no data


def test_views_alias(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", "a"), node("Flatten", "a", "f"), node("Identity", "f", "g"), node("Dropout", "g", "d mask"),
        node("Sigmoid", "d", "b"), node("Unsqueeze", "b ax", "y"),
    ]  # fmt: skip
    ax = numpy_helper.from_array(np.array([0], np.int64), "ax")
    imported = read(tmp_path, model(nodes, outputs=[value("y", (1, 1, 8))], initializers=[ax]))
    assert kinds(imported) == {"x": "input", "a": "activation", "b": "output"}
    assert {t for _, t in imported.views} == {"Flatten", "Identity", "Dropout", "Unsqueeze"}


def test_mask_of_a_dropout_at_inference_is_a_constant(tmp_path: Path) -> None:
    nodes = [node("Dropout", "x", "d mask"), node("Cast", "mask", "m", to=1), node("Add", "d m", "y")]
    assert kinds(read(tmp_path, model(nodes))) == {"x": "input", "m": "weight", "y": "output"}


def test_output_that_is_a_graph_input(tmp_path: Path) -> None:
    imported = read(tmp_path, model([node("Relu", "x", "y"), node("Identity", "x", "z")], outputs=["y", "z"]))
    assert kinds(imported) == {"x": "input", "y": "output"}
    imported = read(tmp_path, model([node("Relu", "x", "y")], outputs=["y", "x"]))
    assert kinds(imported) == {"x": "input", "y": "output"}


def test_unused_second_outputs(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", "x", "a idx", kernel_shape=[2]), helper.make_node("Mystery", ["a"], ["b", "c"], domain="acme"),
        node("Split", "b", "y rest"),
    ]  # fmt: skip
    info = [value("b", (1, 1, 4))]
    proto = model(
        nodes, [value("x", (1, 1, 8))], [value("y", (1, 1, 2))], value_info=info, opset=11,
        imports=[helper.make_opsetid("acme", 1)],
    )  # fmt: skip
    proto.graph.node[2].attribute.append(helper.make_attribute("axis", 2))
    names = kinds(read(tmp_path, proto))
    assert "c" not in names  # no shape, nobody reads it
    assert names["rest"] == "activation"  # written all the same


def test_unknown_operators_take_their_sizes_from_value_info(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mystery", ["x"], ["a"], domain="acme.ai"),
        node("Nonsense", "a", "b"),
        node("Relu", "b", "y"),
    ]
    imports = [helper.make_opsetid("acme.ai", 3)]
    infos = [value("a", (2, 8)), value("b", (4, 8), TensorProto.FLOAT16)]
    imported = read(tmp_path, model(nodes, outputs=[value("y", None, 10)], value_info=infos, imports=imports))
    assert sizes(imported) == {"x": 32, "a": 64, "b": 64, "y": 64}
    with pytest.raises(InputError, match=r"tensor 'a' of operator 'Mystery:a' \(acme.ai.Mystery\) has no shape"):
        read(tmp_path, model(nodes, imports=imports))


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (TensorProto.FLOAT16, 18), (TensorProto.BFLOAT16, 18), (TensorProto.INT4, 5), (TensorProto.UINT4, 5),
        (TensorProto.INT8, 9), (TensorProto.BOOL, 9), (TensorProto.DOUBLE, 72), (TensorProto.FLOAT8E4M3FN, 9),
        (TensorProto.INT64, 72),
    ],
)  # fmt: skip
def test_element_sizes(tmp_path: Path, dtype: int, size: int) -> None:
    proto = model([node("Mystery", "x", "y")], [value("x", (3, 3), dtype)], [value("y", (3, 3), dtype)])
    assert set(sizes(read(tmp_path, proto)).values()) == {size}


def test_quantized_operators(tmp_path: Path) -> None:
    consts = [array("s", dtype=np.float32), array("z", dtype=np.uint8), array("w", 8, 8, dtype=np.uint8)]
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("QLinearMatMul", "q s z w s z s z", "r"),
        node("DequantizeLinear", "r s z", "y"),
    ]  # fmt: skip
    imported = read(tmp_path, model(nodes, initializers=consts))
    assert sizes(imported) == {"x": 32, "q": 8, "w": 64, "r": 8, "y": 32}  # scales and zero points are no operands


def test_dynamic_dimensions(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y")], [value("x", ("batch", None, 4))], [value("y", ("batch", None, 4))])
    with pytest.raises(InputError, match=r"dynamic dimensions: batch, x:1; set them, e.g. --dim batch=1 --dim x:1=N"):
        read(tmp_path, proto)
    imported = read(tmp_path, proto, dims={"batch": 2, "x:1": 3})
    assert sizes(imported) == {"x": 96, "y": 96}
    with pytest.raises(InputError, match=r"--dim bach: the model has no such dynamic dimension"):
        read(tmp_path, proto, dims={"batch": 2, "x:1": 3, "bach": 1})


def test_data_dependent_dimension_can_be_set(tmp_path: Path) -> None:
    proto = model([node("NonZero", "x", "i"), node("Cast", "i", "y", to=1)], outputs=[value("y", None)])
    with pytest.raises(
        InputError, match=r"axis 1 of 'i', which operator 'NonZero:i' \(NonZero\) makes, .* --dim i:1=N, or --dim y:1=N"
    ):
        read(tmp_path, proto)
    for place in ("i:1", "y:1"):  # both have as many columns as there are elements that are not 0
        assert sizes(read(tmp_path, proto, dims={place: 5})) == {"x": 32, "i": 2 * 5 * 8, "y": 2 * 5 * 4}


def branch(name: str, reads: str) -> onnx.GraphProto:
    return helper.make_graph([node("Add", f"{reads} {reads}", f"{name}_out")], name, [], [value(f"{name}_out")])


def test_control_flow_counts_as_one_operator(tmp_path: Path) -> None:
    then, other = branch("then", "a"), branch("else", "b")
    nodes = [
        node("Relu", "x", "a"), node("Tanh", "x", "b"),
        helper.make_node("If", ["c"], ["r"], name="choose", then_branch=then, else_branch=other), node("Relu", "r", "y"),
    ]  # fmt: skip
    imported = read(tmp_path, model(nodes, ["x", value("c", (), TensorProto.BOOL)], value_info=[value("r")]))
    choose = imported.graph.operators[2]
    assert choose.op_type == "If"
    names = [imported.graph.tensors[a].name for a in choose.inputs]
    assert sorted(names) == ["a", "b", "c"]  # what the branches capture is read as well


def test_unsorted_nodes_are_sorted_and_dead_ones_dropped(tmp_path: Path) -> None:
    nodes = [node("Relu", "a", "y"), node("Tanh", "x", "a"), node("Sigmoid", "x", "unused", "dead")]
    imported = read(tmp_path, model(nodes))
    assert [v.op_type for v in imported.graph.operators] == ["Tanh", "Relu"]
    assert imported.dead == (("dead", "Sigmoid"),)


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    body = [node("Relu", "i", "t"), node("Tanh", "t", "o")]
    function = helper.make_function("local", "Twice", ["i"], ["o"], body, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Twice", ["x"], ["y"], domain="local")]
    proto = model(nodes, imports=[helper.make_opsetid("local", 1)], functions=[function])
    assert [v.op_type for v in read(tmp_path, proto).graph.operators] == ["Relu", "Tanh"]


def test_operators_of_one_name_stay_apart(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "a", "same"), node("Relu", "a", "y", "same")]
    assert [v.name for v in read(tmp_path, model(nodes)).graph.operators] == ["same", "same#2"]


def test_zero_size_tensors(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y")], [value("x", (0, 8))], [value("y", (0, 8))])
    assert set(sizes(read(tmp_path, proto)).values()) == {0}


def test_old_opset(tmp_path: Path) -> None:
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    proto = model(
        [node("Upsample", "x scales", "u"), node("Dropout", "u", "d m"), node("Relu", "d", "y")],
        [value("x", (1, 1, 2, 2))], [value("y", None)], [scales], opset=9,
    )  # fmt: skip
    imported = read(tmp_path, proto)
    assert [v.op_type for v in imported.graph.operators] == ["Upsample", "Relu"]
    assert sizes(imported)["u"] == 64
