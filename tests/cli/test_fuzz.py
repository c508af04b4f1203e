"""Mutated ONNX and YAML bytes thrown at the command: only clean answers count."""

import random
import re
from pathlib import Path

import pytest

from tests.conftest import MODELS, ROOT, spawn

CLEAN = (0, 2, 3)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, cut, repeated, swapped or replaced by extreme values."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(6):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randint(1, 20)]
            case 2:
                data[at:at] = data[at : at + rng.randint(1, 40)]
            case 3:
                data[at:at] = bytes(rng.choice((b"\xff" * 9 + b"\x01", b"\x00", b"\x80\x80\x80\x80\x08")))
            case 4 if data:
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case _:
                data = data[: max(1, at)] if rng.random() < 0.1 else data
    return bytes(data)


@pytest.mark.parametrize("name", ["tiny_chain", "tiny_branches"])
def test_mutated_models(run, tmp_path: Path, name: str) -> None:
    content = (MODELS / f"{name}.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    codes = []
    for seed in range(150):
        path.write_bytes(mutate(content, random.Random(seed)))
        outcome = run("compile", path, "--scratchpad", "1MiB", "--time-limit", "5", "-o", tmp_path / "plan.json")
        assert outcome.code in CLEAN, (seed, outcome)
        assert not re.search(r"Traceback|Error:.*\n.*\n", outcome.err), (seed, outcome.err)
        assert outcome.code != 2 or outcome.err.count("\n") == 1, (seed, outcome.err)
        codes.append(outcome.code)
    assert codes.count(0) > 5  # the mutations are not so wild that nothing gets through ...
    assert codes.count(2) > 5  # ... nor so tame that everything does


def test_mutated_specs(run, tmp_path: Path) -> None:
    content = (ROOT / "hw_specs" / "gemmini_default.yaml").read_bytes()
    path = tmp_path / "spec.yaml"
    codes = []
    for seed in range(200):
        path.write_bytes(mutate(content, random.Random(seed)))
        outcome = run("inspect", MODELS / "tiny_chain.onnx", "--hw", path)
        assert outcome.code in CLEAN, (seed, outcome)
        assert outcome.code != 2 or outcome.err.count("\n") == 1, (seed, outcome.err)
        codes.append(outcome.code)
    assert 0 in codes
    assert 2 in codes


def test_no_mutation_kills_the_process(tmp_path: Path) -> None:
    """The libraries underneath are C++: a crash there would take pytest along, so a few run apart."""
    content = (MODELS / "vit_b_16.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    for seed in range(5):
        path.write_bytes(mutate(content, random.Random(seed)))
        done = spawn("compile", path, "--scratchpad", "64MiB")
        assert done.returncode in CLEAN, (seed, done)
        assert "Traceback" not in done.stderr
