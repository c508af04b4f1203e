"""cosma diff and check."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from cosma.analysis.diff import Change, _moved, diff
from cosma.plan import read_plan
from tests.conftest import MODELS
from tests.edits import relocated

TINY = MODELS / "tiny_branches.onnx"


@pytest.fixture
def plans(run, tmp_path: Path) -> tuple[Path, Path]:
    small, large = tmp_path / "small.json", tmp_path / "large.json"
    for path, size in ((small, "5KiB"), (large, "8KiB")):
        assert run("compile", TINY, "--dtype", "int8", "--scratchpad", size, "--modes", "paper", "-o", path).code == 0
    return small, large


def test_diff_of_a_plan_with_itself_is_empty(run, plans: tuple[Path, Path]) -> None:
    outcome = run("diff", plans[0], plans[0])
    assert (outcome.code, outcome.err) == (0, "")
    assert "no change" in outcome.out
    assert run("diff", plans[0], plans[0], "--json").json["is_empty"] is True


def test_diff_tells_bytes_returns_order_and_addresses(run, plans: tuple[Path, Path]) -> None:
    small, large = map(read_plan, plans)
    found = diff(small, large)
    assert found.same_problem
    assert Change("non_compulsory_bytes", 256, 0) in found.facts
    assert Change("capacity_bytes", 5120, 8192) in found.facts
    assert sum(c.before - c.after for c in found.traffic) == 256  # what is not moved any more, by tensor
    assert all(c.after == 0 for c in found.evictions)
    assert (found.first_change is None) == (small.order == large.order)
    assert "256 -> 0" in run("diff", *plans).out
    moved = small
    for tensor in {r.tensor for r in small.residencies}:
        moved = relocated(moved, tensor, lambda offset: offset + 64)
    elsewhere = diff(small, moved)
    assert set(elsewhere.replaced) == {r.tensor for r in small.residencies}
    assert not elsewhere.facts
    other = replace(small, source=replace(small.source, fingerprint="sha256:0"))
    assert not diff(small, other).same_problem
    assert not diff(small, other).is_empty
    long = max(small.residencies, key=lambda r: r.end - r.start)
    left = [i for i in small.instructions if not (i.op == "drop" and i.tensor == long.tensor)]
    drop = next(i for i in small.instructions if i not in left)
    shorter = replace(small, instructions=(*left, drop))
    assert diff(small, shorter).retimed == (long.tensor,)
    assert not diff(small, shorter).is_empty
    assert not diff(small, replace(small, alignment_bytes=64)).is_empty


def test_moved_operators_are_the_fewest_that_explain_the_change() -> None:
    first, second = list("abcdefg"), list("bcagdfe")
    brute = next(
        size
        for size in range(8)
        if any(
            [x for x in first if x not in gone] == [x for x in second if x not in gone]
            for gone in combinations(first, size)
        )
    )
    moved = _moved(first, second)
    assert len(moved) == brute
    assert [x for x in first if x not in moved] == [x for x in second if x not in moved]
    assert _moved(first, first) == ()
    assert set(_moved(["a", "b"], ["b", "c"])) == {"a", "c"}
    assert _moved([], ["a"]) == ("a",)


def test_check_passes_fails_and_says_why(run, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    args = ["check", TINY, "--dtype", "int8", "--scratchpad", "5KiB"]
    good = run(*args, "--max-traffic", "1MiB", "--max-peak", "5KiB", "-o", summary)
    assert good.code == 0, good.err
    assert good.out == summary.read_text()
    assert "2 of 2 limits met" in good.out
    bad = run(*args, "--max-avoidable", "255B", "--max-peak", "5KiB")
    assert bad.code == 5
    assert "FAILED" in bad.out
    assert "| non_compulsory_bytes | 256 | 255 | exceeded |" in bad.out
    rows = run(*args, "--max-avoidable", "256B", "--json").json["checks"]
    assert [(r["bytes"], r["limit_bytes"], r["passed"]) for r in rows] == [(256, 256, True)]


def test_check_says_where_a_better_plan_may_exist(run) -> None:
    outcome = run(
        "check", TINY, "--dtype", "int8", "--scratchpad", "5KiB", "--max-avoidable", "100B", "--solver", "compact"
    )
    assert outcome.code == 5
    assert "a better plan may exist: the proven bound is 0 B" in outcome.out


def test_check_without_a_plan_is_infeasible(run) -> None:
    outcome = run("check", TINY, "--dtype", "int8", "--scratchpad", "4KiB", "--max-traffic", "1MiB", "--modes", "paper")
    assert outcome.code == 3
    assert "| moved_bytes | no plan | 1,048,576 | not met |" in outcome.out
    assert "needs 5,120 B" in outcome.out
    arena = run(
        "check", TINY, "--dtype", "int8", "--scratchpad", "5KiB", "--max-traffic", "1MiB", "--solver", "best-fit"
    )
    assert (arena.code, "the arena needs" in arena.out) in ((3, True), (0, False))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["check", TINY, "--scratchpad", "8KiB"], "nothing to check"),
        (["check", TINY, "--scratchpad", "8KiB", "--max-traffic", "12"], "--max-traffic: '12' has no unit"),
        (["check", TINY, "--scratchpad", "8KiB", "--max-peak", "1KiB", "-o", "/nowhere/x.md"], "there is no folder"),
        (["check", TINY, "--scratchpad", "8KiB", "--max-peak", "1KiB", "-o", "model.onnx"], "use .md or .txt"),
        (["diff", TINY, TINY], "not a plan, but an ONNX model"),
        (["diff", "missing.json", "missing.json"], "cannot read the plan"),
    ],
)
def test_bad_input_is_one_line(run, args: list, said: str) -> None:
    outcome = run(*args)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_diff_json_is_json(run, plans: tuple[Path, Path]) -> None:
    found = run("diff", *plans, "--json").json
    assert json.dumps(found)
    assert found["is_empty"] is False
