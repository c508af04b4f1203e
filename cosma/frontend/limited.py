"""Read a model in a separate process that can be ended: inference and folding have no time limit of their own."""

import os
from collections.abc import Mapping
from pathlib import Path

from cosma.deadline import Deadline
from cosma.errors import InputError
from cosma.frontend.imported import Imported
from cosma.graph import DType
from cosma.workers import processes

_KIND = "reading"


class Reading:
    """Starts to read a model in the background; meanwhile this process can import libraries.

    As a context manager it ends the process if an exception leaves the context.
    """

    def __init__(
        self, path: str | Path, dims: Mapping[str, int], dtype: DType | None, deadline: Deadline, memory_bytes: int,
        for_running: bool = False,
    ) -> None:  # fmt: skip
        self._deadline, self._memory_bytes = deadline, memory_bytes
        self._question = (path, dict(dims), dtype, for_running)
        # Pipes such as <(zcat model.gz) exist in this process alone, and what is not there needs none to say so.
        self._future = processes.worker(_KIND).submit(_load, *self._question) if os.path.isfile(path) else None  # noqa: PTH113, never raises

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        """End the process if it still reads: Python would wait for it on exit."""
        if self._future is not None and not self._future.done():
            processes.end(_KIND)

    def result(self) -> Imported:
        """Wait for the result of `frontend.load.load`.

        Raises InputError as `load` does, and if the time or memory limit is exceeded, with a remedy.
        """
        path, deadline, memory_bytes = self._question[0], self._deadline, self._memory_bytes
        if self._future is None:
            return _load(*self._question)
        try:
            return processes.result_within(_KIND, self._future, deadline, memory_bytes)
        except processes.OutOfMemoryError:
            raise InputError(
                f"{path}: reading the model took more than {memory_bytes:,} B of memory and was stopped; give a larger "
                "--memory-limit, or a model that unfolds to less"
            ) from None
        except processes.StoppedError as error:
            if not deadline.passed:
                raise InputError(f"{path}: the process that reads the model {error}; export the model again") from None
            spent = deadline.at - deadline.started
            raise InputError(
                f"{path}: reading the model was not done in {spent:.2g} s and was stopped; give a larger --time-limit, "
                "or a model that unfolds to less"
            ) from None


def _load(path: str | Path, dims: Mapping[str, int], dtype: DType | None, for_running: bool) -> Imported:
    from cosma.frontend.load import load

    return load(path, dims, dtype, for_running)
