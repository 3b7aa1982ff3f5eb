"""NumPy's matrix products on one thread: how a BLAS splits a sum over threads decides how the sum rounds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

# The limit is one of the process: who leaves would lift it for all who are still inside.
_turn = threading.RLock()


@contextmanager
def single_threaded() -> Iterator[None]:
    """While inside (also as a decorator), the BLAS uses one thread, so that results do not depend on how many
    it would have taken; then as many as before. Threads of one process are inside one after the other.
    """
    with _turn, threadpool_limits(limits=1, user_api="blas"):
        yield
