"""What would lessen the traffic of a plan: more room, operators in place, smaller elements, another order.

Each figure is the exact optimum of replacement for one order under changed circumstances, in bytes alone:
addresses may add to it. The compact programme takes milliseconds, so that dozens of questions are cheap. Other modes
make other orders best: what these are worth is a plan of the default solver, with addresses.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from cosma.analysis.why import Eviction
from cosma.deadline import Deadline
from cosma.frontend.imported import DTYPE_BITS
from cosma.graph import DType
from cosma.milp.backends import DEFAULT_BACKEND
from cosma.modes import Mode
from cosma.nest import Tiler
from cosma.plan import Plan
from cosma.problem import Problem
from cosma.schedule.replacement import solve_programme
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.solvers.registry import solver_for
from cosma.target.in_place import in_place
from cosma.target.mode_sets import MODE_SETS, problem_of
from cosma.units import format_bytes

STEPS_OF_CAPACITY = 3  # how many of the next capacities at which the optimum falls are looked for
_EVICTIONS = 3  # how many of the dearest evictions operators in place are tried for

_STATES = 50_000  # of the search for a plan in other modes

Topic = Literal["addresses", "capacity", "modes", "in-place", "dtype", "order"]


@dataclass(frozen=True, slots=True)
class Lever:
    """A change, and the non-compulsory bytes that are then left; saved_bytes of all, never negative."""

    kind: Topic
    change: str
    non_compulsory_bytes: int
    saved_bytes: int
    assumes: str


def would_help(plan: Plan, timeline: Timeline, evictions: Sequence[Eviction], deadline: Deadline) -> tuple[Lever, ...]:
    """Changes that save bytes, in the order of the module's title; () where nothing but compulsory bytes moves.

    `timeline` is the plan's schedule and `evictions` are its own. What is not solved by the deadline is left out.
    """
    if not plan.claims.non_compulsory_bytes:
        return ()
    return tuple(_Levers(plan, timeline, evictions, deadline).run())


def least_bytes(timeline: Timeline, deadline: Deadline, holds_runs: bool = False) -> int | None:
    """The least non-compulsory bytes of a schedule, addresses ignored; None: does not fit, or out of time.

    holds_runs: operators run as the timeline says, whatever else they could do.
    """
    if min(timeline.room) < 0:
        return None
    found, bound, _ = solve_programme(timeline, frozenset(), (), DEFAULT_BACKEND, deadline, holds_runs)
    cost = None if found is None else found[0].cost(found[1])
    return cost if cost == bound else None


class _Levers:
    def __init__(self, plan: Plan, timeline: Timeline, evictions: Sequence[Eviction], deadline: Deadline) -> None:
        self.plan, self.timeline, self.evictions, self.deadline = plan, timeline, evictions, deadline
        self.problem = timeline.problem
        self.now = self.best = plan.claims.non_compulsory_bytes  # best: of this order, so that others have to beat it

    def run(self) -> Iterator[Lever]:
        here = self._least(self.problem)
        self.best = self.now if here is None else here
        if here is not None and here < self.now:
            yield self._lever("addresses", "the same order, tensors replaced better", here, "addresses allow it")
        if here is not None:
            yield from self._capacities(here)
        yield from self._modes()
        if not self.problem.has_choices:  # with other sizes and orders operators would run otherwise
            yield from self._in_place()
            yield from self._dtypes()
            yield from self._orders()

    def _lever(self, kind: Topic, change: str, then: int, assumes: str) -> Lever:
        return Lever(kind, change, then, self.now - then, assumes)

    def _least(self, problem: Problem, order: Sequence[int] | None = None) -> int | None:
        runs = self.timeline.runs if order is None else problem.runs
        timeline = Timeline(problem, tuple(order or self.timeline.order), runs)
        return least_bytes(timeline, self.deadline, self.problem.has_choices)

    def _capacities(self, here: int) -> Iterator[Lever]:
        """The least capacities at which the optimum falls, by bisection: more room never costs more."""
        peak = max(self.timeline.footprint())
        low, then = self.problem.memory.capacity_bytes, here
        for _ in range(STEPS_OF_CAPACITY):
            high, found = peak, None
            first = low
            while first < high:
                middle = (first + high) // 2
                value = self._least(self.problem.with_capacity(middle))
                if value is None:
                    return
                if value < then:
                    high, found = middle, value
                else:
                    first = middle + 1
            if found is None:
                break
            low, then = high, found
            if low < peak:
                yield self._at_capacity(low, then, "the same order")
        nothing = self.timeline.cost(())
        if nothing < here:
            yield self._at_capacity(peak, nothing, "the same order, whose peak this is: nothing leaves early")

    def _at_capacity(self, capacity: int, then: int, assumes: str) -> Lever:
        more = capacity - self.problem.memory.capacity_bytes
        return self._lever(
            "capacity", f"+{more:,} B (+{format_bytes(more)}) of scratchpad: {capacity:,} B", then, assumes
        )

    def _modes(self) -> Iterator[Lever]:
        """Modes that are not declared, and of the declared ones those with single buffers."""
        tiler = self.problem.tiler
        if not self.plan.source.modes:
            yield from self._planned(tiler, "--modes all", "the hardware can stream and tile operands")
        elif tiler.buffers > 1:
            single = replace(tiler, buffers=1)
            yield from self._planned(single, "double buffering off", "transfers need not overlap with compute")

    def _planned(self, tiler: Tiler, change: str, assumes: str) -> Iterator[Lever]:
        """What the default solver finds in all modes: of any order, and so for everything that moves in all."""
        problem = problem_of(self.problem.graph, self.problem.memory, MODE_SETS, tiler)
        options = Options(state_limit=_STATES)
        best = solver_for(problem, options)(problem, options, self.deadline).best
        if best is None or self.deadline.passed:
            return
        saved = self.problem.compulsory_bytes + self.now - problem.compulsory_bytes - best.cost_bytes
        host = f"; {len(problem.on_host)} operators on the host" if problem.on_host else ""
        if saved > self.now - self.best:
            yield Lever("modes", f"{change}, in any order", best.cost_bytes, saved, assumes + host)

    def _in_place(self) -> Iterator[Lever]:
        """Operators that could write over an operand which dies there: for the dearest evictions, then all."""
        tried: list[dict[int, Mode]] = []
        for e in sorted(self.evictions, key=lambda e: (-e.cost_bytes, e.leaves, e.tensor)):
            changed = self._modes_in_place(e.binding.steps) if e.binding else {}
            if not changed or changed in tried or len(tried) == _EVICTIONS:
                continue
            tried.append(changed)
            names = [self._called(v) for v in changed]
            shown = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
            least = min(self.problem.sizes[mode.overwrites[0].output] for mode in changed.values())
            yield from self._with_modes(changed, f"in place: {shown}; {least:,} B less taken at each such step")
        every = self._modes_in_place(range(len(self.timeline.order)))
        if every not in tried:
            yield from self._with_modes(every, f"in place: all {len(every)} elementwise operators whose operand dies")

    def _modes_in_place(self, steps: Iterable[int]) -> dict[int, Mode]:
        """Operators at these steps that could write over an operand, each with the mode in which it does."""
        changed = {}
        for t in steps:
            v = self.timeline.order[t]
            dying = [a for a in self.problem.graph.operators[v].inputs if self.timeline.uses[a][-1:] == (t,)]
            mode = in_place(self.problem, v, dying)
            if mode is not None:
                changed[v] = mode
        return changed

    def _called(self, v: int) -> str:
        operator = self.problem.graph.operators[v]
        return f"{operator.op_type} {operator.name!r}"

    def _with_modes(self, changed: dict[int, Mode], text: str) -> Iterator[Lever]:
        modes = list(self.problem.modes)
        for v, mode in changed.items():
            modes[v] = (mode,)
        then = self._least(replace(self.problem, modes=tuple(modes)))
        if then is not None and then < self.best:
            yield self._lever("in-place", text, then, "the same order; the hardware can do it in place")

    def _dtypes(self) -> Iterator[Lever]:
        """All tensors with smaller elements, where the element types are known; the flag --dtype does the same."""
        tensors = self.problem.graph.tensors
        if not all(t.dtype for t in tensors):
            return
        names: tuple[DType, ...] = ("float16", "int8")
        before = sum(self.problem.sizes)
        for name in names:
            smaller = tuple(replace(t, size_bytes=prod(t.shape) * DTYPE_BITS[name] // 8) for t in tensors)
            problem = replace(self.problem, graph=replace(self.problem.graph, tensors=smaller))
            if sum(problem.sizes) >= before:
                continue
            before = sum(problem.sizes)
            then = self._least(problem)
            if then is not None and then < self.best:
                yield self._lever("dtype", f"--dtype {name} for all tensors", then, "the same order; accurate enough")

    def _orders(self) -> Iterator[Lever]:
        exported = tuple(range(len(self.timeline.order)))
        if self.plan.claims.status == "optimal" or self.timeline.order == exported:
            return
        then = self._least(self.problem, exported)
        if then is not None and then < self.best:
            yield self._lever("order", "the exported order", then, "addresses allow it")
