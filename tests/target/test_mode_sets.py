"""--modes: what a list declares, what a machine is known to have, and the problems that come of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from onnx import helper

from cosma.compile import Settings, prepare, solve
from cosma.errors import InputError
from cosma.modes import PAPER
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware, load_hardware
from cosma.target.mode_sets import assumed, parse_modes
from tests.conftest import MODELS, model, node, save, value

ANY = Hardware("any", 1024)
NO_TILES = replace(ANY, name="rigid", modes=(("tile", False),))


def test_lists_of_mode_sets() -> None:
    assert parse_modes("paper", ANY) == ()
    assert parse_modes("all", ANY) == parse_modes("tile", ANY) == parse_modes(" tile ", ANY) == ("tile",)
    assert parse_modes("all", NO_TILES) == ()
    for text, why in (
        ("tiles", "'tiles' is unknown; did you mean 'tile'"),
        ("", "'' is unknown"),
        ("paper,tile", "'all' and 'paper' stand alone"),
        ("all,all", "stand alone"),
    ):
        with pytest.raises(InputError, match=why):
            parse_modes(text, ANY)
    with pytest.raises(InputError, match=r"modes\.tile of 'rigid' is false"):
        parse_modes("tile", NO_TILES)


def test_what_a_machine_has_is_known_or_assumed(tmp_path: Path) -> None:
    spec = tmp_path / "chip.yaml"
    text = "title: Chip\nscratchpad:\n  capacity: {value: 64 KiB, source: here, confirmed: yes}\n"
    for line, modes, guessed in (
        ("", ("tile",), ("tile",)),
        ("modes:\n  tile: {value: true, source: here, confirmed: yes}\n", ("tile",), ()),
        ("modes:\n  tile: {value: false, source: here, confirmed: yes}\n", (), ()),
    ):
        spec.write_text(text + line)
        hardware = load_hardware(str(spec))
        assert parse_modes("all", hardware) == modes
        assert assumed(modes, hardware) == guessed
    spec.write_text(text + "modes:\n  tile: {value: often, source: here, confirmed: yes}\n")
    with pytest.raises(InputError, match=r"modes\.tile"):
        load_hardware(str(spec))


def test_paper_modes_are_the_paper_s_and_tiles_make_every_scratchpad_enough() -> None:
    hardware = Hardware("small", 3000)
    paper = prepare(MODELS / "tiny_branches.onnx", hardware, Settings())
    tiled = prepare(MODELS / "tiny_branches.onnx", hardware, Settings(modes=("tile",)))
    assert set(paper.problem.modes) == {(PAPER,)}
    assert all(modes[0] is PAPER for modes in tiled.problem.modes)
    assert paper.source.fingerprint != tiled.source.fingerprint
    assert solve(paper, hardware, Options()).status == "infeasible"
    found = solve(tiled, hardware, Options())
    assert (found.status, found.plan.source.modes) == ("optimal", ("tile",))


def test_operators_without_a_rule_run_on_the_host(run, tmp_path: Path) -> None:
    """x -> Relu -> Strange of another domain -> Relu: nothing is known of it but shapes, and 64 B do not fit into 48."""
    nodes = [node("Relu", "x", "a", "first"), node("Strange", "a", "b", "odd", domain="somewhere")]
    graph = model(
        [*nodes, node("Relu", "b", "y", "last")], value_info=[value("b")], imports=[helper.make_opsetid("somewhere", 1)]
    )
    path, plan = save(tmp_path, graph), tmp_path / "plan.json"
    found = run("compile", path, "--scratchpad", "48B", "-o", plan, "--json").json
    assert (found["status"], found["total_bytes"]) == ("optimal", 6 * 32)
    assert run("verify", plan, path).code == 0
    assert run("compile", path, "--scratchpad", "64B", "--json").json["total_bytes"] == 64
    outcome = run("compile", path, "--scratchpad", "48B", "--modes", "paper")
    assert (outcome.code, "odd" in outcome.out) == (3, True)
