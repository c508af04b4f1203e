"""Models read for running: the same whether planning reads them in this process or in another."""

import pickle
import subprocess
import sys
from dataclasses import replace

import onnx
import onnx_ir
import pytest

from cosma.frontend.load import load, load_runnable
from cosma.frontend.runnable import read_runnable
from cosma.frontend.structure import element_bits
from tests.conftest import MODELS, ROOT


@pytest.mark.parametrize(
    "path", [MODELS / "tiny_branches.onnx", ROOT / "tests/cases/sparse_constant.onnx"], ids=lambda p: p.stem
)
def test_one_process_or_two(path) -> None:
    imported, runnable = load_runnable(path)
    sent = pickle.loads(pickle.dumps(load(path, for_running=True)))
    assert replace(sent, folded_model=None) == imported == load(path)
    assert read_runnable(path, {}, sent.folded_model) == runnable


def test_running_imports_no_inference() -> None:
    code = "import sys, cosma.execute.run, cosma.frontend.runnable; print({'onnx_ir', 'onnxscript'}.isdisjoint(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("elem_type", onnx.TensorProto.DataType.values())
def test_element_bits(elem_type: int) -> None:
    if elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        assert element_bits(elem_type) is None
    else:
        assert element_bits(elem_type) == onnx_ir.DataType(elem_type).bitwidth


def test_no_element_type() -> None:
    assert element_bits(1000) is None
