"""cosma whatif: exact staircases, sweeps, the cache, workers that die, Dask."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosma import crew, whatif
from cosma.cache import Cache
from cosma.compile import Settings, prepare
from cosma.crew import Failed
from cosma.errors import InputError
from cosma.hardware import Hardware, spec_names
from cosma.problem import Problem
from cosma.rows import RowFile
from cosma.solvers import portfolio
from cosma.solvers.base import Deadline, Options
from cosma.staircase import Found, Step, grid_bytes, knee, staircase, steps, worth_of_next_kib
from cosma.whatif import COLUMNS, KEY, Case, key_of
from tests.conftest import MODELS, model, node, save, value
from tests.strategies import random_problem

TINY = MODELS / "tiny_branches.onnx"
FOREVER = Deadline.after(1e6)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cosma"


def solve_at(problem: Problem, capacity: int, **known) -> Found:
    outcome = portfolio.solve(problem.with_capacity(capacity), Options(**known), FOREVER)
    best = outcome.best
    top = max(
        (
            o + problem.sizes[a]
            for (a, _, _), o in zip(best.timeline.intervals(best.evicted), best.offsets, strict=True)
        ),
        default=0,
    )
    return Found(best.cost_bytes, outcome.bound_bytes, top, best.timeline.order)


def climb(problem: Problem) -> dict[int, Found]:
    """All that the bisection asks for."""
    search, found = staircase(problem), {}
    probes = next(search)
    while True:
        for p in probes:
            found[p.capacity_bytes] = solve_at(
                problem, p.capacity_bytes, known_order=p.known_order, known_bound=p.known_bound
            )
        try:
            probes = search.send([found[p.capacity_bytes] for p in probes])
        except StopIteration:
            return found


@pytest.mark.parametrize("seed", range(60))
def test_the_staircase_is_the_optimum_at_every_capacity(seed: int) -> None:
    problem = random_problem(seed)
    found = climb(problem)
    corners = steps([(c, f.cost_bytes, f.bound_bytes) for c, f in found.items()])
    assert all(step.cost_bytes == step.bound_bytes for step in corners)
    assert corners[-1].cost_bytes == 0
    costs = []
    for capacity in range(problem.working_set_bytes, corners[-1].capacity_bytes + 2):
        here = [step for step in corners if step.capacity_bytes <= capacity]
        plain = solve_at(problem, capacity)
        assert plain.cost_bytes == here[-1].cost_bytes
        costs.append(plain.cost_bytes)
    assert costs == sorted(costs, reverse=True)  # monotone


def test_few_probes_find_the_steps_of_densenet() -> None:
    problem = prepare(MODELS / "densenet121.onnx", Hardware("any", 2**62), Settings("int8", "pointwise", False)).problem
    found = climb(problem)
    corners = steps([(c, f.cost_bytes, f.bound_bytes) for c, f in found.items()])
    assert corners == [Step(1605632, 401408, 401408), Step(1705984, 200704, 200704), Step(1806336, 0, 0)]
    assert len(found) <= 4 * len(corners)
    unit = grid_bytes(problem)
    for step in corners[1:]:
        assert solve_at(problem, step.capacity_bytes - unit).cost_bytes > step.cost_bytes


def test_points_of_unproved_plans_become_a_falling_band() -> None:
    points = [(10, 100, 40), (20, 120, 60), (30, 50, 50), (40, 50, 20)]
    assert steps(points) == [Step(10, 100, 60), Step(30, 50, 50)]
    line = [Step(0, 100, 100), Step(1024, 20, 20), Step(10240, 0, 0)]
    assert knee(line) == line[1]
    assert knee(line[:2]) is None
    assert knee([Step(0, 4, 4), Step(1, 2, 2), Step(2, 0, 0)]) is None  # a straight line has none
    assert worth_of_next_kib(line) == [80.0, 20 / 9]


def test_staircase_table_rows_and_figure(run, tmp_path: Path) -> None:
    rows, plot = tmp_path / "rows.csv", tmp_path / "curve.svg"
    args = ["whatif", TINY, "--dtype", "int8", "--scratchpad", "auto", "--jobs", 1]
    outcome = run(*args, "-o", rows, "--plot", plot)
    assert outcome.code == 0, outcome.err
    assert "2 steps, 2 proved" in outcome.out or "steps" in outcome.out
    stored = RowFile(rows, COLUMNS).rows
    assert {r["status"] for r in stored} == {"optimal"}
    assert {r["capacity_bytes"]: r["non_compulsory_bytes"] for r in stored}[5120] == 256
    assert min(r["capacity_bytes"] for r in stored if not r["non_compulsory_bytes"]) > 5120
    assert all(r["moved_bytes"] == r["compulsory_bytes"] + r["non_compulsory_bytes"] for r in stored)
    assert all(r["peak_use_bytes"] <= r["capacity_bytes"] for r in stored)
    assert plot.read_text().count("<svg") == 1
    before = rows.read_bytes()
    again = run(*args, "-o", rows, "--json")
    assert rows.read_bytes() == before
    assert sorted(map(key_of, again.json), key=str) == sorted(map(key_of, stored), key=str)


def test_the_product_of_everything_given_more_than_once(run) -> None:
    outcome = run(
        "whatif", TINY, MODELS / "tiny_chain.onnx", "--hw", "gemmini_default", "--hw", "coral_edge_tpu",
        "--dtype", "int8", "--dtype", "float32", "--weights", "yes", "--weights", "no", "--fusion", "none",
        "--set", "dram.bandwidth=1GB/s,2GB/s", "--solver", "auto", "--solver", "compact", "--jobs", 1, "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert len(outcome.json) == 2 * 2 * 2 * 2 * 2 * 2
    assert len({tuple(row[c] for c in KEY) for row in outcome.json}) == 64
    slow, fast = (
        next(
            r for r in outcome.json if r["instead"] == f"dram.bandwidth={n}GB/s" and r["hardware"] == "gemmini_default"
        )
        for n in (1, 2)
    )
    assert slow["moved_bytes"] == fast["moved_bytes"] > 0
    assert slow["estimate_transfer_s"] == slow["moved_bytes"] / 1e9 == 2 * fast["estimate_transfer_s"]
    assert slow["estimate_overlapped_s"] <= slow["estimate_serial_s"]


def test_symbolic_dimensions_are_swept(run, tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "a", "one"), node("Neg", "a", "y", "two")]
    path = save(tmp_path, model(nodes, [value("x", ("n", "m"))], [value("y", ("n", "m"))]))
    outcome = run("whatif", path, "--dim", "n=1,2,4", "--dim", "m=8,16", "--scratchpad", "4KiB", "--jobs", 1, "--json")
    moved = {row["dims"]: row["moved_bytes"] for row in outcome.json}
    assert moved == {f"m={m},n={n}": 2 * 4 * n * m for n in (1, 2, 4) for m in (8, 16)}
    bad = run("whatif", path, "--dim", "n=1,x", "--dim", "m=8", "--scratchpad", "4KiB")
    assert bad.code == 2
    assert "--dim 'n=x' is not NAME=N" in bad.err


def test_ranges_and_what_does_not_fit(run) -> None:
    outcome = run(
        "whatif", TINY, "--dtype", "int8", "--scratchpad", "1KiB:8KiB:x2,5KiB:6KiB:+512B,M_R", "--jobs", 1, "--json"
    )
    found = {r["capacity_bytes"]: r for r in outcome.json}
    assert list(found) == [1024, 2048, 4096, 5120, 5632, 6144, 8192]
    assert found[4096]["status"] == "infeasible"
    assert "needs 5120 B" in found[4096]["why"]
    assert found[4096]["moved_bytes"] is None
    assert found[8192]["non_compulsory_bytes"] == 0
    assert found[8192]["estimate_transfer_s"] is None  # no hardware, no guess


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--scratchpad", "8KiB:1KiB:x2"], "does not go up"),
        (["--scratchpad", "1KiB:8KiB"], "is no range"),
        (["--scratchpad", "1KiB:8KiB:xtwo"], "'two' is no number"),
        (["--scratchpad", "1B:8GiB:+1B"], "more than 100,000"),
        (["--scratchpad", "auto", "--scratchpad", "8KiB"], "give it alone"),
        (["--scratchpad", "auto", "--solver", "best-fit"], "falls with capacity"),
        (["--scratchpad", "8KiB", "--set", "dram.bandwidth=1GB/s"], "add --hw SPEC"),
        (["--hw", "gemmini_default", "--set", "bandwidth=1GB/s"], "is not KEY=VALUE"),
        (["--hw", "gemmini_default", "--set", "dram.bandwith=1GB/s"], "did you mean 'bandwidth'"),
        (["--hw", "gemmini_default", "--set", "dram.bandwidth=1"], "has no unit"),
        (["--hw", "no_such_chip"], "no hardware spec"),
        ([], "no hardware given"),
        (["--scratchpad", "8KiB", "--dask", "tcp://127.0.0.1:1"], "no scheduler with workers answers"),
        (["--scratchpad", "8KiB", "--solver", "magic"], "no such solver"),
        (["--scratchpad", "8KiB", "-o", "rows.txt"], "use .csv or .jsonl"),
    ],
)
def test_bad_input_is_one_line(run, args: list[str], said: str) -> None:
    outcome = run("whatif", TINY, *args)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_second_look_costs_nothing_and_damaged_entries_are_ignored(
    run, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["whatif", TINY, "--dtype", "int8", "--scratchpad", "auto", "--jobs", 1, "--json"]
    first = run(*args)
    entries = sorted(own_cache.rglob("*.json"))
    assert len(entries) == len(first.json)
    with monkeypatch.context() as patch:
        patch.setattr(crew.Crew, "submit", lambda *_: pytest.fail("solved again"))
        assert run(*args).json == first.json
    entries[0].write_text(entries[0].read_text().replace("optimal", "perfect"))
    entries[1].write_text("{")
    again = run(*args)
    assert again.json == first.json
    assert again.err.count("is damaged and ignored") == 2
    assert run(*args).err == ""
    assert run(*args, "--no-cache").json == first.json


def test_the_cache_is_done_without_where_it_cannot_be_written(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file", said.append)
    cache.put("ab12", 1)
    cache.put("cd34", 2)
    assert len(said) == 1
    assert "going on without" in said[0]


def die_unless(path: str) -> str:
    """Kills its process the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_workers_are_survived(tmp_path: Path) -> None:
    with crew.processes(2) as workers:
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


