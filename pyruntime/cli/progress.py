"""Progress bars on a terminal; silence everywhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Protocol


class Report(Protocol):
    """Called as the work proceeds: `stage` by name, `done` of `total` steps."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@contextlib.contextmanager
def progress() -> Iterator[Report | None]:
    """A callback that draws one bar per stage on stderr, or None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(total=total, desc=stage, leave=True, file=sys.stderr)
        bars[stage].total = total
        bars[stage].update(done - bars[stage].n)

    try:
        yield report
    finally:
        for bar in bars.values():
            bar.close()
