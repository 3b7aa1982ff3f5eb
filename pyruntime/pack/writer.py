"""Writes a program as a `.pyrt` file: the smallest codec per constant, the same bytes every time."""

from __future__ import annotations

import json
import os
import secrets
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyruntime.errors import ModelError, PyruntimeError
from pyruntime.numerics import flush
from pyruntime.pack.codecs import smallest
from pyruntime.pack.codecs.layout import Encoded, total_bytes
from pyruntime.pack.container import serialize
from pyruntime.program import Array, Program, dtype_name
from pyruntime.validation import validate

FORMAT_VERSION = 3
PRODUCER = "pyruntime-cpu 0.1.0"
# Tensors of the container that are no constants: the compressed program, and all parts below POOLED bytes.
PROGRAM, POOL = "__program__", "__pool__"
POOLED = 4096
RESERVED = ("__metadata__", PROGRAM, POOL)


@dataclass
class TensorReport:
    """How one constant is stored. `density` is the share of entries that are not zero."""

    name: str
    dtype: str
    shape: list[int]
    scheme: str
    codec: str
    bytes: int
    dense_bytes: int
    density: float


@dataclass
class PackReport:
    """What `write` made: the file, its size in bytes, and one row per constant."""

    path: str
    bytes: int
    tensors: list[TensorReport] = field(default_factory=list)


def write(program: Program, path: str | os.PathLike[str]) -> PackReport:
    """Validates the program and writes it.

    The file appears whole or not at all (a temporary file beside it is renamed). Subnormal float32
    constants are flushed to zero. Raises FileFormatError for an invalid program, PyruntimeError for a path
    that cannot be written.
    """
    pieces, rows = encode(program)
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                size = sum(file.write(piece) for piece in pieces)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PyruntimeError(f"{target}: cannot write the file ({reason}); check the folder") from None
    return PackReport(str(target), size, rows)


def dumps(program: Program) -> bytes:
    """The bytes `write` would put into the file."""
    return b"".join(encode(program)[0])


def encode(program: Program) -> tuple[list[bytes | memoryview], list[TensorReport]]:
    """Pieces of the file, in order, and a row per constant."""
    validate(program)
    tensors: dict[str, Array] = {}
    described: dict[str, Any] = {}
    rows, pool = [], bytearray()
    for name, constant in program.constants.items():
        array = np.ascontiguousarray(constant.array).reshape(constant.array.shape)
        if array.dtype == np.float32:
            array = flush(array)
        codec, (parts, options) = _encoded(name, array, constant.storage, program)
        row = _row(name, array, constant.scheme, codec, total_bytes(parts))
        rows.append(row)
        entry: dict[str, Any] = {"dtype": row.dtype, "shape": row.shape, "codec": codec}
        if options:
            entry["options"] = options
        if constant.scheme:
            entry["scheme"] = constant.scheme
        for part, stored in parts.items():
            if stored.nbytes < POOLED:
                place = [dtype_name(stored.dtype), list(stored.shape), len(pool)]
                entry.setdefault("pooled", {})[part] = place
                pool += stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes()
            else:
                tensors[f"{name}.{part}" if part else name] = stored
        described[name] = entry
    document = zlib.compress(_document(program, described).encode(), 9)
    tensors[PROGRAM] = np.frombuffer(document, np.uint8)
    tensors[POOL] = np.frombuffer(bytes(pool), np.uint8)
    metadata = {"format": "pyrt", "format_version": str(FORMAT_VERSION)}
    return list(serialize(tensors, metadata)), rows


def _encoded(name: str, array: Array, storage: dict[str, Any], program: Program) -> tuple[str, Encoded]:
    """The smallest codec; `dense` where the names of its parts would meet another constant's name."""
    if name in RESERVED:
        raise ModelError(f"constant '{name}': the name is reserved; rename the tensor")
    if any(other.startswith(name + ".") for other in program.constants):
        return "dense", ({"": array}, {})
    return smallest(array, storage)


def _row(name: str, array: Array, scheme: str, codec: str, size: int) -> TensorReport:
    return TensorReport(
        name=name,
        dtype=dtype_name(array.dtype),
        shape=list(array.shape),
        scheme=scheme,
        codec=codec,
        bytes=size,
        dense_bytes=array.nbytes,
        density=float(np.count_nonzero(array) / array.size) if array.size else 0.0,
    )


def _document(program: Program, constants: dict[str, Any]) -> str:
    values = {}
    for name, value in program.values.items():
        entry: dict[str, Any] = {"dtype": value.dtype, "shape": value.shape}
        if value.scale is not None:
            entry |= {"scale": value.scale, "zero_point": value.zero_point}
        values[name] = entry
    nodes = [
        {
            "name": node.name,
            "op": node.op,
            "inputs": node.inputs,
            "outputs": node.outputs,
            "attributes": node.attributes,
        }
        for node in program.nodes
    ]
    document = {
        "producer": PRODUCER,
        "name": program.name,
        "inputs": program.inputs,
        "outputs": program.outputs,
        "values": values,
        "constants": constants,
        "nodes": nodes,
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(x: object) -> object:
    """NumPy scalars in attributes as Python numbers."""
    if isinstance(x, np.generic):
        return x.item()
    raise TypeError(f"cannot store {type(x).__name__}")
