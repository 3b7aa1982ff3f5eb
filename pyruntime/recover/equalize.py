"""Cross-layer equalization: give the channels of neighbouring weights like ranges, so that one scale per
weight serves them all (Nagel et al. 2019, "Data-free quantization through weight equalization and bias
correction", section 4.1).

For channel i of a span, with r1 the largest weight that makes it and r2 the largest that reads it, each
relative to its tensor, `s_i = sqrt(r1_i / r2_i)` makes both `sqrt(r1_i r2_i)`.

The network computes the same, with one reservation: a Clip at 6 (ReLU6) clips a channel at `6 s_i` of its
old units. Channels that reach the bound on the calibration data therefore keep a common scale, and the
others are scaled up to the bound at most: no value of the calibration data is clipped that was not before.
Then offsets of channels are absorbed by the biases behind them (`absorb`), which keeps to the same rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.evaluate import MakeRun, observe
from pyruntime.recover.absorb import absorb
from pyruntime.recover.common import own_layers
from pyruntime.recover.spans import Float, Span, by_channel, by_input, find_spans, input_factors, rescale

SWEEPS = 40
CONVERGED = 1e-3  # largest relative change of a scale in a sweep
# Channels that clip on no calibration sample end this far below the bound.
HEADROOM = 1.25
MAX_SCALE = 1e6


def equalize(
    model: ir.Model,
    data: Mapping[str, npt.NDArray[Any]],
    *,
    make_run: MakeRun | None = None,
) -> None:
    """Equalize a float model in place.

    Args:
        model: canonical float model, pruned or not; zero weights stay zero.
        data: calibration data.
    """
    spans = [span for span in find_spans(model) if any(_is_layer(node) for node in span.producers)]
    limits = clip_ratios(model, spans, data, make_run)
    scales = _solve(model, spans, limits)
    for span, scale in zip(spans, scales, strict=True):
        rescale(model, span, scale)
    absorb(model, data, make_run=make_run)


def _is_layer(node: ir.Node) -> bool:
    return node.op_type != "LayerNormalization"


def _solve(model: ir.Model, spans: Sequence[Span], limits: Mapping[Span, Float]) -> list[Float]:
    """Scale of every span, by sweeps over all of them until they no longer change."""
    layers = {layer.node: layer for layer in own_layers(model).values()}
    weights = {
        node: np.abs(by_input(layer, layer.array().astype(np.float64))) for node, layer in layers.items()
    }
    scales = [np.ones(span.channels) for span in spans]
    for _ in range(SWEEPS):
        change = 0.0
        for index, span in enumerate(spans):
            made = [weights[node] for node in span.producers if node in layers]
            made_ranges = [weight.max(axis=(2, 3)).reshape(-1) / _largest(weight) for weight in made]
            read_ranges = [
                weights[node].max(axis=(1, 2)).reshape(span.channels, -1).max(axis=1)
                / _largest(weights[node])
                for node in span.consumers
            ]
            step = balance(np.max(made_ranges, axis=0), np.max(read_ranges, axis=0))
            wanted = scales[index] * step
            if span in limits:
                wanted = within_clip(wanted, limits[span])
            wanted = np.clip(wanted, 1.0 / MAX_SCALE, MAX_SCALE)
            step = wanted / scales[index]
            scales[index] = wanted
            change = max(change, float(np.abs(step - 1.0).max(initial=0.0)))
            for node in span.producers:
                if node in layers:
                    shape = weights[node].shape
                    weights[node] = weights[node] / step.reshape(shape[0], shape[1], 1, 1)
            for node in span.consumers:
                weights[node] = weights[node] * input_factors(layers[node], step)
        if change < CONVERGED:
            break
    return scales


def balance(made: Float, read: Float) -> Float:
    """`sqrt(made / read)` per channel, their geometric mean 1; 1 for channels that nothing makes or reads."""
    alive = (made > 0) & (read > 0)
    ratio = np.divide(made, read, out=np.ones_like(made), where=alive)
    logs = 0.5 * np.log(ratio)
    centre = logs[alive].mean() if alive.any() else 0.0
    return np.where(alive, np.exp(logs - centre), 1.0)


def within_clip(wanted: Float, reached: Float) -> Float:
    """The scales nearest to `wanted`, up to a common factor, that clip no value which was not clipped before.

    Args:
        reached: largest value before the Clip as a part of the bound, per channel; at 1 and above it clips.
    """
    clips = reached >= 1.0
    least = np.minimum(HEADROOM * reached, 1.0)
    if not clips.any():
        return wanted * max(1.0, float((least / wanted).max()))
    centred = wanted / np.exp(np.log(wanted[clips]).mean())
    return np.where(clips, 1.0, np.maximum(centred, least))


def _largest(weight: Float) -> float:
    return float(weight.max(initial=0.0)) or 1.0


def clip_ratios(
    model: ir.Model, spans: Sequence[Span], data: Mapping[str, npt.NDArray[Any]], make_run: MakeRun | None
) -> dict[Span, Float]:
    """For spans with clips: the largest part of a bound that any value before them reaches, per channel."""
    found = {span: np.zeros(span.channels) for span in spans if span.clips}
    if not found:
        return found
    names = [_name(clip.inputs[0]) for span in found for clip in span.clips]
    for values in observe(model, data, names, make_run):
        for span, ratios in found.items():
            for clip in span.clips:
                x = values[_name(clip.inputs[0])]
                for bound, extreme in (("max", np.max), ("min", np.min)):
                    limit = graph.get_float(clip, bound, np.inf)
                    if np.isfinite(limit) and limit != 0.0 and x.size:
                        np.maximum(ratios, extreme(by_channel(span, x), axis=1) / limit, out=ratios)
    return found


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""
