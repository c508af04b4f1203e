"""ONNX Runtime sessions that read and write tensors at addresses given by the caller."""

import ctypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from cosma.errors import InputError

Bytes = npt.NDArray[np.uint8]
_NIBBLES = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
# Kernels take numbers one by one up to the first aligned address, then in vectors: sums depend on where they begin.
_ALIGNMENT = 64
_MOST_DIMENSIONS = 64  # of numpy's arrays


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor as raw bytes: ONNX element type, shape, and a contiguous one-dimensional array of uint8."""

    elem_type: int
    shape: tuple[int, ...]
    data: Bytes

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> "Value":
        """Value of an array; shares its bytes if contiguous and aligned. 4-bit elements are packed."""
        elem_type = int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
        if elem_type in _NIBBLES:
            data = np.frombuffer(onnx.numpy_helper.from_array(array).raw_data, np.uint8)
        else:
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return _aligned(cls(elem_type, array.shape, data))

    def array(self) -> npt.NDArray[Any]:
        """The tensor as an array; shares the bytes. Element types of less than a byte stay packed bytes."""
        dtype = dtype_of(self.elem_type)
        if prod(self.shape) * dtype.itemsize != self.data.size:
            return self.data
        return self.data.view(dtype).reshape(self.shape)


def allocate(size: int) -> Bytes:
    """Allocate zeroed bytes at a 64-byte aligned address."""
    block = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -block.ctypes.data % _ALIGNMENT
    return block[start : start + size]


def dtype_of(elem_type: int) -> np.dtype[Any]:
    """The numpy type of an ONNX element type (ml_dtypes for what numpy lacks)."""
    return onnx.helper.tensor_dtype_to_np_dtype(elem_type)


def check_rank(name: str, rank: int) -> None:
    """Raise InputError for a tensor of more dimensions than numpy supports; such a tensor can be planned, not run."""
    if rank > _MOST_DIMENSIONS:
        raise InputError(
            f"tensor {name!r} has {rank} dimensions; a run takes no more than {_MOST_DIMENSIONS}: reshape it to run it"
        )


def require_onnxruntime() -> Any:
    """Import ONNX Runtime. Raises InputError if it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise InputError("running a plan takes ONNX Runtime; pip install 'cosma-compiler[run]'") from None
    return onnxruntime


class RunError(InputError):
    """ONNX Runtime failed while running a model."""


class Session:
    """A model ready to run. One thread, no optimisation, no repacked weights: equal calls give equal bits."""

    def __init__(self, model: onnx.ModelProto) -> None:
        ort = require_onnxruntime()
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Memory goes back as soon as it is free; weights that change places must not be kept in a private form.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            subject = repr(model.graph.name)
            raise InputError(f"ONNX Runtime {ort.__version__} cannot load {subject}: {_line(error)}") from None
        self._name = model.graph.name
        self.inputs = tuple(v.name for v in model.graph.input)
        self.outputs = tuple(v.name for v in model.graph.output)

    def run_into(self, inputs: Sequence[Value], outputs: Sequence[Value], name: str) -> None:
        """Run on the memory of `inputs`, write to the memory of `outputs`. name: the operator, for error messages.

        Values at unaligned addresses go through an aligned copy.
        """
        binding = self._session.io_binding()
        held = [_aligned(value) for value in inputs]
        for own, value in zip(self.inputs, held, strict=True):
            _bind(binding.bind_input, own, value)
        targets = [_aligned(value) for value in outputs]
        for own, value in zip(self.outputs, targets, strict=True):
            _bind(binding.bind_output, own, value)
        self._call(binding, name)
        for value, target in zip(outputs, targets, strict=True):
            if value is not target:
                value.data[:] = target.data

    def run(self, inputs: Mapping[str, Value]) -> list[Value]:
        """Run and return the outputs in new memory."""
        binding = self._session.io_binding()
        held = [_aligned(inputs[name]) for name in self.inputs]
        for name, value in zip(self.inputs, held, strict=True):
            _bind(binding.bind_input, name, value)
        for name in self.outputs:
            binding.bind_output(name)
        self._call(binding, self._name)
        found = []
        for value in binding.get_outputs():
            shape, elem_type = tuple(value.shape()), value.element_type()
            data = allocate(_byte_size(elem_type, shape))
            ctypes.memmove(data.ctypes.data, value.data_ptr(), data.size)
            found.append(Value(elem_type, shape, data))
        return found

    def _call(self, binding: Any, name: str) -> None:
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            line = _line(error)
            if name != self._name:  # but for names an equal operator, whose nodes the runtime names
                line = re.sub(r" Name:'.*?'(?= Status Message:)", "", line)
            raise RunError(f"ONNX Runtime cannot run {name!r}: {line}") from None


def _byte_size(elem_type: int, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor; elements of four bits are packed."""
    if elem_type in _NIBBLES:
        return -(-prod(shape) // 2)
    return prod(shape) * dtype_of(elem_type).itemsize


def _bind(bind: Any, name: str, value: Value) -> None:
    bind(name, "cpu", 0, value.elem_type, list(value.shape), value.data.ctypes.data)


def _aligned(value: Value) -> Value:
    """Return the value if its address is aligned, otherwise an aligned copy."""
    if value.data.ctypes.data % _ALIGNMENT == 0:
        return value
    data = allocate(value.data.size)
    data[:] = value.data
    return Value(value.elem_type, value.shape, data)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
