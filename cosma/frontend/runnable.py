"""ONNX file + FoldedModel -> RunnableModel: the model as planned and the model as it stands, ready to be run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from cosma.frontend import external
from cosma.frontend.dimensions import Dimensions
from cosma.frontend.imported import FoldedModel
from cosma.frontend.parse import naming, read_tidy


@dataclass(frozen=True, slots=True)
class RunnableModel:
    """A model as it stands and as it is planned.

    whole: the file's own graph: functions inlined, dimensions set, nodes sorted; weights with their data, those in
    other files included. unread: weights whose data were not read, by tensor name. folded: the graph that plans are
    made of; its node and value names are those of the plan.
    """

    whole: onnx.ModelProto
    unread: Mapping[str, external.Unread]
    folded: FoldedModel


def read_runnable(path: Path, dims: Mapping[str, int], folded: FoldedModel) -> RunnableModel:
    """Read a model file for running; `folded` is what `load(..., for_running=True)` made of it. Raises InputError.

    Planning reads the file in a process that can be ended, running in this one: each parses it once, and only the
    former infers shapes, for which this one need not load the libraries. The folded model has no weights and is small
    (below 1 MB for DenseNet-121). Weights are not sent between the processes: they can exceed the 2 GiB of a protobuf
    message, and reading them must not count against the limits of planning.
    """
    with naming(path):
        whole, _ = read_tidy(path)
        return with_data(whole, path, dims, folded)


def with_data(whole: onnx.ModelProto, path: Path, dims: Mapping[str, int], folded: FoldedModel) -> RunnableModel:
    """A tidy model that lies at `path` with its dimensions set and all its data read. `whole` is changed."""
    unread = external.attach(whole, path)
    _densify(whole.graph)
    Dimensions(dims).apply(whole.graph)
    return RunnableModel(whole, unread, folded)


def _densify(graph: onnx.GraphProto) -> None:
    """Turn sparse constants into dense ones, as runtimes do."""
    graph.initializer.extend(_dense(sparse) for sparse in graph.sparse_initializer)
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                dense = _dense(attribute.sparse_tensor)
                attribute.CopyFrom(onnx.helper.make_attribute("value", dense))


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """The tensor with its zeros. Indices count elements, or are one row of coordinates an element."""
    values, indices = (onnx.numpy_helper.to_array(t) for t in (sparse.values, sparse.indices))
    dims = tuple(sparse.dims)
    array = np.zeros(dims, values.dtype)
    places = np.ravel_multi_index(tuple(indices.T), dims) if indices.ndim == 2 else indices
    array.reshape(-1)[places] = values
    return onnx.numpy_helper.from_array(array, sparse.values.name)
