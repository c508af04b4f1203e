"""Rich on a terminal or a pipe: no text is markup, and none acts on what shows it."""

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from cosma.names import shown


class Screen(Console):
    """Standard output, or error, for people."""

    def __init__(self, stderr: bool = False) -> None:
        # A pipe has no width; 120 columns then keep lines whole.
        width = None if (sys.stderr if stderr else sys.stdout).isatty() else 120
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is printed; all strings come through here, those of tables too."""
        return super().render_str("\n".join(map(shown, text.split("\n"))), **options)


class _Words(TextColumn):
    def render(self, task: Task) -> Text:
        return Text(shown(self.text_format.format(task=task)))


def bar(words: str) -> Progress:
    """A bar for many runs, on a terminal alone; `words` has the fields of a rich Task."""
    columns = (_Words(words), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Screen(stderr=True), transient=True, disable=not sys.stderr.isatty())
