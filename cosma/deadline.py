"""Deadlines: moments by which something has to be done."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment in time.monotonic() seconds, and the one at which the clock was started."""

    at: float
    started: float = field(default_factory=time.monotonic, compare=False)

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The moment `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def share(self, fraction: float) -> "Deadline":
        """The moment when `fraction` of the time left will have passed."""
        return Deadline(time.monotonic() + self.remaining_s * fraction, self.started)

    def less(self, seconds: float) -> "Deadline":
        """The moment `seconds` before this one."""
        return Deadline(self.at - seconds, self.started)

    def paused(self, seconds: float) -> "Deadline":
        """The same deadline, had the clock stood still for so many seconds."""
        return Deadline(self.at + seconds, self.started + seconds)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the clock was started."""
        return time.monotonic() - self.started

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 once passed."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether time is up."""
        return time.monotonic() >= self.at
