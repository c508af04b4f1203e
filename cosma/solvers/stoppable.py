"""Processes that can be stopped: of solvers that ignore their time limit, of sweeps, of divide and conquer."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotInTimeError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import psutil

from cosma.solvers.base import Deadline

T = TypeVar("T")
LOOKING_S = 20.0  # for a solver to be found, which may ask a licence server
_LOOK_S = 1.0  # between two looks at whether the parent lives
_GRACE_S = 1.0  # after the time limit, for the solver to say what it has


class StoppedError(Exception):
    """The process has no answer; the message says why."""


class Workers(ProcessPoolExecutor):
    """Processes that leave interrupts to this one, end when it has ended, and can be stopped at once."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        super().__init__(count, mp_context=context, initializer=prepare_worker)

    def submit(self, call: Callable[..., T], /, *arguments: Any, **named: Any) -> "Future[T]":
        """As any executor does. Processes are started here."""
        with interrupts_held():
            return super().submit(call, *arguments, **named)

    def stop(self) -> None:
        """End all processes, whatever they are doing."""
        pids = list(self._processes or ())
        for pid in pids:
            kill(pid)
        self.shutdown(cancel_futures=True)  # its thread is soon done then; left alone it may trip over Python's end


_WORKERS: dict[str, Workers] = {}


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes here: one that is half started would complain on the terminal when Ctrl-C comes.

    What is started never sees it, since it inherits the mask; this process sees it at the end. The mask alone would
    not do for that: any other thread may receive the signal, and Python raises it in the main thread all the same.
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
    """Start what cleans up after processes that were stopped, and have it do so in silence."""
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
    """`call(*arguments)` in the process for this kind of solver. Raises StoppedError a little after the deadline."""
    if deadline.passed:
        raise StoppedError("had no time left")
    try:
        worker(kind).submit(os.getpid).result()  # so that the process itself has started
        return worker(kind).submit(call, *arguments).result(deadline.remaining_s + _GRACE_S)
    except BrokenProcessPool:
        _WORKERS.pop(kind, None)
        raise StoppedError("crashed") from None
    except NotInTimeError:
        _WORKERS.pop(kind).stop()
        raise StoppedError("ran past its time limit and was stopped") from None
    except KeyboardInterrupt:  # Python waits for its workers when it ends
        _WORKERS.pop(kind).stop()
        raise


def worker(kind: str) -> Workers:
    """The process for a kind of solver; libraries that cannot share one are of different kinds."""
    if kind not in _WORKERS:
        _WORKERS[kind] = Workers(1)
        atexit.register(_WORKERS[kind].shutdown, wait=False, cancel_futures=True)
    return _WORKERS[kind]


def prepare_worker() -> None:
    """In a new process: leave interrupts to the parent, and end when it has ended, however it did.

    What libraries print (logs, licences) goes to standard error: standard output is for results.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    started_by = multiprocessing.parent_process()
    parent = os.getppid() if started_by is None else started_by.pid  # which may have ended already

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        kill(os.getpid(), itself=False)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def kill(pid: int, itself: bool = True) -> None:
    """End a process and all that it has started: CBC is a programme of its own."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), *([process] if itself else [])]:
            with suppress(psutil.Error):
                one.kill()
