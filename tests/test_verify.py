"""The verifier accepts what is valid and names what is not; plans survive their JSON."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings

import cosma
from cosma.compile import Settings, prepare, solve
from cosma.errors import InputError, VerificationError
from cosma.plan import Move, Plan, Step, json_schema, read_plan
from cosma.problem import Problem
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from cosma.verify import check, require_valid
from tests.conftest import MODELS
from tests.strategies import problems

CAPACITY = 8 * 2**20


@pytest.fixture(scope="module")
def prepared():
    # DenseNet-121 in float32 on 8 MiB: one tensor is stored and loaded again.
    return prepare(MODELS / "densenet121.onnx", Hardware("h", CAPACITY, alignment_bytes=128), Settings(fusion="none"))


@pytest.fixture(scope="module")
def plan(prepared) -> Plan:
    result = solve(prepared, Hardware("h", CAPACITY, alignment_bytes=128), Options())
    assert result.plan is not None
    return result.plan


def spilled(plan: Plan) -> str:
    """The tensor that is evicted and comes back."""
    names = [r.tensor for r in plan.residencies]
    return next(n for n in names if names.count(n) == 2)


def without(plan: Plan, drop: Callable[[Move], bool]) -> Plan:
    return replace(plan, moves=tuple(m for m in plan.moves if not drop(m)))


def change(plan: Plan, index: int, **fields: object) -> Plan:
    rows = list(plan.residencies)
    rows[index] = replace(rows[index], **fields)
    return replace(plan, residencies=tuple(rows))


def swap(plan: Plan, t: int) -> Plan:
    order = list(plan.order)
    order[t], order[t + 1] = order[t + 1], order[t]
    return replace(plan, order=tuple(order))


def shift_everywhere(plan: Plan, tensor: str, by: int) -> Plan:
    """Move a tensor consistently: residency, loads, stores and drops."""
    return replace(
        plan,
        residencies=tuple(replace(r, offset_bytes=r.offset_bytes + by) if r.tensor == tensor else r for r in plan.residencies),
        moves=tuple(replace(m, offset_bytes=m.offset_bytes + by) if m.tensor == tensor else m for m in plan.moves),
    )  # fmt: skip


def claim(plan: Plan, **fields: object) -> Plan:
    return replace(plan, claims=replace(plan.claims, **fields))


LAST = "1158"  # DenseNet's output

CORRUPTIONS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "shifted offset": (lambda p: shift_everywhere(p, spilled(p), 128), "overlaps"),
    "offset in the table only": (lambda p: change(p, 5, offset_bytes=p.residencies[5].offset_bytes + 128), "it lies at"),
    "misaligned": (lambda p: shift_everywhere(p, spilled(p), 4), "not aligned to 128 B"),
    "outside the scratchpad": (lambda p: shift_everywhere(p, spilled(p), CAPACITY), "lies outside"),
    "dropped load": (lambda p: without(p, lambda m: m.kind == "load" and m.tensor == spilled(p)), "not resident"),
    "dropped load of the input": (lambda p: without(p, lambda m: m.kind == "load" and m.step == 0), "needs 'input'"),
    "dropped store, load without host copy": (
        lambda p: without(p, lambda m: m.kind == "store" and m.tensor == spilled(p)), "which has no host copy",
    ),
    "missing store of the output": (
        lambda p: without(p, lambda m: m.kind == "store" and m.step == len(p.order) - 1), "is never stored to the host",
    ),
    "missing drop": (lambda p: without(p, lambda m: m.kind == "drop" and m.step == 10), "overlaps|not listed"),
    "swapped steps": (lambda p: swap(p, 20), "which it depends on"),
    "operator left out": (lambda p: replace(p, order=p.order[:-1]), "never runs"),
    "operator twice": (lambda p: replace(p, order=(*p.order, p.order[-1])), "a second time"),
    "unknown operator": (lambda p: replace(p, order=(Step("nobody"), *p.order[1:])), "unknown operator 'nobody'"),
    "unknown mode": (lambda p: replace(p, order=(replace(p.order[0], mode=1), *p.order[1:])), "has no mode 1"),
    "unknown tensor": (
        lambda p: replace(p, moves=(replace(p.moves[0], tensor="nobody"), *p.moves[1:])), "unknown tensor 'nobody'",
    ),
    "overlapping residency": (
        lambda p: shift_everywhere(p, spilled(p), -p.residencies[0].size_bytes // 128 * 128), "overlaps",
    ),
    "residency left out": (lambda p: replace(p, residencies=p.residencies[1:]), "has no residency here"),
    "residency shortened": (lambda p: change(p, 5, end=p.residencies[5].end - 1), "is listed, but the moves"),
    "loaded twice": (lambda p: replace(p, moves=(p.moves[0], *p.moves)), "already resident"),
    "wrong size": (
        lambda p: replace(p, moves=(replace(p.moves[0], size_bytes=128), *p.moves[1:])), "its size is",
    ),
    "move after the end": (
        lambda p: replace(p, moves=(*p.moves, replace(p.moves[-1], step=10**6))), "after the last step",
    ),
    "traffic understated": (lambda p: claim(p, non_compulsory_bytes=0, bound_bytes=0), "the replay counts"),
    "compulsory understated": (lambda p: claim(p, compulsory_bytes=1), "claims compulsory_bytes = 1"),
    "peak understated": (lambda p: claim(p, peak_use_bytes=1), "claims peak_use_bytes = 1"),
    "bound above the traffic": (lambda p: claim(p, bound_bytes=10**9), "exceeds"),
    "optimal without a bound": (lambda p: claim(p, bound_bytes=0), "claimed optimal"),
    "weaker alignment": (lambda p: replace(p, alignment_bytes=64), "the hardware needs 128 B"),
    "another model": (
        lambda p: replace(p, source=replace(p.source, fingerprint="sha256:0")), "is for another model",
    ),
}  # fmt: skip


def test_the_plan_is_valid_and_interesting(plan: Plan, prepared) -> None:
    replay = require_valid(plan, prepared.problem)
    assert replay.non_compulsory_bytes == plan.claims.non_compulsory_bytes == 802816
    assert plan.claims.status == "optimal"
    assert (replay.loads, replay.stores) == (2, 2)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_are_caught(plan: Plan, prepared, name: str) -> None:
    corrupt, complaint = CORRUPTIONS[name]
    with pytest.raises(VerificationError) as error:
        require_valid(corrupt(plan), prepared.problem)
    import re

    assert any(re.search(complaint, violation) for violation in error.value.violations), error.value.violations


def test_smaller_scratchpad_is_noticed(plan: Plan, prepared) -> None:
    violations = check(plan, prepared.problem.with_capacity(plan.claims.peak_use_bytes - 128)).violations
    assert violations
    assert all("lies outside" in v for v in violations)
    assert not check(plan, prepared.problem.with_capacity(plan.claims.peak_use_bytes)).violations


def test_json_round_trip_schema_and_same_bytes(plan: Plan, prepared, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    assert read_plan(path) == plan
    jsonschema.validate(json.loads(plan.to_json()), json_schema())
    again = solve(prepared, Hardware("h", CAPACITY, alignment_bytes=128), Options()).plan
    assert again is not None
    assert again.to_json() == plan.to_json()


def test_published_schema_is_current() -> None:
    published = Path(cosma.__file__).parent / "plan.schema.json"
    assert json.loads(published.read_text()) == json_schema(), "run 'make schema'"
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda d: d.update(schema_version=99), "plan schema version 99 is unknown"),
        (lambda d: d["source"]["dims"].update(n=0), "source.dims.n: Input should be greater than 0"),
        (lambda d: d["source"]["dims"].update(n=10**4000), "source.dims.n: Input should be less than 2147483648"),
        (lambda d: d.pop("schema_version"), "no schema_version"),
        (lambda d: d.pop("order"), "order"),
        (lambda d: d["moves"][0].update(step=-1), r"moves.0.step"),
        (lambda d: d["moves"][0].update(step="0"), r"moves.0.step"),
        (lambda d: d["moves"][0].update(kind="teleport"), r"moves.0.kind"),
        (lambda d: d["claims"].update(compulsory_bytes=2**70), "compulsory_bytes"),
        (lambda d: d.update(surprise=1), "surprise"),
    ],
)
def test_malformed_plans(plan: Plan, tmp_path: Path, edit: Callable[[dict], object], complaint: str) -> None:
    document = json.loads(plan.to_json())
    edit(document)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=complaint) as error:
        read_plan(path)
    assert "\n" not in str(error.value)


def test_listing_shows_every_move_and_step(plan: Plan) -> None:
    lines = list(plan.listing())
    assert len(lines) == len(plan.order) + len(plan.moves)
    for word in ("LOAD", "EXEC", "STORE", "DROP"):
        assert any(f"  {word}" in line for line in lines)


def plan_of(problem: Problem, seconds: float = 60) -> Plan:
    from cosma.compile import Prepared
    from cosma.plan import Source

    hardware = Hardware("h", max(1, problem.memory.capacity_bytes))
    source = Source("random", problem.fingerprint(), None, "none", True, {})
    result = solve(Prepared(None, problem, source), hardware, Options(time_limit_s=seconds))  # type: ignore[arg-type]
    assert result.plan is not None
    return result.plan


@settings(max_examples=150, deadline=None)
@given(problems)
def test_whatever_is_planned_verifies(problem: Problem) -> None:
    plan = plan_of(problem)
    assert not check(plan, problem).violations
    assert not check(plan_of(problem, 0.0), problem).violations


@settings(max_examples=150, deadline=None)
@given(problems)
def test_bounds_and_optima_hold_over_all_schedules(problem: Problem) -> None:
    from tests.oracle import least_traffic

    claims, best = plan_of(problem).claims, least_traffic(problem)
    assert best is not None
    assert claims.bound_bytes <= best <= claims.non_compulsory_bytes
    if claims.status == "optimal":
        assert claims.non_compulsory_bytes == best
