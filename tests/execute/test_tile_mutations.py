"""Valid plans with streams and tiles, changed at random: rejected for the right reason, or run bit-exactly."""

import random
import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from cosma.binding import to_names, to_numbers
from cosma.compile import Settings, prepare, solve
from cosma.execute.run import Network, execute
from cosma.instructions import Instruction, Schedule
from cosma.modes import Run
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.solvers.options import Options
from cosma.target.hardware import Hardware
from cosma.verify import check, replay
from tests.conftest import MODELS
from tests.planned import network_of

# What may be said of a plan that was changed in this way.
REASONS = {
    "buffer moved": r"overlaps|lies outside|not aligned",
    "place moved": r"overlaps|lies outside|not aligned|it lies at",
    "place left out": r"which it does not have|which has no place here|which is not resident",
    "operand resident": r"overlaps|which is not resident|which has no place here|has no need|lies outside",
    "another mode": r"overlaps|lies outside|has no need|which it does not have|which has no place here|not resident",
    "store left out": r"which has no host copy|is never stored",
    "load left out": r"which is not resident",
    "exchanged": r"depends on|not resident|no host copy|overlaps|it lies at|already resident",
    "drop left out": r"overlaps|already resident",
    "twice": r"a second time|already resident|which is not resident|overlaps",
}
CASES = [("tiny_branches", 2000), ("tiny_branches", 9000), ("tiny_chain", 3000), ("small/ds_cnn", 9000)]


@cache
def planned(name: str, capacity: int) -> tuple[Plan, Problem, Network]:
    path = MODELS / f"{name}.onnx"
    hardware = Hardware("h", capacity, alignment_bytes=4)
    prepared = prepare(path, hardware, Settings(None, "pointwise", True, {}, ("tile",)))
    plan = solve(prepared, hardware, Options()).plan
    assert plan is not None
    assert plan.claims.streamed_bytes
    return plan, prepared.problem, network_of(path)


def pick(rng: random.Random, schedule: Schedule, *ops: str) -> int | None:
    found = [k for k, i in enumerate(schedule) if i.op in ops]
    return rng.choice(found) if found else None


def changed(rng: random.Random, problem: Problem, schedule: Schedule) -> tuple[str, Schedule] | None:
    """One change of a schedule, None where there is nothing to change in the way that was drawn."""
    kind = rng.choice(list(REASONS))
    left = {"store left out": "store", "load left out": "load", "drop left out": "drop"}
    if kind == "exchanged":
        k = rng.randrange(len(schedule) - 1)
        return kind, (*schedule[:k], schedule[k + 1], schedule[k], *schedule[k + 2 :])
    k = pick(rng, schedule, left[kind]) if kind in left else pick(rng, schedule, "execute")
    if kind == "twice":
        k = rng.randrange(len(schedule))
        return kind, (*schedule[: k + 1], *schedule[k:])
    if k is None:
        return None
    if kind in left:
        return kind, (*schedule[:k], *schedule[k + 1 :])
    new = _executed(rng, problem, schedule[k], kind)
    return None if new is None else (kind, (*schedule[:k], new, *schedule[k + 1 :]))


def _executed(rng: random.Random, problem: Problem, i: Instruction, kind: str) -> Instruction | None:
    """An operator run otherwise."""
    if kind == "another mode":
        mode = rng.randrange(len(problem.modes[i.number]))
        can = {s.tensor for s in problem.modes[i.number][mode].streams}
        return None if mode == i.run.mode else i._replace(run=Run(mode, i.run.streamed & can))
    if kind == "operand resident":
        streamed = sorted(i.run.streamed)
        return i._replace(run=Run(i.run.mode, i.run.streamed - {rng.choice(streamed)})) if streamed else None
    is_buffer = kind == "buffer moved"
    places = [p for p in i.places if kind == "place left out" or (p[0] is None or p[0] in i.run.streamed) == is_buffer]
    if not places:
        return None
    place = rng.choice(places)
    by = rng.choice((-64, -4, -1, 1, 4, 64, 1024))
    moved = () if kind == "place left out" else ((place[0], max(0, place[1] + by)),)
    return i._replace(places=(*(p for p in i.places if p is not place), *moved))


def judge(case: tuple[str, int], seed: int) -> str:
    """One mutant: "accepted", after a run, or "rejected"; the kind of change before it."""
    plan, declared, network = planned(*case)
    problem, schedule, _ = to_numbers(plan, declared)
    found = changed(random.Random(seed), problem, schedule)
    if found is None:
        return "nothing"
    kind, mutant = found
    counted = replay(mutant, problem)
    claims = replace(
        plan.claims, status="feasible", bound_bytes=0,
        non_compulsory_bytes=max(0, counted.non_compulsory_bytes), peak_use_bytes=counted.peak_use_bytes,
        streamed_bytes=counted.streamed_bytes, tiles=counted.tiles, transfers=counted.transfers,
    )  # fmt: skip
    changed_plan = replace(plan, instructions=to_names(mutant, problem), claims=claims)
    violations = check(changed_plan, declared).violations
    if violations:
        assert any(re.search(REASONS[kind], why) for why in violations), (kind, seed, violations)
        return f"{kind}: rejected"
    assert execute(changed_plan, declared, network).difference is None, (kind, seed)
    return f"{kind}: accepted"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_mutants_are_rejected_or_bit_exact(case: tuple[str, int]) -> None:
    found = Counter(judge(case, seed) for seed in range(120))
    assert sum(n for what, n in found.items() if what.endswith("rejected")) > 30
    assert sum(n for what, n in found.items() if what.endswith("accepted")) > 3


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 3500, 250))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_10_000_mutants(case: tuple[str, int], start: int) -> None:
    found = Counter(judge(case, seed) for seed in range(start, start + 250))
    assert any(what.endswith("rejected") for what in found)
