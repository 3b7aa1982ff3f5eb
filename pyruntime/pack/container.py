"""The safetensors container: deterministic bytes when written, tensors without a copy when read.

The library's reader copies every tensor, and takes no mapped file; what it checks is checked here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pyruntime.program import Array

DTYPE_NAMES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
}

MAX_HEADER = 100_000_000  # bytes; the library's limit


def serialize(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """Pieces of the file. Wide dtypes first, then by name, so that every tensor is aligned to its dtype."""
    codes = {dtype: code for code, dtype in DTYPE_NAMES.items()}
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name in order:
        array = tensors[name]
        end = offset + array.nbytes
        code, shape = codes[array.dtype], list(array.shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in order:
        little = tensors[name].astype(tensors[name].dtype.newbyteorder("<"), copy=False)
        yield np.ascontiguousarray(little).tobytes()


def deserialize(data: bytes | memoryview) -> tuple[dict[str, Array], dict[str, str]]:
    """Tensors (views of `data`) and metadata of a container; ValueError, one clause, for anything else."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= MAX_HEADER or 8 + length > len(data):
        raise ValueError(f"not a safetensors container (a header of {length} bytes in {len(data)} bytes)")
    try:
        header = json.loads(bytes(data[8 : 8 + length]), object_pairs_hook=_unique)
        metadata = header.pop("__metadata__", {})
        places = {name: _place(name, entry) for name, entry in header.items()}
        _check_metadata(metadata)
    except (ValueError, RecursionError, AttributeError) as error:
        raise ValueError(f"not a safetensors container ({_one_line(error)})") from None
    body = memoryview(data)[8 + length :]
    end = 0
    for name, (_, _, begin, stop) in sorted(places.items(), key=lambda item: item[1][2:]):
        if begin != end:
            raise ValueError(f"not a safetensors container ({name!r} begins at {begin}, expected {end})")
        end = stop
    if end != len(body):
        raise ValueError(f"not a safetensors container ({len(body)} bytes of tensors, expected {end})")
    tensors = {}
    for name, (dtype, shape, begin, stop) in places.items():
        little = np.frombuffer(body[begin:stop], dtype=dtype.newbyteorder("<"))
        tensors[name] = little.astype(dtype, copy=False).reshape(shape)
    return tensors, metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands in the header twice")
    return result


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ is no map of texts")


def _place(name: str, entry: object) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """dtype, shape, begin and end of a tensor that its entry of the header describes."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the header's entry for {name!r:.60} is {entry!r:.60}")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPE_NAMES:
        raise ValueError(
            f"tensor {name!r:.60} has dtype {code!r:.20}, expected one of {', '.join(DTYPE_NAMES)}"
        )
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise ValueError(
            f"the header's entry for {name!r:.60} has shape {shape!r:.60}, offsets {offsets!r:.60}"
        )
    dtype, (begin, end) = DTYPE_NAMES[code], offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"tensor {name!r:.60} has {end - begin} bytes for {code} {shape!r:.60}")
    return dtype, tuple(shape), begin, end


def _whole_numbers(items: object) -> bool:
    return isinstance(items, list) and all(type(item) is int and 0 <= item < 2**63 for item in items)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
