"""Fewer and larger pieces in what a plan leaves: as many bytes, valid, and never more of them."""

from dataclasses import replace

import pytest

from cosma.compile import Prepared, Settings, prepare
from cosma.deadline import Deadline
from cosma.schedule.larger import enlarged
from cosma.schedule.placed import Placed, to_plan, violations
from cosma.solvers import auto
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from cosma.verify import require_valid
from tests.conftest import MODELS


def found(name: str, capacity: int, alignment: int = 1) -> tuple[Placed, Prepared]:
    hardware = Hardware("h", capacity, alignment_bytes=alignment)
    prepared = prepare(MODELS / f"{name}.onnx", hardware, Settings("int8", "pointwise", True, {}, ("tile",)))
    best = auto.solve(prepared.problem, Options(), Deadline.after(60)).best
    assert best is not None
    return best, prepared


def pieces(placed: Placed, prepared: Prepared) -> tuple[int, int]:
    """Tiles and transfers of a plan."""
    plan = to_plan(placed, 0, prepared.source, "", "", "")
    require_valid(replace(plan, claims=replace(plan.claims, status="feasible")), prepared.problem)
    return plan.claims.tiles, plan.claims.transfers


@pytest.mark.parametrize("alignment", [1, 16])
@pytest.mark.parametrize("capacity", [1024, 4096, 16384, 65536])
@pytest.mark.parametrize("name", ["tiny_branches", "small/ds_cnn", "small/resnet8"])
def test_the_same_bytes_in_fewer_pieces(name: str, capacity: int, alignment: int) -> None:
    before, prepared = found(name, capacity, alignment)
    after = enlarged(before)
    assert not violations(after)
    assert after.cost_bytes == before.cost_bytes == after.timeline.cost(after.evicted)
    one, other = pieces(before, prepared), pieces(after, prepared)
    assert other <= one
    assert other[1] <= one[1]


def test_what_fits_is_loaded_at_once() -> None:
    """With room for everything no operator of a plan that moves each byte once is left in pieces."""
    before, prepared = found("small/ds_cnn", 2**20)
    assert before.cost_bytes == 0
    assert pieces(enlarged(before), prepared)[0] == len(prepared.problem.graph.operators)
