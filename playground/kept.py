"""What the server remembers for everybody, bounded by its bytes: a number of entries says nothing about memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by their key. The least recently used go when all together weigh more than `limit` bytes."""

    def __init__(self, limit: int, weigh: Callable[[T], int]) -> None:
        self.limit, self.weigh, self.weight = limit, weigh, 0
        self.items: OrderedDict[Any, T] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, key: Any) -> T | None:
        with self.lock:
            if key in self.items:
                self.items.move_to_end(key)
            return self.items.get(key)

    def put(self, key: Any, value: T) -> None:
        with self.lock:
            if key in self.items:
                self.weight -= self.weigh(self.items.pop(key))
            self.items[key] = value
            self.weight += self.weigh(value)
            while self.weight > self.limit and len(self.items) > 1:
                self.weight -= self.weigh(self.items.popitem(last=False)[1])
