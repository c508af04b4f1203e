"""Why each eviction of a plan happens: which step binds, what is resident there, what would have to go instead.

All of it is about the plan's own schedule, in which operators run as they do, and counts bytes: an alternative may
still fail for want of a hole of the right size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from cosma.graph import Kind
from cosma.instructions import Schedule, Stay, with_steps
from cosma.schedule.timeline import Timeline

MAX_ALTERNATIVES = 3
_MAX_SETS = 400  # sets of tensors that the search for alternatives looks at, for one eviction


@dataclass(frozen=True, slots=True)
class Occupant:
    """A tensor that is resident at a binding step; next_use: the step it waits for, None for operands."""

    tensor: str
    size_bytes: int
    next_use: int | None


@dataclass(frozen=True, slots=True)
class Alternative:
    """Tensors to evict instead; extra_bytes: how much more non-compulsory traffic that makes."""

    evict: tuple[str, ...]
    extra_bytes: int


@dataclass(frozen=True, slots=True)
class Binding:
    """The step that is shortest of room for the evicted tensor. `steps`: all steps that lack room for it.

    resident_bytes counts the occupants, and workspace_bytes for the operator's workspace and buffers; the tensor would
    exceed the capacity by missing_bytes. `alone`: at one of the steps operator and tensor exceed it by themselves.
    """

    step: int
    operator: str
    resident_bytes: int
    missing_bytes: int
    steps: tuple[int, ...]
    alone: bool
    workspace_bytes: int
    occupants: tuple[Occupant, ...]


@dataclass(frozen=True, slots=True)
class Eviction:
    """`tensor` is out during steps [leaves, returns) and costs load_bytes + store_bytes.

    The store is counted at the first eviction of a tensor, unless what streams it needs the copy before. binding: None
    if no step lacks bytes for it; `hole` is then an address at which it could have stayed, if there is one.
    alternatives: the cheapest sets of other tensors, all other evictions as they are. why: the reason in words.
    """

    tensor: str
    kind: Kind
    size_bytes: int
    leaves: int
    returns: int
    load_bytes: int
    store_bytes: int
    binding: Binding | None
    hole: int | None
    alternatives: tuple[Alternative, ...]
    cost_bytes: int
    why: str


def resident_bytes(stays: Sequence[Stay], timeline: Timeline) -> list[int]:
    """Bytes that are taken at each step: residencies and the operator's workspace."""
    change = [0] * (len(timeline.order) + 1)
    for s in stays:
        change[s.start] += timeline.problem.sizes[s.tensor]
        change[s.end] -= timeline.problem.sizes[s.tensor]
    taken, total = [], 0
    for t in range(len(timeline.order)):
        total += change[t]
        taken.append(total + timeline.problem.buffer_bytes(timeline.effects[t]))
    return taken


def evictions(stays: Sequence[Stay], schedule: Schedule, timeline: Timeline) -> tuple[Eviction, ...]:
    """Every eviction of a valid plan, given its schedule and residencies, by the step at which the tensor leaves."""
    return _Explainer(stays, schedule, timeline).run()


def _sentence(size_bytes: int, capacity_bytes: int, binding: Binding | None, hole: int | None) -> str:
    b = binding
    if b is None and hole is not None:
        return f"No step lacks room for it: it could have stayed, at address {hole:,}."
    if b is None:
        return "No step lacks bytes for it, but no address is free all the time: the bytes that are free lie apart."
    text = (
        f"At step {b.step} ({b.operator}) {b.resident_bytes:,} B of {capacity_bytes:,} B are taken; "
        f"with its {size_bytes:,} B there, {b.missing_bytes:,} B are missing"
    )
    if len(b.steps) > 1:
        text += f", the most of {len(b.steps)} steps that lack room"
    return text + (". No choice of others keeps it: an operator and it alone take too much." if b.alone else ".")


class _Place(NamedTuple):
    """Bytes [offset, offset + size) during steps [start, end), of a tensor, its buffer, or (None) a workspace."""

    tensor: int | None
    start: int
    end: int
    offset: int
    size: int


