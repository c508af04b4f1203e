"""Result rows on disk: one line a row, appended as they come, so that an interrupted run can go on."""

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosma.errors import InputError
from cosma.files import check_suffix, check_writable, read_input, write_atomic
from cosma.kinds import complain
from cosma.names import shown

Row = dict[str, Any]
WENT_WRONG = ("error", "crashed")  # statuses of runs that are tried again
_FORMULA = "=+-@\t\r＝＋－＠"  # how formulas of spreadsheets begin
_ALWAYS = {"model", "hardware", "weights", "capacity_bytes", "alignment_bytes", "solver", "status"}
_WITH_PLAN = {"compulsory_bytes", "bound_bytes"}
_TEXTS = {
    "model", "dims", "dtype", "fusion", "hardware", "instead", "spec", "solver", "problem", "version", "budget",
    "status", "why",
}  # fmt: skip
_NUMBER = re.compile(r".*_(bytes|s|j|mib|limit)|gap|loads|stores|macs|seconds|rows|columns|terms|states")


class RowFile:
    """An append-only file of rows, .csv or .jsonl; `rows` holds what was there.

    Raises InputError: another suffix, not writable, or written by something else. A last line that was cut
    off, as by a killed process, is dropped.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        check_suffix(path, "--output", (".csv", ".jsonl"))
        check_writable(path)
        self.path, self.columns = path, tuple(columns)
        self.rows = read_rows(path, self.columns) if path.exists() else []
        if self.path.exists():
            text = read_input(self.path)
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                write_atomic(self.path, whole)

    def append(self, row: Row) -> None:
        """Add a row; it is on the disk when this returns."""
        row = {column: row[column] for column in self.columns}
        if self.path.suffix == ".csv":
            new = not self.path.exists() or not self.path.stat().st_size
            text = to_csv([row], self.columns, header=new)
        else:
            text = json.dumps(row) + "\n"
        try:
            with self.path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except (OSError, UnicodeEncodeError) as error:
            raise InputError(f"cannot write {self.path}: {error}; choose another place or rename the model") from None
        self.rows.append(row)


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The whole rows of a file. Raises InputError: cannot be read, or written by something else."""
    try:
        text = read_input(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot read the rows that are there ({why}); give another file") from None
    whole = text[: text.rfind("\n") + 1]
    header = _csv_line(columns)
    is_csv = path.suffix == ".csv"
    ours = text.startswith("{") if not is_csv else whole.startswith(header) or header.startswith(text)
    rows = (_parse_csv(whole) if is_csv else _parse_json(whole)) if ours or not text else None
    if rows is None or any(set(row) != set(columns) or not _is_sound(row) for row in rows):
        complain(path, "table of rows")
        raise InputError(f"{path}: holds other rows than this command writes; give it another file")
    return [{key: shown(v) if isinstance(v, str) else v for key, v in row.items()} for row in rows]


def _is_sound(row: Row) -> bool:
    """Whether the values are such as their columns hold; a row may have any of the columns of all commands."""
    has_plan = row.get("non_compulsory_bytes") is not None
    needed = _ALWAYS | _WITH_PLAN if has_plan else _ALWAYS
    return all(column not in needed if value is None else _fits(column, value) for column, value in row.items())


def _fits(column: str, value: Any) -> bool:
    if column in _TEXTS:
        return isinstance(value, str)
    if column == "weights" or not _NUMBER.fullmatch(column):
        return isinstance(value, bool if column == "weights" else (str, int, float))
    kind = int if column.endswith("_bytes") else (int, float)
    return isinstance(value, kind) and not isinstance(value, bool) and 0 <= value < 2**63


def to_csv(rows: Sequence[Row], columns: Sequence[str], header: bool = True) -> str:
    """Rows as `read_rows` reads them."""
    lines = [_csv_line([_cell(row[c]) for c in columns]) for row in rows]
    return "".join([_csv_line(columns), *lines] if header else lines)


def _cell(value: Any) -> Any:
    """CSV knows text only: None and "" are empty cells, text itself unless it reads as another value, the rest JSON.

    Text that a spreadsheet would take for a formula is quoted as well.
    """
    if value is None or value == "":
        return ""
    plain = isinstance(value, str) and read_value(value) == value and value[0] not in _FORMULA
    return value if plain else json.dumps(value)


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def read_value(cell: str) -> Any:
    """What a CSV cell stands for: a number, a truth value, quoted text, None, or else text."""
    if cell == "":
        return None
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return value if isinstance(value, int | float | str) else cell


def _parse_csv(text: str) -> list[Row] | None:
    try:
        return [{k: read_value(v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(text), strict=True)]
    except (csv.Error, TypeError):
        return None


def _parse_json(text: str) -> list[Row] | None:
    try:
        rows = [json.loads(line) for line in text.split("\n")[:-1]]
    except (ValueError, RecursionError):
        return None
    return rows if all(isinstance(row, dict) for row in rows) else None
