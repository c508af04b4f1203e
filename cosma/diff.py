"""Two plans side by side: what changed in bytes, in the order, in where tensors lie and when they leave."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from cosma.plan import Plan

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
    at which the orders differ, None if they do not. evictions_before, _after: returns from host memory by tensor where
    these differ. replaced: tensors resident at the same steps as before, at another address.
    """

    same_problem: bool
    facts: tuple[Change, ...]
    traffic: tuple[Change, ...]
    moved_operators: tuple[str, ...]
    first_change: int | None
    evictions: tuple[Change, ...]
    replaced: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the plans do the same at the same addresses."""
        return not (self.facts or self.traffic or self.moved_operators or self.evictions or self.replaced)


def diff(before: Plan, after: Plan) -> Difference:
    """What changed from one plan to another; operators and tensors are told apart by name."""
    first = [step.operator for step in before.order]
    second = [step.operator for step in after.order]
    steps = [t for t, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]]
    if not steps and len(first) != len(second):
        steps = [min(len(first), len(second))]
    return Difference(
        same_problem=before.source.fingerprint == after.source.fingerprint,
        facts=tuple(_facts(before, after)),
        traffic=_changes(_traffic(before), _traffic(after)),
        moved_operators=_moved(first, second),
        first_change=steps[0] if steps else None,
        evictions=_changes(_returns(before), _returns(after)),
        replaced=_replaced(before, after),
    )


def _facts(before: Plan, after: Plan) -> Iterable[Change]:
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in ("hardware", "capacity_bytes", "solver")]
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


def _replaced(before: Plan, after: Plan) -> tuple[str, ...]:
    """Tensors with the same residencies in time and others in space."""
    found: list[dict[str, list[tuple[int, int, int]]]] = []
    for plan in (before, after):
        rows: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for r in sorted(plan.residencies, key=lambda r: r.start):
            rows[r.tensor].append((r.start, r.end, r.offset_bytes))
        found.append(rows)
    first, second = found
    return tuple(
        name
        for name, rows in first.items()
        if rows != second.get(name) and [r[:2] for r in rows] == [r[:2] for r in second.get(name, [])]
    )
