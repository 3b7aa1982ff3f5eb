"""Where the channels of a tensor go when it is reshaped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyruntime.graph.dimensions import Dim
from pyruntime.prune.dependency.labels import Labels, LabelTable

Block = tuple[range, range]
"""Axes before and axes after that hold the same elements in the same order."""


def blocks(before: Sequence[Dim], after: Sequence[Dim]) -> list[Block]:
    """The finest blocks of a reshape; what symbols make undecidable is one block.

    Matched from the left as far as sizes agree, then from the right.
    """
    left, (i, j) = _from_left(before, after)
    if i == len(before) and j == len(after):
        return left
    rest_before, rest_after = list(before[i:])[::-1], list(after[j:])[::-1]
    right, (p, q) = _from_left(rest_before, rest_after)
    end_before, end_after = len(before), len(after)
    mirrored = [
        (range(end_before - b.stop, end_before - b.start), range(end_after - a.stop, end_after - a.start))
        for b, a in reversed(right)
    ]
    middle = (range(i, end_before - p), range(j, end_after - q))
    return [*left, *([middle] if middle[0] or middle[1] else []), *mirrored]


def _from_left(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[list[Block], tuple[int, int]]:
    """Closed blocks, and the first axes that belong to none."""
    found: list[Block] = []
    i = j = 0
    while i < len(before) and j < len(after):
        p, q = i + 1, j + 1
        while (size := _product(before[i:p])) != (other := _product(after[j:q])):
            shorter_before = size[0] < other[0] or (size[0] == other[0] and len(size[1]) < len(other[1]))
            if shorter_before and p < len(before):
                p += 1
            elif not shorter_before and q < len(after):
                q += 1
            else:
                return found, (i, j)
        found.append((range(i, p), range(j, q)))
        i, j = p, q
    if found and all(dim == 1 for dim in (*before[i:], *after[j:])):
        last_before, last_after = found[-1]
        found[-1] = (range(last_before.start, len(before)), range(last_after.start, len(after)))
        i, j = len(before), len(after)
    return found, (i, j)


def _product(dims: Sequence[Dim]) -> tuple[int, list[str]]:
    numbers = [dim for dim in dims if isinstance(dim, int)]
    return int(np.prod(numbers, dtype=np.int64)), sorted(dim for dim in dims if isinstance(dim, str))


def move(
    table: LabelTable, axis: int, labels: Labels, before: Sequence[Dim], after: Sequence[Dim]
) -> tuple[int, Labels] | str:
    """Axis and labels after a reshape, ties made where one channel is cut into several axes; or why not."""
    block = next(((b, a) for b, a in blocks(before, after) if axis in b), None)
    if block is None or not block[1]:
        return "reshaped in a way that cannot be followed"
    sizes = [before[i] for i in block[0]]
    targets = [after[j] for j in block[1]]
    if not all(isinstance(dim, int) for dim in (*sizes, *targets)):
        return "reshaped together with an axis of unknown size"
    view = [1] * len(sizes)
    view[axis - block[0].start] = -1
    spread = np.broadcast_to(labels.reshape(view), [int(dim) for dim in sizes])
    cube = spread.reshape([int(dim) for dim in targets])
    chosen = _choose(table, cube, before, axis)
    rows = np.moveaxis(cube, chosen, 0).reshape(cube.shape[chosen], -1)
    for column in rows.T[1:]:
        table.tie(rows[:, 0], column)
    return block[1].start + chosen, rows[:, 0].copy()


def _choose(table: LabelTable, cube: Labels, before: Sequence[Dim], axis: int) -> int:
    """Which axis of the cube goes on holding the channels. Any choice is right; a bad one ties more than need
    be.
    """
    classes = table.classes(cube)
    axes = sorted(range(cube.ndim), key=lambda a: (-cube.shape[a], -a))
    for candidate in axes:
        rows = np.moveaxis(classes, candidate, 0).reshape(cube.shape[candidate], -1)
        if (rows == rows[:, :1]).all():
            return candidate
    if axis == len(before) - 1 and cube.ndim > 1:
        # Features `[N, C * H * W]` become an image; tokens `[N, S, heads * size]` become heads.
        return 0 if len(before) == 2 else cube.ndim - 2
    return axes[0]
