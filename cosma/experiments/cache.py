"""Answers on disk, by the content of what was asked, each with proof that it was written here.

An entry is a line with a code (HMAC-SHA-256) over question and answer, and the answer as JSON. The key of the code lies
beside the entries, readable by its owner alone, and is used only if it is. So entries of other users, copied from other
questions, cut off or changed are never even parsed. The key's readers can forge entries: programs of the same user,
and the administrator. Therefore an answer says as little as possible that its reader cannot check (`kept.py`).
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cosma.errors import CosmaError, InputError
from cosma.files import PACKAGE, write_atomic

_LARGEST = 2**26  # bytes of an entry; larger ones are neither kept nor read
_KEY_BYTES = 32
_T = TypeVar("_T")


def default_folder() -> Path:
    """Where caches of users go (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "cosma"  # noqa: PTH111, never raises


def digest(content: Any) -> str:
    """A key for anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, separators=(",", ":"), sort_keys=True).encode()).hexdigest()


@cache
def code() -> str:
    """A digest of this package's code, part of every key, so that editing the package invalidates the cache."""
    files = sorted(PACKAGE.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


class Cache:
    """JSON values by question, one file each. `warn` is called once, with one line, for entries that cannot be used."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder, self._warn = folder, warn
        self._writable = self._readable = True
        self._told = False
        self._secret = b""

    def get(self, question: str, read: Callable[[Any], _T]) -> _T | None:
        """What `read` makes of the value, or None; `read` raises CosmaError for a value that does not hold."""
        path = self._path(question)
        try:
            if not self._readable:
                return None
            mac, _, content = _read_regular(path, _LARGEST).partition(b"\n")
            if not hmac.compare_digest(mac, self._sign(question, content)):
                raise InputError("damaged, or not written by you for this question")
            return read(json.loads(content))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError, CosmaError) as error:
            why = " ".join(str(error).split())[:160]
        if not self._told:
            self._warn(f"{path}: this cache entry cannot be used ({why}); all such are ignored and solved again")
            self._told = True
        return None

    def put(self, question: str, value: Any) -> None:
        """Keep a value. Where the cache cannot be written, warn once and keep no more."""
        path = self._path(question)
        content = json.dumps(value, separators=(",", ":")).encode()
        if not self._writable or len(content) > _LARGEST // 2:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            signed = self._sign(question, content) + b"\n" + content
            if _clear(path):
                write_atomic(path, signed)
        except (OSError, CosmaError) as error:
            if self._readable or not self._told:  # where nothing can be read either, once is enough
                self._warn(f"{self._folder}: the cache cannot be written ({error}); going on without")
            self._writable = False

    def _path(self, question: str) -> Path:
        return self._folder / question[:2] / f"{question[2:]}.entry"

    def _sign(self, question: str, content: bytes) -> bytes:
        if not self._secret:
            try:
                self._secret = _own_key(self._folder / "key")
            except (OSError, InputError):
                self._readable = False
                raise
        return hmac.new(self._secret, question.encode() + b"\n" + content, hashlib.sha256).hexdigest().encode()


def _own_key(path: Path) -> bytes:
    """The user's key, made if there is none. Raises OSError or InputError for one that others may know or have made."""
    try:
        key = _read_regular(path, _KEY_BYTES, private=True)
    except FileNotFoundError:
        _make_key(path)
        key = _read_regular(path, _KEY_BYTES, private=True)
    if len(key) != _KEY_BYTES:
        raise InputError(f"{path} is no key of {_KEY_BYTES} bytes; delete it")
    return key


def _make_key(path: Path) -> None:
    """Write a key, all of it or nothing, unless another process has done so meanwhile."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key.")  # for its owner only
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(name, path)  # unlike a rename, this replaces nothing
    finally:
        Path(name).unlink()


def _read_regular(path: Path, most: int, private: bool = False) -> bytes:
    """The content of a regular file of at most so many bytes; anything else is not even waited for.

    private: it must belong to this user and be closed to all others. Raises OSError, InputError.
    """
    if not stat.S_ISREG(path.lstat().st_mode):  # opening some devices has consequences
        raise InputError(f"{path.name} is no regular file; delete it")
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path.name} is no regular file; delete it")
        if private and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
            raise InputError(f"{path} belongs to another user or is open to others; delete it")
        if found.st_size > most:
            raise InputError(f"{path.name} has {found.st_size:,} bytes, more than any of cosma's; delete it")
        return file.read(most)


def _clear(path: Path) -> bool:
    """Remove what no file can be written over safely; whether that was possible: a directory is left alone."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(kind):
        return False
    if not stat.S_ISREG(kind):
        path.unlink()
    return True