def sweep(*args: object) -> list[str]:
    return [
        sys.executable, "-m", "cosma", "whatif", str(MODELS / "resnet50.onnx"), str(MODELS / "densenet121.onnx"),
        "--dtype", "int8", "--fusion", "pointwise", "--scratchpad", "1500KiB:2500KiB:+50KiB", *map(str, args),
    ]  # fmt: skip


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path: Path, how: signal.Signals) -> None:
    rows = tmp_path / "rows.jsonl"
    command = sweep("--jobs", 1, "--no-cache", "-o", rows)
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    while lines_of(rows) < 3 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(how)
    said = process.communicate(timeout=60)[1]
    kept = RowFile(rows, COLUMNS).rows
    assert 3 <= len(kept) < 42
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"{len(kept)} rows are in" in said
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{len(kept)} of 42 rows were in" in again.stdout
    stored = RowFile(rows, COLUMNS).rows
    assert stored[: len(kept)] == kept
    assert len({key_of(r) for r in stored}) == len(stored) == 42


EVERYTHING = [
    "--hw", "all", "--dtype", "int8", "--dtype", "float16", "--dtype", "float32", *map(str, sorted(MODELS.glob("*.onnx")))
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (sweep()[4:], 42),
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
        return sorted(json.dumps(row) for row in RowFile(path, COLUMNS).rows)

    assert sort(there) == sort(here)
    assert len(sort(here)) == count


def test_an_unknown_failure_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(TINY, Hardware("any", 2**62), Settings("int8"))
    case = Case(prepared, Hardware("any", 2**62), Options(), (8192,))
    with crew.processes(1) as workers:
        monkeypatch.setattr(whatif, "answer", die)
        [(row, new)] = [*whatif.run([case], workers, None)]
    assert new
    assert row["status"] == "crashed"
    with pytest.raises(InputError), crew.dask("nowhere"):
        pass
