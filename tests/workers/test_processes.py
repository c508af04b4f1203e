"""Processes that are killed while they start, answer or wait: nothing hangs, nothing is printed, nothing is left."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import psutil
import pytest

from cosma.deadline import Deadline
from cosma.experiments.compare import run_all
from cosma.workers import processes
from cosma.workers.parcel import Parcel
from cosma.workers.processes import StoppedError, Workers
from tests.conftest import MODELS
from tests.experiments.test_compare import one

LARGE = "x" * 1_000_000  # more than any pipe holds


def echo(value: object) -> object:
    return value


def loud(_: object) -> None:
    print("from Python")
    print("from Python, on standard error", file=sys.stderr)
    os.system("echo from a library")


def die(_: object) -> None:
    os._exit(7)


def test_large_values_go_both_ways_and_leave_nothing(tmp_path: Path) -> None:
    workers = Workers(1)
    folder = Path(workers._folder.name)
    try:
        assert workers.submit(echo, LARGE).result(60) == LARGE
        assert workers.submit(echo, "small").result(60) == "small"
        assert list(folder.iterdir()) == []
    finally:
        workers.stop()
    assert not folder.exists()


def test_small_parcels_make_no_file(tmp_path: Path) -> None:
    import pickle

    assert pickle.loads(pickle.dumps(Parcel("small", str(tmp_path)))) == "small"
    assert list(tmp_path.iterdir()) == []
    data = pickle.dumps(Parcel(LARGE, str(tmp_path)))
    assert len(data) < 1_000
    assert len(list(tmp_path.iterdir())) == 1
    assert pickle.loads(data) == LARGE


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.02, 0.05, 0.1, 0.2])
def test_a_worker_that_is_killed_while_it_starts(delay_s: float) -> None:
    workers = Workers(1)
    try:
        future = workers.submit(echo, LARGE)
        [process] = workers.processes
        time.sleep(delay_s)
        psutil.Process(process.pid).kill()
        with pytest.raises(BrokenProcessPool):
            future.result(60)
    finally:
        workers.stop()


def test_a_run_whose_process_is_killed_while_it_starts_is_a_row() -> None:
    """A problem larger than a pipe, as compare sends it."""
    killed = []

    def kill() -> None:
        me = psutil.Process()
        before = {child.pid for child in me.children()}
        while not killed:
            for child in me.children():
                if child.pid not in before and "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    killed.append(child.pid)
                    return
            time.sleep(0.001)

    thread = threading.Thread(target=kill)
    thread.start()
    (row,) = run_all([one("auto", time_limit_s=30.0)], 1)
    thread.join()
    assert row.status == "crashed"
    assert row.why == "the process ended with code -9 and no result"


def test_a_worker_that_dies_is_replaced() -> None:
    with pytest.raises(StoppedError, match="crashed"):
        processes.run("a test", Deadline.after(60), die, None)
    assert processes.run("a test", Deadline.after(60), echo, 3) == 3
    processes._WORKERS.pop("a test").stop()


def test_workers_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    workers = Workers(1)
    try:
        workers.submit(loud, None).result(60)
    finally:
        workers.stop()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("solver", ["paper:highs", "joint:cbc", "paper:mathopt-scip", "paper"])
def test_solvers_print_nothing(solver: str) -> None:
    command = [
        sys.executable, "-m", "cosma", "compile", str(MODELS / "tiny_branches.onnx"), "--dtype", "int8", "--scratchpad",
        "5KiB", "--solver", solver, "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_nothing_is_printed_or_left_when_the_command_is_killed() -> None:
    command = [
        sys.executable, "-m", "cosma", "compile", str(MODELS / "nasnetalarge_224.onnx"), "--dtype", "int8", "--scratchpad",
        "1800 KiB", "--solver", "paper:highs",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    started = psutil.Process(process.pid)
    while not any("spawn_main" in " ".join(child.cmdline()) for child in started.children()):
        time.sleep(0.02)
    children = started.children(recursive=True)
    time.sleep(1.0)
    process.kill()
    assert process.communicate(timeout=60)[1] == ""
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
