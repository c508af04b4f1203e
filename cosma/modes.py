"""Modes: the ways to run an operator, and what running it in one of them does. No other module interprets a mode.

```
             resident input          streamed input            overwritten input
address ^   +-------------+---      +- - - - - - - +          +------------+
        |   | x           |   ...   : host memory  :          | x          +--------
        |   +-------------+---      +- - +-----+ - +          |            | y, from
        |                                |buf x|              +------------+ here on
        +-------------- step t -->  -----+- t -+----->       ------------ t ------->
```
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cosma.graph import Operator


@dataclass(frozen=True, slots=True)
class Stream:
    """Permission to leave `tensor` in host memory while the operator runs.

    `buffer_bytes` of scratchpad then hold the part in flight, and `moved_bytes` go over the bus: several passes and
    rows that are read twice included, in so many transfers.
    """

    tensor: int
    buffer_bytes: int
    moved_bytes: int
    transfers: int = 1


@dataclass(frozen=True, slots=True)
class Overwrite:
    """`output` is written over `input`, starting `distance_bytes` before it; afterwards the input's copy is gone."""

    output: int
    input: int
    distance_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run an operator. The default is the COSMA paper's: every operand resident, nothing else needed.

    streams: operands that may be streamed, each decided on its own; the others have to be resident. Where a
    streamable operand is resident it is used where it lies, at no cost. workspace_bytes: scratchpad besides operands
    and buffers. overwrites: of operands that are not streamable. tiling: (axis, size) of its tiles, the outermost loop
    first, from which all other numbers follow (`cosma/recount.py`). tiles: how many there are.
    """

    streams: tuple[Stream, ...] = ()
    workspace_bytes: int = 0
    overwrites: tuple[Overwrite, ...] = ()
    tiling: tuple[tuple[str, int], ...] = ()
    tiles: int = 1

    @property
    def is_choice(self) -> bool:
        """Whether it leaves anything to decide, or does more than use its operands where they lie."""
        return bool(self.streams or self.overwrites)


PAPER = Mode()


@dataclass(frozen=True, slots=True)
class Run:
    """How an operator is run: in its mode of this number, with these of its operands streamed."""

    mode: int = 0
    streamed: frozenset[int] = frozenset()


class Effects(NamedTuple):
    """What one run of an operator needs, makes, stores, moves and frees. Tensors by index, sizes in plain bytes.

    needs: inputs that have to be resident. fetched: inputs of which the host has to have a copy. made: outputs that
    are resident from here on. sent: outputs of which the host has a copy from here on, and which are not resident.
    overwrites: of needed inputs, whose resident copies are gone afterwards. buffers: (streamed tensor, or None for
    the workspace, bytes) of the scratchpad for this one step. moved: (streamed tensor, bytes) over the bus.
    """

    needs: tuple[int, ...]
    fetched: tuple[int, ...]
    made: tuple[int, ...]
    sent: tuple[int, ...]
    overwrites: tuple[Overwrite, ...]
    buffers: tuple[tuple[int | None, int], ...]
    moved: tuple[tuple[int, int], ...]

    @property
    def moved_bytes(self) -> int:
        """All that the run moves by itself."""
        return sum(size for _, size in self.moved)

    @property
    def resident(self) -> tuple[int, ...]:
        """All operands that lie in the scratchpad during the step."""
        return (*self.needs, *self.made)


def operands(operator: Operator) -> tuple[int, ...]:
    """All tensors of an operator, inputs first."""
    return operator.inputs + operator.outputs


def effects(operator: Operator, mode: Mode, streamed: Iterable[int] = ()) -> Effects:
    """What running `operator` in `mode` does when these operands are streamed.

    Raises ValueError where the mode cannot stream one of them.
    """
    chosen = frozenset(streamed)
    streams = [s for s in mode.streams if s.tensor in chosen]
    if len(streams) < len(chosen):
        unknown = min(chosen - {s.tensor for s in streams})
        raise ValueError(f"tensor {unknown} cannot be streamed in this mode")
    buffers: list[tuple[int | None, int]] = [(s.tensor, s.buffer_bytes) for s in streams]
    if mode.workspace_bytes:
        buffers.append((None, mode.workspace_bytes))
    if not streams and not buffers and not mode.overwrites:  # most runs, so not to be slow
        return Effects(operator.inputs, (), operator.outputs, (), (), (), ())
    return Effects(
        needs=tuple(a for a in operator.inputs if a not in chosen),
        fetched=tuple(a for a in operator.inputs if a in chosen),
        made=tuple(a for a in operator.outputs if a not in chosen),
        sent=tuple(a for a in operator.outputs if a in chosen),
        overwrites=mode.overwrites,
        buffers=tuple(buffers),
        moved=tuple((s.tensor, s.moved_bytes) for s in streams),
    )


def fault(operator: Operator, mode: Mode) -> str:
    """Why a mode is none of this operator, or "": foreign operands, negative sizes, an operand overwritten twice."""
    streamable = [s.tensor for s in mode.streams]
    written, read = set(operator.outputs), set(operator.inputs)
    over = [(w.output, w.input) for w in mode.overwrites]
    if not set(streamable) <= written | read:
        return "it streams a tensor that is no operand"
    if len(set(streamable)) < len(streamable):
        return "it streams one operand in two ways"
    if min((mode.workspace_bytes, *(min(s.buffer_bytes, s.moved_bytes) for s in mode.streams))) < 0:
        return "it has a negative number of bytes"
    if any(o not in written or i not in read for o, i in over):
        return "it overwrites what is no input, or with what is no output"
    if len({o for o, _ in over}) < len(over) or len({i for _, i in over}) < len(over):
        return "it overwrites one operand twice"
    if {a for pair in over for a in pair} & set(streamable):
        return "it streams an operand that overwrites or is overwritten"
    return ""
