"""Solvers side by side: rows of `cosma compare` as a table, rows of either command as a figure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from cosma.experiments.rows import Compared, Row
from cosma.reports.capacity import Series, curve_of, labels, planned
from cosma.reports.figure import label, save
from cosma.units import format_bytes

_CASES = 80  # that one figure shows
_MARKS = "osD^v<>phH8d"  # shapes that can be told apart when hollow


class Case(NamedTuple):
    """What solvers are compared on; the solver of `workload` is empty."""

    workload: Series
    budget: str
    capacity_bytes: int


def print_table(console: Console, rows: Sequence[Compared]) -> None:
    """One line a run, grouped by model and budget; the least traffic of each group is marked."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold", min_width=12)
    for column in ("budget", "solver", "status"):
        table.add_column(column, no_wrap=True)
    for column in ("bytes", "bound", "gap", "first", "proof", "terms", "MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    before, names = None, _names(rows)
    for row in rows:
        case = _case(row)
        if before not in (None, case):
            table.add_section()
        size = f"{row.budget} {row.capacity_bytes:,}" if row.budget.startswith("M_") else row.budget
        cost = row.non_compulsory_bytes
        mark = "*" if cost is not None and cost == _least(rows, case) else " "
        table.add_row(
            "" if before == case else names[case], "" if before == case else size, row.solver, row.status,
            _count(cost) + mark, _count(row.bound_bytes),
            "" if row.gap is None else f"{100 * row.gap:.1f} %", _seconds(row.first_s),
            _seconds(row.proof_s) or f"(>{_seconds(row.seconds)})", _count(row.terms),
            _count(row.peak_memory_mib),
        )  # fmt: skip
        before = case
    console.print(table)
    console.print(
        "* least non-compulsory bytes; first, proof: seconds to the first plan and to the proof, (>end) without one"
    )
    notes: dict[str, list[str]] = {}
    for row in rows:
        if row.status not in ("optimal", "feasible") and row.why:
            notes.setdefault(row.why, []).append(f"{names[_case(row)]} {row.budget} {row.solver}")
    for why, runs in notes.items():
        console.print(f"{', '.join(runs)}: {why}")


def _case(row: Row) -> Case:
    return Case(curve_of(row)._replace(solver=""), row.budget, row.capacity_bytes)


def _names(rows: Sequence[Row]) -> dict[Case, str]:
    """A name for each case: its model and whatever differs between cases; +weights where all count them."""
    cases = list(dict.fromkeys(map(_case, rows)))
    names = labels(list(dict.fromkeys(case.workload for case in cases)))
    always = " +weights" if all(row.weights for row in rows) else ""
    return {case: names[case.workload] + always for case in cases}


def _least(rows: Sequence[Row], case: Case) -> int | None:
    known = [r.non_compulsory_bytes for r in rows if _case(r) == case and r.non_compulsory_bytes is not None]
    return min(known, default=None)


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def draw(rows: Sequence[Row], form: str) -> bytes:
    """One line a case, a mark a solver: traffic on the left, seconds, if known, on the right; png, svg or pdf."""
    from matplotlib.figure import Figure

    names, solvers = _names(rows), list(dict.fromkeys(row.solver for row in rows))
    cases = sorted(names, key=lambda case: not _differs(rows, case))[:_CASES] if len(names) > _CASES else list(names)
    rows = [row for row in rows if _case(row) in cases]
    timed = any(isinstance(row, Compared) for row in rows)
    height = 1.4 + len(cases) * (0.14 + 0.045 * len(solvers))
    figure = Figure(figsize=(12, height), dpi=120, layout="constrained")
    every = figure.subplots(1, 1 + timed, sharey=True, squeeze=False, width_ratios=[3, 1.3][: 1 + timed])[0]
    traffic = every[0]
    for k, solver in enumerate(solvers):
        spread = 0.7 * (k / max(1, len(solvers) - 1) - 0.5)  # so that equal results lie side by side
        style = {"marker": _MARKS[k % len(_MARKS)], "linestyle": "none", "markersize": 4.5, "color": f"C{k % 10}"}
        mine = [(row, cases.index(_case(row)) + spread) for row in rows if row.solver == solver]
        _draw_traffic(traffic, mine, rows, {**style, "label": label(solver)})
        if timed:
            _draw_seconds(every[1], mine, style)
    _draw_bounds(traffic, rows, cases)
    budgets = {case: case.budget or f"at {format_bytes(case.capacity_bytes)}" for case in cases}
    traffic.set_yticks(range(len(cases)), [label(f"{names[case]} {budgets[case]}") for case in cases], fontsize=8)
    traffic.set_ylim(len(cases) - 0.4, -0.6)
    if len(cases) < len(names):
        traffic.set_ylabel(f"{len(cases)} of {len(names)} cases, first those in which solvers differ")
    for axes in every:
        axes.grid(axis="x", color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", labelsize=8)
    traffic.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=8)
    return save(figure, form)


def compared(rows: Sequence[Row]) -> list[Row]:
    """The rows of cases with a plan on which more than one solver was run, and all rows of `compare`."""
    solvers: dict[Case, set[str]] = {}
    for row in rows:
        solvers.setdefault(_case(row), set()).add(row.solver)
    solved = {_case(row) for row in planned(rows)}
    chosen = {case for case, names in solvers.items() if len(names) > 1 and case in solved}
    return [row for row in rows if isinstance(row, Compared) or _case(row) in chosen]


def _differs(rows: Sequence[Row], case: Case) -> bool:
    return len({row.non_compulsory_bytes for row in rows if _case(row) == case}) > 1


def _draw_traffic(axes: Any, mine: list[tuple[Row, float]], rows: Sequence[Row], style: dict[str, Any]) -> None:
    """Bytes as per cent of the most that any solver moves in the case; no plan at the right edge."""
    plans = [(100 * r.traffic[0] / _most(rows, _case(r)), y) for r, y in mine if r.non_compulsory_bytes is not None]
    axes.plot([share for share, _ in plans], [y for _, y in plans], zorder=2, **style)
    none = [y for r, y in mine if r.non_compulsory_bytes is None]
    axes.plot([110] * len(none), none, fillstyle="none", **{**style, "label": None})


def _draw_seconds(axes: Any, mine: list[tuple[Row, float]], style: dict[str, Any]) -> None:
    """When a solver had its proof, or ended without one."""
    for fill, proved in (("full", True), ("none", False)):
        chosen = [(r, y) for r, y in mine if isinstance(r, Compared) and (r.proof_s is not None) == proved]
        axes.plot(
            [max(1e-3, r.proof_s or r.seconds) for r, _ in chosen], [y for _, y in chosen],
            fillstyle=fill, **style,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("seconds; filled: to the proof, hollow: none")


def _draw_bounds(axes: Any, rows: Sequence[Row], cases: Sequence[Case]) -> None:
    """The best bound of each case as a bar, and the axis of the traffic."""
    for y, case in enumerate(cases):
        bound = max((r.bound_bytes or 0 for r in rows if _case(r) == case), default=0)
        axes.plot([100 * bound / _most(rows, case)] * 2, [y - 0.4, y + 0.4], color="0.35", linewidth=2, zorder=1)
    axes.set_xlim(-2, 114)
    axes.axvline(105, color="0.8", linewidth=0.8)
    axes.set_xticks([0, 20, 40, 60, 80, 100, 110], ["0", "20", "40", "60", "80", "100", "no plan"])
    axes.set_xlabel("non-compulsory bytes, % of the most that any solver moves there\nbar: best proven bound")


def _most(rows: Sequence[Row], case: Case) -> int:
    return max((r.non_compulsory_bytes or 0 for r in rows if _case(r) == case), default=0) or 1
