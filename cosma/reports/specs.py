"""Hardware specs as text for a terminal."""

from rich.console import Console
from rich.table import Table

from cosma.target.hardware import Hardware
from cosma.target.spec import Figure, keys

_MARKS = {"yes": "", "secondary": " ~", "no": " ?"}
_SURENESS = list(_MARKS)


def print_specs(console: Console, specs: list[Hardware]) -> None:
    """One line a spec; `~` marks second-hand figures, `?` unconfirmed ones."""
    table = Table(box=None)
    table.add_column("spec", overflow="fold")
    for column in ("capacity", "×", "alignment", "weights", "bandwidth", "energy", "compute", "fusion"):
        table.add_column(column, justify="right", no_wrap=True)
    for spec in specs:
        figures = dict(spec.figures)
        count = figures.get("scratchpad.instances")
        table.add_row(
            spec.name,
            _cell(figures["scratchpad.capacity"]),
            _cell(count) if count else "",
            *(_cell(figures.get(f"scratchpad.{key}")) for key in ("alignment", "holds_weights")),
            *(_cell(figures.get(f"dram.{key}")) for key in ("bandwidth", "energy")),
            _compute(spec, figures),
            _cell(figures.get("compute.fusion")),
        )
    console.print(table)
    console.print("~ second-hand   ? unconfirmed   × how many the chip has   sources: cosma specs NAME")


def _cell(figure: Figure | None) -> str:
    return "n/a" if figure is None else f"{_value(figure)}{_MARKS[figure.confirmed]}"


def _value(figure: Figure) -> str:
    return str(figure.value).lower() if isinstance(figure.value, bool) else str(figure.value)


def _compute(spec: Hardware, figures: dict[str, Figure]) -> str:
    """Multiply-accumulates a second, as sure as the least sure figure behind them, or else what is known."""
    if spec.macs_per_s is None:
        return _cell(figures.get("compute.rate"))
    used = [f for key in ("compute.rate", "compute.clock") if (f := figures.get(key)) is not None]
    if len(used) < 2:
        used = [figures["compute.peak"]]
    sureness = max((f.confirmed for f in used), key=_SURENESS.index)
    billions = spec.macs_per_s / 1e9
    return (
        f"{billions:,.0f} GMAC/s{_MARKS[sureness]}" if billions >= 100 else f"{billions:.3g} GMAC/s{_MARKS[sureness]}"
    )


def print_keys(console: Console) -> None:
    """Every key of a spec file: what it means, and examples of its value."""
    table = Table(box=None)
    for column in ("key", "what it means", "e.g."):
        table.add_column(column, overflow="fold", no_wrap=column == "key")
    for row in keys():
        table.add_row(*row)
    console.print(table)
    console.print("each figure is a mapping: {value: 512 KiB, confirmed: yes|secondary|no, source: where it is from}")


def print_figures(console: Console, specs: list[Hardware]) -> None:
    """Every figure of each spec with its source."""
    for spec in specs:
        console.print(f"{spec.name}: {spec.title}")
        table = Table(box=None)
        for column in ("figure", "value", "confirmed", "source"):
            table.add_column(column, overflow="fold", no_wrap=column != "source")
        for key, figure in spec.figures:
            table.add_row(key, _value(figure), figure.confirmed, figure.source)
        console.print(table)
