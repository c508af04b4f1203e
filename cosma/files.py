"""Where the package lies, and files that users name: inputs that have an end, outputs written all or nothing."""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cosma.errors import InputError

PACKAGE = Path(__file__).resolve().parent
_LARGEST = 2**31 - 1  # bytes; no protobuf may be longer, and no plan or table is


def open_input(path: Path) -> BinaryIO:
    """Open a file or a pipe for reading. Raises OSError, also for devices, which may have no end.

    A pipe that nothing writes to is empty; opening it does not wait.
    """
    file = open(path, "rb", opener=_at_once)  # noqa: SIM115, it is the caller's to close
    mode = os.fstat(file.fileno()).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        file.close()
        raise OSError(errno.EINVAL, "it is a device, not a file")
    os.set_blocking(file.fileno(), True)
    return file


def read_input(path: Path) -> bytes:
    """All bytes of a file or a pipe. Raises OSError as `open_input` does, and beyond 2 GiB."""
    with open_input(path) as file:
        about = os.fstat(file.fileno())
        chunks, size = [], about.st_size
        while size <= _LARGEST and (chunk := file.read(1 << 24)):
            chunks.append(chunk)
            size = max(size, sum(map(len, chunks)))
    if size > _LARGEST:
        raise OSError(errno.EFBIG, "it is larger than 2 GiB")
    if stat.S_ISFIFO(about.st_mode) and not chunks:
        raise OSError(errno.ENODATA, "nothing comes through this pipe, or it has been read already")
    return b"".join(chunks)


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def check_writable(path: Path, *kept: Path | None) -> None:
    """Raise InputError, before any work is done, where `write_atomic` could not write or would replace one of `kept`.

    Those are the other files of the same command, which may be named in another way or not be there yet.
    """
    for other in kept:
        if other is not None and _is_same(path, other):
            raise InputError(f"cannot write {path}: it would overwrite {other}; give them different files")
    with _refusal(path):
        mode = path.stat().st_mode if os.path.exists(path) else stat.S_IFREG  # noqa: PTH110, which never raises
    if stat.S_ISDIR(mode):
        raise InputError(f"cannot write {path}: it is a directory; give the name of a file")
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise InputError(f"cannot write {path}: it is a disk or a socket; give the name of a file")
    if not os.path.isdir(path.parent):  # noqa: PTH112, which never raises
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    if not os.access(path if os.path.exists(path) else path.parent, os.W_OK):  # noqa: PTH110, nor does this
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
    """Write a file so that at every moment it holds either its old content or all of the new one.

    What a link leads to is written, and the link stays. A device or a pipe cannot be replaced and is written to.
    """
    check_writable(path)
    with _refusal(path):
        stream = _stream(path)
        if stream is not None or (path.exists() and not path.is_file()):
            with open(path if stream is None else stream, "wb", opener=_at_once, closefd=stream is None) as file:
                os.set_blocking(file.fileno(), True)
                file.write(data)
            return
        path = Path(os.path.realpath(path))
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise


@contextlib.contextmanager
def _refusal(path: Path) -> Iterator[None]:
    """Turn an OSError into an InputError of one line."""
    try:
        yield
    except OSError as error:
        why = "nothing reads from this pipe" if error.errno == errno.ENXIO else error.strerror
        raise InputError(f"cannot write {path}: {why}; choose another place") from None


def _stream(path: Path) -> int | None:
    """Standard output or error where a link such as /dev/stdout leads to it: if it is a file, it is written further."""
    for stream in (1, 2) if path.is_symlink() else ():
        with contextlib.suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(stream)):
                return stream
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
