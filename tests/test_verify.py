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
from cosma.plan import Place, Plan, json_schema, read_plan
from cosma.problem import Problem
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from cosma.verify import check, require_valid
from tests.conftest import MODELS
from tests.edits import relocated, without
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


def spoilt(plan: Plan, number: int, **fields: object) -> Plan:
    """The plan with other fields in the instruction of that number, counted from the end where negative."""
    changed = list(plan.instructions)
    changed[number] = replace(changed[number], **fields)
    return replace(plan, instructions=tuple(changed))


def executes(plan: Plan) -> list[int]:
    return [k for k, i in enumerate(plan.instructions) if i.op == "execute"]


def swap(plan: Plan, t: int) -> Plan:
    changed, (one, other) = list(plan.instructions), executes(plan)[t : t + 2]
    changed[one], changed[other] = changed[other], changed[one]
    return replace(plan, instructions=tuple(changed))


def shift_everywhere(plan: Plan, tensor: str, by: int) -> Plan:
    return relocated(plan, tensor, lambda offset: offset + by)


def claim(plan: Plan, **fields: object) -> Plan:
    return replace(plan, claims=replace(plan.claims, **fields))


LAST = "1158"  # DenseNet's output

CORRUPTIONS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "shifted offset": (lambda p: shift_everywhere(p, spilled(p), 128), "overlaps"),
    "offset where it is written only": (
        lambda p: spoilt(p, 1, places=(replace(p.instructions[1].places[0], offset_bytes=128 * 10**4),)), "overlaps|it lies at",
    ),
    "misaligned": (lambda p: shift_everywhere(p, spilled(p), 4), "not aligned to 128 B"),
    "outside the scratchpad": (lambda p: shift_everywhere(p, spilled(p), CAPACITY), "lies outside"),
    "dropped load": (lambda p: without(p, lambda _, i: i.op == "load" and i.tensor == spilled(p)), "not resident"),
    "dropped load of the input": (lambda p: without(p, lambda t, i: i.op == "load" and t == 0), "needs 'input'"),
    "dropped store, load without host copy": (
        lambda p: without(p, lambda _, i: i.op == "store" and i.tensor == spilled(p)), "which has no host copy",
    ),
    "missing store of the output": (
        lambda p: without(p, lambda t, i: i.op == "store" and t == len(p.order) - 1), "is never stored to the host",
    ),
    "missing drop": (lambda p: without(p, lambda t, i: i.op == "drop" and t == 10), "overlaps"),
    "swapped steps": (lambda p: swap(p, 20), "which it depends on"),
    "operator left out": (lambda p: without(p, lambda t, i: i.op == "execute" and t == 300), "never runs"),
    "operator twice": (lambda p: replace(p, instructions=(*p.instructions, p.instructions[executes(p)[-1]])), "a second time"),
    "unknown operator": (lambda p: spoilt(p, 1, operator="nobody"), "unknown operator 'nobody'"),
    "unknown mode": (lambda p: spoilt(p, 1, mode=1), "has no mode 1"),
    "unknown tensor": (lambda p: spoilt(p, 0, tensor="nobody"), "unknown tensor 'nobody'"),
    "unknown output": (
        lambda p: spoilt(p, 1, places=(Place("nobody", 0, 4),)), "step 0: operator .* writes unknown tensor 'nobody'",
    ),
    "another tensor as output": (
        lambda p: spoilt(p, 1, places=(replace(p.instructions[1].places[0], tensor=LAST),)),
        f"which has no place here|has no need of a place for '{LAST}'",
    ),
    "overlapping residency": (
        lambda p: shift_everywhere(p, spilled(p), -p.residencies[0].size_bytes // 128 * 128), "overlaps",
    ),
    "output without a place": (lambda p: spoilt(p, 1, places=()), "which has no place here"),
    "dropped too early": (
        lambda p: replace(p, instructions=(p.instructions[0], p.instructions[2], p.instructions[1], *p.instructions[3:])),
        "needs 'input', which is not resident|drop of .*, which is not resident",
    ),
    "wrong queue": (lambda p: spoilt(p, -1, queue="in"), "drop of '1158': queue is in, it has to be out"),
    "wrong number of tiles": (lambda p: spoilt(p, 1, tiles=2), "tiles is 2, it has to be 1"),
    "tiles miscounted": (lambda p: claim(p, tiles=1), "claims tiles = 1, the replay counts"),
    "transfers miscounted": (lambda p: claim(p, transfers=1), "claims transfers = 1, the replay counts"),
    "streams miscounted": (lambda p: claim(p, streamed_bytes=1), "claims streamed_bytes = 1, the replay counts 0"),
    "loaded twice": (lambda p: replace(p, instructions=(p.instructions[0], *p.instructions)), "already resident"),
    "wrong size": (lambda p: spoilt(p, 0, size_bytes=128), "load of 'input': size_bytes is 128, it has to be 602112"),
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
        (lambda d: d.pop("instructions"), "instructions"),
        (lambda d: d["instructions"][0].update(offset_bytes=-1), r"instructions.0.load.offset_bytes"),
        (lambda d: d["instructions"][0].update(offset_bytes="0"), r"instructions.0.load.offset_bytes"),
        (lambda d: d["instructions"][0].update(op="teleport"), r"instructions.0: Input tag 'teleport'"),
        (lambda d: d.update(schema_version=1), "schema version 1 is unknown; this cosma reads 2: compile again"),
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
