"""cosma compare: rows, limits, what explodes, what is resumed."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, make_dataclass, replace
from pathlib import Path

import pytest

from cosma.compile import Settings, prepare
from cosma.errors import InputError
from cosma.experiments import compare
from cosma.experiments.compare import Run, run_all
from cosma.experiments.row_files import RowFile, read_rows
from cosma.experiments.rows import Compared, key_of
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from tests.conftest import MODELS

TINY = MODELS / "tiny_branches.onnx"


def test_rows_table_figure_and_resume(run, tmp_path: Path) -> None:
    rows, plot = tmp_path / "rows.csv", tmp_path / "plot.svg"
    args = [
        "compare",
        TINY,
        "--dtype",
        "int8",
        "--solvers",
        "tflite-exported-belady,paper,auto,paper-peak",
        "--budgets",
        "M_R,6KiB,4KiB",
    ]
    outcome = run(*args, "-o", rows, "--plot", plot)
    assert outcome.code == 0, outcome.err
    assert plot.read_text().count("<svg") == 1
    stored = {(r.budget, r.solver): r for r in read_rows(rows, Compared)}
    assert len(stored) == 12
    assert stored["M_R", "auto"].status == stored["M_R", "paper"].status == "optimal"
    assert stored["M_R", "auto"].non_compulsory_bytes == stored["M_R", "paper"].non_compulsory_bytes == 256
    assert stored["M_R", "paper"].terms > 0
    assert stored["M_R", "auto"].peak_memory_mib > 10
    assert stored["M_R", "auto"].first_s <= stored["M_R", "auto"].proof_s <= stored["M_R", "auto"].seconds
    assert stored["M_R", "tflite-exported-belady"].proof_s is None
    assert stored["4KiB", "auto"].status == "infeasible"
    assert "needs 5,120 B" in stored["4KiB", "auto"].why
    before = rows.read_bytes()
    again = run(*args, "-o", rows, "--json")
    assert rows.read_bytes() == before
    assert {(r["budget"], r["solver"]): r for r in again.json} == {key: asdict(row) for key, row in stored.items()}
    more = run(*args[:-1], "M_R,M_P", "-o", rows)
    assert "4 of 8 rows were in" in more.out
    assert rows.read_bytes().startswith(before)


def test_a_solver_that_is_missing_is_named_and_tried_again(run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    args = ["compare", TINY, "--dtype", "int8", "--solvers", "paper:xpress,compact", "--budgets", "1MiB", "-o", rows]
    for lines in (2, 3):  # what is there and went well is not run again
        outcome = run(*args)
        assert outcome.code == 0
        assert "'xpress' is not available on this machine; to install it: pip install" in " ".join(outcome.out.split())
        assert len(read_rows(rows, Compared)) == lines
    assert "1 of 2 rows were in" in outcome.out
    assert run("report", rows).out.count("| paper:xpress |") == 1


def test_runs_that_differ_in_alignment_or_states_are_others(run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    args = ["compare", TINY, "--dtype", "int8", "--no-weights", "--solvers", "compact", "--budgets", "8KiB", "-o", rows]
    for more in ([], ["--hw", "hexagon_8mib", "--fusion", "none"], ["--state-limit", "7"]):
        assert run(*args, *more).code == 0
    found = [(r.alignment_bytes, r.state_limit) for r in read_rows(rows, Compared)]
    assert found == [(1, 500_000), (128, 500_000), (1, 7)]


def test_one_problem_under_two_names_runs_once(run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    args = ["compare", TINY, TINY, "--dtype", "int8", "--solvers", "compact", "--budgets", "M_R,5KiB", "-o", rows]
    assert len(run(*args, "--json").json) == 4
    assert len(read_rows(rows, Compared)) == 1


def test_an_unknown_m_p_leaves_the_other_runs_alone(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "smallest_peak_bytes", lambda *_: None)
    args = ["compare", TINY, "--dtype", "int8", "--solvers", "compact", "--budgets"]
    outcome = run(*args, "M_P,5KiB", "--json")
    assert [row["budget"] for row in outcome.json] == ["5KiB"]
    assert "M_P of tiny_branches.onnx was not found in 60 s; its runs at M_P are left out" in outcome.err
    assert run(*args, "M_H").code == 2


def test_text_that_looks_like_a_number_stays_text(tmp_path: Path) -> None:
    values = ["6628281e0120", "12", "true", "NaN", '"quoted"', "null", "plain, with comma", "[1]", "0.1.0"]
    kind = make_dataclass(
        "Kind", [*((f"c{i}", str) for i in range(len(values))), ("n", int), ("b", bool), ("x", float)]
    )
    row = kind(*values, 12, True, 0.5)
    RowFile(tmp_path / "rows.csv", kind).append(row)
    assert read_rows(tmp_path / "rows.csv", kind) == [row]


def test_a_row_that_was_cut_off_is_run_again(run, tmp_path: Path) -> None:
    for name in ("rows.csv", "rows.jsonl"):
        path = tmp_path / name
        args = ["compare", TINY, "--solvers", "best-fit,compact", "--budgets", "64KiB", "-o", path]
        assert run(*args).code == 0
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        assert run(*args).code == 0
        assert len(path.read_bytes().splitlines()) == len(whole.splitlines())
        assert [r.solver for r in read_rows(path, Compared)] == ["best-fit", "compact"]


def one(solver: str, model: str = "nasnetalarge_224", **limits: object) -> Run:
    prepared = prepare(MODELS / f"{model}.onnx", Hardware("h", 2**62), Settings("int8", "none", False))
    problem = prepared.problem.with_capacity(prepared.problem.working_set_bytes)
    options = Options(solver, **limits)  # type: ignore[arg-type]
    return Run(type(prepared)(prepared.imported, problem, prepared.source), Hardware("h", 2**62), "M_R", options)


def test_what_explodes_is_a_row() -> None:
    runs = [
        one("paper", memory_limit_bytes=300 * 2**20),
        one("auto", memory_limit_bytes=90 * 2**20, state_limit=10**9),
        one("compact", model="tiny_chain"),
    ]
    rows = {row.solver: row for row in run_all(runs, 2)}
    assert rows["compact"].status == "optimal"
    assert rows["auto"].status == "out of memory"
    assert "94,371,840 B" in rows["auto"].why
    assert rows["auto"].peak_memory_mib > 90
    assert rows["paper"].status in ("feasible", "out of memory")  # refused while it was built, or stopped


def test_a_process_that_hangs_or_dies_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_GRACE_S", 0.5)
    monkeypatch.setattr(compare, "solved_row", hang)
    (row,) = run_all([one("auto", model="tiny_chain", time_limit_s=0.5)], 1)
    assert row.status == "out of time"
    assert 1.0 <= row.seconds < 20
    monkeypatch.setattr(compare, "solved_row", die)
    (row,) = run_all([one("auto", model="tiny_chain")], 1)
    assert (row.status, row.why) == ("crashed", "the process ended with code 7 and no result")


def hang(*_: object) -> None:
    time.sleep(60)


def die(*_: object) -> None:
    import os

    os._exit(7)


def test_keys_tell_runs_apart() -> None:
    a, b = one("auto", model="tiny_chain"), one("auto", model="tiny_chain", time_limit_s=5.0)
    assert a.key != b.key
    assert a.key == key_of(replace(a.head, status="optimal", budget="whatever"))


def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    command = [
        sys.executable, "-m", "cosma", "compare", str(TINY), str(MODELS / "nasnetalarge_224.onnx"), "--solvers",
        "best-fit,paper", "--budgets", "M_R", "--dtype", "int8", "-o", str(rows),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (rows.exists() and rows.read_text().count("\n") >= 2):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = [json.loads(line) for line in rows.read_text().splitlines()]
    assert f"{len(kept)} rows are in {rows}; run again to go on" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--solvers", "magic"], "--solver 'magic': no such solver; use one of auto,"),
        (["--solvers", "auto:cbc"], "after 'auto:' goes nothing"),
        (["--solvers", ","], "--solvers ',': names nothing"),
        (["--budgets", "M_X"], "--budgets: 'M_X'"),
        (["-o", "rows.txt"], "--output rows.txt: cannot write a .txt file; use .csv or .jsonl"),
        (["--plot", "/nowhere/p.png"], "there is no folder /nowhere"),
    ],
)
def test_bad_arguments(run, flags: list[str], complaint: str) -> None:
    outcome = run("compare", TINY, *flags)
    assert outcome.code == 2
    assert complaint in outcome.err


def test_rows_of_something_else_are_left_alone(tmp_path: Path) -> None:
    for name, text in (("a.csv", "x,y\n1,2\n"), ("b.jsonl", '{"x": 1}\n'), ("c.csv", "no rows at all")):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(InputError, match="holds other rows than this command writes"):
            RowFile(path, Compared)
        assert path.read_text() == text


def test_without_and_stats_on_the_command_line(run, tmp_path: Path) -> None:
    flags = ("compile", TINY, "--dtype", "int8", "--scratchpad", "5KiB", "--solver", "paper")
    path = tmp_path / "m.lp"
    strong = run(*flags, "--json", "--root-bound", "--write-model", path).json
    literal = run(*flags, "--json", "--without", "all").json
    assert strong["non_compulsory_bytes"] == literal["non_compulsory_bytes"] == 256
    assert strong["model_size"]["terms"] < literal["model_size"]["terms"]
    assert 0 <= strong["model_size"]["root_bound"] <= 256
    assert "Minimize" in path.read_text()
    assert "--without 'magic': no such strengthening" in run(*flags, "--without", "magic").err
    assert run("solvers", "--json").json[0]["name"] == "auto"
    assert "paper-peak" in run("solvers").out


def test_modes_are_all_where_every_solver_can_choose_and_a_column(run, tmp_path: Path) -> None:
    args = ["compare", TINY, "--dtype", "int8", "--budgets", "4KiB", "--json", "--solvers"]
    chosen = run(*args, "auto,compact").json
    assert {row["modes"] for row in chosen} == {"tile"}
    assert {(row["status"], row["host_operators"]) for row in chosen} <= {("optimal", 0), ("feasible", 0)}
    assert {row["modes"] for row in run(*args, "auto,best-fit").json} == {"paper"}
    assert {row["modes"] for row in run(*args, "auto", "--modes", "paper").json} == {"paper"}
    refused = run(*args, "auto,best-fit", "--modes", "all")
    assert refused.code == 2
    assert "solver 'best-fit' cannot choose how operators run; use --modes paper, or one of auto" in refused.err
    assert "| modes |" in _markdown(run, tmp_path)


def _markdown(run, folder: Path) -> str:
    rows = folder / "rows.csv"
    assert run("compare", TINY, "--dtype", "int8", "--budgets", "4KiB", "--solvers", "auto", "-o", rows).code == 0
    return run("report", rows).out
