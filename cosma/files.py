"""Output files: all or nothing."""

import contextlib
import os
import tempfile
from pathlib import Path

from cosma.errors import InputError


def check_writable(path: Path, *kept: Path | None) -> None:
    """Raise InputError, before any work is done, where `write_atomic` could not write or would replace one of `kept`.

    Those are the other files of the same command, which may be named in another way or not be there yet.
    """
    for other in kept:
        if other is not None and _is_same(path, other):
            raise InputError(f"cannot write {path}: it would overwrite {other}; give them different files")
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a directory; give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: permission denied; choose another place")


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        if one.samefile(other):
            return one.is_file()  # a device may be read and written
    return os.path.realpath(one) == os.path.realpath(other)


def check_suffix(path: Path, option: str, suffixes: tuple[str, ...]) -> None:
    """Raise InputError for a file that has none of these suffixes."""
    if path.suffix not in suffixes:
        which = f"a {path.suffix} file" if path.suffix else "a file without suffix"
        *others, last = suffixes
        use = f"{', '.join(others)} or {last}" if others else last
        raise InputError(f"{option} {path}: cannot write {which}; use {use}")


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that at every moment it holds either its old content or all of the new one."""
    check_writable(path)
    try:
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
            path.write_bytes(data)
            return
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
