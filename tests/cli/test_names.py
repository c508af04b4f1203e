"""Names from models, plans, specs and files cannot act on what shows them: terminals, listings, spreadsheets, Markdown."""

import json
import os
import re
import shutil
from dataclasses import make_dataclass
from pathlib import Path

import pytest
from onnx import helper

from cosma.experiments.row_files import read_rows, to_csv
from cosma.frontend.load import load
from cosma.names import line, markdown, shown
from tests.conftest import MODELS, model, save, spawn, value

NAMES = [
    "x\n    0  LOAD   [000000..000020)  forged  32 B", "a\x1b[31mred\x07", "=cmd|' /C calc'!A0", "b\u202egnp.exe\u2066",
    "$x^2$ \\frac", "op`|` <script>\r\x85", "\u2028sep\u200b\ufeff", "@sum(1)|[x](javascript:1)", "-graph\t", "plain",
]  # fmt: skip
HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """x -> Relu -> (Sigmoid, Tanh) -> Add -> y, every name meant to do harm."""
    x, a, b, c, y, *rest = NAMES
    nodes = [
        helper.make_node("Relu", [x], [a], name=rest[0]), helper.make_node("Sigmoid", [a], [b], name=rest[1]),
        helper.make_node("Tanh", [a], [c], name=rest[2]), helper.make_node("Add", [b, c], [y], name=rest[3]),
    ]  # fmt: skip
    return save(tmp_path, model(nodes, [value(x)], [value(y)]), "=na\x1b[1msty\u202e.onnx")


def test_what_is_shown() -> None:
    assert shown("plain ü 中") == "plain ü 中"
    assert shown("a\nb\x1b[0m\u202e\udcff") == "a\\nb\\x1b[0m\\u202e\\xff"
    assert line("two\n lines\x07") == "two lines\\x07"
    assert len(line("long " * 10_000)) < 2_100
    assert markdown("a|b`c`<i>$x$_d_ tiny_chain") == "a\\|b\\`c\\`&lt;i>\\$x\\$\\_d\\_ tiny_chain"


def test_names_are_shown_where_they_come_in_and_stay_apart(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a\n"], name="n\x1b"),
        helper.make_node("Tanh", ["a\n"], ["a\\n"], name="n\\x1b"),
    ]
    graph = load(save(tmp_path, model(nodes, outputs=[value("a\\n")]))).graph
    assert [t.name for t in graph.tensors] == ["x", "a\\n#2", "a\\n"]
    assert [v.name for v in graph.operators] == ["n\\x1b#2", "n\\x1b"]


def harmless(text: str) -> None:
    assert not HARMFUL.search(text), text
    assert "\n    0  LOAD   [000000..000020)  forged" not in text


def test_every_command_is_harmless(nasty: Path, tmp_path: Path) -> None:
    plan, rows, sweep = tmp_path / "plan.json", tmp_path / "rows.csv", tmp_path / "sweep.csv"
    pad = ["--scratchpad", "96B"]
    calls = [
        ["compile", nasty, *pad, "--check", "--listing", "-v", "-o", plan, "--plot", tmp_path / "map.svg"],
        ["inspect", nasty, *pad, "-v"],
        ["verify", plan, nasty],
        ["run", plan, nasty, "--trace", tmp_path / "trace.json"],
        ["report", plan, nasty],
        ["check", nasty, *pad, "--max-peak", "1KiB", "-o", tmp_path / "check.md"],
        ["compare", nasty, "--solvers", "auto", "--budgets", "96B", "-o", rows, "--plot", tmp_path / "c.png"],
        ["whatif", nasty, "--scratchpad", "96B,128B", "--no-cache", "-o", sweep, "--plot", tmp_path / "w.png"],
        ["report", sweep, "-o", tmp_path / "r.md"],
        ["report", rows, "-o", tmp_path / "r.csv"],
        ["diff", plan, plan],
        ["compile", nasty, "--scratchpad", "8B"],
        ["compile", nasty, *pad, "--dim", "n\x1b=1"],
    ]  # fmt: skip
    for call in calls:
        done = spawn(*call)
        assert done.returncode in (0, 2, 3), done
        harmless(done.stdout)
        harmless(done.stderr)
        assert "Traceback" not in done.stderr
        assert "Glyph" not in done.stderr
    for name in ("plan.json", "trace.json"):
        harmless(json.dumps(json.loads((tmp_path / name).read_text()), ensure_ascii=False))
    for path in (rows, sweep, tmp_path / "r.csv", tmp_path / "r.md", tmp_path / "check.md"):
        text = path.read_text()
        harmless(text)
        if path.suffix == ".csv":
            assert not re.search(r"(^|,)[=+@]", text, re.MULTILINE)


