"""What others do: TensorFlow Lite's arena over {exported, smallest peak} x {Belady, greedy ILP}; plain best fit.

None of these looks at schedule, addresses and replacement together. Where the arena does not fit into the
scratchpad there is no plan, and so no traffic to report.
"""

from collections.abc import Callable, Sequence

from cosma.deadline import Deadline
from cosma.problem import Problem
from cosma.schedule.eviction import TooManySumsError, belady, least_bytes
from cosma.schedule.placed import Placed
from cosma.schedule.placement import Block, best_fit
from cosma.schedule.timeline import Timeline
from cosma.solvers.options import Options
from cosma.solvers.outcome import Outcome
from cosma.solvers.programmes.compact import order_of_smallest_peak


def solve(problem: Problem, options: Options, deadline: Deadline) -> Outcome:
    """The baseline that the options name. Requires capacity >= M_R."""
    schedule, rule, arena = BASELINES[options.name]
    order: tuple[int, ...] | None = tuple(range(len(problem.graph.operators)))
    if schedule == "peak":
        order = order_of_smallest_peak(problem, options, deadline)
    if order is None:
        return Outcome(None, 0, "trivial", ("the order of smallest peak was not found within the limits",))
    timeline = Timeline.of(problem, order)
    try:
        evicted = rule(timeline)
    except TooManySumsError as error:
        return Outcome(None, 0, "trivial", (str(error),))
    layout = timeline.layout(evicted)
    blocks = layout.blocks
    offsets = best_fit(blocks, problem.memory, arena(blocks, len(order)))
    top = max((o + b.size_bytes for o, b in zip(offsets, blocks, strict=True)), default=0)
    if top > problem.memory.capacity_bytes:
        why = f"the arena needs {top:,} B, the scratchpad has {problem.memory.capacity_bytes:,} B: fragmentation"
        return Outcome(None, 0, "trivial", (why,))
    best = Placed(timeline, evicted, layout.offsets(offsets), timeline.cost(evicted), 0)
    return Outcome(best, 0, "trivial", ("a fixed rule, no search",), first_s=deadline.elapsed_s)


def arena_order(blocks: Sequence[Block], steps: int) -> list[int]:
    """The order in which TensorFlow Lite's arena places blocks: whole-horizon ones first, then by size descending.

    Equal sizes by first use. Each goes into the tightest gap among those placed that it meets in time.
    Source: tensorflow/lite/arena_planner.cc (CreateTensorAllocationVector) and simple_memory_arena.cc (Allocate).
    """
    whole = [b.start == 0 and b.end == steps for b in blocks]
    return sorted(
        range(len(blocks)), key=lambda i: (0, i) if whole[i] else (1, -blocks[i].size_bytes, blocks[i].start, i)
    )


def _as_they_come(blocks: Sequence[Block], _: int) -> list[int]:
    """What an allocator without foresight does: place blocks when they are first needed."""
    return sorted(range(len(blocks)), key=lambda i: (blocks[i].start, i))


# name -> (schedule, replacement, order of placement)
_Baseline = tuple[str, Callable[[Timeline], frozenset[int]], Callable[[Sequence[Block], int], list[int]]]
BASELINES: dict[str, _Baseline] = {
    "tflite-exported-belady": ("exported", belady, arena_order),
    "tflite-exported-greedy": ("exported", least_bytes, arena_order),
    "tflite-peak-belady": ("peak", belady, arena_order),
    "tflite-peak-greedy": ("peak", least_bytes, arena_order),
    "best-fit": ("exported", belady, _as_they_come),
}
