"""Rows on disk: columns tell their kind, and types what cells stand for."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cosma.errors import InputError
from cosma.experiments.row_files import RowFile, columns, read_rows, to_csv
from cosma.experiments.rows import KINDS, Compared, Row, Swept, key_of
from tests.conftest import MODELS

RESULTS = MODELS.parent / "results"


@pytest.mark.parametrize(
    ("name", "kind"), [("paper/rows", Compared), ("whatif/rows", Swept), ("whatif/staircases", Swept)]
)
def test_stored_rows_are_read_by_their_columns_and_written_alike(name: str, kind: type[Row]) -> None:
    path = RESULTS / f"{name}.csv"
    rows: list[Row] = read_rows(path, *KINDS)
    assert {type(row) for row in rows} == {kind}
    assert to_csv(rows) == path.read_text()


def row() -> Compared:
    return read_rows(RESULTS / "paper/rows.csv", Compared)[0]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_text_is_text_whatever_it_looks_like_and_no_text_is_empty(tmp_path: Path, suffix: str) -> None:
    odd = replace(row(), model="12", problem="1e5", budget="true", why="", dtype=None)
    RowFile(tmp_path / f"rows{suffix}", Compared).append(odd)
    assert read_rows(tmp_path / f"rows{suffix}", *KINDS) == [odd]


@pytest.mark.parametrize(
    ("column", "value"),
    [("status", "splendid"), ("weights", 1), ("rows", 1.5), ("seconds", -1), ("bound_bytes", None), ("seconds", None)],
)
def test_values_of_other_types_are_refused(tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(asdict(row()) | {column: value}) + "\n")
    with pytest.raises(InputError, match="holds other rows than this command writes"):
        read_rows(path, *KINDS)


def test_the_key_is_what_was_asked_and_not_what_came_out() -> None:
    assert key_of(row()) == key_of(replace(row(), status="crashed", budget="7", seconds=9.0, why="so"))
    assert key_of(row()) != key_of(replace(row(), state_limit=7))
    assert len(key_of(row())) == 13 < len(columns(Compared))
