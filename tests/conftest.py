"""Shared builders: small ONNX models, and the command run in this process or in its own."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner
from hypothesis import settings
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
settings.register_profile("repeatable", derandomize=True)  # a run that fails fails again
settings.load_profile("repeatable")


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs have it, and hand it on
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Run `cosma ARGS` in this process; a traceback is a test failure."""
    from cosma import cli

    def call(*args: object) -> Outcome:
        runner = CliRunner()
        with runner.isolation() as (out, err, _):
            monkeypatch.setattr(sys, "argv", ["cosma", *map(str, args)])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            return Outcome(stop.value.code, out.getvalue().decode(), err.getvalue().decode())

    return call


def spawn(*args: object, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `cosma ARGS` in a process of its own."""
    command = [sys.executable, "-m", "cosma", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)


def value(name: str, shape: Sequence[int | str | None] | None = (1, 8), dtype: int = TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes, inputs=("x",), outputs=("y",), initializers=(), value_info=(), opset: int = 17, imports=(), functions=()
) -> onnx.ModelProto:
    """A model from nodes; inputs and outputs may be names (shape [1, 8], float) or ValueInfoProtos."""

    def infos(names):
        return [value(n) if isinstance(n, str) else n for n in names]

    graph = helper.make_graph(
        list(nodes), "test", infos(inputs), infos(outputs), list(initializers), value_info=list(value_info)
    )
    opsets = [helper.make_opsetid("", opset), *imports]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=8)


def node(op: str, inputs: str, outputs: str, name: str = "", **attributes):
    """node("Add", "a b", "c"); a name may be left out."""
    return helper.make_node(op, inputs.split(), outputs.split(), name=name, **attributes)


def save(folder: Path, proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """x -> Relu -> (Sigmoid, Tanh) -> Add -> y, 32 bytes each in float32."""
    nodes = [node("Relu", "x", "a", "relu"), node("Sigmoid", "a", "b", "sig"), node("Tanh", "a", "c", "tanh")]
    return save(tmp_path, model([*nodes, node("Add", "b c", "y", "add")]), "tiny.onnx")
