"""Reads a `.pyrt` file. Nothing in it is trusted: a violation is a FileFormatError naming file and item."""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from pyruntime.errors import FileFormatError
from pyruntime.pack.codecs import CODECS, packed, storage_of
from pyruntime.pack.codecs.layout import total_bytes
from pyruntime.pack.container import deserialize
from pyruntime.pack.parallel import map_largest_first
from pyruntime.pack.writer import FORMAT_VERSION, POOL, PROGRAM
from pyruntime.program import DTYPES, Array, Constant, Node, Program, Value
from pyruntime.validation import validate

MAX_ELEMENTS = 2**40
MAX_PROGRAM = 2**26
MAX_EXPANSION = 256  # of what memory is laid out for before it is decoded


@dataclass(frozen=True)
class Stored:
    """How a constant is stored."""

    codec: str
    bytes: int


def read(source: str | os.PathLike[str] | bytes, num_threads: int = 1) -> Program:
    """The validated program with decoded constants, from a path or from the bytes of a file."""
    return read_stored(source, num_threads)[0]


def read_stored(
    source: str | os.PathLike[str] | bytes, num_threads: int = 1
) -> tuple[Program, dict[str, Stored]]:
    """The same, and how each constant is stored."""
    where, data = _load(source)
    try:
        tensors, metadata = deserialize(data)
        document = _document(tensors, metadata)
        pool = _bytes(tensors, POOL)
        constants, stored = _constants(document["constants"], tensors, pool, num_threads)
        program = _program(document, constants)
    except ValueError as error:
        raise FileFormatError(f"{where}: {str(error)[:300]}") from None
    except (MemoryError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{where}: sizes beyond this machine ({type(error).__name__})") from None
    validate(program, where)
    return program, stored


def _load(source: str | os.PathLike[str] | bytes) -> tuple[str, bytes | memoryview]:
    data: bytes | memoryview
    if isinstance(source, bytes):
        where, data = "<bytes>", source
    else:
        where = os.fspath(source)
        try:
            with open(source, "rb") as file:
                data = _contents(file)
        except OSError as error:
            raise FileFormatError(f"{where}: cannot read the file ({error.strerror or error})") from None
    if where.lower().endswith(".onnx"):
        raise FileFormatError(
            f"{where}: an ONNX model, expected a .pyrt file; make one with pyruntime compress"
        )
    if len(data) < 8:
        raise FileFormatError(f"{where}: {len(data)} bytes, not a .pyrt file (empty or cut off)")
    return where, data


def _contents(file: BinaryIO) -> bytes | memoryview:
    """The bytes of a file: mapped, unless it is empty or cannot be."""
    try:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):
        return file.read()


def _document(tensors: dict[str, Array], metadata: dict[str, str]) -> dict[str, Any]:
    """The JSON program with every top-level key there and of the right kind; takes its tensor out."""
    kind, version = metadata.get("format"), metadata.get("format_version")
    if kind != "pyrt":
        raise ValueError(f"metadata 'format' is {kind!r:.40}, expected 'pyrt'; not a .pyrt file")
    if version != str(FORMAT_VERSION):
        # Version 1 stated its number elsewhere.
        raise ValueError(
            f"format version {version or 1!s:.20}, expected {FORMAT_VERSION}; compress the network again"
        )
    try:
        document = json.loads(_inflate(_bytes(tensors, PROGRAM)), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"program is not valid JSON ({str(error)[:80]})") from None
    _kind(document, dict, "program")
    for key, kind_of in _TOP_LEVEL.items():
        if key not in document:
            raise ValueError(f"program has no {key!r}")
        _kind(document[key], kind_of, key)
    checked: dict[str, Any] = document
    return checked


def _bytes(tensors: dict[str, Array], name: str) -> bytes:
    """The bytes of a tensor of the container that is no constant; takes it out."""
    array = tensors.pop(name, None)
    if array is None or array.dtype != DTYPES["u8"] or array.ndim != 1:
        raise ValueError(f"tensor {name!r} is missing or not u8 [n]")
    return array.tobytes()


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, MAX_PROGRAM)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof or stream.unused_data:
        raise ValueError("cut off, longer than it says, or beyond 64 MiB")
    return text


_TOP_LEVEL: dict[str, type] = {
    "name": str,
    "inputs": list,
    "outputs": list,
    "values": dict,
    "constants": dict,
    "nodes": list,
}


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _kind(x: object, kind: type, item: str) -> None:
    if not isinstance(x, kind):
        raise ValueError(f"{item} is {type(x).__name__}, expected {kind.__name__}")


def _strings(x: object, item: str) -> list[str]:
    if not isinstance(x, list) or not all(isinstance(name, str) for name in x):
        raise ValueError(f"{item}: expected a list of names")
    return x


