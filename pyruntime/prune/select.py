"""Which groups fall, given their scores. Deterministic: of equal scores the first in index order falls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def keep_in_layer(scores: Scores, amount: float) -> Mask:
    """Mask of what stays when exactly `round(amount * size)` groups with the lowest scores fall."""
    return keep_overall([scores], amount)[0]


def keep_overall(scores: Sequence[Scores], amount: float) -> list[Mask]:
    """As `keep_in_layer`, with the groups of several layers in one ranking."""
    flat = np.concatenate([array.reshape(-1) for array in scores])
    order = np.argsort(flat, kind="stable")
    keep = np.ones(flat.size, bool)
    keep[order[: round(amount * flat.size)]] = False
    pieces = np.split(keep, np.cumsum([array.size for array in scores])[:-1])
    return [piece.reshape(array.shape) for piece, array in zip(pieces, scores, strict=True)]


def layer_adaptive(scores: Scores) -> Scores:
    """Scores comparable between layers: each divided by the sum of the layer's scores that are not lower.

    It is the relative error of dropping the group once all lower ones are gone (Lee et al. 2021,
    layer-adaptive magnitude). The order inside the layer stays; the best group of a layer always scores 1,
    so no layer vanishes before every other one is down to its last group.
    """
    flat = scores.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ascending = flat[order]
    remaining = np.cumsum(ascending[::-1])[::-1]
    adapted = np.zeros_like(flat)
    adapted[order] = np.divide(ascending, remaining, out=np.zeros_like(flat), where=remaining > 0)
    return adapted.reshape(scores.shape)
