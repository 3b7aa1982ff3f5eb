"""Files into memory: models of either kind, arrays, labelled data. Errors name the file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyruntime.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from pyruntime.program import Program
    from pyruntime.session import NodeArg

Array = npt.NDArray[Any]
LABELS = "labels"


@dataclass(frozen=True)
class Data:
    """Samples: one array per model input, first axis = samples, and the class of each sample if known."""

    inputs: dict[str, Array]
    labels: Array | None
    path: str

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))


def check_exists(path: str | os.PathLike[str]) -> None:
    """Raises FileFormatError unless `path` is a file that holds something."""
    target = Path(path)
    if target.is_dir():
        raise FileFormatError(f"{path}: is a directory; expected a file")
    if not target.exists():
        raise FileFormatError(f"{path}: no such file")
    if target.is_file() and target.stat().st_size == 0:
        raise FileFormatError(f"{path}: is empty")


def load_program(path: str | os.PathLike[str]) -> Program:
    """The program of a packed file, or that of an ONNX file lowered as it is (float stays float, QDQ becomes
    integer).
    """
    check_exists(path)
    if is_onnx(path):
        from pyruntime.frontends.onnx import load
        from pyruntime.lower import lower

        return lower(load(os.fspath(path)))
    from pyruntime.pack import read

    return read(path)


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether the name says that the file is an ONNX model."""
    return os.fspath(path).lower().endswith(".onnx")


def load_array(path: str | os.PathLike[str]) -> Array:
    """One array of a .npy file."""
    check_exists(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path}: not a .npy file, or a damaged one: {_first_line(error)}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise FileFormatError(
            f"{path}: expected one array (.npy), found an archive of arrays; save each input on its own, "
            "e.g. np.save('x.npy', archive['x'])"
        )
    return array


def load_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """All arrays of a .npz file, by name."""
    check_exists(path)
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise FileFormatError(f"{path}: expected named arrays (.npz), found one array without a name")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, KeyError) as error:
        raise FileFormatError(f"{path}: not a .npz file, or a damaged one: {_first_line(error)}") from None


def load_data(path: str | os.PathLike[str], inputs: list[NodeArg]) -> Data:
    """DATA.npz for a model with these inputs; checks names, dtypes, shapes, for a sample and no NaN."""
    arrays = load_arrays(path)
    names = [argument.name for argument in inputs]
    labels = None if LABELS in names else arrays.pop(LABELS, None)
    _check_names(path, arrays, names)
    for argument in inputs:
        array = arrays[argument.name]
        item = f"{path}: array {argument.name!r}"
        if array.dtype != argument.dtype:
            raise DataError(f"{item} is {array.dtype}, expected {argument.dtype.name}")
        fits = len(array.shape) == len(argument.shape) and all(
            isinstance(want, str) or want == have
            for want, have in zip(argument.shape[1:], array.shape[1:], strict=True)
        )
        if not fits:
            raise DataError(
                f"{item} has shape {list(array.shape)}, expected {argument.shape} (first axis = samples)"
            )
        _check_numbers(item, array)
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"{path}: the arrays have different numbers of samples: {counts}")
    samples = next(iter(counts.values()))
    if samples == 0:
        raise DataError(f"{path}: holds no samples")
    if labels is not None and (labels.shape != (samples,) or labels.dtype.kind not in "iu"):
        raise DataError(
            f"{path}: array 'labels' is {labels.dtype} {list(labels.shape)}, "
            f"expected integers of shape [{samples}]"
        )
    return Data({name: np.ascontiguousarray(arrays[name]) for name in names}, labels, os.fspath(path))


def _check_names(path: str | os.PathLike[str], arrays: Mapping[str, Array], names: list[str]) -> None:
    for name in names:
        if name not in arrays:
            found = ", ".join(map(repr, arrays)) or "nothing"
            raise DataError(f"{path}: no array for input {name!r}; found {found}")
    for name in arrays:
        if name not in names:
            raise DataError(
                f"{path}: array {name!r} is no input of the model; expected {', '.join(map(repr, names))}"
            )


def _check_numbers(item: str, array: Array) -> None:
    wrong = np.isnan(array).reshape(len(array), -1).any(axis=1) if array.dtype.kind == "f" else np.zeros(0)
    if wrong.any():
        count, first = int(np.count_nonzero(wrong)), int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{item} has NaN in {count} of {len(array)} samples (the first: {first}), which nothing can be "
            "compared on; leave these samples out"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
