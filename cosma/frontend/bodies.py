"""Bodies (branches of If, bodies of Loop and Scan): checks; constants move to the graph, as weights."""

from collections import Counter
from collections.abc import Iterator, Set

import onnx

from cosma.errors import InputError
from cosma.frontend.operators import STANDARD, is_steering
from cosma.frontend.structure import element_count, given_names, replace_all, subgraphs


def check_bodies(graph: onnx.GraphProto, outer: Set[str] = frozenset()) -> None:
    """Refuse bodies that return a value they do not define, or read a name that no enclosing scope defines.

    Raises InputError; the ONNX checker and ONNX Runtime refuse such models too.
    """
    known = given_names(graph) | outer
    for node in graph.node:
        for sub in subgraphs(node):
            _check_body(node, sub, known)
        known.update(node.output)


def _check_body(node: onnx.NodeProto, sub: onnx.GraphProto, outer: Set[str]) -> None:
    own = given_names(sub)
    for inner in sub.node:
        for name in filter(None, inner.input):
            if name not in own and name not in outer:
                raise InputError(f"{_place(node, sub)} reads {name!r}, which nothing before it produces")
        for name in filter(None, inner.output):
            if name in own or name in outer:
                raise InputError(
                    f"{_place(node, sub)} writes {name!r}, a name that is taken in it or around it; rename one of them"
                )
            own.add(name)
    for value in sub.output:
        if value.name not in own:
            raise InputError(
                f"{_place(node, sub)} returns {value.name!r}, which it does not make; have it return Identity of it"
            )
    check_bodies(sub, outer)


def _place(node: onnx.NodeProto, sub: onnx.GraphProto) -> str:
    return f"body {sub.name!r} of operator {node.name!r} ({node.op_type})"


def hoist_constants(graph: onnx.GraphProto, versions: dict[str, int]) -> None:
    """Move the constants of bodies, at any depth, to the graph itself; bodies read them by name.

    Single elements and operands that only steer an operator stay in place, unless they are sparse. A name that occurs
    elsewhere is prefixed with the name of the operator. versions: opset versions by domain.
    """
    if any(True for node in graph.node for _ in subgraphs(node)):
        hoist = _Hoist(graph, Counter(_names(graph)), versions)
        for node in graph.node:
            for sub in subgraphs(node):
                hoist.empty(sub, node.name)
        if hoist.constants:
            replace_all(graph.node, [*hoist.constants, *graph.node])


class _Hoist:
    def __init__(self, graph: onnx.GraphProto, taken: "Counter[str]", versions: dict[str, int]) -> None:
        self.graph, self.taken, self.versions = graph, taken, versions
        self.constants: list[onnx.NodeProto] = []  # Constant nodes that have been moved

    def empty(self, sub: onnx.GraphProto, owner: str) -> None:
        """Move the constants of `sub` and of the bodies in it."""
        data = {name for node in sub.node for name in self._data(node)} | {v.name for v in sub.output}
        moved = self._move_initializers(sub, data, owner) | self._move_nodes(sub, data, owner)
        _rename(sub, moved)
        for node in sub.node:
            for deeper in subgraphs(node):
                self.empty(deeper, f"{owner}/{node.name or node.op_type}")

    def _move_initializers(self, sub: onnx.GraphProto, data: set[str], owner: str) -> dict[str, str]:
        """Move initializers that are read as data, and all sparse ones; return their old and new names."""
        moved: dict[str, str] = {}
        kept = []
        for tensor in sub.initializer:
            if tensor.name in data and element_count(tensor.dims) > 1:
                moved[tensor.name] = self._free(tensor.name, owner)
                self.graph.initializer.add().CopyFrom(tensor)
                self.graph.initializer[-1].name = moved[tensor.name]
            else:
                kept.append(tensor)
        for sparse in sub.sparse_initializer:
            name = sparse.values.name
            moved[name] = self._free(name, owner)
            self.graph.sparse_initializer.add().CopyFrom(sparse)
            self.graph.sparse_initializer[-1].values.name = moved[name]
        if moved:
            replace_all(sub.initializer, kept)
            del sub.sparse_initializer[:]
        return moved

    def _move_nodes(self, sub: onnx.GraphProto, data: set[str], owner: str) -> dict[str, str]:
        """Move Constant nodes that are read as data; return the old and new names of their results."""
        moved: dict[str, str] = {}
        kept = []
        for node in sub.node:
            if _is_constant(node) and node.output[0] in data:
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                moved[node.output[0]] = copy.output[0] = self._free(node.output[0], owner)
                copy.name = f"{owner}/{node.name or node.output[0]}"
                self.constants.append(copy)
            else:
                kept.append(node)
        if moved:
            replace_all(sub.node, kept)
        return moved

    def _data(self, node: onnx.NodeProto) -> Iterator[str]:
        """Names that a node or a body in it reads as data."""
        version = self.versions.get(node.domain, 1)
        for i, name in enumerate(node.input):
            if name and not is_steering(node.domain, node.op_type, version, i):
                yield name
        for sub in subgraphs(node):
            yield from (name for inner in sub.node for name in self._data(inner))

    def _free(self, name: str, owner: str) -> str:
        """Return `name` if it occurs once in the model, otherwise a name that is not taken."""
        if self.taken[name] == 1:
            return name
        base = free = f"{owner}/{name}"
        count = 1
        while self.taken[free]:
            count += 1
            free = f"{base}#{count}"
        self.taken[free] += 1
        return free


def _is_constant(node: onnx.NodeProto) -> bool:
    """Whether a node is a Constant of more than one element, or a sparse one."""
    if node.op_type != "Constant" or node.domain not in STANDARD:
        return False
    for attribute in node.attribute:
        if attribute.name == "value":
            return element_count(attribute.t.dims) > 1
        if attribute.name == "sparse_value":
            return True
    return any(len(a.floats) > 1 or len(a.ints) > 1 for a in node.attribute)


def _rename(sub: onnx.GraphProto, moved: dict[str, str]) -> None:
    """Rename moved values where `sub` reads them; a moved value that `sub` returns goes through an Identity."""
    if not moved:
        return
    for node in sub.node:
        node.input[:] = [moved.get(name, name) for name in node.input]
        for deeper in subgraphs(node):
            own = set(_defined(deeper))
            _rename(deeper, {old: new for old, new in moved.items() if old not in own})
    for value in sub.output:
        if value.name in moved:
            sub.node.add(
                op_type="Identity",
                name=f"return {value.name}",
                input=[moved[value.name]],
                output=[f"{value.name}/returned"],
            )
            value.name = f"{value.name}/returned"


def _defined(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of the values that a graph defines."""
    for group in (graph.input, graph.initializer):
        yield from (v.name for v in group)
    yield from (t.values.name for t in graph.sparse_initializer)
    yield from (name for node in graph.node for name in node.output if name)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of all values of a graph and of the bodies in it, once for each scope."""
    yield from _defined(graph)
    for node in graph.node:
        for sub in subgraphs(node):
            yield from _names(sub)
