"""Rows on disk: one line a row, appended as they come, so that an interrupted run can go on.

A kind of row is a dataclass; the fields are its columns and their types say what cells stand for: str, bool, int,
float, Literal, or one of these and None.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from cosma.errors import InputError
from cosma.files import check_suffix, check_writable, read_input, write_atomic
from cosma.kinds import complain
from cosma.names import shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")
_FORMULA = "=+-@\t\r＝＋－＠"  # how formulas of spreadsheets begin


@cache
def columns(kind: "type[DataclassInstance]") -> dict[str, Any]:
    """The columns of a kind of row, each with its type."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


class RowFile(Generic[R]):
    """An append-only file of rows of one kind, .csv or .jsonl; `rows` holds what was there.

    Raises InputError: another suffix, not writable, or written by something else. A last line that was cut
    off, as by a killed process, is dropped.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        check_suffix(path, "--output", (".csv", ".jsonl"))
        check_writable(path)
        self.path, self.kind = path, kind
        self.rows = read_rows(path, kind) if path.exists() else []
        if self.path.exists():
            text = read_input(self.path)
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                write_atomic(self.path, whole)

    def append(self, row: R) -> None:
        """Add a row; it is on the disk when this returns."""
        if self.path.suffix == ".csv":
            new = not self.path.exists() or not self.path.stat().st_size
            text = to_csv([row], header=new)
        else:
            text = json.dumps(asdict(row)) + "\n"
        try:
            with self.path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except (OSError, UnicodeEncodeError) as error:
            raise InputError(f"cannot write {self.path}: {error}; choose another place or rename the model") from None
        self.rows.append(row)


def read_rows(path: Path, *kinds: type[R]) -> list[R]:
    """The whole rows of a file; its columns tell which of the kinds they are.

    Raises InputError: cannot be read, or written by something else.
    """
    try:
        text = read_input(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot read the rows that are there ({why}); give another file") from None
    try:
        return list((_parse_csv if path.suffix == ".csv" else _parse_json)(text, kinds))
    except (csv.Error, ValueError, RecursionError, InputError):
        complain(path, "table of rows")
        raise InputError(f"{path}: holds other rows than this command writes; give it another file") from None


def _parse_csv(text: str, kinds: Sequence[type[R]]) -> Iterator[R]:
    """Raises ValueError, csv.Error, RecursionError, InputError for what is no such row."""
    whole = text[: text.rfind("\n") + 1]
    kind = next((k for k in kinds if whole.startswith(_header(k)) or _header(k).startswith(text)), None)
    if kind is None:
        raise ValueError("other columns")
    hints = columns(kind)
    for cells in list(csv.reader(io.StringIO(whole), strict=True))[1:]:
        if cells:
            values = zip(cells, hints.values(), strict=True)
            yield _row(kind, [_read_cell(cell, hint) for cell, hint in values])


def _parse_json(text: str, kinds: Sequence[type[R]]) -> Iterator[R]:
    """Raises ValueError, RecursionError, InputError for what is no such row."""
    if text and not text.startswith("{"):
        raise ValueError("no JSON objects")
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    kind = next((k for k in kinds if found and found[0].keys() == columns(k).keys()), kinds[0])
    for values in found:
        if not isinstance(values, dict) or values.keys() != columns(kind).keys():
            raise ValueError("other columns")
        yield _row(kind, [values[name] for name in columns(kind)])


def _row(kind: type[R], values: Sequence[Any]) -> R:
    """A row with a value for each column. Raises ValueError, InputError for values that do not fit."""
    row = {}
    for (name, hint), value in zip(columns(kind).items(), values, strict=True):
        text = "" if value is None and hint is str else value  # no text is empty text
        if not _fits(text, hint):
            raise ValueError(name)
        row[name] = shown(text) if isinstance(text, str) else text
    return kind(**row)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a column of this type may hold the value; numbers are finite and not negative."""
    if isinstance(hint, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool) and 0 <= value < 2**63
    return isinstance(value, hint)


def to_csv(rows: Sequence["DataclassInstance"], header: bool = True) -> str:
    """Rows of one kind, at least one, as `read_rows` reads them."""
    lines = [_csv_line([_cell(getattr(row, name)) for name in columns(type(row))]) for row in rows]
    return "".join([_header(type(rows[0])), *lines] if header else lines)


def _header(kind: "type[DataclassInstance]") -> str:
    return _csv_line(list(columns(kind)))


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _cell(value: Any) -> Any:
    """CSV knows text only: None and "" are empty cells, text itself unless it reads as another value, the rest JSON.

    Text that a spreadsheet would take for a formula is quoted as well.
    """
    if value is None or value == "":
        return ""
    plain = isinstance(value, str) and not _is_json(value) and value[0] not in _FORMULA
    return value if plain else json.dumps(value)


def _is_json(text: str) -> bool:
    """Whether text reads as a number, a truth value or quoted text."""
    try:
        return isinstance(json.loads(text), int | float | str)
    except (ValueError, RecursionError):
        return False


def _read_cell(cell: str, hint: Any) -> Any:
    """What a cell in a column of this type stands for."""
    is_text = str in (hint, *get_args(hint))
    if cell == "" or (is_text and cell[0] != '"'):
        return cell or None
    try:
        return json.loads(cell)
    except ValueError:
        return cell
