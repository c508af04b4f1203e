"""Plan: when each operator runs, where each tensor lies and what is moved; JSON and a listing of it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cosma.errors import InputError
from cosma.files import read_input, write_atomic
from cosma.graph import DType, Fusion
from cosma.kinds import complain
from cosma.modes import Run
from cosma.picture import Box, picture
from cosma.problem import Problem

SCHEMA_VERSION = 1
_CONFIG = ConfigDict(extra="forbid", strict=True)
Count = Annotated[int, Field(ge=0, lt=2**63)]
Status = Literal["optimal", "feasible", "infeasible"]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Buffer:
    """Scratchpad bytes for one step: the part in flight of a streamed tensor, or the mode's workspace (tensor null)."""

    tensor: str | None
    offset_bytes: Count
    size_bytes: Count

    @property
    def place(self) -> tuple[int, int]:
        """Offset and size."""
        return self.offset_bytes, self.size_bytes


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Step:
    """Step t of the schedule runs `operator` in its mode number `mode`; operands with a buffer are streamed."""

    operator: str
    mode: Count = 0
    buffers: tuple[Buffer, ...] = ()


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Residency:
    """`tensor` occupies [offset, offset + size) bytes of the scratchpad during steps [start, end)."""

    tensor: str
    start: Count
    end: Count
    offset_bytes: Count
    size_bytes: Count


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Move:
    """One transfer. Within a step: loads, then the operator, then stores, then drops, each in list order.

    load: host to scratchpad. store: scratchpad to host. drop: the scratchpad bytes are free from here on.
    """

    step: Count
    kind: Literal["load", "store", "drop"]
    tensor: str
    offset_bytes: Count
    size_bytes: Count


class Schedule(NamedTuple):
    """What a plan does: the operators in their order, where everything lies, and what is moved."""

    order: tuple[Step, ...]
    residencies: tuple[Residency, ...]
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Source:
    """What the plan is for: the model, how it was read, and the digest of the problem that came of it."""

    model: str
    fingerprint: str
    dtype: DType | None
    fusion: Fusion
    weights: bool
    dims: dict[str, Annotated[int, Field(gt=0, lt=2**31)]]


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Claims:
    """What the plan says of itself, in bytes; the verifier recomputes all but the bound.

    peak_use_bytes: one past the highest scratchpad address in use. bound_bytes: a proven lower
    bound on non_compulsory_bytes over all schedules.
    """

    status: Literal["optimal", "feasible"]
    compulsory_bytes: Count
    non_compulsory_bytes: Count
    bound_bytes: Count
    peak_use_bytes: Count


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Plan:
    """A complete, self-describing plan. Equal inputs give equal bytes of JSON."""

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)]
    generator: str
    source: Source
    hardware: str
    capacity_bytes: Count
    alignment_bytes: Count
    solver: str
    claims: Claims
    order: tuple[Step, ...]
    residencies: tuple[Residency, ...]
    moves: tuple[Move, ...]

    @property
    def schedule(self) -> Schedule:
        """What the plan does, without what it is for and what it claims."""
        return Schedule(self.order, self.residencies, self.moves)

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
                boxes.append(Box(title, t, t + 1, b.offset_bytes, b.size_bytes, True))
        return picture(line, len(self.order), self.capacity_bytes, boxes)

    def listing(self) -> Iterator[str]:
        """The plan as a program, one instruction a line, with scratchpad addresses in hexadecimal."""
        width = max(6, len(f"{self.capacity_bytes:x}"))
        before: dict[int, list[Move]] = {}
        after: dict[int, list[Move]] = {}
        for move in self.moves:
            (before if move.kind == "load" else after).setdefault(move.step, []).append(move)
        written = {(r.start, r.tensor): r for r in self.residencies}
        loaded = {(m.step, m.tensor) for m in self.moves if m.kind == "load"}
        fresh: dict[int, list[Residency]] = {}
        for (start, tensor), residency in written.items():
            if (start, tensor) not in loaded:
                fresh.setdefault(start, []).append(residency)

        def address(offset: int, size: int) -> str:
            return f"[{offset:0{width}x}..{offset + size:0{width}x})"

        for t, step in enumerate(self.order):
            for m in before.get(t, []):
                yield f"{t:5}  LOAD   {address(m.offset_bytes, m.size_bytes)}  {m.tensor}  {m.size_bytes} B"
            outputs = "  ".join(f"{address(r.offset_bytes, r.size_bytes)} {r.tensor}" for r in fresh.get(t, []))
            mode = f" (mode {step.mode})" if step.mode else ""
            for b in step.buffers:
                what = "WORK" if b.tensor is None else "STREAM"
                yield f"{t:5}  {what:6} {address(b.offset_bytes, b.size_bytes)}  {b.tensor or ''}".rstrip()
            yield f"{t:5}  EXEC   {step.operator}{mode}  ->  {outputs}"
            for m in after.get(t, []):
                size = f"  {m.size_bytes} B" if m.kind == "store" else ""
                yield f"{t:5}  {m.kind.upper():5}  {address(m.offset_bytes, m.size_bytes)}  {m.tensor}{size}"


