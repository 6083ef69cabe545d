"""Waiting for what comes at its own time, and doing much at the same time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from gateway_process import WAIT_S


def wait_until(what: str, holds: Callable[[], bool]) -> None:
    """Looks until it holds."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
        time.sleep(0.005)


def at_once(count: int, do: Callable[[int], object]) -> list:
    """What `do` returns for each number below `count`: all begin when the last is ready to."""
    ready = threading.Barrier(count)

    def one(number: int) -> object:
        ready.wait(WAIT_S)
        return do(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))
