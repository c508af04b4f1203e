"""Valid plans changed in one place, each with what the verifier has to say of it by an oracle of its own.

A mutation is coherent: moves, tables and claims follow from what was changed, so that nothing but the
change itself can be the reason for a rejection.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cosma.errors import CosmaError
from cosma.execute.run import Network, execute
from cosma.plan import Move, Plan, Residency, derive_moves
from cosma.problem import Problem
from cosma.verify import check

KINDS = ("offset shifted", "load dropped", "store dropped", "steps swapped", "residency shortened")


@dataclass(frozen=True)
class Mutant:
    """expected: a phrase that the verifier's reasons must contain, "" where it must accept."""

    kind: str
    plan: Plan
    expected: str


def mutants(plan: Plan, problem: Problem) -> Iterator[Mutant]:
    yield from _shifted(plan, problem)
    yield from _dropped(plan, problem)
    yield from _swapped(plan, problem)
    yield from _shortened(plan, problem)


def _rebuild(plan: Plan, problem: Problem, residencies: list[Residency], moves: tuple[Move, ...] | None = None) -> Plan:
    if moves is None:
        moves = derive_moves(problem, plan.order, residencies)
    total = sum(m.size_bytes for m in moves if m.kind != "drop")
    claims = replace(
        plan.claims,
        status="feasible",
        bound_bytes=0,
        non_compulsory_bytes=max(0, total - problem.compulsory_bytes),
        peak_use_bytes=max((r.offset_bytes + r.size_bytes for r in residencies), default=0),
    )
    ordered = tuple(sorted(residencies, key=lambda r: (r.start, r.tensor)))
    return replace(plan, residencies=ordered, moves=moves, claims=claims)


def _fault(before: tuple[Residency, ...], after: list[Residency], capacity: int) -> str:
    """What is wrong with a table of residencies that was right: looks at every pair that has changed."""
    for i, r in enumerate(after):
        if r == before[i]:
            continue
        if r.offset_bytes + r.size_bytes > capacity:
            return "lies outside"
        for j, q in enumerate(after):
            if i != j and max(r.start, q.start) < min(r.end, q.end):
                if r.tensor == q.tensor:
                    return "already resident"
                ends = r.offset_bytes + r.size_bytes, q.offset_bytes + q.size_bytes
                if max(r.offset_bytes, q.offset_bytes) < min(ends):
                    return "overlaps"
    return ""


def _shifted(plan: Plan, problem: Problem) -> Iterator[Mutant]:
    for i, r in enumerate(plan.residencies):
        for offset in (r.offset_bytes - plan.alignment_bytes, r.offset_bytes + plan.alignment_bytes):
            if offset >= 0:
                changed = list(plan.residencies)
                changed[i] = replace(r, offset_bytes=offset)
                expected = _fault(plan.residencies, changed, problem.memory.capacity_bytes)
                yield Mutant("offset shifted", _rebuild(plan, problem, changed), expected)


def _dropped(plan: Plan, problem: Problem) -> Iterator[Mutant]:
    for i, move in enumerate(plan.moves):
        rest = plan.moves[:i] + plan.moves[i + 1 :]
        if move.kind == "load":
            # Without the load there is no residency, and nothing to drop.
            gone = next(r for r in plan.residencies if (r.tensor, r.start) == (move.tensor, move.step))
            kept = [r for r in plan.residencies if r is not gone]
            rest = tuple(m for m in rest if (m.tensor, m.kind, m.step) != (move.tensor, "drop", gone.end - 1))
            yield Mutant("load dropped", _rebuild(plan, problem, kept, rest), "which is not resident")
        elif move.kind == "store":
            later = any(m.kind == "load" and m.tensor == move.tensor for m in rest)
            expected = "which has no host copy" if later else "is never stored"
            yield Mutant("store dropped", _rebuild(plan, problem, list(plan.residencies), rest), expected)


def _swapped(plan: Plan, problem: Problem) -> Iterator[Mutant]:
    graph = problem.graph
    number = {v.name: i for i, v in enumerate(graph.operators)}
    index = {t.name: a for a, t in enumerate(graph.tensors)}
    order = [number[step.operator] for step in plan.order]
    uses = problem.uses(order)
    for t in range(len(order) - 1):
        swap = {t: t + 1, t + 1: t}
        moved = []
        for r in plan.residencies:
            # A residency lasts from the first to the last of its uses, wherever those are now.
            steps = [swap.get(u, u) for u in uses[index[r.tensor]] if r.start <= u < r.end]
            moved.append(replace(r, start=min(steps), end=max(steps) + 1))
        steps_ = list(plan.order)
        steps_[t], steps_[t + 1] = steps_[t + 1], steps_[t]
        depends = order[t] in graph.predecessors[order[t + 1]]
        expected = "which it depends on" if depends else _fault(plan.residencies, moved, problem.memory.capacity_bytes)
        yield Mutant("steps swapped", _rebuild(replace(plan, order=tuple(steps_)), problem, moved), expected)


def _shortened(plan: Plan, problem: Problem) -> Iterator[Mutant]:
    loaded = {(m.tensor, m.step) for m in plan.moves if m.kind == "load"}
    for i, r in enumerate(plan.residencies):
        is_written = (r.tensor, r.start) not in loaded
        for start, end in ((r.start + 1, r.end), (r.start, r.end - 1)):
            changed = list(plan.residencies)
            if start < end:
                changed[i] = replace(r, start=start, end=end)
            else:
                del changed[i]
            at_write = is_written and (start > r.start or start == end)
            expected = "which has no residency here" if at_write else "which is not resident"
            yield Mutant("residency shortened", _rebuild(plan, problem, changed), expected)


def is_accepted(mutant: Mutant, problem: Problem) -> bool:
    """The verifier's verdict. Raises AssertionError if that or its reason is not the oracle's."""
    violations = check(mutant.plan, problem).violations
    if not mutant.expected:
        assert not violations, f"{mutant.kind}: {violations[0]}"
        return True
    assert any(mutant.expected in v for v in violations), f"{mutant.kind}: {mutant.expected!r} not in {violations}"
    return False


def goes_wrong(mutant: Mutant, problem: Problem, network: Network) -> bool:
    """Whether the machine stops, or finds other bytes than it should."""
    try:
        return execute(mutant.plan, problem, network).difference is not None
    except CosmaError:
        return True


def tally(plan: Plan, problem: Problem, network: Network, every: int = 1) -> Counter[tuple[str, str]]:
    """(kind, verdict) -> how many. All are judged, all that are accepted are run, and must run bit-exactly.

    Of those rejected, every `every`-th of a kind is run too (odd, so that both directions are met): verdict "wrong" if
    the run goes wrong, "harmless" if this one does not; the others are "rejected" and not run.
    """
    counts: Counter[tuple[str, str]] = Counter()
    rejected: Counter[str] = Counter()
    for mutant in mutants(plan, problem):
        verdict = "rejected"
        if is_accepted(mutant, problem):
            assert not goes_wrong(mutant, problem, network), mutant.kind
            verdict = "accepted"
        else:
            if rejected[mutant.kind] % every == 0:
                verdict = "wrong" if goes_wrong(mutant, problem, network) else "harmless"
            rejected[mutant.kind] += 1
        counts[mutant.kind, verdict] += 1
    return counts
