"""Task pool on any `concurrent.futures.Executor` (local processes, a Dask cluster); survives killed workers."""

import importlib
import re
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cosma.errors import InputError
from cosma.workers.processes import Workers


@dataclass(frozen=True, slots=True)
class Failed:
    """A task without a result, and why."""

    why: str


@dataclass(slots=True)
class Pool:
    """Run up to `width` tasks at a time; retry tasks that ran when a worker died, one by one.

    A task that kills its worker twice while running alone is reported as Failed.
    """

    start: Callable[[], Executor]
    width: int
    _executor: Executor | None = None
    _waiting: deque[tuple[Hashable, tuple[Any, ...]]] = field(default_factory=deque)
    _suspects: deque[tuple[Hashable, tuple[Any, ...]]] = field(default_factory=deque)
    _running: dict["Future[Any]", tuple[Hashable, tuple[Any, ...]]] = field(default_factory=dict)
    _alone: bool = False
    _deaths: Counter[Hashable] = field(default_factory=Counter)

    def submit(self, ticket: Hashable, call: Callable[..., Any], *arguments: Any) -> None:
        """Queue `call(*arguments)`; `finished` returns its result under the ticket."""
        self._waiting.append((ticket, (call, *arguments)))

    def finished(self) -> list[tuple[Hashable, Any]]:
        """Wait for at least one task; return (ticket, result or Failed). Empty when no task is left."""
        found: list[tuple[Hashable, Any]] = []
        while not found:
            if not self._fill():
                found += self._recover([])  # a worker died between two calls
                continue
            if not self._running:
                break
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            if any(future.cancelled() for future in done):
                raise InputError("the workers are gone, e.g. with their scheduler; run again to go on")
            broken = any(isinstance(future.exception(), BrokenExecutor) for future in done)
            for future in list(self._running) if broken else done:
                error = future.exception() if future.done() else BrokenExecutor()
                if not isinstance(error, BrokenExecutor):
                    ticket, _ = self._running.pop(future)
                    found.append((ticket, future.result() if error is None else _explain(error)))
            if broken:
                found += self._recover(list(self._running.values()))
        return found

    def _fill(self) -> bool:
        """Start queued tasks: a suspect runs alone, others up to `width`. Returns False if no task can be started."""
        if self._executor is None:
            self._executor = self.start()
        self._alone = bool(self._suspects) or (self._alone and bool(self._running))
        queue, width = (self._suspects, 1) if self._alone else (self._waiting, self.width)
        while queue and len(self._running) < width:
            _, (call, *arguments) = queue[0]
            try:
                future = self._executor.submit(call, *arguments)
            except BrokenExecutor:
                return bool(self._running)  # what runs will say so
            self._running[future] = queue.popleft()
        return True

    def _recover(self, lost: list[tuple[Hashable, tuple[Any, ...]]]) -> list[tuple[Hashable, Any]]:
        """Replace the executor after a worker died; queue the lost tasks as suspects and return those that failed."""
        if self._alone:
            self._deaths.update(ticket for ticket, _ in lost)
        self.close()
        self._running.clear()
        failed = [task for task in lost if self._deaths[task[0]] > 1]
        self._suspects.extend(task for task in lost if task not in failed)
        return [(ticket, Failed("its process was killed, again and again")) for ticket, _ in failed]

    def close(self) -> None:
        """Stop all running tasks at once."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        for future in self._running:
            future.cancel()
        if isinstance(executor, Workers):
            executor.stop()
        else:
            executor.shutdown(wait=False)


def _explain(error: BaseException) -> Failed:
    return Failed(" ".join(f"{type(error).__name__}: {error}".split())[:300])


@contextmanager
def processes(jobs: int) -> Iterator[Pool]:
    """Pool of `jobs` processes of this machine, started with the first task."""
    pool = Pool(lambda: Workers(jobs), jobs)
    try:
        yield pool
    finally:
        pool.close()


@contextmanager
def dask(address: str) -> Iterator[Pool]:
    """Pool on the Dask scheduler at `address`, e.g. tcp://10.0.0.1:8786. Raises InputError if no worker answers."""
    try:
        distributed: Any = importlib.import_module("distributed")  # it is not typed
    except ImportError:
        raise InputError("--dask needs the package distributed; pip install 'cosma-compiler[dask]'") from None
    if not re.search(r":\d+$", address):
        raise InputError(f"--dask {address!r} has no port; write e.g. tcp://10.0.0.1:8786")
    try:
        client = distributed.Client(address, timeout=10, set_as_default=False)
        client.wait_for_workers(1, timeout=30)
    except (OSError, TimeoutError, ValueError) as error:
        first = " ".join(str(error).split())[:160]
        raise InputError(f"--dask {address}: no scheduler with workers answers there ({first})") from None
    threads = sum(client.nthreads().values())
    pool = Pool(lambda: client.get_executor(pure=False), 2 * threads)
    try:
        yield pool
    finally:
        pool.close()
        client.close()
