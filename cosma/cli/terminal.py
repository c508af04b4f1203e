"""What people see while a command runs: warnings, progress, where rows are kept."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cosma.cli.streams import complain

if TYPE_CHECKING:
    from rich.console import Console

    from cosma.experiments.row_files import RowFile
    from cosma.frontend.imported import Imported

_PROGRESS_AFTER_S = 2.0


def warn(text: str) -> None:
    """A warning, on standard error."""
    complain(f"cosma: warning: {text}")


def warn_of(model: str, imported: "Imported") -> None:
    """Say what a model declares of its tensors that does not hold."""
    for note in imported.notes:
        warn(f"{model}: {note}")


def console() -> "Console":
    """Standard output for people."""
    from cosma.cli.screen import Screen

    return Screen()


@contextmanager
def keeping(file: "RowFile[Any] | None") -> Iterator[None]:
    """Have an interrupt say where the rows are. They are counted on the disk: one may be written and not yet noted."""
    from cosma.experiments.row_files import read_rows

    try:
        yield
    except KeyboardInterrupt:
        kept = "nothing was kept; use -o to keep rows"
        if file is not None:
            count = len(read_rows(file.path, file.kind)) if file.path.exists() else 0
            kept = f"{count} rows are in {file.path}; run again to go on"
        raise KeyboardInterrupt(kept) from None


@contextmanager
def progress(what: str) -> Iterator[None]:
    """A spinner on the terminal, once something has taken more than two seconds."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.text import Text

    from cosma.cli.screen import Screen
    from cosma.names import shown

    status = Screen(stderr=True).status(Text(shown(f"{what} …")))
    timer = threading.Timer(_PROGRESS_AFTER_S, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
