"""Answers on disk, by the content of what was asked. A damaged entry counts as none."""

import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cosma.errors import InputError
from cosma.files import write_atomic


def default_folder() -> Path:
    """Where caches of users go (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "cosma"  # noqa: PTH111, never raises


def digest(content: Any) -> str:
    """A key for anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, separators=(",", ":"), sort_keys=True).encode()).hexdigest()


@cache
def code() -> str:
    """A digest of this package's own code: whoever works on it is not told what it used to answer."""
    files = sorted(Path(__file__).resolve().parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


class Cache:
    """JSON values by key, one file each. `warn` is told of entries that cannot be used, in one line."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder, self._warn = folder, warn
        self._writable = True

    def get(self, key: str) -> Any:
        """The value, or None."""
        path = self._path(key)
        try:
            entry = json.loads(path.read_bytes())
            if digest(entry["value"]) == entry["digest"]:
                return entry["value"]
            why = "its digest does not match"
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = " ".join(str(error).split())[:100]
        self._warn(f"{path}: this cache entry is damaged and ignored ({why})")
        return None

    def put(self, key: str, value: Any) -> None:
        """Keep a value; a cache that cannot be written is told of once and then left alone."""
        if not self._writable:
            return
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps({"digest": digest(value), "value": value}).encode())
        except (OSError, InputError) as error:
            self._warn(f"{self._folder}: the cache cannot be written ({error}); going on without")
            self._writable = False

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key[2:]}.json"
