"""Which option each layer takes: the least total loss within a budget, by dynamic programming."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# The budget is counted in this many units; costs round up to whole units, so the budget always holds, and a
# choice that fills the last units of it may be missed.
UNITS = 20_000


def allocate(losses: Sequence[Sequence[float]], costs: Sequence[Sequence[float]], budget: float) -> list[int]:
    """Index of the option of each layer, with the least sum of losses among those whose costs fit the budget.

    Args:
        losses, costs: `[layers][options]`, finite, >= 0; layers may have different numbers of options.
    Of equal losses the cheaper option wins. Layers do not interact: the sums are all that counts.
    Returns the cheapest choice of all if even that is over the budget; the caller asks `total`.
    """
    cheapest = [int(np.lexsort((loss, cost))[0]) for loss, cost in zip(losses, costs, strict=True)]
    if not losses or total(costs, cheapest) >= budget:
        return cheapest
    unit = budget / UNITS
    # Exact where rounding up would lock the budget out: what the cheapest choice costs is paid beforehand.
    extra = [
        np.ceil((np.asarray(cost) - cost[base]) / unit - 1e-9).astype(np.int64)
        for cost, base in zip(costs, cheapest, strict=True)
    ]
    room = int(np.floor((budget - total(costs, cheapest)) / unit + 1e-9))
    best = np.zeros(room + 1)
    chosen: list[npt.NDArray[np.int16]] = []
    for loss, more in zip(losses, extra, strict=True):
        after = np.full(room + 1, np.inf)
        choice = np.zeros(room + 1, np.int16)
        for option in np.argsort(more, kind="stable"):
            shift = int(more[option])
            if shift > room:
                break
            found = np.full(room + 1, np.inf)
            found[shift:] = best[: room + 1 - shift] + loss[option]
            better = found < after
            after[better] = found[better]
            choice[better] = option
        best = after
        chosen.append(choice)
    return _read_back(chosen, extra, room)


def _read_back(
    chosen: Sequence[npt.NDArray[np.int16]], extra: Sequence[npt.NDArray[np.int64]], room: int
) -> list[int]:
    options: list[int] = []
    for choice, more in zip(reversed(chosen), reversed(extra), strict=True):
        option = int(choice[room])
        options.append(option)
        room -= int(more[option])
    return options[::-1]


def total(values: Sequence[Sequence[float]], options: Sequence[int]) -> float:
    """Sum of the values of the chosen options."""
    return float(sum(row[option] for row, option in zip(values, options, strict=True)))
