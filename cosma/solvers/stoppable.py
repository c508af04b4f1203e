"""Solvers in processes of their own, which can be stopped when they ignore their time limit."""

import atexit
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotInTimeError
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import Any, TypeVar

import psutil

from cosma.solvers.base import Deadline

T = TypeVar("T")
_GRACE_S = 1.0  # after the time limit, for the solver to say what it has


class StoppedError(Exception):
    """The process has no answer; the message says why."""


def run(kind: str, deadline: Deadline, call: Callable[..., T], *arguments: Any) -> T:
    """`call(*arguments)` in the process for this kind of solver. Raises StoppedError a little after the deadline."""
    try:
        worker(kind).submit(os.getpid).result()  # so that the process itself has started
        return worker(kind).submit(call, *arguments).result(deadline.remaining_s + _GRACE_S)
    except BrokenProcessPool:
        worker.cache_clear()
        raise StoppedError("crashed") from None
    except NotInTimeError:
        _stop(kind)
        raise StoppedError("ran past its time limit and was stopped") from None


@cache
def worker(kind: str) -> ProcessPoolExecutor:
    """The process for a kind of solver; libraries that cannot share one are of different kinds."""
    executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    atexit.register(executor.shutdown, wait=False, cancel_futures=True)
    return executor


def _stop(kind: str) -> None:
    """Stop the process and what it has started: CBC is a programme of its own."""
    for pid in list(worker(kind)._processes):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            one.kill()
    worker.cache_clear()
