"""Solvers in processes of their own, which can be stopped when they ignore their time limit."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotInTimeError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, TypeVar

import psutil

from cosma.solvers.base import Deadline

T = TypeVar("T")
_LOOK_S = 1.0  # between two looks at whether the parent lives
_WORKERS: dict[str, ProcessPoolExecutor] = {}
_GRACE_S = 1.0  # after the time limit, for the solver to say what it has


class StoppedError(Exception):
    """The process has no answer; the message says why."""


def run(kind: str, deadline: Deadline, call: Callable[..., T], *arguments: Any) -> T:
    """`call(*arguments)` in the process for this kind of solver. Raises StoppedError a little after the deadline."""
    try:
        worker(kind).submit(os.getpid).result()  # so that the process itself has started
        return worker(kind).submit(call, *arguments).result(deadline.remaining_s + _GRACE_S)
    except BrokenProcessPool:
        _WORKERS.pop(kind, None)
        raise StoppedError("crashed") from None
    except NotInTimeError:
        _stop(kind)
        raise StoppedError("ran past its time limit and was stopped") from None


def worker(kind: str) -> ProcessPoolExecutor:
    """The process for a kind of solver; libraries that cannot share one are of different kinds."""
    if kind not in _WORKERS:
        context = multiprocessing.get_context("spawn")
        _WORKERS[kind] = ProcessPoolExecutor(1, mp_context=context, initializer=prepare_worker)
        atexit.register(_WORKERS[kind].shutdown, wait=False, cancel_futures=True)
    return _WORKERS[kind]


def prepare_worker() -> None:
    """In a new process: leave interrupts to the parent, and end when it has ended, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

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


def _stop(kind: str) -> None:
    for pid in list(_WORKERS.pop(kind)._processes):
        kill(pid)
