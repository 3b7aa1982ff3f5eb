"""Labels of channels: a union-find over all channels of a network, with the reasons why some cannot go."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.intp]
"""One label per channel of an axis."""


class LabelTable:
    """Channels that must stay or go together have the same class.

    Every call of `new` is a source: one operator that makes channels of its own. Sources whose channels were
    tied form one group.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._source: list[int] = []
        self._source_parent: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Labels:
        """`count` fresh labels of one source."""
        first, source = len(self._parent), len(self._source_parent)
        self._parent.extend(range(first, first + count))
        self._source.extend([source] * count)
        self._source_parent.append(source)
        return np.arange(first, first + count)

    def tie(self, a: Labels, b: Labels) -> None:
        """Put `a[i]` and `b[i]` into one class, for every i."""
        for first, second in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True):
            self._unite(first, second)

    def fix(self, labels: Iterable[int], reason: str) -> None:
        """These channels stay. The first reason given for a class is the one reported."""
        for label in labels:
            self._reasons.setdefault(_find(self._parent, int(label)), reason)

    def classes(self, labels: Labels) -> Labels:
        """Class of each label, same shape."""
        found = [_find(self._parent, label) for label in labels.reshape(-1).tolist()]
        return np.array(found, dtype=np.intp).reshape(labels.shape)

    def group(self, label: int) -> int:
        """Group of a label: all channels that its source is tied with, directly or not."""
        return _find(self._source_parent, self._source[label])

    def reason(self, label: int) -> str:
        """Why the class of the label is fixed, empty if it is not."""
        return self._reasons.get(_find(self._parent, int(label)), "")

    def _unite(self, a: int, b: int) -> None:
        _join(self._source_parent, self._source[a], self._source[b])
        root_a, root_b = _find(self._parent, a), _find(self._parent, b)
        if root_a == root_b:
            return
        keep, gone = min(root_a, root_b), max(root_a, root_b)
        self._parent[gone] = keep
        reason = self._reasons.pop(gone, "")
        if reason:
            self._reasons.setdefault(keep, reason)


def _find(parent: list[int], item: int) -> int:
    root = item
    while parent[root] != root:
        root = parent[root]
    while parent[item] != root:
        parent[item], item = root, parent[item]
    return root


def _join(parent: list[int], a: int, b: int) -> None:
    root_a, root_b = _find(parent, a), _find(parent, b)
    parent[max(root_a, root_b)] = min(root_a, root_b)
