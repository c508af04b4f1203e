"""The networks of models/small/ are what their authors published, and what models/make.py makes."""

import importlib.util
from collections.abc import Callable
from itertools import chain
from types import ModuleType

import onnx
import pytest
from onnx import TensorProto

from cosma.frontend.load import load
from tests.conftest import MODELS

SMALL = MODELS / "small"

# Operators, multiply-accumulates (as published in the comments), parameters. Totals of parameters are those before batch
# normalization is folded into the layer before it. The Keras code at https://github.com/mlcommons/tiny has 4 numbers a
# channel and a bias besides; folding leaves the bias. torchvision has 2 a channel and no bias; folding leaves one.
PUBLISHED = {
    "deep_autoencoder": (19, 264_192, 269_992 - 4 * 1_032),  # 0.26 M
    "ds_cnn": (21, 2_656_768, 24_908 - 4 * 576),  # 2.66 M
    "mobilenet_v1_025": (57, 7_489_664, 221_794 - 4 * 2_736),  # 7.49 M
    "mobilenet_v2": (99, 300_774_272, 3_504_872 - 17_056),  # torchvision 0.301 G, paper 300 M
    "resnet8": (22, 12_501_632, 78_666 - 4 * 240),  # 12.5 M
    # Two of thirty layers, without the embedding of 49,152 words and the last norm; attention to 513 tokens by 9 heads.
    "smollm2_decoder": (94, 2 * (3_538_944 + 2 * 9 * 64 * 513), (134_515_008 - 49_152 * 576 - 576) // 15),
}


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", MODELS / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = script()


def test_every_file_is_known() -> None:
    assert sorted(PUBLISHED) == sorted(MAKE.SMALL) == sorted(path.stem for path in SMALL.glob("*.onnx"))
    assert sorted([*MAKE.NETWORKS, *MAKE.TINY]) == sorted(path.stem for path in MODELS.glob("*.onnx"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name: str) -> None:
    graph = load(SMALL / f"{name}.onnx", {}, "int8").graph
    parameters = sum(tensor.size_bytes for tensor in graph.tensors if tensor.kind == "weight")
    assert (len(graph.operators), graph.macs, parameters) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "first"), [("resnet8", [1, 1, 1, 1]), ("mobilenet_v1_025", [0, 0, 1, 1]), ("ds_cnn", [4, 1, 5, 1])]
)
def test_convolutions_are_padded_as_keras_pads_them(name: str, first: list[int]) -> None:
    """Of an odd number of rows and columns the smaller half is at the top and the left."""
    pads = []
    for node in onnx.load(SMALL / f"{name}.onnx").graph.node:
        found = {a.name: list(a.ints) for a in node.attribute}
        if node.op_type == "Conv":
            pads.append(found["pads"])
            if max(found["kernel_shape"]) == 3:
                assert found["pads"] == ([0, 0, 1, 1] if found["strides"] == [2, 2] else [1, 1, 1, 1])
    assert pads[0] == first


def test_the_decoder_takes_and_gives_its_cache() -> None:
    graph = onnx.load(SMALL / "smollm2_decoder.onnx").graph
    shapes = {t.name: [d.dim_value for d in t.type.tensor_type.shape.dim] for t in chain(graph.input, graph.output)}
    cache = {f"{kind}_{layer}" for kind in ("key", "value") for layer in (0, 1)}
    assert {t.name for t in graph.input} == {"token", "cos", "sin", *(f"past_{name}" for name in cache)}
    assert {t.name for t in graph.output} == {"output", *(f"present_{name}" for name in cache)}
    for name in cache:
        assert (shapes[f"past_{name}"], shapes[f"present_{name}"]) == ([1, 3, 512, 64], [1, 3, 513, 64])


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_compiles_and_runs_where_there_is_room(run: Callable, name: str) -> None:
    path = SMALL / f"{name}.onnx"
    result = run("compile", path, "--hw", "tpu_v1", "--check", "--json").json
    assert (result["status"], result["non_compulsory_bytes"]) == ("optimal", 0)
    assert result["run"]["difference"] is None
    assert run("inspect", path, "--hw", "tpu_v1", "--json").json["macs"] == PUBLISHED[name][1]


@pytest.mark.parametrize("name", MAKE.TINY)
def test_the_script_makes_the_tiny_networks_byte_for_byte(name: str) -> None:
    assert MAKE.build(name).SerializeToString() == (MODELS / f"{name}.onnx").read_bytes()


def without_values(model: onnx.ModelProto) -> bytes:
    """The file without its numbers: another version of torch may draw and round the small weights otherwise."""
    for weight in model.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            weight.ClearField("raw_data")
    return model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", MAKE.SMALL)
def test_the_script_makes_the_small_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes each time, and those of the stored file, values aside."""
    for module in ("torch", "torchvision", "onnxslim"):
        pytest.importorskip(module, reason="needs pip install '.[models]'")
    monkeypatch.syspath_prepend(str(MODELS))
    first, second = MAKE.build(name), MAKE.build(name)
    assert first.SerializeToString() == second.SerializeToString()
    assert without_values(first) == without_values(onnx.load(SMALL / f"{name}.onnx"))


def test_grouped_queries_are_as_torch_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="needs pip install '.[models]'")
    monkeypatch.syspath_prepend(str(MODELS))
    attention = importlib.import_module("decoder").Attention()
    torch.manual_seed(0)
    token, cos, sin = torch.randn(1, 1, 576), torch.ones(1, 1, 1, 64), torch.zeros(1, 1, 1, 64)  # position 0
    past = [torch.randn(1, 3, 5, 64) for _ in range(2)]
    with torch.no_grad():
        got, key, value = attention(token, cos, sin, *past)
        query = attention.q(token).view(1, 1, 9, 64).transpose(1, 2)
        expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        torch.testing.assert_close(got, attention.o(expected.transpose(1, 2).reshape(1, 1, 576)))
    assert key.shape == value.shape == (1, 3, 6, 64)
    assert torch.equal(value[:, :, :5], past[1])
