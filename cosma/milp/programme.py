"""Integer linear programmes as plain data: columns, rows and an objective, all in integers.

Every formulation states its rules here once; `ortools_backend.py` and `pulp_backend.py` hand the same rows to
the two modelling APIs, so no rule can differ between them. Whatever a solver answers is checked against
the rows in exact arithmetic before anyone uses it.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cosma.deadline import Deadline

_BYTES_A_TERM = 300  # here and in a solver together; measured with CP-SAT, HiGHS and CBC, rounded up
_LOOK_AT_CLOCK = 1 << 10  # rows or columns between two looks

Status = Literal["optimal", "feasible", "infeasible", "unknown", "wrong"]


class ProgrammeTooLargeError(Exception):
    """The programme outgrew the time or the memory allowed before it was complete."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a programme amounts to. root_bound: optimum of its linear relaxation in bytes, None if not computed.

    note: what was asked for and was not to be had in time.
    """

    rows: int
    columns: int
    terms: int
    root_bound: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Solved:
    """What a solver says. values: one integer a column, or None; bound: lower bound on the objective.

    From `backends.solve` bounds are proven, and rests_on says by what: no solver's word alone counts
    (`second_opinion.py`). status "wrong": the values broke a row in exact arithmetic and are not given.
    first_s: seconds to the first solution, where the solver tells. why: what to report besides.
    """

    status: Status
    values: tuple[int, ...] | None = None
    bound: int | None = None
    first_s: float | None = None
    why: str = ""
    rests_on: str = ""


@dataclass(slots=True)
class Programme:
    """Minimise cost . x + offset subject to low <= row . x <= high, x integer between its bounds.

    `hint` may hold values of a known solution by column, `known` is the objective of one that need not be
    stated. Rows carry the name of the rule they state.
    """

    name: str
    deadline: Deadline
    memory_limit_bytes: int = 4 * 2**30
    offset: int = 0
    names: list[str] = field(default_factory=list)
    lows: list[int] = field(default_factory=list)
    highs: list[int] = field(default_factory=list)
    costs: list[int] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    row_lows: list[int | None] = field(default_factory=list)
    row_highs: list[int | None] = field(default_factory=list)
    starts: "array[int]" = field(default_factory=lambda: array("q", [0]))
    columns: "array[int]" = field(default_factory=lambda: array("q"))
    factors: "array[int]" = field(default_factory=lambda: array("q"))
    hint: dict[int, int] = field(default_factory=dict)
    known: int | None = None

    def binary(self, name: str, cost: int = 0) -> int:
        """A new column with values 0 and 1; its number."""
        return self.integer(name, 0, 1, cost)

    def integer(self, name: str, low: int, high: int, cost: int = 0) -> int:
        """A new column with values from low to high; its number. Raises ProgrammeTooLargeError at the limits."""
        self.names.append(name)
        self.lows.append(low)
        self.highs.append(high)
        self.costs.append(cost)
        if len(self.names) % _LOOK_AT_CLOCK == 0:
            self.check_limits()
        return len(self.names) - 1

    def row(self, rule: str, terms: Iterable[tuple[int, int]], low: int | None, high: int | None) -> None:
        """Require low <= sum of factor x column <= high. Raises ProgrammeTooLargeError at the limits."""
        for column, factor in terms:
            self.columns.append(column)
            self.factors.append(factor)
        self.starts.append(len(self.columns))
        self.rules.append(rule)
        self.row_lows.append(low)
        self.row_highs.append(high)
        if len(self.rules) % _LOOK_AT_CLOCK == 0:
            self.check_limits()

    def check_limits(self) -> None:
        """Raise ProgrammeTooLargeError where the time or the memory for building is used up."""
        if self.deadline.passed:
            raise ProgrammeTooLargeError(f"time was up after {len(self.rules):,} rows of the programme")
        if (len(self.columns) + len(self.names)) * _BYTES_A_TERM > self.memory_limit_bytes:
            raise ProgrammeTooLargeError(f"the programme outgrew the memory limit after {len(self.rules):,} rows")

    def at_most(self, rule: str, terms: Iterable[tuple[int, int]], high: int) -> None:
        """Require sum of factor x column <= high."""
        self.row(rule, terms, None, high)

    def at_least(self, rule: str, terms: Iterable[tuple[int, int]], low: int) -> None:
        """Require sum of factor x column >= low."""
        self.row(rule, terms, low, None)

    def equal(self, rule: str, terms: Iterable[tuple[int, int]], value: int) -> None:
        """Require sum of factor x column == value."""
        self.row(rule, terms, value, value)

    @property
    def size(self) -> Size:
        """Rows, columns and non-zero terms."""
        return Size(len(self.rules), len(self.names), len(self.columns))

    def terms(self, row: int) -> tuple["array[int]", "array[int]"]:
        """The columns and factors of a row."""
        start, end = self.starts[row], self.starts[row + 1]
        return self.columns[start:end], self.factors[start:end]

    def objective(self, values: Sequence[int]) -> int:
        """The objective of some values, exactly."""
        return self.offset + sum(c * x for c, x in zip(self.costs, values, strict=True) if c)

    def broken_rule(self, values: Sequence[int]) -> str | None:
        """The first rule that some values break in exact arithmetic, or None."""
        for name, low, x, high in zip(self.names, self.lows, values, self.highs, strict=True):
            if not low <= x <= high:
                return f"{name} = {x} lies outside [{low}, {high}]"
        totals = self._row_totals(values)
        for rule, total, least, most in zip(self.rules, totals, self.row_lows, self.row_highs, strict=True):
            if (least is not None and total < least) or (most is not None and total > most):
                return f"{rule}: {total} lies outside [{least}, {most}]"
        return None

    def _row_totals(self, values: Sequence[int]) -> list[int]:
        """The value of every row, exactly: in 64 bits where that is safe, else in Python's integers."""
        large = max((abs(v) for v in values), default=0) * max((abs(f) for f in self.factors), default=0)
        kind = np.int64 if large * len(self.columns) < 2**62 else object
        products = np.array(self.factors, dtype=kind) * np.array(values, dtype=kind)[np.array(self.columns)]
        sums = np.concatenate((np.zeros(1, kind), np.cumsum(products, dtype=kind)))
        ends = sums[np.array(self.starts)]
        return [int(total) for total in ends[1:] - ends[:-1]]
