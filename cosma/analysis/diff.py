"""Two plans side by side: what changed in bytes, in the order, in where tensors lie and when they leave."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from cosma.plan import Plan

_SETTING = ("hardware", "capacity_bytes", "alignment_bytes", "solver")
_FACTS = ("compulsory_bytes", "non_compulsory_bytes", "bound_bytes", "peak_use_bytes", "status")


@dataclass(frozen=True, slots=True)
class Change:
    """One fact of two plans, or the bytes that one tensor moves in them."""

    what: str
    before: int | str
    after: int | str


@dataclass(frozen=True, slots=True)
class Difference:
    """facts: what differs of the claims and the setting. traffic: bytes by tensor, largest change first.

    moved_operators: those that do not keep their place relative to the others, at least. first_change: the first step
    at which the orders differ, None if they do not. evictions: returns from host memory by tensor where these differ.
    retimed: tensors that come or go with other operators. replaced: those that do not, and lie at another address.
    """

    same_problem: bool
    facts: tuple[Change, ...]
    traffic: tuple[Change, ...]
    moved_operators: tuple[str, ...]
    first_change: int | None
    evictions: tuple[Change, ...]
    retimed: tuple[str, ...]
    replaced: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the plans do the same at the same addresses."""
        same_moves = not (self.traffic or self.evictions or self.retimed or self.replaced)
        return self.same_problem and same_moves and not self.facts and self.first_change is None


def diff(before: Plan, after: Plan) -> Difference:
    """What changed from one plan to another; operators and tensors are told apart by name."""
    first = [step.operator for step in before.order]
    second = [step.operator for step in after.order]
    steps = [t for t, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]]
    if not steps and len(first) != len(second):
        steps = [min(len(first), len(second))]
    retimed, replaced = _stays(before, after)
    return Difference(
        same_problem=before.source.fingerprint == after.source.fingerprint,
        facts=tuple(_facts(before, after)),
        traffic=_changes(_traffic(before), _traffic(after)),
        moved_operators=_moved(first, second),
        first_change=steps[0] if steps else None,
        evictions=_changes(_returns(before), _returns(after)),
        retimed=retimed,
        replaced=replaced,
    )


def _facts(before: Plan, after: Plan) -> Iterable[Change]:
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in _SETTING]
    pairs += [(name, getattr(before.claims, name), getattr(after.claims, name)) for name in _FACTS]
    return (Change(*pair) for pair in pairs if pair[1] != pair[2])


def _traffic(plan: Plan) -> Counter[str]:
    moved: Counter[str] = Counter()
    for move in plan.moves:
        if move.kind != "drop":
            moved[move.tensor] += move.size_bytes
    return moved


def _returns(plan: Plan) -> Counter[str]:
    """How often each tensor comes back: its residencies but the first."""
    return Counter(r.tensor for r in plan.residencies) - Counter({r.tensor: 1 for r in plan.residencies})


def _changes(before: Counter[str], after: Counter[str]) -> tuple[Change, ...]:
    found = [Change(name, before[name], after[name]) for name in before | after if before[name] != after[name]]
    return tuple(sorted(found, key=lambda c: (-abs(after[c.what] - before[c.what]), c.what)))


def _moved(first: list[str], second: list[str]) -> tuple[str, ...]:
    """The fewest operators whose removal makes both orders alike: those off a longest increasing subsequence."""
    place = {name: t for t, name in enumerate(second)}
    # Patience sorting: ends[k] is the earliest place at which an increasing run of k + 1 operators ends.
    ends: list[int] = []
    before: dict[int, int] = {}  # place -> the place before it in its run, -1 at the start
    for t in (place[name] for name in first if name in place):
        k = bisect_left(ends, t)
        before[t] = ends[k - 1] if k else -1
        ends[k : k + 1] = [t]
    kept, t = set(), ends[-1] if ends else -1
    while t >= 0:
        kept.add(second[t])
        t = before[t]
    return tuple(name for name in dict.fromkeys((*first, *second)) if name not in kept)


def _residencies(plan: Plan) -> dict[str, list[tuple[str, str, int]]]:
    """For each tensor its residencies in time: the operators with which each begins and ends, and where it lies."""
    found: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for r in sorted(plan.residencies, key=lambda r: r.start):
        begin, end = (plan.order[min(t, len(plan.order) - 1)].operator for t in (r.start, r.end - 1))
        found[r.tensor].append((begin, end, r.offset_bytes))
    return found


def _stays(before: Plan, after: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tensors that are resident between other operators, and tensors that only lie elsewhere."""
    first, second = _residencies(before), _residencies(after)
    changed = [name for name in first if name in second and first[name] != second[name]]
    retimed = {name for name in changed if [r[:2] for r in first[name]] != [r[:2] for r in second[name]]}
    return tuple(n for n in changed if n in retimed), tuple(n for n in changed if n not in retimed)
