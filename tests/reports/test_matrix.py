"""Models against machines: which row counts, what a cell says, and where it is shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cosma.experiments.row_files import to_csv
from cosma.experiments.rows import Swept
from cosma.reports.matrix import charted, draw, matrices, section
from cosma.reports.rows import page
from tests.reports.test_row_figures import line, swept


def on(machine: str, capacity_bytes: int, cost: int, **others: Any) -> Swept:
    """A row on a machine, of 100 compulsory bytes."""
    return swept(capacity_bytes, cost, hardware=machine, host_operators=0, modes="tile", **others)


def failed(machine: str, status: str, **others: Any) -> Swept:
    none = {"non_compulsory_bytes": None, "bound_bytes": None, "moved_bytes": None}
    values = {"capacity_bytes": 1024, "smallest_capacity_bytes": 3 * 2**20, "status": status} | none | others
    return on(machine, cost=0, **values)


def test_machines_by_capacity_and_the_best_row_of_a_pair() -> None:
    rows = [
        on("large", 2048, 0), on("small", 1024, 150), on("small", 1024, 50, solver="paper"),
        on("small", 1024, 900, model="other.onnx"),
        failed("large", "infeasible", model="other.onnx", capacity_bytes=2048),
    ]  # fmt: skip
    (matrix,) = matrices(rows)
    assert [machine.name for machine in matrix.machines] == ["small", "large"]
    assert matrix.workloads == ("m", "other")
    assert matrix.cells["m", matrix.machines[0]].moved_bytes == 150
    assert matrix.summary == (
        "4 pairs of network and machine: 3 have a verified plan, 3 of them without the host, 3 of them proved optimal"
    )


@pytest.mark.parametrize(
    ("row", "said", "kind"),
    [
        (on("a", 1024, 0), "1", "k0"),
        (on("a", 1024, 1, compulsory_bytes=10**6, moved_bytes=10**6 + 1), "1.00", "k1"),
        (on("a", 1024, 100, status="feasible", bound_bytes=40), "\u22642.00", "k3"),
        (on("a", 1024, 1400), "15", "k6"),
        (on("a", 1024, 250_000), "2.5k", "k7"),
        (failed("a", "infeasible", why="operator <b> needs room"), "3 MiB", "none"),
        (failed("a", "out of time"), "out of time", "none"),
    ],
)
def test_what_a_cell_says(row: Swept, said: str, kind: str) -> None:
    text = section([row, on("b", 2048, 0)])
    assert f'<td class="{kind}" title="m on a, ' in text
    assert f">{said}</td>" in text
    assert "<b>" not in text


def test_operators_on_the_host_are_counted_and_marked() -> None:
    text = section([replace(on("a", 1024, 100), host_operators=2), on("b", 2048, 0)])
    assert 'class="k3 host"' in text
    assert ">2.00 h2</td>" in text
    assert "2 have a verified plan, 1 of them without the host" in text


def test_one_matrix_an_element_type_and_mode_set_small_elements_first() -> None:
    kinds = [(dtype, modes) for dtype in ("float32", "int8") for modes in ("paper", "tile")]
    rows = [swept(1024, 0, hardware=h, dtype=d, modes=m) for d, m in kinds for h in ("a", "b")]
    names = [matrix.name for matrix in matrices(rows)]
    assert names == ["int8, modes: tile", "int8, modes: paper", "float32, modes: tile", "float32, modes: paper"]
    assert section(rows).count("<option") == section(rows).count('<figure class="matrix"') == 4
    assert "<select" not in section(rows[:2])
    text = draw(rows, "svg").decode()
    assert text.count("<svg") == 1
    assert draw(rows, "svg").decode() == text


def test_only_machines_that_are_no_curve_make_a_matrix(run, tmp_path: Path) -> None:
    assert charted(line(9000, 4000, 0)) == []
    assert charted([on("a", 1024, 0)]) == []
    assert charted([on("a", 1024 * n, 9000 - 4000 * n) for n in range(3)]) == []
    rows = [on("a", 1024, 0), on("b", 2048, 7)]
    assert charted(rows) == rows
    text = page([*rows, *line(9000, 4000, 0)])
    assert text.index('<figure class="matrix"') < text.index('<figure class="drawn"')
    file, out = tmp_path / "rows.csv", tmp_path / "x.svg"
    file.write_text(to_csv(rows))
    assert run("report", file, "-o", out, "--figure", "matrix").code == 0
    assert out.read_bytes() == draw(rows, "svg")
    file.write_text(to_csv(line(9000, 4000, 0)))
    refused = run("report", file, "-o", out, "--figure", "matrix")
    assert refused.code == 2
    assert "do not hold models on machines, more than one pair" in refused.err
