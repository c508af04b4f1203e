"""Who solves programmes, seen from the command line: what is asked for and not to be had, logs, interrupts."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import MODELS


def test_a_programme_that_is_not_stated_in_time_leaves_a_plan_and_says_so(run, tmp_path: Path) -> None:
    target = tmp_path / "m.lp"
    flags = ["--dtype", "int8", "--fusion", "pointwise", "--no-weights", "--scratchpad", "1700298 B"]
    flags += ["--time-limit", "4", "--write-model", target, "--root-bound", "--json"]
    found = run("compile", MODELS / "nasnetalarge_224.onnx", *flags, "--solver", "paper").json
    assert (found["status"], found["model_size"]) == ("feasible", None)
    assert f"no {target}: the programme was not stated to its end" in found["why"]
    assert not target.exists()


@pytest.mark.parametrize("flags", [["--root-bound"], ["--write-model", "m.lp"]])
def test_what_states_no_programme_says_so(run, flags: list[str]) -> None:
    for solver in ("auto", "divide", "compact", "best-fit"):
        outcome = run("compile", MODELS / "tiny_branches.onnx", "--scratchpad", "1MiB", "--solver", solver, *flags)
        assert outcome.code == 2
        assert f"{flags[0]}: solver '{solver}' states no programme of the whole" in outcome.err


def test_the_log_of_a_solver_leaves_standard_output_to_json() -> None:
    for solver in ("paper", "joint:highs", "paper:cbc"):
        command = [
            sys.executable, "-m", "cosma", "compile", str(MODELS / "tiny_branches.onnx"), "--dtype", "int8",
            "--scratchpad", "5KiB", "--solver", solver, "--solver-log", "--json",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["status"] == "optimal"
        assert len(done.stderr.splitlines()) > 5


def test_an_interrupt_ends_a_solver_that_does_not_hear_it() -> None:
    """HiGHS looks at its own clock only; its process is stopped."""
    command = [
        sys.executable, "-m", "cosma", "compile", str(MODELS / "densenet121.onnx"), "--dtype", "int8", "--fusion",
        "pointwise", "--no-weights", "--scratchpad", "1605632 B", "--solver", "paper:highs", "--time-limit", "3600",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    started = psutil.Process(process.pid)
    while len(started.children()) < 2 and process.poll() is None:  # the first keeps track of semaphores
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert said.strip() == "cosma: interrupted; no output file was touched"
    assert process.returncode in (130, -signal.SIGINT)  # Python's way out where it was importing; 130 in a shell
