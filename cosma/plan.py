"""Plan: a schedule in names, what it is for and what it claims; JSON, and what people see of it."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cosma.errors import InputError
from cosma.files import read_input, write_atomic
from cosma.graph import DType, Fusion
from cosma.kinds import complain
from cosma.modes import ModeSet
from cosma.nest import PLAIN_TILES, Tiler
from cosma.picture import Box, picture

SCHEMA_VERSION = 2
_CONFIG = ConfigDict(extra="forbid", strict=True)
Count = Annotated[int, Field(ge=0, lt=2**63)]
Status = Literal["optimal", "feasible", "infeasible"]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Load:
    """Copy a tensor from host memory to [offset, offset + size) of the scratchpad: it is resident from here on."""

    op: Literal["load"]
    queue: Literal["in"]
    tensor: str
    offset_bytes: Count
    size_bytes: Count


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Streaming:
    """Move an operand of the next operator piece by piece through a buffer of the scratchpad while that runs."""

    op: Literal["stream"]
    queue: Literal["in", "out"]
    tensor: str
    offset_bytes: Count
    size_bytes: Count
    moved_bytes: Count
    transfers: Count


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Place:
    """Bytes of the scratchpad: of an output, or of a workspace (tensor null)."""

    tensor: str | None
    offset_bytes: Count
    size_bytes: Count


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Execute:
    """Run `operator` in its mode number `mode`, in so many tiles.

    tiling: (axis, rounds of a tile) of the loops that are cut, the outermost first. places: where outputs lie from here
    on, and the workspace. overwritten: inputs that are gone after it.
    """

    op: Literal["execute"]
    queue: Literal["compute"]
    operator: str
    mode: Count
    tiles: Count
    places: tuple[Place, ...]
    tiling: tuple[tuple[str, Count], ...] = ()
    overwritten: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Store:
    """Copy a resident tensor to host memory."""

    op: Literal["store"]
    queue: Literal["out"]
    tensor: str
    offset_bytes: Count
    size_bytes: Count


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Drop:
    """Free the bytes of a resident tensor, once `queue`, which is the last to use them, has come this far."""

    op: Literal["drop"]
    queue: Literal["compute", "in", "out"]
    tensor: str
    offset_bytes: Count
    size_bytes: Count


Named = Annotated[Load | Streaming | Execute | Store | Drop, Field(discriminator="op")]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Source:
    """What the plan is for: the model, how it was read, and the digest of the problem that came of it.

    modes: which besides the paper's were declared; tiler: what the machine's tiles are like.
    """

    model: str
    fingerprint: str
    dtype: DType | None
    fusion: Fusion
    weights: bool
    dims: dict[str, Annotated[int, Field(gt=0, lt=2**31)]]
    modes: tuple[ModeSet, ...] = ()
    tiler: Tiler = PLAIN_TILES


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Claims:
    """What the plan says of itself, in bytes; the verifier recomputes all but the bound.

    peak_use_bytes: one past the highest scratchpad address in use. bound_bytes: a proven lower
    bound on non_compulsory_bytes over all schedules. streamed_bytes: of all traffic, what goes through buffers; tiles
    and transfers: how many pieces the operators run in, and how many loads, stores and pieces of streams move.
    """

    status: Literal["optimal", "feasible"]
    compulsory_bytes: Count
    non_compulsory_bytes: Count
    bound_bytes: Count
    peak_use_bytes: Count
    streamed_bytes: Count
    tiles: Count
    transfers: Count


class Buffer(NamedTuple):
    """Scratchpad bytes for one step: the part in flight of a streamed tensor, or a workspace (tensor None)."""

    tensor: str | None
    offset_bytes: int
    size_bytes: int
    moved_bytes: int = 0
    transfers: int = 0
    queue: str = ""


class Step(NamedTuple):
    """An operator of the order, how it runs, and its buffers."""

    operator: str
    mode: int
    tiles: int
    buffers: tuple[Buffer, ...]


class Residency(NamedTuple):
    """`tensor` occupies [offset, offset + size) bytes of the scratchpad during steps [start, end)."""

    tensor: str
    start: int
    end: int
    offset_bytes: int
    size_bytes: int


class Move(NamedTuple):
    """A load before the operator of its step, or a store or drop after it."""

    step: int
    kind: Literal["load", "store", "drop"]
    tensor: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, config=_CONFIG)
class Plan:
    """A complete, self-describing plan. Equal inputs give equal bytes of JSON.

    `instructions` are in a total order, each with the queue that carries it out: compute, transfers in or out.
    """

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)]
    generator: str
    source: Source
    hardware: str
    capacity_bytes: Count
    alignment_bytes: Count
    solver: str
    claims: Claims
    instructions: tuple[Named, ...]

    @cached_property
    def order(self) -> tuple[Step, ...]:
        """The operators in their order, with the buffers and the workspace of each."""
        steps, streams = [], list[Buffer]()
        for i in self.instructions:
            if isinstance(i, Streaming):
                streams.append(Buffer(i.tensor, i.offset_bytes, i.size_bytes, i.moved_bytes, i.transfers, i.queue))
            elif isinstance(i, Execute):
                work = [Buffer(None, p.offset_bytes, p.size_bytes) for p in i.places if p.tensor is None]
                steps.append(Step(i.operator, i.mode, i.tiles, (*streams, *work)))
                streams = []
        return tuple(steps)

    @cached_property
    def moves(self) -> tuple[Move, ...]:
        """Loads, stores and drops, in their order."""
        return tuple(
            Move(t, i.op, i.tensor, i.offset_bytes, i.size_bytes)
            for t, i in self.with_steps()
            if isinstance(i, Load | Store | Drop)
        )

    @cached_property
    def residencies(self) -> tuple[Residency, ...]:
        """When each tensor lies where, in the order in which that begins."""
        since: dict[str, tuple[int, int, int]] = {}
        rows = []
        for t, i in self.with_steps():
            if isinstance(i, Load):
                since[i.tensor] = t, i.offset_bytes, i.size_bytes
            elif isinstance(i, Execute):
                for p in i.places:
                    if p.tensor is not None:
                        since[p.tensor] = t, p.offset_bytes, p.size_bytes
            for tensor in (i.tensor,) if isinstance(i, Drop) else getattr(i, "overwritten", ()):
                if tensor in since:
                    start, *place = since.pop(tensor)
                    rows.append(Residency(tensor, start, t + 1, *place))
        end = len(self.order)
        rows += [Residency(tensor, start, end, *place) for tensor, (start, *place) in since.items()]
        return tuple(sorted(rows, key=lambda r: (r.start, r.offset_bytes, r.tensor)))

    def with_steps(self) -> Iterator[tuple[int, Named]]:
        """Each instruction with its step: loads, streams and the operator itself, then stores and drops after it."""
        t = -1
        for i in self.instructions:
            t += isinstance(i, Execute)
            yield (t + 1 if isinstance(i, Load | Streaming) else max(t, 0)), i

    def to_json(self) -> str:
        """The plan as JSON: one line an entry, so that `diff` shows what changed."""
        document = _ADAPTER.dump_python(self, mode="json")
        lines = []
        for key, value in document.items():
            if isinstance(value, list) and value:
                rows = ",\n    ".join(json.dumps(_stated(row)) for row in value)
                lines.append(f"  {json.dumps(key)}: [\n    {rows}\n  ]")
            else:
                lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def _repr_html_(self) -> str:
        """The claims and the memory map, for notebooks."""
        claims = self.claims
        line = (
            f"{self.source.model} on {self.hardware}: {claims.status}, "
            f"{claims.non_compulsory_bytes:,} B non-compulsory (bound {claims.bound_bytes:,} B), "
            f"{claims.compulsory_bytes:,} B compulsory, "
            f"{claims.peak_use_bytes:,} of {self.capacity_bytes:,} B used"
        )
        loaded = {(move.tensor, move.step) for move in self.moves if move.kind == "load"}
        boxes = [
            Box(
                f"{r.tensor}: steps {r.start} to {r.end - 1}, {r.size_bytes:,} B at {r.offset_bytes:,}",
                r.start, r.end, r.offset_bytes, r.size_bytes, (r.tensor, r.start) in loaded,
            )
            for r in self.residencies
        ]  # fmt: skip
        for t, step in enumerate(self.order):
            for b in step.buffers:
                what = "workspace" if b.tensor is None else f"buffer of {b.tensor}"
                title = f"{what}: step {t}, {b.size_bytes:,} B at {b.offset_bytes:,}"
                boxes.append(Box(title, t, t + 1, b.offset_bytes, b.size_bytes, True, is_buffer=True))
        return picture(line, len(self.order), self.capacity_bytes, boxes)

    def listing(self) -> Iterator[str]:
        """The plan as a program, one instruction a line, with scratchpad addresses in hexadecimal."""
        width = max(6, len(f"{self.capacity_bytes:x}"))

        def address(i: Load | Streaming | Place | Store | Drop) -> str:
            return f"[{i.offset_bytes:0{width}x}..{i.offset_bytes + i.size_bytes:0{width}x})"

        for t, i in self.with_steps():
            line = f"{t:5}  {'EXEC' if isinstance(i, Execute) else i.op.upper():6} "
            if isinstance(i, Execute):
                for p in i.places:
                    if p.tensor is None:
                        yield f"{t:5}  WORK   {address(p)}"
                outputs = "  ".join(f"{address(p)} {p.tensor}" for p in i.places if p.tensor is not None)
                mode = f" (mode {i.mode}, {i.tiles:,} tiles)" if i.mode or i.tiles > 1 else ""
                yield f"{line}{i.operator}{mode}  ->  {outputs}".rstrip()
            elif isinstance(i, Streaming):
                arrow = "->" if i.queue == "in" else "<-"
                yield f"{line}{address(i)}  {arrow} {i.tensor}  {i.moved_bytes} B in {i.transfers}"
            else:
                size = "" if isinstance(i, Drop) else f"  {i.size_bytes} B"
                yield f"{line}{address(i)}  {i.tensor}{size}"


_ADAPTER: TypeAdapter[Plan] = TypeAdapter(Plan)


def _stated(row: dict[str, object]) -> dict[str, object]:
    """An entry of a plan as it is written: no empty lists of tiles, nor of what is overwritten."""
    return {key: value for key, value in row.items() if value or key not in ("tiling", "overwritten")}


def write_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan as JSON, all or nothing. Raises InputError where the file cannot be written."""
    write_atomic(Path(path), plan.to_json().encode())


