"""What a run of a solver on a problem came to: a row of `cosma compare` or of `cosma whatif`.

The fields of a kind of row are the columns of its files, in their order.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_origin, get_type_hints

from cosma.errors import InputError

T = TypeVar("T")
Status = Literal["optimal", "feasible", "infeasible", "error", "crashed", "out of memory", "out of time", "interrupted"]
WENT_WRONG = ("error", "crashed")  # statuses of runs that are tried again
Key = Annotated[T, "key"]  # rows that are equal in these columns are of the same run


class _Traffic:
    """Non-compulsory bytes and the proven bound on them: both where there is a plan."""

    __slots__ = ()
    non_compulsory_bytes: int | None
    bound_bytes: int | None

    def __post_init__(self) -> None:
        if self.non_compulsory_bytes is not None and self.bound_bytes is None:
            raise InputError("a row has a plan and no bound")

    @property
    def traffic(self) -> tuple[int, int]:
        """Both, of a row that has a plan."""
        assert self.non_compulsory_bytes is not None
        assert self.bound_bytes is not None
        return self.non_compulsory_bytes, self.bound_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(_Traffic):
    """A row of `cosma compare`: a solver on a problem, and what it took.

    budget: what the capacity was called. rows, columns, terms: of the largest programme. problem: a fingerprint.
    modes, host_operators: as in `Swept`.
    """

    dims: ClassVar[str] = ""  # the columns that only `Swept` has and figures ask for
    hardware: ClassVar[str] = "any"

    model: Key[str]
    dtype: Key[str | None]
    fusion: Key[str]
    weights: Key[bool]
    modes: Key[str]
    budget: str
    capacity_bytes: Key[int]
    alignment_bytes: Key[int]
    solver: Key[str]
    status: Status
    compulsory_bytes: int
    non_compulsory_bytes: int | None = None
    bound_bytes: int | None = None
    gap: float | None = None
    host_operators: int | None = None
    first_s: float | None = None
    proof_s: float | None = None
    seconds: float
    rows: int | None = None
    columns: int | None = None
    terms: int | None = None
    states: int | None = None
    peak_memory_mib: int | None = None
    time_limit_s: Key[float]
    state_limit: Key[int]
    memory_limit_bytes: Key[int]
    problem: Key[str]
    version: Key[str]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept(_Traffic):
    """A row of `cosma whatif`: the least traffic on some hardware, and estimates of what it takes there.

    modes: the sets that were declared. instead: what was set in the spec. spec: a digest of the figures of the
    hardware. problem: a fingerprint. smallest_capacity_bytes: below it some operator fits in no mode, or runs on the
    host. moved_bytes: all traffic, compulsory included; streamed_bytes: what of it goes through buffers; tiles,
    transfers: as a plan claims them. host_operators: how many run on the host. macs: multiply-accumulates, None unless
    all are counted.
    """

    budget: ClassVar[str] = ""  # a column that only `Compared` has and figures ask for

    model: Key[str]
    dims: Key[str]
    dtype: Key[str | None]
    fusion: Key[str]
    weights: Key[bool]
    modes: Key[str]
    hardware: Key[str]
    instead: Key[str]
    spec: Key[str]
    alignment_bytes: Key[int]
    capacity_bytes: Key[int]
    solver: Key[str]
    time_limit_s: Key[float]
    state_limit: Key[int]
    memory_limit_bytes: Key[int]
    problem: Key[str]
    version: Key[str]
    working_set_bytes: int
    smallest_capacity_bytes: int
    status: Status
    compulsory_bytes: int
    non_compulsory_bytes: int | None
    bound_bytes: int | None
    gap: float | None
    moved_bytes: int | None
    streamed_bytes: int | None
    host_operators: int | None
    tiles: int | None
    transfers: int | None
    peak_use_bytes: int | None
    loads: int | None
    stores: int | None
    macs: int | None
    estimate_transfer_s: float | None
    estimate_compute_s: float | None
    estimate_overlapped_s: float | None
    estimate_serial_s: float | None
    estimate_transfer_energy_j: float | None
    why: str


Row = Compared | Swept
KINDS = (Swept, Compared)


_KEYS = {
    kind: [name for name, hint in get_type_hints(kind, include_extras=True).items() if get_origin(hint) is Annotated]
    for kind in KINDS
}


def key_of(row: Row) -> tuple[Any, ...]:
    """Equal for rows of the same run: a rerun skips those that are there."""
    return tuple(getattr(row, name) for name in _KEYS[type(row)])
