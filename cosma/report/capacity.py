"""Rows of `cosma whatif` as tables and as figures: traffic against capacity, and what is worth its bytes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from cosma.hardware import load_hardware, spec_names
from cosma.report.figure import save
from cosma.rows import Row
from cosma.staircase import Step, knee, steps, worth_of_next_kib
from cosma.units import format_bytes, format_si

SERIES = ("model", "dims", "dtype", "fusion", "weights", "solver", "problem", "alignment_bytes")  # one curve each
_SHOWN = 60  # rows of a table on a terminal
_REASONS = 12  # lines of reasons
_CURVE = 3  # capacities that make a curve
_ESTIMATES = (
    "times and energies are estimates: full DRAM bandwidth, full utilisation, figures of the spec; n/a: not there"
)


def series(rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """The rows that have a plan by what the curve is of, the best one of each capacity."""
    found: dict[tuple[Any, ...], dict[int, Row]] = {}
    for row in sorted(rows, key=lambda r: (-(r["non_compulsory_bytes"] or 0), r["bound_bytes"] or 0)):
        if row["non_compulsory_bytes"] is not None:
            found.setdefault(_curve_of(row), {})[row["capacity_bytes"]] = row
    return {key: list(points.values()) for key, points in found.items()}


def _curve_of(row: Row) -> tuple[Any, ...]:
    return tuple(row[column] or None for column in SERIES)  # "" and None are one in a CSV


def labels(keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], str]:
    """A short name for each curve: the model, and whatever is not the same for all of them."""
    varied = [i for i in range(1, len(SERIES)) if SERIES[i] != "problem" and len({key[i] for key in keys}) > 1]
    names = {key: ", ".join([_stem(key[0]), *(_word(SERIES[i], key[i]) for i in varied)]) for key in keys}
    # Files of one name in two folders.
    counts = Counter(names.values())
    which = SERIES.index("problem")
    return {key: f"{name}, problem {key[which]}" if counts[name] > 1 else name for key, name in names.items()}


def _stem(model: str) -> str:
    return model.removesuffix(".onnx")


def _word(column: str, value: Any) -> str:
    if column == "weights":
        return "with weights" if value else "activations"
    if column == "alignment_bytes":
        return f"aligned to {value} B"
    return str(value or ("types as in the file" if column == "dtype" else "dimensions as in the file"))


def corners(rows: Sequence[Row]) -> list[Step]:
    """The staircase of one curve."""
    return steps([(r["capacity_bytes"], r["non_compulsory_bytes"], r["bound_bytes"]) for r in rows])


def print_staircase(console: Console, name: str, rows: Sequence[Row]) -> None:
    """One line a step: capacity, traffic, what the next step costs and saves."""
    found = corners(rows)
    bend, worth = knee(found), [*worth_of_next_kib(found), None]
    proved = sum(step.cost_bytes == step.bound_bytes for step in found)
    console.print(f"{name}: {len(found)} steps, {proved} proved, from {len(rows)} capacities")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("capacity", "", "non-compulsory", "bound", "to the next step", "saves", "a KiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for step, here, there in zip(found, worth, [*found[1:], None], strict=True):
        table.add_row(
            f"{step.capacity_bytes:,} B", "knee" if step == bend else "", f"{step.cost_bytes:,} B",
            "proved" if step.cost_bytes == step.bound_bytes else f"{step.bound_bytes:,} B",
            "" if there is None else f"+{format_bytes(there.capacity_bytes - step.capacity_bytes)}",
            "" if there is None else f"{format_bytes(step.cost_bytes - there.cost_bytes)}",
            "" if here is None else f"{format_bytes(round(here))}",
        )  # fmt: skip
    console.print(table)


def print_points(console: Console, rows: Sequence[Row]) -> None:
    """One line a row: facts in bytes, then what they would take on the hardware."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold", min_width=14)
    table.add_column("hardware", overflow="fold", min_width=20)
    for column in ("capacity", "status", "moved", "avoidable", "transfers", "compute", "energy"):
        table.add_column(column, justify="right", no_wrap=True)
    # What is due to the hardware is not said again.
    names = labels(list({(*_curve_of(row)[:-1], None): None for row in rows}))
    for row in rows[:_SHOWN]:
        table.add_row(
            names[(*_curve_of(row)[:-1], None)], " ".join(filter(None, (row["hardware"], row["instead"]))),
            format_bytes(row["capacity_bytes"]), _status(row),
            *map(_bytes, (row["moved_bytes"], row["non_compulsory_bytes"])),
            format_si(row["estimate_transfer_s"], "s"), format_si(row["estimate_compute_s"], "s"),
            format_si(row["estimate_transfer_energy_j"], "J"),
        )  # fmt: skip
    console.print(table)
    if len(rows) > _SHOWN:
        console.print(f"and {len(rows) - _SHOWN} more rows; -o keeps all of them")
    print_reasons(console, rows)
    console.print(_ESTIMATES)


