"""Weights and biases as integers: pure functions on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.ranges import S8_MAX, SMALLEST_SCALE

Array = npt.NDArray[Any]

# A bias takes at most half of int32, so that adding it to an accumulator cannot overflow.
BIAS_MAX = 1 << 30


def channel_max(weight: Array) -> npt.NDArray[np.float64]:
    """Largest magnitude of each output channel of a weight `[out, ...]`, shape [out]."""
    others = tuple(range(1, weight.ndim))
    largest: npt.NDArray[np.float64] = np.abs(weight).max(axis=others, initial=0.0).astype(np.float64)
    return largest


def channel_sum(weight: Array) -> npt.NDArray[np.float64]:
    """Sum of the magnitudes of each output channel of a weight `[out, ...]`, shape [out]."""
    others = tuple(range(1, weight.ndim))
    total: npt.NDArray[np.float64] = np.abs(weight).sum(axis=others, dtype=np.float64)
    return total


def weight_scales(largest: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Scale of each channel: its largest magnitude becomes 127.

    A channel of zeros, or of weights so small that they count as zero, gets the smallest scale of the
    others, so that its bias is no coarser than theirs (1 / 127 if there are no others).
    """
    scales = largest / S8_MAX
    dead = scales < SMALLEST_SCALE
    return np.where(dead, np.min(scales[~dead], initial=1.0 / S8_MAX), scales).astype(np.float32)


def grow_for_bias(
    scales: npt.NDArray[np.float32], bias: Array, input_scale: np.float32
) -> npt.NDArray[np.float32]:
    """Weight scales enlarged where `bias / (input_scale * scale)` would exceed half of int32.

    Such a bias outweighs its channel's products: what the coarser weights lose is below 1e-6 of the bias for
    every hundred products, far below a step of the output.
    """
    needed = np.abs(bias.astype(np.float64)) / (float(input_scale) * BIAS_MAX)
    # One part in 2**20 more, lest rounding to float32 fall short.
    return np.maximum(scales, needed * (1 + 2.0**-20)).astype(np.float32)


def quantize_bias(
    bias: Array, input_scale: np.float32, scales: npt.NDArray[np.float32], output_scale: np.float32 | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]] | None:
    """Integers and scales of a bias in steps of the accumulator, `input_scale * scales`.

    Returns None if that would be a worse bias than float32: the scale is not a normal float32, the integer
    does not fit, or rounding costs more than half a step of the output (`output_scale`; None for a float
    output).
    """
    exact = np.float64(input_scale) * scales.astype(np.float64)
    limits = np.finfo(np.float32)
    if (exact < float(limits.tiny)).any() or (exact > float(limits.max)).any():
        return None
    if output_scale is not None and (exact[bias != 0] > float(output_scale)).any():
        return None
    steps = exact.astype(np.float32)
    quantized = np.rint(bias.astype(np.float64) / steps.astype(np.float64))
    if (np.abs(quantized) > BIAS_MAX).any():
        return None
    return quantized.astype(np.int32), steps


def sqnr_db(reference: Array, approximation: Array) -> float:
    """Signal to quantization noise, decibels; infinite if equal."""
    noise = float(np.square(reference.astype(np.float64) - approximation).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    if noise == 0.0:
        return float("inf")
    return 10.0 * float(np.log10(signal / noise)) if signal > 0 else float("-inf")