@dataclass(frozen=True)
class _Encoded:
    """A constant as the file describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    codec: str
    scheme: str
    options: dict[str, Any]
    parts: dict[str, Array]
    memory: Array | None = None  # to decode into

    def decode(self) -> Constant:
        arguments = self.parts, DTYPES[self.dtype], self.shape, self.options
        try:
            if self.memory is None:
                array = CODECS[self.codec].decode(*arguments)
            else:
                array = packed.decode(*arguments, self.memory)
        except ValueError as error:
            raise ValueError(f"constant {self.name!r} ({self.codec}): {error}") from None
        storage = storage_of(self.codec, self.options, self.parts, array)
        return Constant(self.name, array, self.scheme, storage)


def _constants(
    described: dict[str, Any], tensors: dict[str, Array], pool: bytes, num_threads: int
) -> tuple[dict[str, Constant], dict[str, Stored]]:
    """Decoded constants, and how each is stored."""
    below: dict[str, dict[str, Array]] = defaultdict(
        dict
    )  # name: what stands behind it and a dot in names of tensors
    for key in tensors:
        for at in range(len(key)):
            if key[at] == ".":
                below[key[:at]][key[at + 1 :]] = tensors[key]
    encoded, unused = [], set(tensors)
    for name, entry in described.items():
        own = {"": tensors[name]} if name in tensors else {}
        if not isinstance(entry, dict) or entry.get("codec") != "dense":
            own = below.get(name, {})
        unused -= {f"{name}.{part}" if part else name for part in own}
        encoded.append(_encoded(name, entry, own, pool))
    if unused:
        raise ValueError(f"tensor {min(unused)!r} belongs to no constant")
    encoded = _with_memory(encoded)
    sizes = [math.prod(item.shape) for item in encoded]
    constants = map_largest_first(_Encoded.decode, encoded, sizes, num_threads)
    found = {item.name: Stored(item.codec, total_bytes(item.parts)) for item in encoded}
    return {constant.name: constant for constant in constants}, found


def _with_memory(encoded: list[_Encoded]) -> list[_Encoded]:
    """Entropy-coded weights get parts of one array: the system has larger pages for larger ones."""
    sizes = [
        math.prod(item.shape) if item.codec == "packed" and len(item.shape) > 1 else 0 for item in encoded
    ]
    stored = sum(total_bytes(item.parts) for item, size in zip(encoded, sizes, strict=True) if size)
    if sum(sizes) > MAX_EXPANSION * stored:
        return encoded  # something claims too much: decoding says what
    memory, end, result = np.empty(sum(sizes), np.uint8), 0, []
    for item, size in zip(encoded, sizes, strict=True):
        result.append(replace(item, memory=memory[end : end + size]) if size else item)
        end += size
    return result


def _encoded(name: str, entry: Any, parts: dict[str, Array], pool: bytes) -> _Encoded:
    item = f"constant {name!r}"
    _kind(entry, dict, item)
    dtype, shape, codec, scheme = (entry.get(key) for key in ("dtype", "shape", "codec", "scheme"))
    options = entry.get("options", {})
    if dtype not in tuple(DTYPES):
        raise ValueError(f"{item}: dtype {dtype!r:.40}, expected one of {', '.join(DTYPES)}")
    if codec not in tuple(CODECS):
        raise ValueError(f"{item}: codec {codec!r:.40}, expected one of {', '.join(CODECS)}")
    if not isinstance(scheme, (str, type(None))):
        raise ValueError(f"{item}: scheme must be text")
    _kind(options, dict, f"{item}: options")
    try:
        parts = parts | _pooled(entry.get("pooled", {}), pool)
        return _Encoded(name, dtype, _shape(shape), codec, scheme or "", options, parts)
    except ValueError as error:
        raise ValueError(f"{item} ({codec}): {error}") from None


def _pooled(places: object, pool: bytes) -> dict[str, Array]:
    """Parts that lie in the pool."""
    _kind(places, dict, "pooled")
    assert isinstance(places, dict)
    parts = {}
    for part, place in places.items():
        if not isinstance(place, list) or len(place) != 3 or place[0] not in tuple(DTYPES):
            raise ValueError(f"pooled part {part!r:.40} is {place!r:.60}, expected [dtype, shape, offset]")
        dtype, shape, offset = DTYPES[place[0]].newbyteorder("<"), _shape(place[1]), place[2]
        count = math.prod(shape)
        if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            raise ValueError(f"pooled part {part!r:.40}: offset {offset!r:.40}")
        if offset + count * dtype.itemsize > len(pool):
            raise ValueError(f"pooled part {part!r:.40} ends beyond the pool")
        flat = np.frombuffer(pool, dtype, count, offset)
        parts[part] = flat.astype(DTYPES[place[0]]).reshape(shape)
    return parts


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > 8:
        raise ValueError("shape must be a list of at most 8 dimensions")
    for size in shape:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**31:
            raise ValueError(f"dimension {size!r:.40}, expected 0..2^31-1")
    # Zero dimensions do not excuse absurd others: decoders multiply the rest.
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise ValueError(f"shape {shape} has more than 2^40 elements")
    return tuple(shape)


def _program(document: dict[str, Any], constants: dict[str, Constant]) -> Program:
    return Program(
        name=document["name"],
        inputs=_strings(document["inputs"], "inputs"),
        outputs=_strings(document["outputs"], "outputs"),
        values={name: _value(name, entry) for name, entry in document["values"].items()},
        constants=constants,
        nodes=[_node(position, entry) for position, entry in enumerate(document["nodes"])],
    )


def _value(name: str, entry: object) -> Value:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        raise ValueError(f"value {name!r}: expected an object with dtype and shape")
    scale = entry.get("scale")
    if isinstance(scale, int) and not isinstance(scale, bool) and abs(scale) < 2**53:
        scale = float(scale)
    shape: Any = entry.get("shape")
    return Value(name, entry["dtype"], shape, scale, entry.get("zero_point"))


def _node(position: int, entry: object) -> Node:
    item = f"node {position}"
    if not isinstance(entry, dict):
        raise ValueError(f"{item} is {type(entry).__name__}, expected an object")
    name, op, attributes = entry.get("name"), entry.get("op"), entry.get("attributes", {})
    if not isinstance(name, str) or not isinstance(op, str):
        raise ValueError(f"{item}: name and op must be text")
    _kind(attributes, dict, f"node {name!r}: attributes")
    inputs = _strings(entry.get("inputs"), f"node {name!r}: inputs")
    outputs = _strings(entry.get("outputs"), f"node {name!r}: outputs")
    return Node(name, op, inputs, outputs, attributes)
