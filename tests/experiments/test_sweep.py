"""cosma whatif: what is swept, what is said, what is remembered."""

from pathlib import Path

import pytest

from cosma.experiments.row_files import read_rows
from cosma.experiments.rows import Swept, key_of
from cosma.target.hardware import SPEC_FOLDER
from tests.conftest import MODELS, model, node, save, value

TINY = MODELS / "tiny_branches.onnx"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cosma"


def test_staircase_table_rows_and_figure(run, tmp_path: Path) -> None:
    rows, plot = tmp_path / "rows.csv", tmp_path / "curve.svg"
    args = ["whatif", TINY, "--dtype", "int8", "--scratchpad", "auto", "--modes", "paper", "--jobs", 1]
    outcome = run(*args, "-o", rows, "--plot", plot)
    assert outcome.code == 0, outcome.err
    assert "2 steps, 2 proved" in outcome.out or "steps" in outcome.out
    stored = read_rows(rows, Swept)
    assert {r.status for r in stored} == {"optimal"}
    assert {r.capacity_bytes: r.non_compulsory_bytes for r in stored}[5120] == 256
    assert min(r.capacity_bytes for r in stored if not r.non_compulsory_bytes) > 5120
    assert all(r.moved_bytes == r.compulsory_bytes + r.non_compulsory_bytes for r in stored)
    assert all(r.peak_use_bytes <= r.capacity_bytes for r in stored)
    assert plot.read_text().count("<svg") == 1
    before = rows.read_bytes()
    again = run(*args, "-o", rows, "--json")
    assert rows.read_bytes() == before
    assert {key_of(Swept(**row)) for row in again.json} == set(map(key_of, stored))


def test_the_product_of_everything_given_more_than_once(run) -> None:
    outcome = run(
        "whatif", TINY, MODELS / "tiny_chain.onnx", "--hw", "gemmini_default", "--hw", "coral_edge_tpu",
        "--dtype", "int8", "--dtype", "float32", "--weights", "yes", "--weights", "no", "--fusion", "none",
        "--set", "dram.bandwidth=1GB/s,2GB/s", "--solver", "auto", "--solver", "compact", "--jobs", 1, "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert len(outcome.json) == 2 * 2 * 2 * 2 * 2 * 2
    assert len({key_of(Swept(**row)) for row in outcome.json}) == 64
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
    sizes = "1KiB:8KiB:x2,5KiB:6KiB:+512B,M_R"
    outcome = run("whatif", TINY, "--dtype", "int8", "--scratchpad", sizes, "--modes", "paper", "--jobs", 1, "--json")
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
        (["--scratchpad", "1KiB:8KiB:xnan"], "'nan' is no number"),
        (["--scratchpad", "1KiB:8KiB:xinf"], "'inf' is no number"),
        (["--scratchpad", "1KiB:8KiB:x٢"], "'٢' is no number"),
        (["--scratchpad", "1KiB:8KiB:x1_0"], "'1_0' is no number"),
        (["--scratchpad", "auto,8KiB"], "give it alone"),
        (["--scratchpad", "8KiB", "--dim", "batch"], "--dim 'batch' is not NAME=N"),
        (["--scratchpad", "8KiB", "--dask", ""], "has no port"),
        (["--hw", "gemmini_default", "--set", "dram.bandwidth=1e999GB/s"], "no figure of a machine"),
        (["--hw", "gemmini_default", "--set", "dram.bandwidth=1e-999GB/s"], "no figure of a machine"),
        (["--hw", "gemmini_default", "--set", "scratchpad.capacity=8KiB", "--scratchpad", "1MiB"], "leave one out"),
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
        (["--scratchpad", "8KiB", "--modes", "tiles"], "'tiles' is unknown"),
        (
            ["--scratchpad", "8KiB", "--modes", "all", "--solver", "joint"],
            "cannot choose how operators run; use --modes",
        ),
        (["--scratchpad", "8KiB", "-o", "rows.txt"], "use .csv or .jsonl"),
    ],
)
def test_bad_input_is_one_line(run, args: list[str], said: str) -> None:
    outcome = run("whatif", TINY, *args)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_the_same_twice_is_one_row_and_edited_specs_are_others(run, tmp_path: Path) -> None:
    spec, rows = tmp_path / "chip.yaml", tmp_path / "rows.csv"
    text = (SPEC_FOLDER / "gemmini_default.yaml").read_text()
    spec.write_text(text)
    args = [
        "whatif",
        TINY,
        TINY,
        "--hw",
        spec,
        "--dtype",
        "int8",
        "--set",
        "dram.energy=1pJ/B",
        "--jobs",
        1,
        "-o",
        rows,
    ]
    first = run(*args, "--set", "dram.energy=1pJ/B,2pJ/B", "--json").json
    assert [row["instead"] for row in first] == ["dram.energy=1pJ/B", "dram.energy=2pJ/B"]
    assert "1 of 1 rows were in" in run(*args).out
    assert "16 GB/s" in text
    spec.write_text(text.replace("16 GB/s", "1 GB/s"))
    [slow] = run(*args, "--json").json
    assert slow["estimate_transfer_s"] == 16 * first[0]["estimate_transfer_s"]