class _Explainer:
    def __init__(self, stays: Sequence[Stay], schedule: Schedule, timeline: Timeline) -> None:
        self.timeline, self.problem = timeline, timeline.problem
        self.taken = resident_bytes(stays, timeline)
        self.places = [*self._places_of(stays), *self._buffers(schedule)]
        self.fetched: dict[int, list[int]] = {}  # the steps that stream a tensor in
        for t, effects in enumerate(timeline.effects):
            for a in effects.fetched:
                self.fetched.setdefault(a, []).append(t)
        self.sent = {a for effects in timeline.effects for a in effects.sent}
        self.stays: dict[int, list[Stay]] = {}
        for s in sorted(stays, key=lambda s: s.start):
            self.stays.setdefault(s.tensor, []).append(s)
        self.across = self._kept_across()

    def _places_of(self, stays: Sequence[Stay]) -> Iterator[_Place]:
        sizes = self.problem.sizes
        return (_Place(s.tensor, s.start, s.end, s.offset, sizes[s.tensor]) for s in stays if sizes[s.tensor])

    def _buffers(self, schedule: Schedule) -> Iterator[_Place]:
        """The places of buffers and workspaces."""
        for t, i in with_steps(schedule):
            if i.op == "execute":
                sizes = dict(self.timeline.effects[t].buffers)
                for a, offset in i.places:
                    if a in sizes:
                        yield _Place(a, t, t + 1, offset, self.problem.aligned(sizes[a]))

    def _kept_across(self) -> list[list[int]]:
        """For each step the gaps whose tensor stays although the operator there does not use it."""
        across: list[list[int]] = [[] for _ in self.timeline.order]
        for g, gap in enumerate(self.timeline.gaps):
            stays = self.stays[gap.tensor]
            if self.problem.sizes[gap.tensor] and any(r.start <= gap.first and gap.second < r.end for r in stays):
                for t in range(gap.first + 1, gap.second):
                    across[t].append(g)
        return across

    def run(self) -> tuple[Eviction, ...]:
        found = []
        for a, stays in self.stays.items():
            for number, (before, after) in enumerate(pairwise(stays)):
                found.append(self._eviction(a, before, after, number))
        return tuple(sorted(found, key=lambda e: (e.leaves, e.tensor)))

    def _eviction(self, a: int, before: Stay, after: Stay, number: int) -> Eviction:
        problem, size = self.problem, self.problem.sizes[a]
        tensor, steps = problem.graph.tensors[a], range(before.end, after.start)
        excess = {t: self.taken[t] + self._more(a, t) - problem.memory.capacity_bytes for t in steps}
        short = {t: missing for t, missing in excess.items() if missing > 0}
        streams = self.fetched.get(a, [])
        is_stored = problem.needs_store(a) and a not in self.sent
        stored = size if is_stored and number == 0 and not any(t < before.end for t in streams) else 0
        saved = size + sum(dict(self.timeline.effects[t].moved)[a] for t in streams if t in steps)  # by keeping it here
        if is_stored and len(self.stays[a]) == 2 and all(t in steps for t in streams):
            saved += size
        binding = self._binding(a, short) if short else None
        hole = None if short else self._hole(before, after)
        return Eviction(
            tensor.name,
            tensor.kind,
            size,
            before.end,
            after.start,
            load_bytes=size,
            store_bytes=stored,
            binding=binding,
            hole=hole,
            alternatives=self._alternatives(a, short, saved) if short else (),
            cost_bytes=size + stored,
            why=_sentence(size, problem.memory.capacity_bytes, binding, hole),
        )

    def _more(self, a: int, t: int) -> int:
        """Bytes that tensor a takes at a step besides what is taken: its size, less the buffer that it has there."""
        return self.problem.sizes[a] - sum(
            self.problem.aligned(n) for b, n in self.timeline.effects[t].buffers if b == a
        )

    def _binding(self, a: int, short: dict[int, int]) -> Binding:
        step = max(short, key=lambda t: (short[t], -t))
        v, timeline, problem = self.timeline.order[step], self.timeline, self.problem
        effects = timeline.effects[step]
        occupants = []
        for b, stays in self.stays.items():
            if any(r.start <= step < r.end for r in stays):
                waits = None if b in effects.resident else next((t for t in timeline.uses[b] if t > step), None)
                occupants.append(Occupant(problem.graph.tensors[b].name, problem.sizes[b], waits))
        occupants.sort(key=lambda o: (o.next_use is not None, -o.size_bytes, o.tensor))
        return Binding(
            step,
            problem.graph.operators[v].name,
            self.taken[step],
            short[step],
            tuple(short),
            any(timeline.room[t] < self._more(a, t) for t in short),
            problem.buffer_bytes(effects),
            tuple(occupants),
        )

    def _hole(self, before: Stay, after: Stay) -> int | None:
        """The lowest aligned address that is free from the start of one residency to the end of the next."""
        size = self.problem.sizes[before.tensor]
        others = [p for p in self.places if p.start < after.end and p.end > before.start and p.tensor != before.tensor]
        offset = 0
        for p in sorted(others, key=lambda p: p.offset):
            if offset + size <= p.offset:
                break
            offset = max(offset, self.problem.aligned(p.offset + p.size))
        return offset if offset + size <= self.problem.memory.capacity_bytes else None

    def _alternatives(self, a: int, short: dict[int, int], saved: int) -> tuple[Alternative, ...]:
        """The cheapest sets of kept gaps that make room for tensor `a` at the steps that are short.

        Uniform-cost search: a set that does not do yet is extended by whatever is kept across the first
        step still short, and one of those is in every set that does. So sets come out cheapest first.
        """
        gaps, sizes = self.timeline.gaps, self.problem.sizes
        stored = self.timeline.hosted.union(b for b, stays in self.stays.items() if len(stays) > 1)
        queue: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, ())]
        seen: set[tuple[int, ...]] = set()
        found: list[tuple[int, ...]] = []
        rows: list[Alternative] = []
        while queue and len(rows) < MAX_ALTERNATIVES and len(seen) < _MAX_SETS:
            cost, _, chosen = heappop(queue)
            if chosen in seen or any(set(other) <= set(chosen) for other in found):
                continue
            seen.add(chosen)
            step = next((t for t, missing in short.items() if missing > self._freed(chosen, t)), None)
            if step is None:
                found.append(chosen)
                names = tuple(self.problem.graph.tensors[gaps[g].tensor].name for g in chosen)
                rows.append(Alternative(names, cost - saved))
                continue
            for g in self.across[step]:
                b = gaps[g].tensor
                if g not in chosen and b != a:
                    pays = b not in stored and all(gaps[c].tensor != b for c in chosen)
                    price = sizes[b] * (2 if pays else 1)
                    heappush(queue, (cost + price, len(chosen) + 1, tuple(sorted((*chosen, g)))))
        return tuple(rows)

    def _freed(self, chosen: Sequence[int], step: int) -> int:
        gaps = [self.timeline.gaps[g] for g in chosen]
        return sum(self.problem.sizes[gap.tensor] for gap in gaps if gap.first < step < gap.second)
