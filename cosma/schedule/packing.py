"""Proof that residencies cannot lie side by side, by OR-Tools CP-SAT, asked with and without presolve."""

from collections.abc import Sequence

from cosma.deadline import Deadline
from cosma.milp import cp_sat
from cosma.problem import Memory
from cosma.schedule.placement import Block

_EFFORT = 5.0  # CP-SAT's deterministic seconds
_MOST_BLOCKS = 60


def proved_unplaceable(blocks: Sequence[Block], memory: Memory, deadline: Deadline) -> bool:
    """Whether no offsets at all place the blocks; False if some do, or if the effort did not suffice."""
    solid = [b for b in blocks if b.size_bytes]
    if len(solid) > _MOST_BLOCKS or deadline.passed:
        return False
    from ortools.sat.python import cp_model

    capacity = memory.capacity_bytes // memory.alignment_bytes
    model = cp_model.CpModel()
    times, places = [], []
    for i, block in enumerate(solid):
        size = memory.units(block.size_bytes)
        if size > capacity:
            return True
        offset = model.new_int_var(0, capacity - size, f"offset{i}")
        places.append(model.new_fixed_size_interval_var(offset, size, f"place{i}"))
        times.append(model.new_fixed_size_interval_var(block.start, block.end - block.start, f"time{i}"))
    model.add_no_overlap_2d(times, places)
    for presolve in (True, False):  # one run's word is no proof (`second_opinion.py`)
        _, status = cp_sat.search(model, deadline, effort=_EFFORT, presolve=presolve, relaxations=presolve)
        if status != cp_model.INFEASIBLE:
            return False
    return True
