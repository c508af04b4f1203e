"""Inputs of a run: read from an .npz file and checked against the model, or drawn from a seed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from cosma.errors import InputError
from cosma.execute.runtime import Value, check_rank, dtype_of
from cosma.execute.submodel import Nodes, Type
from cosma.files import open_input
from cosma.frontend.runnable import RunnableModel
from cosma.kinds import complain

_RELAYS = frozenset(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast"])


def _input_types(runnable: RunnableModel) -> dict[str, Type]:
    """Element type and shape of each input of the model, weights excluded. Raises InputError for strings."""
    graph = runnable.whole.graph
    weights = {t.name for t in graph.initializer}
    found = {}
    for value in graph.input:
        if value.name not in weights:
            tensor = value.type.tensor_type
            if tensor.elem_type in (TensorProto.STRING, TensorProto.UNDEFINED):
                kind = "holds strings" if tensor.elem_type else "has no element type"
                raise InputError(f"input {value.name!r} {kind} and cannot be run; take it out of the model")
            dims = tensor.shape.dim
            check_rank(value.name, len(dims))
            # Only inputs that nothing reads may still have open dimensions: reading the model refuses the others.
            found[value.name] = (tensor.elem_type, tuple(d.dim_value if d.HasField("dim_value") else 1 for d in dims))
    return found


def read_inputs(path: Path, runnable: RunnableModel) -> dict[str, Value]:
    """Read an .npz file with one array for each model input. Raises InputError for missing, extra or wrong arrays."""
    arrays, what = _read_arrays(path), f"--inputs {path}"
    types = _input_types(runnable)
    for name in arrays:
        if name not in types:
            raise InputError(f"{what}: the model has no input {name!r}; its inputs are {_listed(types)}")
    found = {}
    for name, (elem_type, shape) in types.items():
        dtype = dtype_of(elem_type)
        wanted = f"{dtype} of shape {list(shape)}"
        if name not in arrays:
            raise InputError(f"{what}: input {name!r} is missing; add an array {name!r}, {wanted}")
        array = _native(arrays[name], dtype)
        if array.dtype != dtype or array.shape != shape:
            raise InputError(f"{what}: input {name!r} is {array.dtype} of shape {list(array.shape)}, not {wanted}")
        found[name] = Value.of(array)
    return found


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    refusal = InputError(f"--inputs {path}: no .npz file of plain arrays; write one with numpy.savez")
    try:
        with open_input(path) as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"--inputs {path}: cannot read it ({error.strerror or 'no .npz file'})") from None
    except Exception:  # numpy, zipfile and zlib raise anything at all on other and on damaged files
        complain(path, "set of inputs", before=f"--inputs {path}: ")
        raise refusal from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise refusal
    return arrays


def _native(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Convert to native byte order; restore types that numpy lacks, of which a file keeps only the bytes."""
    if array.dtype == np.dtype(f"V{dtype.itemsize}") and dtype.isbuiltin != 1:
        return array.view(dtype)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _listed(types: dict[str, Type]) -> str:
    return ", ".join(repr(name) for name in types) or "none"


# Of drawn floats, in turn.
RANGES = ("normally distributed", "normally distributed, a tenth as large", "from 0.01 to 1")


def draw_inputs(runnable: RunnableModel, nodes: Nodes, seed: int, attempt: int = 0) -> dict[str, Value]:
    """Draw inputs: floats in `RANGES[attempt]`; integers that are valid indices if a Gather uses them.

    Other integers are 0 or 1 (masks), or any value of the type if it has 8 bits (images).
    """
    found = {}
    for place, (name, (elem_type, shape)) in enumerate(_input_types(runnable).items()):
        random = np.random.default_rng([seed, place, 1])
        dtype = dtype_of(elem_type)
        if dtype.kind in "iub":
            low, high = _range(dtype, list(_axes(name, nodes)))
            found[name] = Value.of(random.integers(low, high, shape, np.int64, endpoint=True).astype(dtype))
        else:
            found[name] = Value.of(_floats(random, shape, attempt).astype(dtype))
    return found


def _floats(random: np.random.Generator, shape: tuple[int, ...], attempt: int) -> npt.NDArray[np.float64]:
    if attempt == 2:
        return random.uniform(0.01, 1, shape)
    return random.standard_normal(shape) * (1, 0.1)[attempt]


def drawn_integers(runnable: RunnableModel) -> list[str]:
    """Names of integer inputs; they may be indices or lengths that cannot be drawn validly."""
    return [name for name, (elem_type, _) in _input_types(runnable).items() if dtype_of(elem_type).kind in "iu"]


def _range(dtype: np.dtype[Any], axes: list[int]) -> tuple[int, int]:
    """The least and the largest value to draw for an integer input that indexes axes of these sizes."""
    if axes:
        return 0, max(0, min(axes) - 1)
    if dtype.kind != "b" and dtype.itemsize == 1:
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return 0, 1


def _axes(name: str, nodes: Nodes) -> Iterator[int]:
    """Sizes of the axes that a value, or a view of it, indexes."""
    for node in nodes.readers(name):
        if not node.domain and node.op_type == "Gather" and node.input[1] == name:
            shape = nodes.types[node.input[0]][1]
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            yield shape[axis]
        elif not node.domain and node.op_type in _RELAYS and node.input[0] == name:
            yield from _axes(node.output[0], nodes)
