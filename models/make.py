"""Make the networks of this folder and of small/ again: `python models/make.py [NAME ...] [--output DIR]`.

The networks come from public packages, with random weights. Each is exported to ONNX, simplified, and stripped of its
weights: planning a scratchpad needs the shapes and never the values. The tiny networks, for tests, need onnx alone.

The folder itself has the networks of the paper, on which the evaluation and most of results/ are; small/ has those
that fit small chips.
"""

import importlib
import io
import math
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
OPSET = 17
IR_VERSION = 8  # the ONNX file version that came with opset 17: readers of that time accept it
SEED = 0

# Up to this many elements a weight keeps its data: the node that would stand in for it takes about as much room.
KEPT_ELEMENTS = 256
# The value of every stripped weight. Not zero, because a reader may fold away a product with zero.
FILL = 0.02

Shape = tuple[int, ...]

# The inputs of a network: their names and shapes.
IMAGE: dict[str, Shape] = {"input": (1, 3, 224, 224)}
CLIP: dict[str, Shape] = {"input": (1, 3, 16, 224, 224)}
TOKENS: dict[str, Shape] = {"input0": (1, 128, 512), "input1": (1, 128, 512)}
# One token, its position, and the keys and values of the 512 before it in each of two layers.
CACHE = ["key_0", "value_0", "key_1", "value_1"]
POSITION: dict[str, Shape] = {"cos": (1, 1, 1, 64), "sin": (1, 1, 1, 64)}
CACHED = {"token": (1, 1, 576), **POSITION, **{f"past_{name}": (1, 3, 512, 64) for name in CACHE}}


@dataclass(frozen=True)
class Network:
    """What makes a torch module, and the names and shapes of its inputs and outputs; the exporter may name these."""

    make: Callable[[], Any]
    inputs: dict[str, Shape]
    outputs: list[str] | None = None


