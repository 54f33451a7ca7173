"""How many processor cores torch uses, and what a training does with several beside its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use a number of threads for as long as the block runs.

    Parameters
    ----------
    number : int
        At least 1.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, number))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Crew:
    """As many threads as there are cores; each works with one core."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._pool = ThreadPoolExecutor(number, thread_name_prefix="train") if number > 1 else None

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Apply a function to each item; results in the items' order."""
        if self._pool is None or len(items) < 2:
            return [work(item) for item in items]
        return list(self._pool.map(work, items))

    def begin(self, work: Callable[[], Result]) -> Future[Result]:
        """Do something beside what comes next; with one core, at once."""
        if self._pool is not None:
            return self._pool.submit(work)
        done: Future[Result] = Future()
        done.set_result(work())
        return done

    def close(self) -> None:
        """Let the threads go, without waiting for work not begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def crew(device: torch.device) -> Iterator[Crew]:
    """Threads for a training: on a processor one a core, on a GPU none.

    Parameters
    ----------
    device : torch.device
        Where the network is.

    Yields
    ------
    Crew
        Of as many threads as torch was allowed; torch itself uses one in each as long as the block runs.
    """
    if device.type != "cpu":
        yield Crew(1)
        return
    found = Crew(torch.get_num_threads())
    with threads(1):
        try:
            yield found
        finally:
            found.close()