def test_two_files_of_one_name_are_two_curves(run, tmp_path: Path) -> None:
    for folder, source in (("a", TINY), ("b", MODELS / "tiny_chain.onnx")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.onnx").write_bytes(source.read_bytes())
    args = ["--dtype", "int8", "--scratchpad", "auto", "--modes", "paper", "--jobs", 1]
    outcome = run("whatif", tmp_path / "a/m.onnx", tmp_path / "b/m.onnx", *args, "--plot", tmp_path / "m.png")
    assert outcome.out.count("m, problem ") == 2


def test_what_went_wrong_is_tried_again(run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    args = ["whatif", TINY, "--dtype", "int8", "--scratchpad", "5KiB", "--jobs", 1, "-o", rows]
    run(*args)
    rows.write_text(rows.read_text().replace(",optimal,", ",crashed,"))
    outcome = run(*args)
    assert "optimal" in outcome.out
    assert "were in" not in outcome.out
    assert [row["status"] for row in run("report", rows, "--json").json] == ["optimal"]


def test_reasons_are_told_and_nothing_planned_is_infeasible(run, tmp_path: Path) -> None:
    plot = tmp_path / "x.png"
    args = ["--dtype", "int8", "--scratchpad", "1KiB,2KiB", "--modes", "paper", "--jobs", 1]
    outcome = run("whatif", TINY, *args, "--plot", plot)
    assert outcome.code == 3
    assert outcome.err == f"cosma: warning: no row has a plan; {plot} is not drawn\n"
    assert not plot.exists()
    assert "infeasible, operator" in outcome.out
    assert "needs 5120 B (2 rows)" in outcome.out


def test_modes_are_swept_and_each_solver_has_the_most_that_it_can_choose(run, tmp_path: Path) -> None:
    """Of the same mode set in two words there is one row; below M_R only streams help; at 2 bytes only the host."""
    args = ["whatif", TINY, "--dtype", "int8", "--scratchpad", "2B,4KiB", "--no-cache", "--jobs", 1, "--json"]
    rows = run(*args, "--modes", "all", "--modes", "tile", "--modes", "paper").json
    found = {(row["modes"], row["capacity_bytes"]): row for row in rows}
    assert len(rows) == len(found) == 4
    assert found["paper", 4096]["status"] == "infeasible"
    assert found["paper", 4096]["smallest_capacity_bytes"] == found["paper", 4096]["working_set_bytes"] == 5120
    streamed, hosted = found["tile", 4096], found["tile", 2]
    assert streamed["smallest_capacity_bytes"] <= 4096 < streamed["working_set_bytes"]
    assert 0 < streamed["streamed_bytes"] <= streamed["moved_bytes"]
    assert streamed["host_operators"] == 0 < hosted["host_operators"]
    assert streamed["tiles"] > 0
    assert streamed["transfers"] > streamed["loads"] + streamed["stores"]
    default = run(*args, "--solver", "auto", "--solver", "joint").json
    assert {(row["solver"], row["modes"]) for row in default} == {("auto", "tile"), ("joint", "paper")}


def test_stored_rows_say_all_that_new_ones_do(run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    args = ["whatif", TINY, "--dtype", "int8", "--hw", "simba_chiplet", "--hw", "gap8", "--jobs", 1, "-o", rows]
    first = run(*args, "--json").json
    assert {row["modes"] for row in first} == {"tile"}
    assert run(*args, "--json").json == first
    rows.write_text(rows.read_text().replace(",modes", ""))
    old = run(*args)
    assert (old.code, old.err.count("\n")) == (2, 1)
    assert "holds other rows than this command writes" in old.err