def need(module: str) -> Any:
    """Import a package that only this script uses, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise click.ClickException(f"no module {error.name}: pip install 'cosma-compiler[models]'") from error


# --- The networks: each function makes a torch module, with its weights as the seed gives them. ---


def from_torchvision(name: str) -> Any:
    """A network for classification."""
    return need("torchvision.models").get_model(name, weights=None)


def segmentation(name: str) -> Any:
    """A network for segmentation, reduced to its main output: it returns a dict, which ONNX does not have."""
    nn = need("torch.nn")

    class MainOutput(nn.Module):
        def __init__(self, m: Any) -> None:
            super().__init__()
            self.m = m

        def forward(self, x: Any) -> Any:
            return self.m(x)["out"]

    return MainOutput(need("torchvision.models").get_model(name, weights=None, weights_backbone=None))


def from_timm(name: str) -> Any:
    """A network of timm."""
    return need("timm").create_model(name, pretrained=False)


def from_pytorchcv(name: str) -> Any:
    """A network of pytorchcv."""
    return need("pytorchcv.model_provider").get_model(name, pretrained=False)


def transformer() -> Any:
    """The encoder and decoder of "Attention Is All You Need", as torch has them by default."""
    nn = need("torch.nn")

    class Plain(nn.Transformer):
        def forward(self, source: Any, target: Any) -> Any:
            # Without the other parameters: the exporter would pass their defaults as tensors, and trace those too.
            return super().forward(source, target)

    return Plain(batch_first=True)


def amoebanet() -> Any:
    """AmoebaNet-D, defined next to this script."""
    return need("amoebanet").AmoebaNetD()


def mlperf_tiny(name: str) -> Any:
    """A network of MLPerf Tiny, defined next to this script."""
    return getattr(need("mlperf_tiny"), name)()


def decoder() -> Any:
    """Two layers of a language model with their cache, defined next to this script."""
    return need("decoder").Decoder()


NETWORKS: dict[str, Network] = {
    "amoebanet_d": Network(amoebanet, IMAGE),
    "darts_v2": Network(lambda: from_pytorchcv("darts"), IMAGE),
    "deeplabv3_resnet50": Network(lambda: segmentation("deeplabv3_resnet50"), IMAGE),
    "densenet121": Network(lambda: from_torchvision("densenet121"), IMAGE),
    "fcn_resnet50": Network(lambda: segmentation("fcn_resnet50"), IMAGE),
    "lraspp_mobilenet_v3_large": Network(lambda: segmentation("lraspp_mobilenet_v3_large"), IMAGE),
    "nasnetalarge_224": Network(lambda: from_timm("nasnetalarge"), IMAGE),
    "pnasnet5large_224": Network(lambda: from_timm("pnasnet5large"), IMAGE),
    "r2plus1d_18": Network(lambda: from_torchvision("r2plus1d_18"), CLIP),
    "resnet50": Network(lambda: from_torchvision("resnet50"), IMAGE),
    "resnext50_32x4d": Network(lambda: from_torchvision("resnext50_32x4d"), IMAGE),
    "s3d": Network(lambda: from_torchvision("s3d"), CLIP),
    "transformer": Network(transformer, TOKENS),
    "vit_b_16": Network(lambda: from_torchvision("vit_b_16"), IMAGE),
}

SMALL: dict[str, Network] = {
    "deep_autoencoder": Network(lambda: mlperf_tiny("autoencoder"), {"input": (1, 640)}),
    "ds_cnn": Network(lambda: mlperf_tiny("ds_cnn"), {"input": (1, 1, 49, 10)}),
    "mobilenet_v1_025": Network(lambda: mlperf_tiny("mobilenet_v1_025"), {"input": (1, 3, 96, 96)}),
    "mobilenet_v2": Network(lambda: from_torchvision("mobilenet_v2"), IMAGE),
    "resnet8": Network(lambda: mlperf_tiny("resnet8"), {"input": (1, 3, 32, 32)}),
    "smollm2_decoder": Network(decoder, CACHED, ["output", *[f"present_{name}" for name in CACHE]]),
}


# --- From a torch module to a small ONNX file. ---


def set_apart(module: Any) -> None:
    """Move every weight by a little noise.

    Fresh ones are often equal, such as the zero biases of two layers, and the exporter would make one weight of them:
    a sharing that no trained network has. Noise above zero keeps variances positive.
    """
    torch = need("torch")
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor), alpha=1e-3)


def export(module: Any, network: Network) -> onnx.ModelProto:
    """Trace `module` on random inputs; batch normalization goes into the convolutions."""
    torch = need("torch")
    names = {"input_names": list(network.inputs), "output_names": network.outputs}
    buffer = io.BytesIO()
    # The fused attention of torch has no counterpart in ONNX.
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter warns that it is the older one. It stays: the newer one gives other operators.
        warnings.simplefilter("ignore")
        inputs = tuple(torch.randn(shape) for shape in network.inputs.values())
        torch.onnx.export(module.eval(), inputs, buffer, opset_version=OPSET, dynamo=False, **names)
    return onnx.load_from_string(buffer.getvalue())


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold the constants and drop the operators that do nothing; the others stay in the order of the trace."""
    place = {tensor: i for i, node in enumerate(model.graph.node) for tensor in node.output}
    # Gemm has two dimensions: fused into it, each linear layer of a transformer would need a Reshape on either side.
    simplified = need("onnxslim").slim(model, skip_fusion_patterns=["FusionGemm"])
    nodes = sorted(simplified.graph.node, key=lambda node: place[node.output[0]])
    del simplified.graph.node[:]
    simplified.graph.node.extend(nodes)
    return simplified


