"""Several images at work at a time, their results in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], at_once: int, cancel: threading.Event
) -> Generator[Result]:
    """Give ``work(item)`` for each item, in the items' order; the next ones are at work already.

    Parameters
    ----------
    work
        Called in threads; what it raises is raised when the item's turn comes, and nothing
        after that is begun.
    at_once
        Items at work at a time.
    cancel
        Set when no more results are wanted, so that work under way can end early; it is waited
        for.
    """
    rest = iter(items)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(at_once, "cellseg-images") as pool:
        try:
            waiting.extend(pool.submit(work, item) for item in islice(rest, at_once))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
                yield result
        except BaseException:
            cancel.set()
            raise
        finally:
            for future in waiting:
                future.cancel()


class Gate:
    """Lets small images through side by side, and a large one only by itself."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False

    @contextmanager
    def enter(self, *, alone: bool) -> Iterator[None]:
        """Wait until there is room, and take it for the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not (alone and self._inside))
            self._inside += 1
            self._alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._alone = False
                self._changed.notify_all()