def json_schema() -> dict[str, object]:
    """The JSON Schema (draft 2020-12) of plan files, as published in cosma/plan.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"cosma plan, schema version {SCHEMA_VERSION}",
        **{k: v for k, v in _ADAPTER.json_schema().items() if k != "title"},
    }


def read_plan(path: str | Path) -> Plan:
    """Read a plan file. Raises InputError with one line: unreadable, not JSON, another version, wrong fields."""
    try:
        document = json.loads(read_input(Path(path)))
    except OSError as error:
        raise InputError(f"{path}: cannot read the plan ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        complain(Path(path), "plan")
        raise InputError(f"{path}: not a plan file: no valid JSON ({str(error)[:120]})") from None
    if not isinstance(document, dict) or "schema_version" not in document:
        complain(Path(path), "plan")
        raise InputError(f"{path}: not a plan file: no schema_version; write one with 'cosma compile -o'")
    version = document["schema_version"]
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: plan schema version {version!r} is unknown; this cosma reads {SCHEMA_VERSION}: compile again"
        )
    try:
        # Strict JSON mode: no string passes for a number, but lists stand for tuples.
        plan = _ADAPTER.validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: not a valid plan: {where}: {first['msg']}") from None
    odd = next((name for name in _names(plan) if not name.isprintable()), None)
    if odd is not None:
        raise InputError(f"{path}: not a valid plan: the name {odd[:100]!r} is not printable; compile again")
    return plan


def _names(plan: Plan) -> Iterator[str]:
    yield from (plan.generator, plan.hardware, plan.solver, plan.source.model, *plan.source.dims)
    for i in plan.instructions:
        if isinstance(i, Execute):
            yield from (i.operator, *i.overwritten, *(axis for axis, _ in i.tiling))
            yield from (p.tensor for p in i.places if p.tensor is not None)
        else:
            yield i.tensor