@pytest.mark.parametrize("what", [b"xx", b"yy", b"nn", b"dd"])
def test_names_that_are_no_text_are_refused(run, tmp_path: Path, what: bytes) -> None:
    """Bytes that begin no character, as the name of an input, an output, a node or a dimension."""
    node = helper.make_node("Relu", ["xx"], ["yy"], name="nn")
    content = model([node], [value("xx", ["dd"])], [value("yy", ["dd"])]).SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(content.replace(what, b"\xff\xfe"))
    outcome = run("inspect", path, "--dim", "dd=2")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert r"the name b'\xff\xfe' is no UTF-8; rename it" in outcome.err


def test_dimensions_have_names_too(run, tmp_path: Path) -> None:
    """Two symbols that look alike once shown stay two; a plan that was set with one is read back."""
    shape = ["n\x1b[1m", "n\\x1b[1m"]
    path = save(tmp_path, model([helper.make_node("Relu", ["x"], ["y"])], [value("x", shape)], [value("y", shape)]))
    plan, rows = tmp_path / "plan.json", tmp_path / "rows.csv"
    dims = ["--dim", "n\\x1b[1m=2", "--dim", "n\\x1b[1m#2=3"]
    assert run("compile", path, "--scratchpad", "64B", *dims, "-o", plan).code == 0
    assert json.loads(plan.read_text())["claims"]["compulsory_bytes"] == 2 * 4 * 2 * 3
    assert run("verify", plan, path).code == 0
    assert run("whatif", path, "--scratchpad", "64B", "--no-cache", *dims, "-o", rows).code == 0
    harmless(rows.read_text())
    save(tmp_path, model([helper.make_node("Relu", ["x"], ["y"])], [value("x", shape[:1])], [value("y", shape[:1])]))
    assert run("inspect", path, "--dim", "n\x1b[1m=2").code == 0  # as it is in the file


def test_plans_with_other_names_are_refused(run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    path = MODELS / "tiny_chain.onnx"
    assert run("compile", path, "--scratchpad", "64KiB", "-o", plan).code == 0
    document = json.loads(plan.read_text())
    next(i for i in document["instructions"] if i["op"] == "execute")["operator"] += "\n    0  LOAD  forged"
    plan.write_text(json.dumps(document))
    outcome = run("verify", plan, path)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "is not printable; compile again" in outcome.err


def test_cells_that_look_like_formulas_are_text_and_come_back(tmp_path: Path) -> None:
    kind = make_dataclass("Kind", [("a", str), ("b", float), ("c", int)])
    rows = [kind(text, 1.5, 3) for text in ("=1+1", "+1", "-x", "@sum", "＝1", "plain")]
    path = tmp_path / "rows.csv"
    path.write_text(to_csv(rows))
    assert read_rows(path, kind) == rows
    assert not re.search(r"^[=+@＝]", path.read_text(), re.MULTILINE)
    assert ",1.5,3\n" in path.read_text()  # numbers stay numbers


def test_file_names_that_are_not_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/m\xff\xfe.onnx"
    shutil.copy(MODELS / "tiny_chain.onnx", path)
    plan = tmp_path / "plan.json"
    done = spawn("compile", os.fsdecode(path), "--scratchpad", "64KiB", "-o", plan, "--report", tmp_path / "p.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(plan.read_text())["source"]["model"] == "m\\xff\\xfe.onnx"
    done = spawn("verify", plan, os.fsdecode(path))
    assert (done.returncode, done.stderr) == (0, "")
    missing = spawn("compile", os.fsdecode(path) + ".gone", "--scratchpad", "64KiB")
    assert missing.returncode == 2
    assert "m\\xff\\xfe.onnx.gone" in missing.stderr
