"""What each form of each layer costs: the error of the outputs with this one layer changed, and bytes.

The network runs once, layer by layer, over a choice of the samples (`Prefix`), and memory does not grow with
them. At each layer, every form is made from the inputs of the float network on half of the samples, and the
rest of the network runs on what the layer gives in that form for the other half: a form that fits the samples
it was made from, and no others, is not mistaken for a good one. Activations stay in float32: the table is
about weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.blas import single_threaded
from pyruntime.columns import sample_rows
from pyruntime.evaluate import SMALL_SAMPLE, MakeRun, batch_size, fixed_batch, sample_count
from pyruntime.layers import Layer
from pyruntime.prefix import Prefix
from pyruntime.recover.common import own_layers, set_layer, value_name
from pyruntime.recover.sums import Sums
from pyruntime.search.options import Option
from pyruntime.search.trial import Subject, Trial

Array = npt.NDArray[Any]
Progress = Any  # called with steps done and steps in all

# Samples that are run: the table needs fewer than rounding does.
SAMPLES, LARGE_SAMPLES = 256, 32
# Input rows of a layer with k columns.
ROWS_PER_COLUMN, LEAST_ROWS = 4, 1 << 10
SEED = 0
TINY = 1e-30


@dataclass(frozen=True)
class Row:
    """A layer in one form.

    Attributes:
        layer, op, shape: of the node and its weight.
        option: the form.
        loss: squared error of the outputs over their squares (mean over the outputs).
        bytes: of weight and scales in the file; float_bytes: of the float32 weight.
        zeros: share of the weights that are 0.
        microseconds: of the layer on this CPU, None if it was not timed.
    """

    layer: str
    op: str
    shape: tuple[int, ...]
    option: Option
    loss: float
    bytes: int
    float_bytes: int
    zeros: float
    microseconds: float | None = None

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "option": self.option.label}


@single_threaded()
def measure(
    model: ir.Model,
    data: Mapping[str, Array],
    options: Sequence[Option],
    *,
    anchors: int | None = None,
    make_run: MakeRun | None = None,
    progress: Progress = None,
) -> list[Row]:
    """Rows of all layers that have a weight of their own, front to back, options in order, without those that
    do not fit a layer.

    Args:
        model: canonical float model; it is not changed.
        data: calibration data.
        anchors: options of a layer, at least 2, for which the network runs to its outputs; the losses of
            those between are interpolated by the error of the layer's own output. None: all.
    """
    chosen = choose_samples(data)
    size = batch_size(model, chosen)
    together = fixed_batch(model) or 1
    halves = split(chosen, together) if sample_count(chosen) >= 2 * together else [chosen, chosen]
    fitted, judged = (Prefix(model, half, make_run, batch=size) for half in halves)
    rows: list[Row] = []
    layers = own_layers(model)
    for number, layer in enumerate(layers.values()):
        fitted.advance(layer.node)
        judged.advance(layer.node)
        sums = _gather(layer, fitted, sample_count(halves[0]))
        if sums and sums[0].count:
            fitting = [option for option in options if option.fits(layer)]
            subject = Subject(layer, sums, sample_count(halves[0]))
            trials = [subject.trial(option) for option in fitting]
            losses = _losses(model, layer, judged, trials, anchors)
            for option, trial, loss in zip(fitting, trials, losses, strict=True):
                rows.append(_row(layer, option, trial, loss))
        if progress is not None:
            progress(number + 1, len(layers))
    return rows


def choose_samples(data: Mapping[str, Array]) -> dict[str, Array]:
    """Evenly spaced samples, as many as are run."""
    largest = max(int(np.prod(array.shape[1:])) for array in data.values())
    count, most = sample_count(data), SAMPLES if largest <= SMALL_SAMPLE else LARGE_SAMPLES
    if count <= most:
        return dict(data)
    index = np.arange(most) * count // most
    return {name: np.ascontiguousarray(array[index]) for name, array in data.items()}


def split(data: Mapping[str, Array], together: int) -> list[dict[str, Array]]:
    """Every other `together` samples, and the rest."""
    first = np.arange(sample_count(data)) // together % 2 == 0
    return [
        {name: np.ascontiguousarray(array[: len(first)][keep]) for name, array in data.items()}
        for keep in (first, ~first)
    ]


def _gather(layer: Layer, prefix: Prefix, samples: int) -> list[Sums]:
    name = value_name(layer.node.inputs[0])
    rows = max(LEAST_ROWS, ROWS_PER_COLUMN * layer.array()[0].size)
    found = [Sums() for _ in range(layer.groups)]
    for batch, values in enumerate(prefix.values([name])):
        x = values[name]
        if x.size == 0:
            continue
        count = -(-rows * len(x) // samples)
        parts = sample_rows(layer, x, count, np.random.default_rng((SEED, batch)))
        for sums, part in zip(found, parts, strict=True):
            sums.update(part, None)
    return found


def _losses(
    model: ir.Model, layer: Layer, prefix: Prefix, trials: Sequence[Trial], anchors: int | None
) -> list[float]:
    """Mean over the outputs of their relative squared error, for each trial."""
    forms = [_with_layer(model, layer, trial) for trial in trials]
    if anchors is None or anchors >= len(trials):
        return _output_losses(model, layer, prefix, forms)
    own = _own_losses(model, layer, prefix, forms)
    chosen = spread_out(own, anchors)
    measured = _output_losses(model, layer, prefix, [forms[index] for index in chosen])
    return interpolate(own, own[chosen], np.array(measured))


def spread_out(values: Array, count: int) -> list[int]:
    """Indices of so many of the values, evenly over the range of their logarithms, ascending by value."""
    order = np.argsort(values, kind="stable")
    logs = np.log(np.maximum(values[order], TINY))
    places = np.abs(logs[:, None] - np.linspace(logs[0], logs[-1], count)).argmin(axis=0)
    return [int(index) for index in order[np.unique(places)]]


def interpolate(x: Array, known_x: Array, known_y: Array) -> list[float]:
    """y at x, linear between logarithms; known_x ascending."""
    wanted, places, values = (np.log(np.maximum(array, TINY)) for array in (x, known_x, known_y))
    found: Array = np.exp(np.interp(wanted, places, values))
    return [float(value) for value in found]


def _own_losses(model: ir.Model, layer: Layer, prefix: Prefix, forms: Sequence[ir.Model]) -> Array:
    """Squared error of what the layer itself makes, for each form."""
    errors = np.zeros(len(forms))
    for reference, *found in prefix.results(layer.node, [model, *forms]):
        errors += [float(np.square(array - reference, dtype=np.float64).sum()) for array in found]
    return errors


def _output_losses(model: ir.Model, layer: Layer, prefix: Prefix, forms: Sequence[ir.Model]) -> list[float]:
    signal: dict[str, float] = {}
    noise: list[dict[str, float]] = [{} for _ in forms]
    for outputs in prefix.variants(layer.node, [model, *forms]):
        reference = {name: array.astype(np.float64) for name, array in outputs[0].items()}
        for name, wanted in reference.items():
            signal[name] = signal.get(name, 0.0) + float(np.square(wanted).sum())
            for sums, found in zip(noise, outputs[1:], strict=True):
                sums[name] = sums.get(name, 0.0) + float(np.square(found[name] - wanted).sum())
    return [float(np.mean([sums[name] / max(signal[name], TINY) for name in signal])) for sums in noise]


def _with_layer(model: ir.Model, layer: Layer, trial: Trial) -> ir.Model:
    copy = graph.clone(model)
    set_layer(copy, own_layers(copy)[layer.name], trial.weight, trial.bias)
    return copy


def _row(layer: Layer, option: Option, trial: Trial, loss: float) -> Row:
    weight = trial.weight
    zeros = float(np.count_nonzero(weight == 0) / weight.size)
    return Row(layer.name, layer.node.op_type, layer.shape, option, loss, trial.bytes, 4 * weight.size, zeros)
