"""Figures, columns and assumptions of rows: what is compared, what is named, what has room."""

import io
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.cbook import is_math_text
from matplotlib.text import Text
from rich.console import Console

from cosma.experiments import sweep
from cosma.experiments.row_files import columns, to_csv
from cosma.experiments.rows import Compared, Swept
from cosma.reports import capacity, comparison, curves, pareto
from cosma.reports.figure import save
from cosma.reports.rows import draw, markdown, page
from cosma.target.hardware import load_hardware

COMMON = {
    "model": "m.onnx", "dtype": "int8", "fusion": "none", "weights": False, "modes": "paper", "alignment_bytes": 1, "solver": "auto",
    "time_limit_s": 60.0, "state_limit": 1, "memory_limit_bytes": 1, "problem": "p", "version": "0", "gap": 0.0,
    "status": "optimal", "compulsory_bytes": 100, "why": "",
}  # fmt: skip
ALONE = {
    "dims": "",
    "hardware": "any",
    "instead": "",
    "spec": "0",
    "working_set_bytes": 1,
    "smallest_capacity_bytes": 1,
}


def swept(capacity_bytes: int, cost: int, **others: Any) -> Swept:
    """A row of sweep, of an optimum unless a bound is given."""
    row = dict.fromkeys(columns(Swept)) | COMMON | ALONE
    row |= {"capacity_bytes": capacity_bytes, "non_compulsory_bytes": cost, "bound_bytes": cost}
    return Swept(**(row | {"moved_bytes": 100 + cost} | others))


def compared(capacity_bytes: int, cost: int | None, **others: Any) -> Compared:
    row = COMMON | {"capacity_bytes": capacity_bytes, "budget": str(capacity_bytes), "seconds": 1.0}
    return Compared(**(row | {"non_compulsory_bytes": cost, "bound_bytes": cost} | others))


