"""What there is to decide at a step of a space with modes, and what was decided."""

from typing import NamedTuple

from cosma.solvers.search.fronts import Front


class Slot(NamedTuple):
    """An operand that the states know: its position, its number, whether it is written, whether it may be streamed."""

    position: int
    tensor: int
    is_written: bool
    is_streamable: bool


class Taken(NamedTuple):
    """A step: the operator, the number of its way, masks of streamed operands and of tensors evicted before."""

    operator: int
    number: int
    streamed: int
    evicted: int


class Choice(NamedTuple):
    """Streamed operands (mask of positions); room that is left to the front; bytes paid; tensors that leave for it."""

    streamed: int
    room: int
    cost: int
    leaving: int


class Group(NamedTuple):
    """Operands that are alike: whether they are inputs that are out, and that nobody reads later; their choices."""

    slots: list[Slot]
    is_out: bool
    is_last: bool
    options: list[Choice]


class Rival(NamedTuple):
    """The same with one operand decided otherwise: its front, more room, more bytes, whether it has to be cheaper."""

    front: Front
    room: int
    cost: int
    strict: bool


def is_better(rival: Rival, room: int, moved: int) -> bool:
    """Whether a rival moves fewer bytes than these with this room left to the front, or as few if that counts."""
    other = rival.front.least(room + rival.room) + rival.cost
    return other < moved or (other == moved and not rival.strict)
