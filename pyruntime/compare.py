"""Two models on the same data: accuracy, agreement, and how far outputs and layers drift apart."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.errors import DataError, ModelError
from pyruntime.loading import Data, load_data, load_program
from pyruntime.program import RANGES, Program, Value
from pyruntime.session import InferenceSession, SessionOptions

Array = npt.NDArray[Any]

BATCH = 32
NO_SIGNAL = -999.0  # dB
# Values a float model and its compressed form both have: results of these operators are worth a row.
SKIPPED_OPS = {
    "quantize",
    "dequantize",
    "cast",
    "reshape",
    "flatten",
    "squeeze",
    "unsqueeze",
    "transpose",
    "slice",
}
# What the output of a QuantizeLinear is called after its tensor: by our tools, and by ONNX Runtime's.
QUANTIZED_SUFFIXES = ("_quantize_output", "_QuantizeLinear_Output", "_quantized")


@dataclass
class Extent:
    """Smallest and largest value of each channel seen so far."""

    low: Array | float = math.inf
    high: Array | float = -math.inf

    def add(self, values: Array, axis: int) -> None:
        if values.size:
            others = tuple(i for i in range(values.ndim) if i != axis)
            self.low = np.minimum(self.low, values.min(axis=others))
            self.high = np.maximum(self.high, values.max(axis=others))

    @property
    def varies(self) -> Array:
        """Whether a channel takes more than one value."""
        return np.asarray(self.high) > np.asarray(self.low)


@dataclass
class Difference:
    """Running sums over samples of a value `r` (reference) and `c` (candidate).

    Attributes:
        axis: where the channels stand; None if there are none to speak of.
        limits: the lowest and the highest real number the candidate's integers can say; None if it is float.
    """

    axis: int | None = None
    limits: tuple[float, float] | None = None
    signal: float = 0.0  # sum r^2
    noise: float = 0.0  # sum (r - c)^2
    candidate: float = 0.0  # sum c^2
    product: float = 0.0  # sum r*c
    max_error: float = 0.0
    saturated: int = 0  # values of r beyond the limits
    extents: tuple[Extent, Extent] = field(default_factory=lambda: (Extent(), Extent()))

    def add(self, reference: Array, candidate: Array) -> None:
        """Takes two arrays of one shape (real numbers)."""
        if self.limits is not None:
            low, high = self.limits
            self.saturated += int(np.count_nonzero((reference < low) | (reference > high)))
        if self.axis is not None and self.axis < reference.ndim:
            self.extents[0].add(reference, self.axis)
            self.extents[1].add(candidate, self.axis)
        r = reference.astype(np.float64).ravel()
        c = candidate.astype(np.float64).ravel()
        error = r - c
        self.signal += float(r @ r)
        self.noise += float(error @ error)
        self.candidate += float(c @ c)
        self.product += float(r @ c)
        self.max_error = max(self.max_error, float(np.abs(error).max(initial=0.0)))

    @property
    def sqnr_db(self) -> float | None:
        """10 log10(sum r^2 / sum (r - c)^2); None if there is no noise at all, NO_SIGNAL if there is
        nothing but noise (the reference is all zero, or one of the two has NaN or infinite values).
        """
        if self.noise == 0.0:
            return None
        ratio = self.signal / self.noise
        return 10.0 * math.log10(ratio) if 0.0 < ratio < math.inf else NO_SIGNAL

    @property
    def cosine(self) -> float:
        """Cosine of the two vectors; 1 if both are zero, 0 if only one is."""
        norms = math.sqrt(self.signal * self.candidate)
        if norms == 0.0:
            return 1.0 if self.signal == self.candidate else 0.0
        return min(1.0, max(-1.0, self.product / norms))

    @property
    def dead_channels(self) -> list[int]:
        """Channels that vary in the reference and are constant in the candidate."""
        reference, candidate = self.extents
        return [int(i) for i in np.flatnonzero(reference.varies & ~candidate.varies)]

    def row(self, name: str) -> dict[str, Any]:
        """The figures as JSON."""
        return {
            "name": name,
            "sqnr_db": self.sqnr_db,
            "cosine": self.cosine,
            "max_error": self.max_error,
            "saturated": None if self.limits is None else self.saturated,
            "dead_channels": self.dead_channels,
        }


def compare_files(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    data: str | os.PathLike[str],
    options: SessionOptions | None = None,
) -> dict[str, Any]:
    """Compares two model files (`.onnx` or `.pyrt`) on the samples of a `.npz`; see `compare_programs`."""
    first = load_program(reference)
    second = load_program(candidate)
    samples = load_data(data, InferenceSession(first, options).get_inputs())
    return compare_programs(first, second, samples, options)


def compare_programs(
    reference: Program, candidate: Program, data: Data, options: SessionOptions | None = None
) -> dict[str, Any]:
    """Runs both programs on all samples.

    Returns `samples, reference_accuracy, candidate_accuracy` (None without labels), `agreement` (share of
    samples with the same arg max of the first output; None if that is not [samples, classes]), and `outputs`
    and `layers`: rows `name, sqnr_db, cosine, max_error, saturated, dead_channels`, layers being the values
    both programs know by name and that have the same shape in both, worst SQNR first. `saturated` counts the
    values of the reference that the candidate's integers cannot reach (None if it is float there);
    `dead_channels` lists the channels that vary in the reference and are constant in the candidate.
    Raises ModelError if inputs or outputs of the two differ.
    """
    _check_same_interface(reference, candidate)
    shared = _shared_values(reference, candidate)
    pairs = [*zip(reference.outputs, candidate.outputs, strict=True), *shared]
    names = [name for name, _ in pairs]
    first = InferenceSession(_with_outputs(reference, names), options)
    second = InferenceSession(_with_outputs(candidate, [name for _, name in pairs]), options)
    axes = _channel_axes(reference)
    differences = {
        name: Difference(axes.get(name), _limits(candidate.values[other])) for name, other in pairs
    }
    classes: tuple[list[Array], list[Array]] = ([], [])
    for feed in batches(data, first):
        results = (first.run(names, feed), second.run([name for _, name in pairs], feed))
        for (name, other), r, c in zip(pairs, *results, strict=True):
            real_r, real_c = _real(reference, name, r), _real(candidate, other, c)
            if real_r.shape != real_c.shape:
                raise ModelError(
                    f"value {name!r}: the models give shapes {list(r.shape)} and {list(c.shape)}"
                )
            differences[name].add(real_r, real_c)
        for kept, arrays in zip(classes, results, strict=True):
            kept.append(arrays[0])
    outputs = [np.concatenate(kept) for kept in classes]
    is_classifier = outputs[0].ndim == 2
    predictions = [output.argmax(axis=1) for output in outputs] if is_classifier else []
    accuracies: list[float | None] = [None, None]
    if data.labels is not None:
        if not is_classifier:
            raise DataError(f"{data.path}: has labels, but output {names[0]!r} is not [samples, classes]")
        accuracies = [float((prediction == data.labels).mean()) for prediction in predictions]
    layers = [differences[name].row(tensor_name(name)) for name, _ in shared]
    return {
        "samples": data.samples,
        "reference_accuracy": accuracies[0],
        "candidate_accuracy": accuracies[1],
        "agreement": float((predictions[0] == predictions[1]).mean()) if is_classifier else None,
        "outputs": [differences[name].row(name) for name in reference.outputs],
        "layers": sorted(layers, key=lambda row: math.inf if row["sqnr_db"] is None else row["sqnr_db"]),
    }


def accuracy(session: InferenceSession, data: Data) -> float:
    """Share of samples whose label is the arg max of the first output, [samples, classes]."""
    if data.labels is None:
        raise DataError(f"{data.path}: has no array 'labels'")
    outputs = np.concatenate([session.run(None, feed)[0] for feed in batches(data, session)])
    return float((outputs.argmax(axis=1) == data.labels).mean())


def batches(data: Data, session: InferenceSession) -> Iterator[dict[str, Array]]:
    """The samples in batches the model takes: its own batch size if fixed, else 32.

    Raises DataError if a fixed batch size does not divide the number of samples.
    """
    fixed = {argument.shape[0] for argument in session.get_inputs() if isinstance(argument.shape[0], int)}
    size = int(next(iter(fixed))) if fixed else BATCH
    if fixed and (size == 0 or data.samples % size):
        raise DataError(
            f"{data.path}: {data.samples} samples do not fill batches of {size}, the model's batch size"
        )
    for start in range(0, data.samples, size):
        yield {name: array[start : start + size] for name, array in data.inputs.items()}


def _check_same_interface(reference: Program, candidate: Program) -> None:
    for kind, mine, other in (
        ("inputs", reference.inputs, candidate.inputs),
        ("outputs", reference.outputs, candidate.outputs),
    ):
        if (sorted(mine) if kind == "inputs" else len(mine)) != (
            sorted(other) if kind == "inputs" else len(other)
        ):
            raise ModelError(f"the models have different {kind}: {', '.join(mine)} and {', '.join(other)}")
    for name in reference.inputs:
        if reference.values[name].dtype != candidate.values[name].dtype:
            raise ModelError(
                f"input {name!r} is {reference.values[name].dtype} in the reference and "
                f"{candidate.values[name].dtype} in the candidate"
            )


def _shared_values(reference: Program, candidate: Program) -> list[tuple[str, str]]:
    """Pairs of values that are the same tensor of the network, in the order of the reference.

    A value has its ONNX name; a quantized one that of the output of its QuantizeLinear.
    """
    made: list[dict[str, str]] = []
    for program in (reference, candidate):
        outputs = [node.outputs[0] for node in program.nodes if node.op not in SKIPPED_OPS]
        real = [name for name in outputs if _is_real(program.values[name]) and name not in program.outputs]
        made.append({tensor_name(name): name for name in real})
    pairs = [(name, made[1][tensor]) for tensor, name in made[0].items() if tensor in made[1]]
    return [pair for pair in pairs if _same_shape(reference.values[pair[0]], candidate.values[pair[1]])]


def _same_shape(a: Value, b: Value) -> bool:
    """Whether two shapes agree as far as both are known; where channels were removed they do not."""
    return len(a.shape) == len(b.shape) and not any(
        isinstance(i, int) and isinstance(j, int) and i != j for i, j in zip(a.shape, b.shape, strict=True)
    )


def _channel_axes(program: Program) -> dict[str, int]:
    """Where the channels of a value stand: axis 1, but the last of a tensor of rank 3 that no Conv made."""
    axes = {}
    for node in program.nodes:
        rank = len(program.values[node.outputs[0]].shape)
        if rank >= 2:
            axes[node.outputs[0]] = 2 if rank == 3 and node.op != "conv" else 1
    return axes


def _limits(value: Value) -> tuple[float, float] | None:
    """What a quantized value rounds to its ends without clipping: half a step more than its integers say."""
    if value.scale is None:
        return None
    low, high = RANGES[value.dtype]
    zero_point = value.zero_point or 0
    return (low - zero_point - 0.5) * value.scale, (high - zero_point + 0.5) * value.scale


def tensor_name(name: str) -> str:
    for suffix in QUANTIZED_SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _is_real(value: Value) -> bool:
    return value.dtype == "f32" or value.scale is not None


def _with_outputs(program: Program, names: list[str]) -> Program:
    return replace(program, outputs=names)


def _real(program: Program, name: str, array: Array) -> Array:
    """The real numbers an array stands for: `(q - zero_point) * scale`."""
    value = program.values[name]
    if value.scale is None:
        return array
    real: Array = (array.astype(np.int32) - (value.zero_point or 0)) * np.float32(value.scale)
    return real
