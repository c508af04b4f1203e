"""Plans with some of their instructions changed."""

from collections.abc import Callable
from dataclasses import replace

from cosma.plan import Execute, Named, Plan

Change = Callable[[int, Named], Named | None]


def edited(plan: Plan, change: Change) -> Plan:
    """The plan with each instruction (given with its step) as `change` returns it, left out where that is None."""
    changed = (change(t, i) for t, i in plan.with_steps())
    return replace(plan, instructions=tuple(i for i in changed if i is not None))


def without(plan: Plan, leaves: Callable[[int, Named], bool]) -> Plan:
    """The plan without some instructions."""
    return edited(plan, lambda t, i: None if leaves(t, i) else i)


def relocated(plan: Plan, tensor: str, where: Callable[[int], int]) -> Plan:
    """The plan with a tensor elsewhere, in all its residencies: `where` gives the new offset for the old."""

    def change(_: int, i: Named) -> Named:
        if isinstance(i, Execute):
            places = (
                replace(p, offset_bytes=where(p.offset_bytes)) if p.tensor == tensor else p for p in i.places
            )  # fmt: skip
            return replace(i, places=tuple(places))
        return replace(i, offset_bytes=where(i.offset_bytes)) if i.tensor == tensor else i

    return edited(plan, change)
