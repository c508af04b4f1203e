"""Valid plans changed in one place, each with what the verifier has to say of it by an oracle of its own.

A mutation is coherent: moves, tables and claims follow from what was changed, so that nothing but the
change itself can be the reason for a rejection.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cosma.binding import to_names, to_numbers
from cosma.errors import CosmaError
from cosma.execute.run import Network, execute
from cosma.instructions import Schedule, Stay, runs_of, sequence, stays_of, with_steps
from cosma.modes import Run
from cosma.plan import Plan
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
    was = _Tables(plan, problem)
    yield from _shifted(was)
    yield from _dropped(was)
    yield from _swapped(was)
    yield from _shortened(was)


class _Tables:
    """A plan as tables from which its instructions follow."""

    def __init__(self, plan: Plan, problem: Problem) -> None:
        self.plan = plan
        self.problem, self.schedule, faults = to_numbers(plan, problem)
        assert not faults
        self.steps = runs_of(self.schedule)
        self.stays = stays_of(self.schedule, problem)

    def plan_of(self, schedule: Schedule, stays: list[Stay]) -> Plan:
        """A coherent plan with these instructions, whose residencies are known."""
        sizes = self.problem.sizes
        moved = [i for i in schedule if i.op in ("load", "store")]
        claims = replace(
            self.plan.claims,
            status="feasible",
            bound_bytes=0,
            non_compulsory_bytes=max(0, sum(sizes[i.number] for i in moved) - self.problem.compulsory_bytes),
            peak_use_bytes=max((s.offset + sizes[s.tensor] for s in stays), default=0),
            transfers=len(moved),
        )
        return replace(self.plan, instructions=to_names(schedule, self.problem), claims=claims)

    def rebuilt(self, stays: list[Stay], steps: list[tuple[int, Run]] | None = None) -> Plan:
        return self.plan_of(sequence(self.problem, steps or self.steps, stays, {}), stays)

    def fault(self, after: list[Stay]) -> str:
        """What is wrong with residencies that were right: looks at every pair that has changed."""
        sizes = self.problem.sizes
        for i, r in enumerate(after):
            if r == self.stays[i]:
                continue
            if r.offset + sizes[r.tensor] > self.problem.memory.capacity_bytes:
                return "lies outside"
            for j, q in enumerate(after):
                if i != j and max(r.start, q.start) < min(r.end, q.end):
                    if r.tensor == q.tensor:
                        return "already resident"
                    ends = r.offset + sizes[r.tensor], q.offset + sizes[q.tensor]
                    if max(r.offset, q.offset) < min(ends):
                        return "overlaps"
        return ""


def _shifted(was: _Tables) -> Iterator[Mutant]:
    for i, r in enumerate(was.stays):
        for offset in (r.offset - was.plan.alignment_bytes, r.offset + was.plan.alignment_bytes):
            if offset >= 0:
                changed = list(was.stays)
                changed[i] = r._replace(offset=offset)
                yield Mutant("offset shifted", was.rebuilt(changed), was.fault(changed))


def _dropped(was: _Tables) -> Iterator[Mutant]:
    steps = [t for t, _ in with_steps(was.schedule)]
    for k, i in enumerate(was.schedule):
        rest = was.schedule[:k] + was.schedule[k + 1 :]
        if i.op == "load":
            # Without the load there is no residency, and nothing to drop.
            gone = next(s for s in was.stays if (s.tensor, s.start) == (i.number, steps[k]))
            ends = next(n for n in range(k, len(rest)) if rest[n].op == "drop" and rest[n].number == i.number)
            kept = [s for s in was.stays if s is not gone]
            yield Mutant("load dropped", was.plan_of(rest[:ends] + rest[ends + 1 :], kept), "which is not resident")
        elif i.op == "store":
            later = any(j.op == "load" and j.number == i.number for j in rest)
            expected = "which has no host copy" if later else "is never stored"
            yield Mutant("store dropped", was.plan_of(rest, was.stays), expected)


def _swapped(was: _Tables) -> Iterator[Mutant]:
    graph = was.problem.graph
    order = [v for v, _ in was.steps]
    uses = was.problem.uses(order)
    for t in range(len(order) - 1):
        swap = {t: t + 1, t + 1: t}
        moved = []
        for s in was.stays:
            # A residency lasts from the first to the last of its uses, wherever those are now.
            steps = [swap.get(u, u) for u in uses[s.tensor] if s.start <= u < s.end]
            moved.append(s._replace(start=min(steps), end=max(steps) + 1))
        changed = list(was.steps)
        changed[t], changed[t + 1] = changed[t + 1], changed[t]
        depends = order[t] in graph.predecessors[order[t + 1]]
        expected = "which it depends on" if depends else was.fault(moved)
        yield Mutant("steps swapped", was.rebuilt(moved, changed), expected)


def _shortened(was: _Tables) -> Iterator[Mutant]:
    loaded = {(i.number, t) for t, i in with_steps(was.schedule) if i.op == "load"}
    for i, r in enumerate(was.stays):
        is_written = (r.tensor, r.start) not in loaded
        for start, end in ((r.start + 1, r.end), (r.start, r.end - 1)):
            changed = list(was.stays)
            if start < end:
                changed[i] = r._replace(start=start, end=end)
            else:
                del changed[i]
            at_write = is_written and (start > r.start or start == end)
            expected = "which has no place here" if at_write else "which is not resident"
            yield Mutant("residency shortened", was.rebuilt(changed), expected)


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
