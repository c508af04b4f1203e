"""Values on their way between processes: small ones through the pipe, large ones in a file.

A message longer than the buffer of a pipe blocks its writer until it is read (for ever if the reader has been
killed), and a half-written message blocks the reader. Therefore a large value is written to a file and only the file
name goes through the pipe; unpickling returns the value itself.
"""

import os
import pickle
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_INLINE = 16_384  # bytes of a pickle; pipes hold at least 65,536 on Linux and macOS


class Parcel:
    """Wrap a value for transport through a pipe. folder: for the file of a large value; its creator removes it."""

    def __init__(self, value: Any, folder: str) -> None:
        self._value, self._folder = value, folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        data = pickle.dumps(self._value, pickle.HIGHEST_PROTOCOL)
        if len(data) <= _INLINE:
            return pickle.loads, (data,)
        handle, name = tempfile.mkstemp(dir=self._folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return _fetch, (name,)


def _fetch(name: str) -> Any:
    """Read a pickled value from a file and remove the file."""
    path = Path(name)
    data = path.read_bytes()
    with suppress(OSError):
        path.unlink()
    return pickle.loads(data)
