"""What a file is, by its content: for people who mix up a command's arguments."""

import json
from pathlib import Path

from cosma.errors import InputError
from cosma.files import open_input

_ENOUGH = 65_536  # bytes from the beginning
_WHERE = {
    "ONNX model": "models come first, without an option",
    "plan": "plans are for run, verify, report and diff",
    "hardware spec": "specs go behind --hw",
    "table of rows": "rows are for 'cosma report'",
}


def complain(path: Path, wanted: str, before: str | None = None) -> None:
    """Raise InputError where a file that is no `wanted` is another kind of file that this program reads.

    before: what the message begins with, the file's name by default.
    """
    found = kind_of(path)
    if found is not None and found != wanted:
        start = f"{path}: " if before is None else before
        raise InputError(f"{start}not {_a(wanted)}, but {_a(found)}: {_WHERE[found]}")


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOaeio' else 'a'} {noun}"


def kind_of(path: Path) -> str | None:
    """What a file holds, one of the keys of `_WHERE`; None if it is none of these or cannot be read."""
    try:
        with open_input(path) as file:
            data = file.read(_ENOUGH)
    except (OSError, ValueError):
        return None
    if data[:1] == b"\x08" and b"\x3a" in data:  # ir_version comes first, then the graph
        return "ONNX model"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if text.lstrip().startswith("{"):
        first = text.lstrip().splitlines()[0]
        if '"schema_version"' in text[:1000]:
            return "plan"
        return "table of rows" if _is_row(first) else None
    if text.startswith("model,"):
        return "table of rows"
    return "hardware spec" if "\nscratchpad:" in f"\n{text}" else None


def _is_row(line: str) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"model", "capacity_bytes"} <= row.keys()
