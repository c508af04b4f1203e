"""The public functions, as a notebook would use them."""

from pathlib import Path

import pytest

import cosma
from tests.conftest import MODELS

TINY = MODELS / "tiny_branches.onnx"


@pytest.fixture
def solved() -> tuple[cosma.Result, object]:
    hardware = cosma.Hardware("h", 20_480)
    prepared = cosma.prepare(TINY, hardware, cosma.Settings(None, "none", False))
    return cosma.solve(prepared, hardware, cosma.Options()), prepared


def test_a_plan_is_written_read_and_shown(solved, tmp_path: Path) -> None:
    result, _ = solved
    cosma.write_plan(result.plan, tmp_path / "plan.json")
    assert cosma.read_plan(tmp_path / "plan.json") == result.plan
    assert cosma.diff(result.plan, result.plan).is_empty
    html = result._repr_html_()
    assert html == result.plan._repr_html_()
    assert html.count("<rect") == len(result.plan.residencies) + 1
    assert "tiny_branches.onnx on h: optimal" in html


def test_without_a_plan_the_reason_is_shown() -> None:
    hardware = cosma.Hardware("h", 100)
    result = cosma.solve(cosma.prepare(TINY, hardware, cosma.Settings()), hardware, cosma.Options())
    assert result._repr_html_().startswith("<p>infeasible: ")


def test_names_in_pictures_are_escaped() -> None:
    tensors = (cosma.Tensor("<b>&", 4, "input"), cosma.Tensor("y", 4, "output"))
    graph = cosma.Graph("g", tensors, (cosma.Operator("v", "Op", (0,), (1,)),))
    from cosma.deadline import Deadline
    from cosma.plan import Source
    from cosma.schedule.placed import to_plan
    from cosma.schedule.replacement import optimise
    from cosma.schedule.timeline import Timeline

    problem = cosma.Problem(graph, cosma.Memory(8))
    placed = optimise(Timeline.of(problem, range(1)), "cp-sat", Deadline.after(9))
    plan = to_plan(placed, 0, Source("<m>", problem.fingerprint(), None, "none", True, {}), "h", "s", "")
    assert "&lt;b&gt;&amp;: steps 0 to 0" in plan._repr_html_()
    assert "<m>" not in plan._repr_html_()


def test_compare_whatif_report_and_run(solved) -> None:
    result, prepared = solved
    rows = cosma.compare(prepared, ["compact", "auto"], ["M_R", "30KiB"])
    assert [(row.budget, row.solver) for row in rows] == [
        ("M_R", "compact"),
        ("M_R", "auto"),
        ("30KiB", "compact"),
        ("30KiB", "auto"),
    ]
    assert all(row.non_compulsory_bytes >= 0 for row in rows)
    curve = cosma.whatif(prepared, cosma.Hardware("h", 2**20), [20_480, 30_720])
    assert [row.capacity_bytes for row in curve] == [20_480, 30_720]
    assert curve[0].non_compulsory_bytes == result.non_compulsory_bytes
    assert cosma.report(result.plan, prepared).lower().startswith("<!doctype html>")
    larger = cosma.prepare(TINY, cosma.Hardware("h", 30_720), cosma.Settings(None, "none", False))
    with pytest.raises(cosma.InputError, match="bound was proved for less room"):
        cosma.report(result.plan, larger)
    assert cosma.run(result.plan, prepared, TINY).difference is None
    with pytest.raises(cosma.InputError, match="no such solver"):
        cosma.compare(prepared, ["nothing"])