def strip_weights(graph: onnx.GraphProto) -> None:
    """Replace each large weight by a ConstantOfShape node of the same name, fed by a small initializer."""
    kept, fills = [], []
    value = numpy_helper.from_array(np.array([FILL], np.float32), "value")
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT or math.prod(weight.dims) <= KEPT_ELEMENTS:
            kept.append(weight)
            continue
        shape_name = f"{weight.name}__SHAPE"
        kept.append(numpy_helper.from_array(np.array(weight.dims, np.int64), shape_name))
        name = f"{weight.name}__FILL"
        fills.append(helper.make_node("ConstantOfShape", [shape_name], [weight.name], name, value=value))
    nodes = [*fills, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def finish(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Name the network, give every tensor its shape and check the whole."""
    model.graph.name = name
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "models/make.py", ""
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model)
    return model


def build(name: str) -> onnx.ModelProto:
    """Make the network called `name`."""
    if name in TINY:
        return finish(TINY[name](), name)
    network = SMALL.get(name) or NETWORKS[name]
    need("torch").manual_seed(SEED)
    module = network.make()
    set_apart(module)
    model = simplify(export(module, network))
    strip_weights(model.graph)
    return finish(model, name)


# --- The tiny networks, whose weights keep their data. ---


def tiny(nodes: list[onnx.NodeProto], image: Shape, outputs: dict[str, Shape], weights: dict[str, Shape]) -> Any:
    """A network from its operators, with the weights drawn at random."""
    random = np.random.default_rng(SEED)
    data = {name: random.normal(0, 0.1, shape).astype(np.float32) for name, shape in weights.items()}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in data.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def tiny_chain() -> onnx.ModelProto:
    """Eight operators in a line: there is one order."""
    node = helper.make_node
    return tiny(
        [
            node("Conv", ["input", "w1", "b1"], ["conv1"], "conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Relu", ["conv1"], ["relu1"], "relu1"),
            node("MaxPool", ["relu1"], ["pool1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["pool1", "w2", "b2"], ["conv2"], "conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Relu", ["conv2"], ["relu2"], "relu2"),
            node("GlobalAveragePool", ["relu2"], ["pool2"], "pool2"),
            node("Flatten", ["pool2"], ["flat"], "flat"),
            node("Gemm", ["flat", "w3", "b3"], ["scores"], "scores", transB=1),
        ],
        image=(1, 3, 16, 16),
        outputs={"scores": (1, 10)},
        weights={"w1": (8, 3, 3, 3), "b1": (8,), "w2": (16, 8, 3, 3), "b2": (16,), "w3": (10, 16), "b3": (10,)},
    )


def tiny_branches() -> onnx.ModelProto:
    """Two branches that widen and then shrink, joined twice.

    The file has both wide tensors alive at once. Running one branch to its end before the other needs less memory,
    and the wider branch should come last. The output `joined` is also read inside the network.
    """
    node = helper.make_node
    pool = {"kernel_shape": [4, 4], "strides": [4, 4]}
    return tiny(
        [
            node("Relu", ["input"], ["stem"], "stem"),
            node("Conv", ["stem", "w_a"], ["wide_a"], "wide_a", kernel_shape=[1, 1]),
            node("Conv", ["stem", "w_b"], ["wide_b"], "wide_b", kernel_shape=[1, 1]),
            node("MaxPool", ["wide_a"], ["small_a"], "small_a", **pool),
            node("MaxPool", ["wide_b"], ["small_b"], "small_b", **pool),
            node("Concat", ["small_a", "small_b"], ["joined"], "joined", axis=1),
            node("Conv", ["joined", "w_mix"], ["mixed"], "mixed", kernel_shape=[1, 1]),
            node("Add", ["mixed", "small_a"], ["sum"], "sum"),
        ],
        image=(1, 4, 16, 16),
        outputs={"joined": (1, 24, 4, 4), "sum": (1, 16, 4, 4)},
        weights={"w_a": (16, 4, 1, 1), "w_b": (8, 4, 1, 1), "w_mix": (16, 24, 1, 1)},
    )


TINY: dict[str, Callable[[], onnx.ModelProto]] = {"tiny_branches": tiny_branches, "tiny_chain": tiny_chain}


# --- What changed. ---


def operators(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """The type of each operator, and its type together with the shape of its first output."""
    tensors = [*model.graph.value_info, *model.graph.output]
    shapes = {tensor.name: [dim.dim_value for dim in tensor.type.tensor_type.shape.dim] for tensor in tensors}
    return [(node.op_type, f"{node.op_type}{shapes.get(node.output[0])}") for node in model.graph.node]


def compare(old: onnx.ModelProto, new: onnx.ModelProto) -> str:
    """One line: whether `new` has the operators of `old`, by type, then by type and shape, then in their order."""
    before, after = operators(old), operators(new)
    for detail in (0, 1):
        counts = [Counter(operator[detail] for operator in side) for side in (before, after)]
        changed = sorted(key for key in counts[0] | counts[1] if counts[0][key] != counts[1][key])
        if changed:
            changes = ", ".join(f"{key} {counts[0][key]} -> {counts[1][key]}" for key in changed)
            return f"differs from the file in models/: {changes}"
    order = "the same order" if before == after else "another order"
    return f"the same {len(after)} operators, by type and shape, as the file in models/, in {order}"


ALL = sorted([*NETWORKS, *SMALL, *TINY])


def location(name: str) -> Path:
    """Where in the folder of all networks that called `name` lies."""
    return Path("small" if name in SMALL else "", f"{name}.onnx")


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[NAME ...]", type=click.Choice(ALL))
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=HERE, help="Where the files go.")
def main(names: tuple[str, ...], output: Path) -> None:
    """Make the named networks, or all, and say how each compares with the file that it replaces."""
    for name in names or ALL:
        model = build(name)
        current, new = HERE / location(name), output / location(name)
        verdict = compare(onnx.load(current), model) if current.exists() else "new: no file in models/ to compare with"
        new.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, new)
        click.echo(f"{name}: {verdict}")


if __name__ == "__main__":
    main()