_ADAPTER: TypeAdapter[Plan] = TypeAdapter(Plan)


def _stated(row: dict[str, object]) -> dict[str, object]:
    """An entry of a plan as it is written: no list of buffers where a step has none."""
    return {key: value for key, value in row.items() if key != "buffers" or value}


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
    yield from (step.operator for step in plan.order)
    yield from (buffer.tensor for step in plan.order for buffer in step.buffers if buffer.tensor is not None)
    yield from (residency.tensor for residency in plan.residencies)
    yield from (move.tensor for move in plan.moves)


def derive_moves(problem: Problem, order: Sequence[Step], residencies: Sequence[Residency]) -> tuple[Move, ...]:
    """The moves that a schedule and its residencies imply.

    A tensor is loaded where a residency starts, unless its operator writes it there. It is stored if the host needs a
    copy that it has not (an output, or one that is streamed or loaded later): in the first residency, as late as can
    be. It is dropped where a residency ends, unless it is overwritten there.
    """
    index = {t.name: a for a, t in enumerate(problem.graph.tensors)}
    hosted, wanted, overwritten = _host_copies(problem, order)
    seen: set[int] = set()
    residencies = sorted(residencies, key=lambda r: r.start)
    for r in residencies:
        if (a := index[r.tensor]) in seen:
            wanted[a] = min(wanted.get(a, r.start), r.start)
        seen.add(a)
    moves = []
    seen.clear()
    for r in residencies:
        a, last = index[r.tensor], r.end - 1
        is_lost = (a, last) in overwritten
        if a in hosted or a in seen:
            moves.append(Move(r.start, "load", r.tensor, r.offset_bytes, r.size_bytes))
        elif a in wanted or problem.graph.tensors[a].kind == "output":
            step = min(last - is_lost, wanted.get(a, r.end) - 1)
            moves.append(Move(step, "store", r.tensor, r.offset_bytes, r.size_bytes))
        if not is_lost:
            moves.append(Move(last, "drop", r.tensor, r.offset_bytes, r.size_bytes))
        seen.add(a)
    rank = {"load": 0, "store": 1, "drop": 2}
    return tuple(sorted(moves, key=lambda m: (m.step, rank[m.kind], m.tensor)))


def runs_of(problem: Problem, order: Sequence[Step]) -> list[tuple[int, Run]]:
    """The operator of each step and how it runs. Raises KeyError for names that the problem does not have."""
    operators = {v.name: i for i, v in enumerate(problem.graph.operators)}
    index = {t.name: a for a, t in enumerate(problem.graph.tensors)}
    streamed = [frozenset(index[b.tensor] for b in step.buffers if b.tensor is not None) for step in order]
    return [(operators[step.operator], Run(step.mode, s)) for step, s in zip(order, streamed, strict=True)]


def _host_copies(problem: Problem, order: Sequence[Step]) -> tuple[set[int], dict[int, int], set[tuple[int, int]]]:
    """What the steps do to host copies and residencies by themselves.

    Tensors of which the host has a copy without a store; the first step at which others are streamed from it; (tensor,
    step) of what is overwritten.
    """
    hosted = {a for a, tensor in enumerate(problem.graph.tensors) if tensor.is_home}
    wanted: dict[int, int] = {}
    overwritten = set()
    for t, (v, run) in enumerate(runs_of(problem, order) if problem.has_choices else ()):
        effects = problem.effects(v, run)
        hosted.update(effects.sent)
        for a in effects.fetched:
            if a not in hosted:
                wanted.setdefault(a, t)
        overwritten |= {(w.input, t) for w in effects.overwrites}
    return hosted, wanted, overwritten