def print_reasons(console: Console, rows: Sequence[Row]) -> None:
    """Why rows have no plan, each reason once."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["non_compulsory_bytes"] is None:
            reasons.setdefault(f"{_stem(row['model'])}: {row['status']}, {row['why']}", []).append(row["hardware"])
    for reason, hardware in list(reasons.items())[:_REASONS]:
        console.print(f"{reason} ({len(hardware)} rows)")
    if len(reasons) > _REASONS:
        console.print(f"and {len(reasons) - _REASONS} more reasons; -o keeps all of them")


def _status(row: Row) -> str:
    return f"gap {100 * row['gap']:.1f} %" if row["gap"] else str(row["status"])


def _bytes(value: int | None) -> str:
    return "" if value is None else format_bytes(value)


def draw(rows: Sequence[Row], form: str) -> bytes:
    """Curves where there are any, else dots: png, svg or pdf."""
    found = curved(rows)
    return draw_curves(found, form) if found else draw_pareto(rows, form)


def curved(rows: Sequence[Row]) -> list[Row]:
    """The rows of curves: of the same hardware, at enough capacities, not all of the same traffic."""
    points = {(_curve_of(r), r["hardware"], r["capacity_bytes"]) for r in rows if r["non_compulsory_bytes"] is not None}
    counts = Counter((curve, hardware) for curve, hardware, _ in points)
    flat = {key for key, found in series(rows).items() if len(corners(found)) < 2}
    return [r for r in rows if counts[_curve_of(r), r["hardware"]] >= _CURVE and _curve_of(r) not in flat]


def draw_curves(rows: Sequence[Row], form: str) -> bytes:
    """A panel a model: traffic against capacity with bound, knee and chips; below it what the next KiB is worth."""
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(key[0] for key in series(rows)))
    across = min(3, max(1, len(models)))
    down = -(-max(1, len(models)) // across)
    figure = Figure(figsize=(max(8.0, 5.2 * across), 4.6 * down), dpi=120, layout="constrained")
    grid = figure.add_gridspec(2 * down, across, height_ratios=[3, 1] * down)
    for k, model in enumerate(models):
        curve = figure.add_subplot(grid[2 * (k // across), k % across])
        worth = figure.add_subplot(grid[2 * (k // across) + 1, k % across], sharex=curve)
        curves = {key: points for key, points in series(rows).items() if key[0] == model}
        draw_model(curve, worth, curves)
        curve.set_title(_stem(model), fontsize=10)
    return save(figure, form)


def draw_model(curve: Any, worth: Any, curves: Mapping[tuple[Any, ...], Sequence[Row]]) -> None:
    """One model on two matplotlib axes that share capacities."""
    names = labels(list(curves))
    found = {key: corners(points) for key, points in curves.items()}
    low = min(c[0].capacity_bytes for c in found.values())
    high = max(c[-1].capacity_bytes for c in found.values())
    margin = max(1, high - low) * 0.08
    unit, name = _unit(high)
    high_cost = max(c[0].cost_bytes for c in found.values())
    up, up_name = _unit(high_cost)
    for k, (key, line) in enumerate(found.items()):
        at = [step.capacity_bytes / unit for step in line] + [(high + margin) / unit]
        cost = [step.cost_bytes / up for step in line]
        bound = [step.bound_bytes / up for step in line]
        label = names[key].partition(", ")[2] or "least non-compulsory traffic"
        curve.step(at, [*cost, cost[-1]], where="post", color=f"C{k}", label=label)
        curve.fill_between(at, [*bound, bound[-1]], [*cost, cost[-1]], step="post", color=f"C{k}", alpha=0.25)
        bend = knee(line)
        if bend is not None:
            curve.plot(bend.capacity_bytes / unit, bend.cost_bytes / up, "o", color=f"C{k}", label="knee")
        rates = worth_of_next_kib(line)
        worth.step(at[: len(rates) + 1] if rates else [], [*rates, *rates[-1:]], where="post", color=f"C{k}")
    _mark_chips(curve, low, high, margin, unit)
    curve.set_xlim((low - margin) / unit, (high + margin) / unit)
    curve.set_ylim(0, 1.2 * high_cost / up)  # room for the legend
    curve.set_ylabel(f"non-compulsory {up_name}", fontsize=9)
    worth.set_ylabel("bytes saved\nper KiB more", fontsize=8)
    worth.set_xlabel(f"scratchpad ({name})", fontsize=9)
    worth.set_ylim(bottom=0)
    curve.tick_params(labelbottom=False, labelsize=8)
    worth.tick_params(labelsize=8)
    for axes in (curve, worth):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="0.93")
    curve.legend(frameon=False, fontsize=8, loc="upper right")


def _unit(largest: int) -> tuple[int, str]:
    return next((u, n) for u, n in ((2**20, "MiB"), (2**10, "KiB"), (1, "B")) if largest >= 4 * u or u == 1)


def _mark_chips(axes: Any, low: int, high: int, margin: float, unit: int) -> None:
    """Real scratchpads: lines where they lie on the curve, lists of those before and after it."""
    chips = sorted((load_hardware(name).capacity_bytes, name) for name in spec_names())
    inside: dict[int, list[str]] = {}
    for capacity, name in chips:
        if low - margin <= capacity <= high + margin:
            inside.setdefault(capacity, []).append(name)
    for capacity, names in inside.items():
        axes.axvline(capacity / unit, color="0.6", linewidth=0.8, linestyle=":")
        axes.annotate(
            ", ".join(names), (capacity / unit, 0.98), xycoords=("data", "axes fraction"), rotation=90, ha="right",
            va="top", fontsize=7, color="0.35",
        )  # fmt: skip
    before = [name for c, name in chips if c < low - margin]
    after = [name for c, name in chips if c > high + margin]
    text = f"← {_few(before[::-1])}\n→ {_few(after)}"
    axes.annotate(text, (0.0, -0.03), xycoords="axes fraction", va="top", fontsize=6.5, color="0.35", linespacing=1.3)


def _few(names: Sequence[str]) -> str:
    """The nearest chips by name, the rest by number."""
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) + rest) or "no chip of hw_specs"


def draw_pareto(rows: Sequence[Row], form: str) -> bytes:
    """A panel a model: all traffic against capacity, one dot a row; the line joins those that nothing beats in both."""
    from matplotlib.figure import Figure

    planned = [row for row in rows if row["moved_bytes"] is not None]
    models = list(dict.fromkeys(row["model"] for row in planned))
    across = min(4, max(1, len(models)))
    down = -(-max(1, len(models)) // across)
    figure = Figure(figsize=(max(6.0, 3.6 * across), 3.0 * down), dpi=120, layout="constrained")
    kinds = sorted({(row["dtype"] or "", row["weights"]) for row in planned})
    marks: dict[str, Any] = {}
    for k, model in enumerate(models):
        axes = figure.add_subplot(down, across, k + 1)
        mine = [row for row in planned if row["model"] == model]
        for c, (dtype, weights) in enumerate(kinds):
            points = [r for r in mine if (r["dtype"] or "", r["weights"]) == (dtype, weights)]
            at = [r["capacity_bytes"] for r in points], [r["moved_bytes"] for r in points]
            (dots,) = axes.plot(*at, "o", markersize=3.5, color=f"C{c}", alpha=0.7)
            marks[" ".join(filter(None, (dtype, "with weights" if weights else "activations")))] = dots
        best = front(mine)
        axes.step(*zip(*best, strict=True), where="post", color="0.3", linewidth=0.9)
        for point in best:
            names = {r["hardware"] for r in mine if (r["capacity_bytes"], r["moved_bytes"]) == point}
            axes.annotate(min(names), point, (3, 3), textcoords="offset points", fontsize=6, color="0.3")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: format_bytes(round(value)))
        axes.yaxis.set_major_formatter(lambda value, _: format_bytes(round(value)))
        axes.locator_params(numticks=6)
        axes.tick_params(labelsize=6.5)
        axes.set_title(_stem(model), fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(0.12)
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    figure.supxlabel("scratchpad", fontsize=9)
    figure.supylabel("bytes moved, compulsory ones included", fontsize=9)
    return save(figure, form)


def front(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """(capacity, bytes moved) of the rows that no other row beats in both, by capacity."""
    best: list[tuple[int, int]] = []
    for point in sorted({(row["capacity_bytes"], row["moved_bytes"]) for row in rows}):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best
