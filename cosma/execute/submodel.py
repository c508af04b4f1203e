"""Parts of a model as models of their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from cosma.errors import InputError
from cosma.execute.runtime import Value
from cosma.frontend import structure

Type = tuple[int, tuple[int, ...]]  # ONNX element type, shape


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes of a model in model order, and the outside values that they read, in order of first use."""

    nodes: tuple[onnx.NodeProto, ...]
    reads: tuple[str, ...]


class Nodes:
    """The nodes of a model by the names they write, and the types of its values."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._opsets = tuple(model.opset_import)
        self._ir_version = ir_version(model)
        self._nodes: tuple[onnx.NodeProto, ...] = tuple(model.graph.node)
        self._writer = {name: i for i, node in enumerate(self._nodes) for name in node.output if name}
        self.written = self._writer.keys()
        self.types: dict[str, Type] = {}
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
            tensor = value.type.tensor_type
            self.types[value.name] = (tensor.elem_type, tuple(d.dim_value for d in tensor.shape.dim))
        self.types |= {t.name: (t.data_type, tuple(t.dims)) for t in model.graph.initializer}

    def writer(self, name: str) -> onnx.NodeProto:
        """The node that writes a value. Raises KeyError for inputs and constants."""
        return self._nodes[self._writer[name]]

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value themselves."""
        return [node for node in self._nodes if name in node.input]

    def cut(self, outputs: Sequence[str], given: Callable[[str], bool]) -> Part:
        """The nodes that compute `outputs` from the `given` values. Raises InputError if these do not suffice."""
        chosen: set[int] = set()
        reads: set[str] = set()
        stack = list(outputs)
        while stack:
            name = stack.pop()
            if given(name):
                reads.add(name)
            elif name not in self._writer:
                raise InputError(
                    f"{name!r} is needed to compute {outputs[0]!r}, but is no operand of it; cannot run it"
                )
            elif self._writer[name] not in chosen:
                chosen.add(self._writer[name])
                stack.extend(structure.read_names(self.writer(name)))
        nodes = tuple(self._nodes[i] for i in sorted(chosen))
        order = dict.fromkeys((*(name for node in nodes for name in structure.read_names(node)), *outputs))
        return Part(nodes, tuple(name for name in order if name in reads))

    def model(
        self, name: str, nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Type], outputs: Mapping[str, Type],
        baked: Mapping[str, Value],
    ) -> onnx.ModelProto:  # fmt: skip
        """A model of some nodes; `baked` values become part of it."""
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(n, *t) for n, t in inputs.items()],
            [helper.make_tensor_value_info(n, *t) for n, t in outputs.items()],
            [helper.make_tensor(n, v.elem_type, v.shape, v.data.tobytes(), raw=True) for n, v in baked.items()],
        )
        return helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)


def anonymous(model: onnx.ModelProto) -> bytes:
    """Serialize a model with names replaced by numbers: equal bytes for operators that differ only in names.

    Models with subgraphs keep their names: subgraphs may refer to them.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.name = ""
    subgraphs = any(a.HasField("g") or a.graphs for node in copy.graph.node for a in node.attribute)
    if not subgraphs:
        _rename(copy.graph)
    return bytes(copy.SerializeToString(deterministic=True))


def _rename(graph: onnx.GraphProto) -> None:
    numbers: dict[str, str] = {"": ""}

    def number(name: str) -> str:
        return numbers.setdefault(name, str(len(numbers)))

    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = number(value.name)
    for node in graph.node:
        node.name = node.doc_string = ""
        node.input[:] = [number(name) for name in node.input]
        node.output[:] = [number(name) for name in node.output]
        del node.metadata_props[:]


def ir_version(model: onnx.ModelProto) -> int:
    """IR version to write, at least 4: before, every initializer had to be an input too."""
    return max(4, model.ir_version)
