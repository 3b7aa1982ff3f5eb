"""Move the spread of activations into weights: channels of one tensor get like ranges, so that one scale per
tensor serves them all (SmoothQuant, Xiao et al. 2023).

For channel j of a span, `s_j = max|X_j|^a / max|W_j|^(1 - a)` divides the activations and multiplies the
weights that read them; what makes the tensor (a LayerNormalization, a dense layer, a convolution) takes in
1 / s. The paper takes one `a` for a network. Here each span takes the `a` with the least rounding noise at
the outputs of its consumers, estimated from the second moments of the data, and none if none helps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.evaluate import MakeRun, observe
from pyruntime.layers import Layer
from pyruntime.quantize.ranges import S8_MAX, U8_STEPS
from pyruntime.recover.common import own_layers
from pyruntime.recover.spans import Float, Span, by_channel, by_input, find_spans, input_factors, rescale

STRENGTHS = (0.25, 0.4, 0.5, 0.6, 0.75)  # of a


@dataclass
class Activations:
    """What the data says of the channels of a tensor: extremes, and mean of squares."""

    low: Float
    high: Float
    squares: Float
    count: int = 0

    @classmethod
    def of(cls, channels: int) -> Activations:
        return cls(np.zeros(channels), np.zeros(channels), np.zeros(channels))

    def update(self, values: npt.NDArray[Any]) -> None:
        """Add values `[channels, n]`."""
        if values.size:
            self.low = np.minimum(self.low, values.min(axis=1))
            self.high = np.maximum(self.high, values.max(axis=1))
            self.squares = self.squares + np.square(values, dtype=np.float64).sum(axis=1)
            self.count += values.shape[1]

    @property
    def largest(self) -> Float:
        return np.maximum(-self.low, self.high)


def smooth(
    model: ir.Model,
    data: Mapping[str, npt.NDArray[Any]],
    *,
    make_run: MakeRun | None = None,
) -> None:
    """Smooth the activations of a float model in place; the network computes the same. Meant for weights with
    a scale per output channel.

    Spans with a Clip at other than 0 (ReLU6) are left alone: the bound already keeps their channels alike,
    and scaling them up to it clips values that the calibration data does not hold.

    Args:
        model: canonical float model, pruned or not; zero weights stay zero.
        data: calibration data.
    """
    spans = [span for span in find_spans(model) if not span.clips]
    found = _observe(model, spans, data, make_run)
    layers = {layer.node: layer for layer in own_layers(model).values()}
    for span in spans:
        scale = best_scale(span, [layers[node] for node in span.consumers], found[span])
        if scale is not None:
            rescale(model, span, scale)


def best_scale(span: Span, consumers: Sequence[Layer], seen: Activations) -> Float | None:
    """The scale with the least noise among those of all strengths; None if they make it worse."""
    weights = [np.abs(by_input(layer, layer.array().astype(np.float64))) for layer in consumers]
    read = np.max([_rows(weight, span.channels).max(axis=1) for weight in weights], axis=0)
    alive = (seen.largest > 0) & (read > 0)
    best, least = None, _noise(weights, consumers, seen, np.ones(span.channels))
    for strength in STRENGTHS:
        wanted = np.ones(span.channels)
        wanted[alive] = seen.largest[alive] ** strength / read[alive] ** (1 - strength)
        scale = wanted / (np.exp(np.log(wanted[alive]).mean()) if alive.any() else 1.0)
        noise = _noise(weights, consumers, seen, scale)
        if noise < least:
            best, least = scale, noise
    return best


def _noise(weights: Sequence[Float], consumers: Sequence[Layer], seen: Activations, scale: Float) -> float:
    """Estimated noise of all consumers relative to their signal: of u8 activations with one scale, and of s8
    weights with one per output channel.
    """
    step = float((seen.high / scale).max() - (seen.low / scale).min()) / U8_STEPS
    squares = seen.squares / max(seen.count, 1)
    total = 0.0
    for layer, weight in zip(consumers, weights, strict=True):
        scaled = weight * input_factors(layer, scale)
        energy = input_factors(layer, squares / np.square(scale))
        signal = float((np.square(scaled) * energy).sum())
        # Zero weights have no noise.
        steps = scaled.max(axis=(2, 3), keepdims=True) / S8_MAX
        noise = step * step * float(np.square(scaled).sum()) + float(
            (steps * steps * energy * (scaled > 0)).sum()
        )
        total += noise / signal if signal > 0 else 0.0
    return total


def _rows(weight: Float, channels: int) -> Float:
    """`by_input` weights as `[channels, n]`."""
    moved = weight.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(moved).reshape(channels, -1)


def _observe(
    model: ir.Model, spans: Sequence[Span], data: Mapping[str, npt.NDArray[Any]], make_run: MakeRun | None
) -> dict[Span, Activations]:
    found = {span: Activations.of(span.channels) for span in spans}
    names = [value.name or "" for span in spans for value in span.inputs]
    for values in observe(model, data, names, make_run):
        for span, seen in found.items():
            for value in span.inputs:
                seen.update(by_channel(span, values[value.name or ""]))
    return found
