"""Random small ONNX models for tests of reading: a handful of operators from a menu, shapes declared or not."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 17
Shape = tuple[int, ...]


class Writer:
    """A graph under construction: `values` are the floats that later operators may read."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.values: dict[str, Shape] = {}
        self.open: set[str] = set()

    def name(self, stem: str) -> str:
        return f"{stem}{len(self.nodes)}_{len(self.constants)}"

    def pick(self, rank: int | None = None) -> tuple[str, Shape] | None:
        fitting = [item for item in self.values.items() if rank is None or len(item[1]) == rank]
        return self.rng.choice(fitting[-4:]) if fitting else None

    def constant(self, array: np.ndarray) -> str:
        """An initializer or, now and then, what a Constant writes."""
        name = self.name("k")
        tensor = numpy_helper.from_array(np.asarray(array), name)
        if self.rng.random() < 0.3:
            self.nodes.append(helper.make_node("Constant", [], [name], name=f"n_{name}", value=tensor))
        self.constants.append(tensor)
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def floats(self, *shape: int) -> str:
        return self.constant(np.random.default_rng(len(self.nodes)).standard_normal(shape, np.float32))

    def must_declare(self, name: str) -> None:
        """Have the shape of a value declared, since ONNX does not infer it."""
        self.open.add(name)

    def add(self, op: str, reads: list[str], shape: Shape | None, outputs: int = 1, **attributes: object) -> str:
        """Write a node; its first output becomes a value if it is of type float and has a shape."""
        stem = self.name("v")
        outs = [stem, *(f"{stem}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, reads, outs, name=f"n_{stem}", **attributes))
        if shape is not None:
            self.values[stem] = shape
        return stem


def _unary(w: Writer) -> None:
    name, shape = w.pick()
    w.add(w.rng.choice(["Relu", "Tanh", "Sigmoid", "Neg", "Identity", "Dropout"]), [name], shape)


def _binary(w: Writer) -> None:
    name, shape = w.pick()
    alike = [other for other, s in w.values.items() if s == shape]
    other = w.rng.choice([*alike, w.floats(*shape[-1:]), w.floats()])
    w.add(w.rng.choice(["Add", "Mul", "Sub"]), w.rng.sample([name, other], 2), shape)


def _matmul(w: Writer) -> None:
    name, shape = w.pick()
    if shape:
        n = w.rng.randint(1, 5)
        w.add("MatMul", [name, w.floats(shape[-1], n)], (*shape[:-1], n))


def _gemm(w: Writer) -> None:
    found = w.pick(2)
    if found:
        name, (rows, columns) = found
        w.add("Gemm", [name, w.floats(3, columns), w.floats(3)], (rows, 3), transB=1)


def _convolution(w: Writer) -> None:
    found = w.pick(4)
    if found:
        name, (batch, channels, height, width) = found
        w.add("Conv", [name, w.floats(2, channels, 3, 3)], (batch, 2, height, width), pads=[1, 1, 1, 1])


def _pool(w: Writer) -> None:
    found = w.pick(4)
    if found and min(found[1][2:]) >= 2:
        name, (batch, channels, height, width) = found
        shape = (batch, channels, height // 2, width // 2)
        w.add(w.rng.choice(["MaxPool", "AveragePool"]), [name], shape, kernel_shape=[2, 2], strides=[2, 2])


def _reshape(w: Writer) -> None:
    name, shape = w.pick()
    count = int(np.prod(shape))
    ways = [(count,), (1, count), (shape[0] if shape else 1, count // (shape[0] if shape else 1)), (1, 1, 1, count)]
    wanted = w.rng.choice(ways)
    known = w.rng.random() < 0.5
    if known:
        place = w.rng.choice((-1, wanted.index(max(wanted))))
        at = w.integers(*(-1 if i == place else d for i, d in enumerate(wanted)))
    else:  # computed in the run, by way of what has values and not only a shape
        least = w.add("ReduceMin", [name], None, keepdims=0)
        zero = w.add("Cast", [w.add("Mul", [least, w.constant(np.float32(0))], None)], None, to=TensorProto.INT64)
        at = w.add("Add", [zero, w.integers(*wanted)], None)
    shaped = w.add("Reshape", [name, at], wanted)
    if not known:
        w.must_declare(shaped)


def _reshape_by_shape(w: Writer) -> None:
    """The batch of one value, read off by Shape and Gather, and -1."""
    name, shape = w.pick()
    if shape and shape[0]:
        first = w.add("Gather", [w.add("Shape", [name], None), w.integers(0)], None)
        at = w.add("Concat", [first, w.integers(-1)], None, axis=0)
        w.add("Reshape", [name, at], (shape[0], int(np.prod(shape[1:]))))


def _concat(w: Writer) -> None:
    name, shape = w.pick()
    if shape:
        axis = w.rng.randrange(len(shape))
        wanted = tuple(2 * d if i == axis else d for i, d in enumerate(shape))
        w.add("Concat", [name, w.rng.choice([n for n, s in w.values.items() if s == shape])], wanted, axis=axis)


def _slice(w: Writer) -> None:
    name, shape = w.pick()
    if shape:
        axis = w.rng.randrange(len(shape))
        end = max(1, shape[axis] - 1)
        wanted = tuple(min(d, end) if i == axis else d for i, d in enumerate(shape))
        w.add("Slice", [name, w.integers(0), w.integers(end), w.integers(axis)], wanted)


def _transpose(w: Writer) -> None:
    name, shape = w.pick()
    order = list(range(len(shape)))
    w.rng.shuffle(order)
    w.add("Transpose", [name], tuple(shape[i] for i in order), perm=order)


def _reduce(w: Writer) -> None:
    name, shape = w.pick()
    if shape:
        w.add(w.rng.choice(["ReduceMean", "ReduceMax"]), [name], (*shape[:-1], 1), axes=[-1], keepdims=1)


def _split(w: Writer) -> None:
    name, shape = w.pick()
    if shape and shape[-1] >= 2:
        parts = (1, shape[-1] - 1)
        stem = w.add("Split", [name, w.integers(*parts)], (*shape[:-1], 1), outputs=2, axis=-1)
        w.values[f"{stem}_1"] = (*shape[:-1], parts[1])


def _unsqueeze(w: Writer) -> None:
    name, shape = w.pick()
    if len(shape) < 4:
        longer = w.add("Unsqueeze", [name, w.integers(0)], (1, *shape))
        if w.rng.random() < 0.5:
            w.add("Squeeze", [longer, w.integers(0)], shape)


def _normalise(w: Writer) -> None:
    name, shape = w.pick()
    if shape:
        if w.rng.random() < 0.5:
            w.add("Softmax", [name], shape, axis=-1)
        else:
            w.add("LayerNormalization", [name, w.floats(shape[-1])], shape, axis=-1)


def _expand(w: Writer) -> None:
    name, shape = w.pick()
    w.add("Expand", [name, w.integers(2, *(1 for _ in shape))], (2, *shape))


def _pad(w: Writer) -> None:
    name, shape = w.pick()
    if shape:
        w.add("Pad", [name, w.integers(*(0 for _ in shape[:-1]), 1, *(0 for _ in shape))], (*shape[:-1], shape[-1] + 1))


def _gather(w: Writer) -> None:
    name, shape = w.pick()
    if shape and shape[0]:
        w.add("Gather", [name, w.integers(0, shape[0] - 1, 0)], (3, *shape[1:]), axis=0)


def _quantise(w: Writer) -> None:
    name, shape = w.pick()
    scale, zero = w.constant(np.float32(0.1)), w.constant(np.int8(0))
    w.add("DequantizeLinear", [w.add("QuantizeLinear", [name, scale, zero], None), scale, zero], shape)


def _body(
    w: Writer, op: str, reads: str, shape: Shape | None, stem: str
) -> tuple[list[NodeProto], list[TensorProto], str]:
    """A weight and two operators of a branch, the second of which writes the last name."""
    weight = numpy_helper.from_array(np.ones(shape[-1:] if shape else (), np.float32), f"{stem}_w")
    nodes = [
        helper.make_node("Mul", [reads, f"{stem}_w"], [f"{stem}_p"], name=f"{stem}_mul"),
        helper.make_node(op, [f"{stem}_p"], [f"{stem}_q"], name=f"{stem}_last"),
    ]
    return nodes, [weight], f"{stem}_q"


def _if(w: Writer) -> None:
    name, shape = w.pick()
    stem = w.name("b")
    branches = {}
    for which in ("then", "else"):
        nodes, weights, out = _body(w, w.rng.choice(["Relu", "Tanh"]), name, shape, f"{stem}_{which}")
        info = helper.make_tensor_value_info(out, TensorProto.FLOAT, shape)
        branches[f"{which}_branch"] = helper.make_graph(nodes, which, [], [info], weights)
    if not any(v.name == "condition" for v in w.inputs):
        w.inputs.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, ()))
    w.add("If", ["condition"], shape, **branches)


def _loop(w: Writer) -> None:
    name, shape = w.pick()
    stem = w.name("l")
    nodes, weights, out = _body(w, "Tanh", f"{stem}_carried", shape, stem)
    nodes.append(helper.make_node("Identity", [f"{stem}_go"], [f"{stem}_on"]))
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes, "body",
        [info(f"{stem}_i", TensorProto.INT64, ()), info(f"{stem}_go", TensorProto.BOOL, ()),
         info(f"{stem}_carried", TensorProto.FLOAT, shape)],
        [info(f"{stem}_on", TensorProto.BOOL, ()), info(out, TensorProto.FLOAT, shape)], weights,
    )  # fmt: skip
    w.must_declare(
        w.add("Loop", [w.constant(np.array(2, np.int64)), w.constant(np.array(True)), name], shape, body=body)
    )


MENU: list[Callable[[Writer], None]] = [
    _unary, _unary, _binary, _binary, _matmul, _gemm, _convolution, _pool, _reshape, _reshape, _reshape_by_shape,
    _concat, _slice, _transpose, _reduce, _split, _unsqueeze, _normalise, _expand, _pad, _gather, _quantise, _if, _loop,
]  # fmt: skip


def random_model(rng: random.Random) -> ModelProto:
    """A valid model; what nobody reads are its outputs. Shapes of inner values are declared in one of two."""
    w = Writer(rng)
    for i in range(rng.randint(1, 2)):
        shape = rng.choice([(2, 6), (1, 2, 4, 4), (3, 4), (2, 3, 4), (6,)])
        w.inputs.append(helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape))
        w.values[f"x{i}"] = shape
    for _ in range(rng.randint(2, 7)):
        rng.choice(MENU)(w)
    name, shape = w.pick()
    w.add("Relu", [name], shape)  # views and constants alone are nothing to plan
    made = {name for node in w.nodes for name in node.output}
    read = {name for node in w.nodes for name in _reads(node)}
    outputs = [name for name in w.values if name in made and name not in read]
    declared = [helper.make_tensor_value_info(n, TensorProto.FLOAT, w.values[n]) for n in outputs]
    inner = [n for n in w.values if n in made and n in read]
    infos = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, w.values[n])
        for n in inner
        if n in w.open or rng.random() < 0.5
    ]
    kept = [t for t in w.constants if t.name not in made]
    graph = helper.make_graph(w.nodes, "random", w.inputs, declared, kept, value_info=infos)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _reads(node: NodeProto) -> Iterator[str]:
    yield from node.input
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from _reads(inner)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    yield from (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
