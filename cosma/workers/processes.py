"""Processes that can be stopped: for solvers that ignore their time limit, for sweeps, for divide and conquer."""

import atexit
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures import TimeoutError as NotInTimeError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import psutil

from cosma.deadline import Deadline
from cosma.workers.parcel import Parcel

T = TypeVar("T")
LOOKING_S = 20.0  # for a solver to be found, which may ask a licence server
_LOOK_S = 1.0  # between two looks at whether the parent lives
_START_S = 30.0  # for a process to start on a busy machine
_LOOK_AT_MEMORY_S = 0.05  # between two looks at how much a process takes
_GRACE_S = 1.0  # after the time limit, for the solver to say what it has


class StoppedError(Exception):
    """The process has no answer; the message says why."""


class OutOfMemoryError(StoppedError):
    """The process took more memory than it was allowed."""


class Workers(ProcessPoolExecutor):
    """Process pool that ignores interrupts, ends with its parent, prints nothing, and can be stopped at once."""

    def __init__(self, count: int) -> None:
        _start_tracker()  # before the executor does, whose queues need it
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="cosma-", ignore_cleanup_errors=True)
        super().__init__(count, mp_context=context, initializer=prepare_worker, initargs=(self._folder.name,))

    def submit(self, call: Callable[..., T], /, *arguments: Any, **named: Any) -> "Future[T]":
        """Submit a call as any executor does; starts processes as needed."""
        with interrupts_held():
            return super().submit(_work, Parcel((call, arguments, named), self._folder.name))

    @property
    def processes(self) -> list[Any]:
        """The processes that have been started."""
        return list((self._processes or {}).values())

    def stop(self) -> None:
        """Kill all processes and remove their folder."""
        for process in self.processes:
            kill(process.pid)
        self.shutdown(cancel_futures=True)  # its thread is soon done then; left alone it may trip over Python's end
        self._folder.cleanup()


def _work(parcel: Any) -> Any:
    """Run the call of a parcel in a worker; return its result as a parcel."""
    call, arguments, named = parcel
    return Parcel(call(*arguments, **named), _Worker.folder)


class _Worker:
    """State of a worker process: the folder of its parcels, and its original standard error."""

    folder = ""
    stderr: int | None = None


@contextmanager
def heard(wanted: bool) -> Iterator[None]:
    """Restore standard error for libraries that print logs or licences, if wanted; workers are silent otherwise."""
    if not wanted or _Worker.stderr is None:
        yield
        return
    silent = os.dup(1)
    os.dup2(_Worker.stderr, 1)
    os.dup2(_Worker.stderr, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.close(silent)


_WORKERS: dict[str, Workers] = {}


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C while processes start: a half-started process would print a traceback.

    Started processes inherit the signal mask and never see the signal; this process receives it on exit of the
    context. The mask alone does not suffice: another thread may receive the signal, and Python would still raise it
    in the main thread.
    """
    _start_tracker()  # clears the mask when it starts
    came: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if is_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if is_main:
            signal.signal(signal.SIGINT, handler)
        if came and callable(handler):
            handler(came[0], None)


def _start_tracker() -> None:
    """Start the resource tracker of multiprocessing, which cleans up after stopped processes, without its warnings."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def run(kind: str, deadline: Deadline, call: Callable[..., T], *arguments: Any) -> T:
    """Run `call(*arguments)` in the process for this kind of work. Raises StoppedError shortly after the deadline."""
    if deadline.passed:
        raise StoppedError("had no time left")
    with _ended(kind):
        worker(kind).submit(os.getpid).result(max(deadline.remaining_s, _START_S))  # the process itself has started
        return worker(kind).submit(call, *arguments).result(deadline.remaining_s + _GRACE_S)


def result_within(kind: str, future: "Future[T]", deadline: Deadline, memory_bytes: int) -> T:
    """Result of a future of the process for this kind of work. Raises StoppedError at the deadline.

    Raises OutOfMemoryError if the process and its children take more than `memory_bytes`.
    """
    with _ended(kind):
        while sum(memory_of(process.pid) for process in worker(kind).processes) <= memory_bytes:
            done, _ = wait([future], min(_LOOK_AT_MEMORY_S, deadline.remaining_s))
            if done:
                return future.result()
            if deadline.passed:
                raise NotInTimeError
        raise OutOfMemoryError(f"took more than {memory_bytes:,} B of memory and was stopped")


@contextmanager
def _ended(kind: str) -> Iterator[None]:
    """End the process for a kind of work if its call failed, and raise StoppedError with the reason."""
    try:
        yield
    except BrokenProcessPool:
        end(kind)
        raise StoppedError("crashed") from None
    except NotInTimeError:
        end(kind)
        raise StoppedError("ran past its time limit and was stopped") from None
    except (KeyboardInterrupt, OutOfMemoryError):  # Python waits for its workers when it ends
        end(kind)
        raise


def end(kind: str) -> None:
    """Kill the process for a kind of work, if there is one."""
    if kind in _WORKERS:
        _WORKERS.pop(kind).stop()


def worker(kind: str) -> Workers:
    """Process for a kind of work, started on demand; libraries that cannot share a process use different kinds."""
    if kind not in _WORKERS:
        _WORKERS[kind] = Workers(1)
        atexit.register(_WORKERS[kind].shutdown, wait=False, cancel_futures=True)
    return _WORKERS[kind]


def memory_of(pid: int | None) -> int:
    """Resident bytes of a process and its descendants; 0 if it has ended."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            total += int(one.memory_info().rss)
    return total


def prepare_worker(folder: str) -> None:
    """Set up a worker process: ignore interrupts, end when the parent has ended, print nothing.

    folder: for large results. The output of libraries is discarded unless `heard` restores it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit.register(os._exit, 0)  # there is nothing to tidy up, which takes Python a tenth of a second
    _Worker.folder, _Worker.stderr = folder, os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    started_by = multiprocessing.parent_process()
    parent = os.getppid() if started_by is None else started_by.pid  # which may have ended already

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        kill(os.getpid(), itself=False)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def kill(pid: int, itself: bool = True) -> None:
    """Kill a process and its descendants, e.g. CBC, which is a separate executable. itself: kill the process too."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), *([process] if itself else [])]:
            with suppress(psutil.Error):
                one.kill()