def line(*costs: int, step: int = 2**16, **others: Any) -> list[Swept]:
    """Rows at 384 KiB, 448 KiB, ..."""
    return [swept(6 * 2**16 + i * step, cost, **others) for i, cost in enumerate(costs)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, as matplotlib's."""
    figures: list[Any] = []

    def keep(figure: Any, form: str) -> bytes:
        figures.append(figure)
        return save(figure, form)

    for module in (curves, pareto, comparison):
        monkeypatch.setattr(module, "save", keep)
    return figures


def legend(part: Any) -> list[str]:
    return [text.get_text() for text in part.legends[0].get_texts()]


def test_a_pareto_line_joins_one_workload_in_its_colour(drawn: list[Any]) -> None:
    counted = [swept(1000, 900, weights=True, problem="w"), swept(2000, 700, weights=True, problem="w")]
    bare = [swept(1500, 40), swept(2500, 10)]
    pareto.draw([*counted, *bare], "svg")
    lines = [item for item in drawn[0].axes[0].lines if item.get_drawstyle() == "steps-post"]
    found = {tuple(zip(*item.get_data(), strict=True)): item.get_color() for item in lines}
    assert set(found) == {((1000, 1000), (2000, 800)), ((1500, 140), (2500, 110))}
    assert len(set(found.values())) == 2
    assert legend(drawn[0]) == ["int8, activations", "int8, with weights"]


def test_pareto_names_what_varies_within_a_model(drawn: list[Any]) -> None:
    rows = [swept(1000, 9, dims="n=1", problem="a"), swept(1000, 9, dims="n=2", problem="b", solver="paper")]
    pareto.draw(rows, "svg")
    assert legend(drawn[0]) == ["int8, activations, n=1", "int8, activations, n=2", "auto", "paper"]
    pareto.draw([swept(1000, 9, dims="n=1"), swept(1000, 9, model="other.onnx")], "svg")
    assert legend(drawn[1]) == ["int8, activations"]


def test_a_dollar_is_mathematics_on_an_axis_and_text_in_a_name(drawn: list[Any]) -> None:
    odd = {"model": "$x^2$ \\frac.onnx", "solver": "$\\nothing$"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        comparison.draw([compared(1000, 9, **odd), compared(1000, 9)], "svg")
        pareto.draw([swept(1000, 9, **odd, hardware="$y$"), swept(1000, 9, dims="$n$=2")], "svg")
        curves.draw(line(9000, 4000, 0, **odd), "svg")
    texts = [text for figure in drawn for text in figure.findobj(Text) if "frac" in text.get_text()]
    assert {text.get_text().split()[0] for text in texts} == {"\\$x^2\\$"}
    assert not [
        text for figure in drawn for text in figure.legends for text in text.texts if is_math_text(text.get_text())
    ]
    assert not any(is_math_text(text.get_text()) for text in [*texts, *drawn[1].axes[0].texts, *drawn[1].axes[1].texts])
    seconds = drawn[0].axes[1].get_xticklabels()
    assert any(is_math_text(text.get_text()) and text.get_parse_math() for text in seconds)


def test_chips_that_lie_close_share_a_label() -> None:
    chips = [(10, "early"), (100, "a"), (102, "b"), (105, "c"), (120, "d"), (300, "late")]
    assert curves.chip_labels(chips, 50, 250) == [(100, ["a", "b", "c"]), (120, ["d"])]


def test_names_of_chips_have_room_of_their_own(drawn: list[Any]) -> None:
    """Six machines of hw_specs have 384 KiB: their names lie above the axes, below the title, on the canvas."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves.draw(line(9000, 4000, 0), "svg")
    figure = drawn[0]
    axes, canvas = figure.axes[0], figure.bbox
    names = [text for text in axes.texts if text.get_rotation() == 40]
    assert any(re.fullmatch(r"ethos_u55_128_384kib and \d more", text.get_text()) for text in names)
    title = figure.subfigs[0]._suptitle.get_window_extent()
    for text in names:
        box = text.get_window_extent()
        assert box.y0 >= axes.bbox.y1 - 1
        assert box.y1 <= title.y0
        assert canvas.x0 <= box.x0
        assert box.x1 <= canvas.x1
    assert figure.subfigs[0].legends[0].get_window_extent().y1 < figure.axes[1].bbox.y0


def test_curves_with_the_same_corners_are_one_and_no_style_is_used_twice(drawn: list[Any]) -> None:
    same = [row for b in (1, 16, 32) for row in line(9000, 4000, 0, alignment_bytes=b)]
    others = [row for n in range(1, 13) for row in line(9000 + n, 4000 + n, 0, dims=f"n={n}", problem=str(n))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves.draw([*same, *others], "svg")
    names = legend(drawn[0].subfigs[0])
    assert len(names) == 1 + 12 + 1
    assert names.count("knee") == 1
    assert any(name.endswith("aligned to 1 B and 2 more") for name in names)
    styles = [(item.get_color(), item.get_linestyle()) for item in drawn[0].axes[0].lines if len(item.get_xdata()) > 2]
    assert len(styles) == len(set(styles)) == 13


@pytest.mark.parametrize("bound", [4000, 10])
def test_only_what_is_proved_is_called_least(drawn: list[Any], bound: int) -> None:
    rows = line(9000, 4000, 0)
    rows[1] = replace(rows[1], bound_bytes=bound)
    curves.draw(rows, "svg")
    (dot,) = [item for item in drawn[0].axes[0].lines if item.get_marker() == "o"]
    said = io.StringIO()
    capacity.print_staircase(Console(file=said, width=120), "m", rows)
    text = said.getvalue()
    if bound == 4000:
        assert legend(drawn[0].subfigs[0]) == ["least non-compulsory traffic", "knee"]
        assert dot.get_markerfacecolor() == "C0"
        assert "knee, if optima" not in text
    else:
        known = ["best found", "band: down to the proven bound", "knee, if these are optima"]
        assert legend(drawn[0].subfigs[0]) == known
        assert dot.get_markerfacecolor() == "white"
        assert "knee, if optima" in text
    assert ("knee, if optima" in page(rows)) == (bound != 4000)


def test_solvers_of_what_if_rows_are_compared_on_the_same_problem(drawn: list[Any]) -> None:
    rows = [swept(1000, 80), swept(1000, 20, solver="paper"), swept(2000, 5)]
    draw(rows, "svg", "solvers")
    (axes,) = drawn[0].axes  # no seconds are known
    assert [label.get_text() for label in axes.get_yticklabels()] == ["m at 1000 B"]
    marks = {item.get_label(): list(item.get_xdata()) for item in axes.lines if item.get_label() in ("auto", "paper")}
    assert marks == {"auto": [100], "paper": [25]}


def test_the_page_shows_each_figure_that_the_rows_allow() -> None:
    both = [replace(row, solver=solver) for row in line(9000, 4000, 0) for solver in ("auto", "paper")]
    assert page(both).count("<figure") == 3
    assert page(line(9000, 4000, 0)).count("<figure") == 2
    runs = [compared(size, cost) for size, cost in ((1000, 90), (2000, 40), (3000, 0))]
    assert page(runs).count("<figure") == 3
    assert page(runs[:1]).count("<figure") == 2
    assert page([compared(1000, None)]).count("<figure") == 1


def test_a_figure_is_chosen_by_name(run, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "x.svg"
    rows.write_text(to_csv(line(9000, 4000, 0)))
    found = {}
    for name in ("curves", "pareto"):
        assert run("report", rows, "-o", out, "--figure", name).code == 0
        found[name] = out.read_bytes()
    assert found["curves"] != found["pareto"]
    run("report", rows, "-o", out)
    assert out.read_bytes() == found["curves"]
    for arguments, said in (
        ((rows, "-o", out, "--figure", "solvers"), "do not hold two solvers on the same problem; they allow --figure"),
        ((rows, "-o", tmp_path / "x.html", "--figure", "pareto"), "--figure pareto: a .html file is no figure"),
        ((rows, "--figure", "pareto"), "add --output, e.g. -o pareto.png"),
        (("plan.json", "m.onnx", "--figure", "pareto"), "plan.json holds no rows"),
    ):
        outcome = run("report", *arguments)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert said in outcome.err
    rows.write_text(to_csv([swept(1, 0, non_compulsory_bytes=None, moved_bytes=None)]))
    assert "none of the rows has a plan" in run("report", rows, "-o", out).err


def test_what_was_swept_is_a_column_and_what_is_empty_is_none() -> None:
    rows = [swept(1000, 9, dims=f"n={n}", alignment_bytes=n, problem=str(n)) for n in (1, 2)]
    head = markdown(rows).splitlines()[0].strip("| ").split(" | ")
    wanted = ["dims", "alignment_bytes", "compulsory_bytes", "non_compulsory_bytes", "bound_bytes", "gap"]
    assert set(wanted) <= set(head)
    assert not {"instead", "spec", "estimate_transfer_s", "why"} & set(head)
    assert "dims" not in markdown([swept(1000, 9)]).splitlines()[0]


def test_assumptions_are_those_of_the_figures_of_the_rows() -> None:
    text = sweep.instead_text([("dram.bandwidth", "1 GB/s"), ("scratchpad.holds_weights", "true")])
    assert sweep.read_instead(text) == {"dram.bandwidth": "1 GB/s", "scratchpad.holds_weights": True}
    shipped = load_hardware("gemmini_default")
    slow = load_hardware("gemmini_default", instead=sweep.read_instead(text))
    rows = [
        swept(1000, 9, hardware="gemmini_default", spec=sweep.figures_digest(shipped)),
        swept(1000, 9, hardware="gemmini_default", instead=text, spec=sweep.figures_digest(slow)),
    ]
    known = page(rows)
    assert "gemmini_default dram.bandwidth=1 GB/s scratchpad.holds_weights=true</summary>" in known
    assert "dram.bandwidth 1 GB/s (" in known
    assert "dram.bandwidth 16 GB/s (" in known
    assert "unknown" not in known
    assert '<th scope="col" >spec</th>' not in known
    edited = page([*rows, swept(1000, 9, hardware="gemmini_default", spec="edited")])
    assert "unknown: the figures, edited, were those of another spec file" in edited
    assert '<th scope="col" >spec</th>' in edited
    assert "<summary>gemmini_default (figures edited)</summary>" in edited
    own = page([swept(1000, 9, hardware="my_chip", spec="own")])
    assert "my_chip</summary><ul><li>unknown: the figures, own," in own
