"""One thing changed in a model: a type, a size, an attribute, an operand, a name, a file that data are said to lie in."""

import random
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from tests.random_models import subgraphs

SIZES = (0, -1, 1, 2, 3, 5, 7, 1000)  # on one axis of 2^40, ONNX makes up a symbol for each element
TYPES = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT64,
    TensorProto.INT8,
    TensorProto.BOOL,
    TensorProto.DOUBLE,
)


def mutate(model: ModelProto, rng: random.Random, folder: Path) -> str:
    """Change one thing in a model, which is going to lie in `folder`; return what."""
    graphs = [model.graph, *(g for node in model.graph.node for g in subgraphs(node))]
    graph = rng.choice([model.graph, *graphs])
    change = rng.choice(CHANGES)
    return f"{change.__name__.strip('_')} {change(graph, model, rng, folder)}"


def _declared_shape(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    value = rng.choice([*graph.value_info, *graph.output, *graph.input] or [*model.graph.input])
    dims = value.type.tensor_type.shape.dim
    match rng.randrange(5):
        case 0 if dims:
            del dims[rng.randrange(len(dims))]
        case 1:
            dims.add().dim_value = rng.choice(SIZES)
        case 2 if dims:
            rng.choice(dims).dim_param = rng.choice(["n", "unk__0"])
        case _ if dims:
            rng.choice(dims).dim_value = rng.choice(SIZES)
        case _:
            value.type.tensor_type.ClearField("shape")
    return value.name


def _declared_type(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    value = rng.choice([*graph.value_info, *graph.output, *graph.input] or [*model.graph.input])
    value.type.tensor_type.elem_type = rng.choice(TYPES)
    return value.name


def _new_declaration(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    names = [name for node in graph.node for name in node.output] or ["x0"]
    name = rng.choice(names)
    shape = [rng.choice(SIZES) for _ in range(rng.randint(0, 4))]
    graph.value_info.append(helper.make_tensor_value_info(name, rng.choice(TYPES), shape))
    return name


def _tensors(graph: GraphProto) -> list[TensorProto]:
    return [*graph.initializer, *(a.t for node in graph.node for a in node.attribute if a.HasField("t"))]


def _constant(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    """Its type, its shape with or without data that fill it, or one of its numbers."""
    tensors = _tensors(graph)
    if not tensors:
        return "nothing"
    tensor = rng.choice(tensors)
    array = numpy_helper.to_array(tensor)
    match rng.randrange(4):
        case 0:
            array = array.astype(rng.choice([np.float32, np.int64, np.float16, np.int8, np.float64]))
        case 1:
            array = np.resize(array, [*array.shape[:-1], array.shape[-1] + 1 if array.shape else 2])
        case 2 if array.dtype == np.int64 and array.size:
            array = array.copy()
            array.flat[rng.randrange(array.size)] = rng.choice(SIZES)
        case _ if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
            return f"{tensor.name} dims"
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return tensor.name


def _attribute(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    numbers = [a for node in graph.node for a in node.attribute if a.type in (a.INT, a.INTS)]
    if not numbers:
        return "nothing"
    attribute = rng.choice(numbers)
    number = rng.choice((-100, -1, 0, 1, 2, 3, 100))
    if attribute.type == attribute.INT:
        attribute.i = number
    elif attribute.ints and rng.random() < 0.7:
        attribute.ints[rng.randrange(len(attribute.ints))] = number
    else:
        attribute.ints.append(number)
    return attribute.name


def _operand(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    """Another value, one of another graph, one that is nowhere, none, or one more."""
    node = rng.choice(graph.node)
    names = [name for other in (*graph.node, *model.graph.node) for name in other.output]
    name = rng.choice(
        [*names, *(v.name for v in model.graph.input), *(t.name for t in graph.initializer), "nowhere", ""]
    )
    if node.input and rng.random() < 0.8:
        node.input[rng.randrange(len(node.input))] = name
    else:
        node.input.append(name)
    return f"{node.name}: {name}"


def _operator(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    node = rng.choice(graph.node)
    if rng.random() < 0.3:
        node.domain = "acme"
        model.opset_import.append(helper.make_opsetid("acme", 1))
    else:
        node.op_type = rng.choice(["Relu", "Add", "MatMul", "Reshape", "Concat", "Transpose", "Shape", "Conv", "Loop"])
    return f"{node.name}: {node.domain} {node.op_type}"


def _nodes(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    """One less, one twice, or two in the other order."""
    nodes = [type(node)() for node in graph.node]
    for copy, node in zip(nodes, graph.node, strict=True):
        copy.CopyFrom(node)
    i, j = rng.randrange(len(nodes)), rng.randrange(len(nodes))
    what = rng.choice(["removed", "repeated", "swapped"])
    if what == "removed":
        del nodes[i]
    elif what == "repeated":
        nodes.insert(j, nodes[i])
    else:
        nodes[i], nodes[j] = nodes[j], nodes[i]
    del graph.node[:]
    graph.node.extend(nodes)
    return f"{what} {i} {j}"


def _output(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    """Of a node: called like another value. Of the graph: one less, one twice, another value."""
    names = [name for node in graph.node for name in node.output] + [v.name for v in model.graph.input]
    if rng.random() < 0.5:
        node = rng.choice(graph.node)
        node.output[rng.randrange(len(node.output))] = rng.choice([*names, "", "odd\nname", "n" * 300])
        return f"of {node.name}"
    match rng.randrange(3):
        case 0 if graph.output:
            del graph.output[rng.randrange(len(graph.output))]
        case 1 if graph.output:
            graph.output.append(rng.choice(graph.output))
        case _:
            graph.output.append(helper.make_tensor_value_info(rng.choice([*names, "nowhere"]), TensorProto.FLOAT, None))
    return "of the graph"


def _input(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    """A weight that is listed as an input too, or no weight any more."""
    if not graph.initializer:
        return "nothing"
    i = rng.randrange(len(graph.initializer))
    tensor = graph.initializer[i]
    shape = [d + rng.choice((0, 0, 1)) for d in tensor.dims]
    graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
    if rng.random() < 0.5:
        del graph.initializer[i]
    return graph.input[-1].name


def _version(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    model.opset_import[0].version = rng.choice((7, 9, 11, 12, 13, 15, 18, 19, 21))
    return str(model.opset_import[0].version)


def _external(graph: GraphProto, model: ModelProto, rng: random.Random, folder: Path) -> str:
    """Data in another file: all there, too few, or a file that must not be read."""
    tensors = [tensor for tensor in _tensors(graph) if tensor.raw_data]
    if not tensors:
        return "nothing"
    tensor = rng.choice(tensors)
    data = tensor.raw_data
    (folder / "data.bin").write_bytes(b"123" + data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    location = rng.choice(["data.bin", "data.bin", "absent.bin", "../data.bin", str(folder / "data.bin")])
    entries = {"location": location, "offset": rng.choice([3, 3, 5, "x"]), "length": rng.choice([len(data), 1])}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return f"{tensor.name} {entries}"


CHANGES = [
    _declared_shape, _declared_shape, _declared_shape, _declared_type, _new_declaration, _constant, _constant, _attribute,
    _attribute, _operand, _operand, _operator, _nodes, _output, _input, _version, _external,
]  # fmt: skip
