"""Plans of element types that the model does not compute with, run byte by byte without values."""

from dataclasses import replace

import pytest

from cosma.compile import Settings, prepare
from cosma.deadline import Deadline
from cosma.errors import VerificationError
from cosma.execute.run import execute
from cosma.execute.symbolic import Symbolic, content
from cosma.nest import Tiler
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.schedule import replacement
from cosma.schedule.placed import to_plan
from cosma.schedule.timeline import Timeline
from cosma.target.hardware import Hardware
from cosma.target.tiling import modes_of
from tests.conftest import MODELS
from tests.edits import relocated, without

MODEL = Symbolic("of another type")


@pytest.fixture(scope="module")
def tiled() -> tuple[Plan, Problem]:
    """tiny_branches in int8 on 2,000 B: something is streamed, loaded and stored."""
    prepared = prepare(MODELS / "tiny_branches.onnx", Hardware("h", 2000), Settings("int8", "none", True))
    problem = replace(prepared.problem, modes=modes_of(prepared.problem.graph, prepared.problem.memory, Tiler()))
    timeline = Timeline.of(problem, range(len(problem.graph.operators)))
    placed = replacement.optimise(timeline, "cp-sat", Deadline.after(60))
    source = replace(prepared.source, fingerprint=problem.fingerprint())
    return to_plan(placed, placed.bound_bytes, source, "", "", ""), problem


def test_a_valid_plan_runs(tiled: tuple[Plan, Problem]) -> None:
    found = execute(*tiled, MODEL)
    assert found.symbolic == "of another type"
    assert found.difference is None
    assert 0 < found.tiles_run <= found.tiles
    assert found.non_compulsory_bytes == tiled[0].claims.non_compulsory_bytes


def test_whatever_is_moved_out_of_place_is_noticed(tiled: tuple[Plan, Problem]) -> None:
    plan, problem = tiled
    caught = 0
    for tensor in {r.tensor for r in plan.residencies}:
        for by in (-1, 1, 64):
            moved = relocated(plan, tensor, lambda offset, by=by: max(0, offset + by))
            try:
                execute(moved, problem, MODEL)
            except VerificationError:
                caught += 1
    assert caught
    with pytest.raises(VerificationError):
        execute(without(plan, lambda _, i: i.op == "store"), problem, MODEL)


def test_bytes_tell_tensors_and_places_apart() -> None:
    one, other = content(3, 10_000), content(4, 10_000)
    assert one.max() < 0xFF
    assert (one == other).mean() < 0.02
    assert all((one[k:] == one[:-k]).mean() < 0.02 for k in (1, 2, 8, 64, 112, 1000))
