"""What a criterion is, and what it may look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What calibration data say of a layer; only what the criterion `needs` is there.

    Attributes:
        mean, moments: of the inputs x of one output over output positions: E[x] `[groups, taps * in]` and
            E[x x^T] `[groups, taps * in, taps * in]`.
        deviation: standard deviation of each output channel, `[out]`.
        signal: mean variance of the output channels.
        outputs, inputs, weights: as `effects.Effects`.
    """

    mean: npt.NDArray[Any] | None = None
    moments: npt.NDArray[Any] | None = None
    deviation: Scores | None = None
    signal: float = 0.0
    outputs: Scores | None = None
    inputs: Scores | None = None
    weights: Scores | None = None


@dataclass(frozen=True)
class Subject:
    """A layer to judge.

    Attributes:
        name: of its weight.
        weight: `[out, taps, in / groups]`, float32.
        groups: of a convolution, else 1.
        measured: from calibration data, None if there are none.
    """

    name: str
    weight: npt.NDArray[Any]
    groups: int = 1
    measured: Measured | None = None


Judge = Callable[[Subject], Scores]


@dataclass(frozen=True)
class Criterion:
    """How much weights matter; the lowest scores (>= 0) are pruned first.

    Attributes:
        weights: scores of single weights, `[out, taps, in / groups]`, for granularities below a channel.
        filters: scores of output channels, `[out]`.
        channels: scores of input channels, `[in / groups]`.
        needs: what must be measured for `filters` and `channels`, weights_need: for `weights`; some of
            `deviation`, `moments`, `gradients`, `weight gradients`.
        comparable: scores of filters and channels of different layers are losses of one kind and may be
            added and compared; otherwise a layer's scores are first divided by their mean.
        weights_comparable: the same of `weights`.
    A criterion has at least one of the three. Where `filters` or `channels` is missing, it is the mean of
    `weights`; without `weights` too, the layers on the other side of the channels are asked.
    """

    weights: Judge | None = None
    filters: Judge | None = None
    channels: Judge | None = None
    needs: tuple[str, ...] = ()
    weights_need: tuple[str, ...] = ()
    comparable: bool = False
    weights_comparable: bool = False


DAMPING = 0.01  # of the mean of what was measured


def squared(weight: npt.NDArray[Any]) -> Scores:
    """`weight ** 2` in float64: no overflow, and no underflow of normal float32 weights."""
    return np.square(weight.astype(np.float64))
