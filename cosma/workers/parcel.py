"""Values on their way between processes: small ones through the pipe, large ones in a file.

A message longer than a pipe's buffer blocks whoever writes it until it is read, for ever if the reader has been
killed, and one that is half written blocks the reader. So what would not fit goes into a file, and its name through
the pipe; unpickling gives the value itself.
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
    """Wraps a value for a trip through a pipe. folder: where its file goes; whoever made the folder removes it."""

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
    """The value in a file, which is then removed."""
    path = Path(name)
    data = path.read_bytes()
    with suppress(OSError):
        path.unlink()
    return pickle.loads(data)
