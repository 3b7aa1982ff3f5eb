"""A function over items on several threads: decoding lets go of the interpreter lock where it takes time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_largest_first(
    function: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int], num_threads: int
) -> list[Result]:
    """[function(item) for item in items], begun with the largest. Raises what the first in order raises."""
    order = deque(sorted(range(len(items)), key=lambda i: -sizes[i]))
    results: dict[int, Result] = {}
    failures: dict[int, Exception] = {}

    def work() -> None:
        while True:
            try:
                i = order.popleft()
            except IndexError:
                return
            try:
                results[i] = function(items[i])
            except Exception as error:  # handed to the caller
                failures[i] = error

    threads = [threading.Thread(target=work) for _ in range(min(num_threads, len(items)) - 1)]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        order.clear()  # after an interrupt nothing more is begun
        for thread in threads:
            thread.join()
    if failures:
        raise failures[min(failures)]
    return [results[i] for i in range(len(items))]
