"""The safetensors container: our writer (deterministic bytes), the library's reader (checks the layout)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors

from pyruntime.program import Array

DTYPE_NAMES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
}


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


def deserialize(data: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Tensors and metadata of a container; ValueError, one clause, for anything else."""
    try:
        entries: list[Any] = safetensors.deserialize(data)  # type: ignore[no-untyped-call,unused-ignore]
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"not a safetensors container ({_one_line(error)})") from None
    metadata = header.get("__metadata__", {})
    tensors = {}
    for name, entry in entries:
        code = entry["dtype"]
        if code not in DTYPE_NAMES:
            raise ValueError(f"tensor {name!r} has dtype {code}, expected one of {', '.join(DTYPE_NAMES)}")
        little = np.frombuffer(entry["data"], dtype=DTYPE_NAMES[code].newbyteorder("<"))
        tensors[name] = little.astype(DTYPE_NAMES[code], copy=False).reshape(entry["shape"])
    return tensors, metadata


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
