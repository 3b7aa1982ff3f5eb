"""Calibration data: read it and check it against the network before any work begins."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.errors import DataError

Array = npt.NDArray[Any]
LABELS = "labels"


def check(model: ir.Model, source: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, Array]:
    """Arrays of the network's inputs, `[samples, ...]`, in the order of the inputs.

    Samples with NaN or infinities are left out, with one warning. Errors: DataError, one line, for an
    unreadable file, a missing or unknown name, a wrong dtype or shape, unequal numbers of samples, or no
    usable sample.
    """
    arrays = dict(source) if isinstance(source, Mapping) else read(source)
    arrays.pop(LABELS, None)
    inputs = {value.name or "": value for value in model.graph.inputs}
    for name in arrays:
        if name not in inputs:
            raise DataError(
                f"calibration: the network has no input '{name}'; its inputs are: {_describe(inputs)}"
            )
    for name in inputs:
        if name not in arrays:
            raise DataError(f"calibration: input '{name}' is missing; the network takes: {_describe(inputs)}")
    checked = {name: _array(name, arrays[name], value) for name, value in inputs.items()}
    counts = {name: len(array) for name, array in checked.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"calibration: the inputs have different numbers of samples: {counts}")
    checked = _finite_samples(checked)
    _check_batch(checked, inputs)
    return checked


def labels(source: Mapping[str, Any] | str | os.PathLike[str]) -> Array | None:
    """The class of each sample, None if there are none. Errors: DataError if they are not whole numbers."""
    arrays = source if isinstance(source, Mapping) else read(source)
    found = arrays.get(LABELS)
    if found is None:
        return None
    array = np.asarray(found)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"array 'labels' is {array.dtype} {list(array.shape)}; expected one integer for each sample"
        )
    return array


def samples(data: Mapping[str, Array]) -> int:
    """Number of samples."""
    return min((len(array) for array in data.values()), default=0)


def read(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Arrays of an .npz file; pickled objects are refused. Errors: DataError."""
    name = os.fspath(path)
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{name}: holds one array; save named arrays with numpy.savez")
        with archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        if "pickle" in reason:  # what NumPy takes any other file for; its advice to load it is not ours
            reason = "it is another kind of file, or holds Python objects"
        raise DataError(f"{name}: cannot be read as .npz ({reason}); save arrays with numpy.savez") from None


def _array(name: str, given: Any, value: ir.Value) -> Array:
    array = np.asarray(given)
    wanted = np.dtype((value.dtype or ir.DataType.FLOAT).numpy())
    if array.dtype != wanted:
        raise DataError(
            f"calibration: input '{name}' is {array.dtype}, expected {wanted}; convert it as the network's "
            "preprocessing says"
        )
    dims = graph.dims(value)
    if dims is None:
        return array
    fits = array.ndim == len(dims) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(dims[1:], array.shape[1:], strict=True)
    )
    if not fits or array.ndim == 0:
        raise DataError(
            f"calibration: input '{name}' has shape {list(array.shape)}, expected {_shape(value)}"
        )
    if 0 in array.shape:
        raise DataError(f"calibration: input '{name}' has shape {list(array.shape)}: no samples")
    return array


def _finite_samples(data: dict[str, Array]) -> dict[str, Array]:
    good = np.ones(samples(data), bool)
    for name, array in data.items():
        if array.dtype.kind != "f":
            continue
        finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if not finite.any():
            raise DataError(f"calibration: every sample of input '{name}' holds NaN or infinity")
        if not finite.all():
            bad = np.count_nonzero(~finite)
            warnings.warn(
                f"calibration: input '{name}': {bad} samples with NaN or infinity left out",
                RuntimeWarning,
                stacklevel=4,
            )
        good &= finite
    if not good.any():
        raise DataError("calibration: every sample holds NaN or infinity in one of its inputs")
    return data if good.all() else {name: array[good] for name, array in data.items()}


def _check_batch(data: dict[str, Array], inputs: Mapping[str, ir.Value]) -> None:
    for name, value in inputs.items():
        dims = graph.dims(value)
        if dims and isinstance(dims[0], int) and len(data[name]) < dims[0]:
            count = len(data[name])
            raise DataError(
                f"calibration: input '{name}' has {count} samples; the network takes {dims[0]} at a time"
            )


def _describe(inputs: Mapping[str, ir.Value]) -> str:
    return ", ".join(f"'{name}' {_shape(value)}" for name, value in inputs.items())


def _shape(value: ir.Value) -> str:
    dims = graph.dims(value)
    dtype = np.dtype((value.dtype or ir.DataType.FLOAT).numpy())
    return f"{dtype} [{', '.join(map(str, dims or []))}]"
