"""Standard output and error, whatever they are: closed, full, of few characters, or a pipe whose reader has gone."""

import io
import os
import sys
from typing import Any, TextIO

import click

from cosma.names import REPLACE, line, shown


class UnwritableError(Exception):
    """Standard output takes nothing more. No OSError: click and rich end the program on some of those.

    Attributes:
        errno: the reason. It is also the message, in words.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.errno = error.errno


class _Output(io.FileIO):
    """Standard output or error as bytes."""

    def write(self, data: Any) -> int:
        """Write some of the data; how much. Raises UnwritableError, but what standard error does not take is lost."""
        try:
            return super().write(data)
        except OSError as error:
            if self.fileno() == 2:
                return len(data)
            raise UnwritableError(error) from None


def prepare() -> None:
    """Have closed streams lead nowhere, characters that an encoding lacks replaced, and UnwritableError raised."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor, which is its own
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))
    sys.stdout, sys.stderr = _guarded(sys.stdout), _guarded(sys.stderr)


def _guarded(stream: TextIO) -> TextIO:
    try:
        raw = _Output(stream.fileno(), "w", closefd=False)
    except OSError:  # in memory, as in a test
        return stream
    lines = stream is sys.stderr or stream.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, REPLACE, line_buffering=lines)


def say(text: str, err: bool = False) -> None:
    """Print one line in which names can do nothing."""
    click.echo(shown(text), err=err)


def complain(text: str) -> None:
    """Print one line to standard error, short enough for a person."""
    click.echo(line(text), err=True)


def leave(code: int) -> None:
    """End the program with an exit code that nothing unwritten changes."""
    try:
        sys.stdout.flush()
    except UnwritableError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    sys.exit(code)
