"""Modes as they are shown: streams, tiles, operators on the host, fronts."""

from pathlib import Path

from onnx import helper

from tests.conftest import MODELS, model, node, save, value


def test_inspect_draws_fronts(run, tmp_path: Path) -> None:
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        out = tmp_path / f"fronts{suffix}"
        assert run("inspect", MODELS / "vit_b_16.onnx", "--dtype", "int8", "--plot", out).code == 0
        assert out.read_bytes().startswith(start)
    none = run("inspect", save(tmp_path, model([node("Relu", "x", "y")])), "--plot", tmp_path / "none.png")
    assert (none.code, "has no convolution or matrix product to draw" in none.err) == (2, True)
    assert run("inspect", MODELS / "vit_b_16.onnx", "--plot", tmp_path / "x.jpg").code == 2


def test_modes_in_summary_and_json(run) -> None:
    small = (MODELS / "small" / "resnet8.onnx", "--scratchpad", "8KiB", "--dtype", "int8", "--weights")
    result = run("compile", *small, "--json").json
    assert result["modes"] == ["tile"]
    assert result["host_operators"] == []
    assert 0 < result["streamed_bytes"] <= result["total_bytes"]
    assert result["transfers"] > result["tiles"] > 12
    assert result["smallest_capacity_bytes"] < 8192 < result["working_set_bytes"]
    assert result["belady_bytes"] is None
    text = " ".join(run("compile", *small).out.split())
    for part in (
        f"{result['streamed_bytes']:,} B", f"{result['tiles']:,} tiles, {result['transfers']:,} transfers",
        "modes tile: operands may be streamed, operators tiled (tile assumed: the spec does not say", "all schedules and declared modes",
        f"smallest capacity without host operators {result['smallest_capacity_bytes']:,} B",
    ):  # fmt: skip
        assert part in text, part
    assert "Belady" not in text
    paper = run("compile", small[0], "--scratchpad", "1MiB", "--modes", "paper")
    assert "modes paper: every operand" in " ".join(paper.out.split())
    assert "Belady" in paper.out


def test_operators_on_the_host_are_named(run, tmp_path: Path) -> None:
    odd = helper.make_node("Odd", ["x"], ["h"], name="odd", domain="custom")
    imports = [helper.make_opsetid("custom", 1)]
    ends = [value("x", (64,))], [value("y", (64,))]
    proto = model([odd, node("Relu", "h", "y")], *ends, value_info=[value("h", (64,))], imports=imports)
    path = save(tmp_path, proto)
    result = run("compile", path, "--scratchpad", "100B", "--json").json
    assert (result["host_operators"], result["smallest_capacity_bytes"]) == (["odd"], 512)
    text = " ".join(run("compile", path, "--scratchpad", "100B").out.split())
    assert "host 1 operator runs on the host: odd; none does from 512 B on" in text
    refused = " ".join(run("compile", path, "--scratchpad", "100B", "--modes", "paper").out.split())
    assert (
        "--modes all, which streams and tiles operands: from 512 B on no operator runs on the host; here 1 of them do"
        in refused
    )
