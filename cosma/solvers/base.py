"""What all solvers share: options, results, deadlines."""

import time
from dataclasses import dataclass
from typing import Literal

from cosma.plan import Plan, Status
from cosma.problem import Shortage

Backend = Literal["cp-sat", "highs", "cbc"]
BACKENDS: tuple[Backend, ...] = ("cp-sat", "highs", "cbc")


@dataclass(frozen=True, slots=True)
class Options:
    """backend: who solves the integer programmes. time_limit_s: wall-clock seconds for everything."""

    backend: Backend = "cp-sat"
    time_limit_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment in time.monotonic() seconds."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The moment `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 once passed."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether time is up."""
        return time.monotonic() >= self.at


@dataclass(frozen=True, slots=True)
class Result:
    """The answer for one problem; every plan in here has passed the verifier.

    bound_bytes: proven lower bound on non-compulsory traffic over all schedules. belady_bytes: what
    the exported order costs under Belady's rule, addresses left out. why: one line a reason, best first.
    """

    status: Status
    solver: str
    plan: Plan | None = None
    non_compulsory_bytes: int | None = None
    bound_bytes: int | None = None
    belady_bytes: int | None = None
    shortage: Shortage | None = None
    why: tuple[str, ...] = ()

    @property
    def gap(self) -> float | None:
        """(bytes - bound) / bytes, 0 when proved; None without a plan."""
        if self.non_compulsory_bytes is None or self.bound_bytes is None:
            return None
        excess = self.non_compulsory_bytes - self.bound_bytes
        return excess / self.non_compulsory_bytes if excess else 0.0
