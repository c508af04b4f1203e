"""Workers that die, sweeps that are interrupted, Dask."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import make_dataclass
from pathlib import Path

import psutil
import pytest

from cosma.cli.terminal import keeping
from cosma.compile import Settings, prepare
from cosma.errors import InputError
from cosma.experiments import sweep
from cosma.experiments.row_files import RowFile, read_rows
from cosma.experiments.rows import Swept, key_of
from cosma.experiments.sweep import Case
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware, spec_names
from cosma.workers import pool
from cosma.workers.pool import Failed
from tests.conftest import MODELS

TINY = MODELS / "tiny_branches.onnx"


def test_no_process_of_a_solver_is_left_behind(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cosma",
        "whatif",
        str(TINY),
        "--dtype",
        "int8",
        "--scratchpad",
        "5KiB",
        "--jobs",
        "1",
    ]
    marked = os.environ | {"COSMA_TEST_MARK": str(tmp_path)}
    subprocess.run([*command, "--solver", "paper:highs", "--no-cache"], env=marked, check=True, capture_output=True)

    def left() -> list[int]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("COSMA_TEST_MARK") == str(tmp_path):
                    found.append(process.pid)
        return found

    until = time.monotonic() + 10
    while left() and time.monotonic() < until:
        time.sleep(0.1)
    assert not left()


def die_unless(path: str) -> str:
    """Kills its process the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_workers_are_survived(tmp_path: Path) -> None:
    with pool.processes(2) as workers:
        workers.submit("innocent", str, 1)
        workers.submit("unlucky", die_unless, str(tmp_path / "flag"))
        workers.submit("deadly", die)
        workers.submit("wrong", int, "x")
        for k in range(5):
            workers.submit(k, str, k)
        found: dict = {}
        while finished := workers.finished():
            assert not set(dict(finished)) & set(found)
            found |= dict(finished)
    assert found["innocent"] == "1"
    assert found["unlucky"] == "done"
    assert isinstance(found["deadly"], Failed)
    assert "killed" in found["deadly"].why
    assert "ValueError" in found["wrong"].why
    assert [found[k] for k in range(5)] == list("01234")


def interrupted_sweep(*args: object) -> list[str]:
    return [
        sys.executable, "-m", "cosma", "whatif", str(MODELS / "resnet50.onnx"), str(MODELS / "densenet121.onnx"),
        "--dtype", "int8", "--fusion", "pointwise", "--scratchpad", "1500KiB:2500KiB:+50KiB",
        "--modes", "paper", *map(str, args),
    ]  # fmt: skip


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path: Path, how: signal.Signals) -> None:
    rows = tmp_path / "rows.jsonl"
    command = interrupted_sweep("--jobs", 1, "--no-cache", "-o", rows)
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    while lines_of(rows) < 3 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(how)
    said = process.communicate(timeout=60)[1]
    kept = read_rows(rows, Swept)
    assert 3 <= len(kept) < 42
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"{len(kept)} rows are in" in said
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{len(kept)} of 42 rows were in" in again.stdout
    stored = read_rows(rows, Swept)
    assert stored[: len(kept)] == kept
    assert len({key_of(r) for r in stored}) == len(stored) == 42


def test_an_interrupt_finds_workers_that_are_not_up_yet() -> None:
    """A terminal sends it to them as well; only the parent has something to say."""
    process = subprocess.Popen(
        interrupted_sweep("--jobs", 2, "--no-cache"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    started = psutil.Process(process.pid)
    while len(started.children()) < 3 and process.poll() is None:  # one keeps track of semaphores, one reads models
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert said.strip() == "cosma: interrupted; nothing was kept; use -o to keep rows"
    assert process.returncode == 130


def test_a_row_that_an_interrupt_finds_written_and_not_noted_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    kind = make_dataclass("Kind", [("a", int)])
    file = RowFile(tmp_path / "rows.jsonl", kind)
    with pytest.raises(KeyboardInterrupt, match="0 rows are in"), keeping(file):
        interrupt()
    file.append(kind(1))
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt, match="2 rows are in"), keeping(file):
        file.append(kind(2))
    assert file.rows == [kind(1)]
    with pytest.raises(KeyboardInterrupt, match="use -o to keep rows"), keeping(None):
        interrupt()


EVERYTHING = [
    "--hw", "all", "--dtype", "int8", "--dtype", "float16", "--dtype", "float32", *map(str, sorted(MODELS.glob("*.onnx")))
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (interrupted_sweep()[4:], 42),
        pytest.param(EVERYTHING, len(spec_names()) * len(list(MODELS.glob("*.onnx"))) * 3, marks=pytest.mark.slow),
    ],
)
def test_the_same_rows_through_dask_with_a_killed_worker(tmp_path: Path, arguments: list[str], count: int) -> None:
    distributed = pytest.importorskip("distributed")
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    command = [sys.executable, "-m", "cosma", "whatif", *arguments, "--no-cache"]
    subprocess.run([*command, "--jobs", "2", "-o", str(here)], check=True, capture_output=True)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        through = [*command, "--dask", cluster.scheduler_address, "-o", str(there)]
        process = subprocess.Popen(through, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while lines_of(there) < count // 2 - 16 and process.poll() is None:
            time.sleep(0.02)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        said = process.communicate(timeout=600)[1]
    assert process.returncode == 0, said

    def sort(path: Path) -> list[str]:
        return sorted(path.read_text().splitlines())

    assert sort(there) == sort(here)
    assert len(sort(here)) == count


def test_workers_that_die_while_nobody_looks_are_replaced() -> None:
    with pool.processes(1) as workers:
        for k in range(3):
            workers.submit(k, os.getpid)
        found = dict(workers.finished())
        os.kill(next(iter(found.values())), signal.SIGKILL)
        time.sleep(0.5)
        while finished := workers.finished():
            found |= dict(finished)
    assert set(found) == {0, 1, 2}
    assert all(isinstance(pid, int) for pid in found.values())


def test_a_lost_cluster_is_one_line(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, processes=True, host="127.0.0.1", dashboard_address=None) as cluster,
        pool.dask(cluster.scheduler_address) as workers,
    ):
        workers.submit("slow", time.sleep, 60)
        workers._fill()
        next(iter(workers._running)).cancel()
        with pytest.raises(InputError, match="the workers are gone"):
            workers.finished()


def test_an_unknown_failure_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(TINY, Hardware("any", 2**62), Settings("int8"))
    case = Case(prepared, Hardware("any", 2**62), Options(), (8192,))
    with pool.processes(1) as workers:
        monkeypatch.setattr(sweep, "answer", die)
        [(row, new)] = [*sweep.run([case], workers, None)]
    assert new
    assert row.status == "crashed"
    with pytest.raises(InputError), pool.dask("nowhere"):
        pass
