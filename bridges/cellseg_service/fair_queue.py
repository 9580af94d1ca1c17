"""A bounded queue that is fair between clients."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """First in, first out for each client; between clients one item each, in turn.

    A client that comes new waits until each of those before it had one item more. Not locked:
    the caller does that.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the order in which they will be taken."""
        rows = [deque(items) for items in self._waiting.values()]
        while rows:
            for row in rows:
                yield row.popleft()
            rows = [row for row in rows if row]

    def put(self, client: str, item: Item) -> None:
        """Add an item at the end of its client's row."""
        self._waiting.setdefault(client, deque()).append(item)

    def take(self) -> Item:
        """Remove and give the next item.

        Raises
        ------
        IndexError
            There is none.
        """
        if not self._waiting:
            raise IndexError("the queue is empty")
        client, items = self._waiting.popitem(last=False)
        item = items.popleft()
        if items:
            self._waiting[client] = items
        return item

    def remove(self, item: Item) -> bool:
        """Take out one item and say whether it was there."""
        for client, items in self._waiting.items():
            if item in items:
                items.remove(item)
                if not items:
                    del self._waiting[client]
                return True
        return False
