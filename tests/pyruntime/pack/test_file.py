from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from programs import conv_program

from pyruntime.errors import FileFormatError, PyruntimeError
from pyruntime.pack import dumps, read, write
from pyruntime.pack.codecs import CODECS
from pyruntime.program import Constant, Program


def _program() -> Program:
    program = conv_program(np.random.default_rng(1), channels=8, outputs=16)
    program.constants["w"].array[:, :, 0] = 0
    program.constants["w"].scheme = "int8 per_channel"
    return program


def test_round_trip(tmp_path: Path) -> None:
    program = _program()
    report = write(program, tmp_path / "a.pyrt")
    again = read(tmp_path / "a.pyrt")
    assert (again.name, again.inputs, again.outputs) == (program.name, program.inputs, program.outputs)
    assert again.values == program.values and again.nodes == program.nodes
    for name, constant in program.constants.items():
        np.testing.assert_array_equal(again.constants[name].array, constant.array)
        assert again.constants[name].scheme == constant.scheme
    assert report.bytes == os.path.getsize(tmp_path / "a.pyrt")
    row = next(row for row in report.tensors if row.name == "w")
    assert row.codec == "block4" and row.bytes < row.dense_bytes and row.density < 0.7
    assert read((tmp_path / "a.pyrt").read_bytes()).values == program.values


def test_same_bytes_every_time_and_a_plain_safetensors_file(tmp_path: Path) -> None:
    write(_program(), tmp_path / "a.pyrt")
    write(_program(), tmp_path / "b.pyrt")
    assert (tmp_path / "a.pyrt").read_bytes() == (tmp_path / "b.pyrt").read_bytes() == dumps(_program())
    assert set(safetensors.numpy.load_file(tmp_path / "a.pyrt")) == {"__pool__", "__program__"}
    assert sorted(os.listdir(tmp_path)) == ["a.pyrt", "b.pyrt"]


def test_large_parts_are_tensors_of_their_own(tmp_path: Path) -> None:
    program = _program()
    array = np.random.default_rng(0).integers(-127, 128, (128, 8, 3, 3)).astype(np.int8)
    program.constants["w"].array = array
    for name in ("m", "o"):
        program.constants[name].array = np.ones(128, np.float32)
    write(program, tmp_path / "a.pyrt")
    assert set(safetensors.numpy.load_file(tmp_path / "a.pyrt")) == {"__pool__", "__program__", "w"}
    np.testing.assert_array_equal(read(tmp_path / "a.pyrt").constants["w"].array, array)


def test_reading_and_writing_again_gives_the_same_bytes() -> None:
    rng = np.random.default_rng(0)
    program = _program()
    codes = rng.integers(-7, 8, (16, 8, 3, 3)).astype(np.int8)
    scales = rng.uniform(0.1, 1, 16).astype(np.float32)
    program.constants["w"].array = (codes * 3).astype(np.int8)
    program.constants["w"].storage = {"group": 8}
    first = dumps(program)
    assert dumps(read(first)) == first
    floating = codes.astype(np.float32) * scales.reshape(-1, 1, 1, 1)
    program = conv_program(rng, channels=8, outputs=16)
    program.constants["extra"] = Constant("extra", floating, "", {"codes": codes, "scales": scales})
    first = dumps(program)
    np.testing.assert_array_equal(read(first).constants["extra"].array, floating)
    assert dumps(read(first)) == first


def test_subnormals_are_flushed(tmp_path: Path) -> None:
    program = _program()
    program.constants["o"].array[:2] = [1e-40, -1e-45]
    write(program, tmp_path / "a.pyrt")
    assert read(tmp_path / "a.pyrt").constants["o"].array[:2].tolist() == [0.0, 0.0]


def test_names_that_would_meet(tmp_path: Path) -> None:
    program = _program()
    program.constants["w.mask"] = program.constants.pop("o")
    program.constants["w.mask"].name = "w.mask"
    program.nodes[0].inputs[3] = "w.mask"
    write(program, tmp_path / "a.pyrt")
    np.testing.assert_array_equal(
        read(tmp_path / "a.pyrt").constants["w.mask"].array, program.constants["w.mask"].array
    )


def test_unwritable_path_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "missing" / "a.pyrt", tmp_path / "folder"):
        with pytest.raises(PyruntimeError, match="cannot write") as caught:
            write(_program(), target)
        assert str(target) in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(tmp_path / "folder") == []


def test_invalid_program_is_not_written(tmp_path: Path) -> None:
    program = _program()
    program.nodes[0].op = "convolve"
    with pytest.raises(FileFormatError):
        write(program, tmp_path / "a.pyrt")
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- hostile files


def _rebuild(change: Callable[[dict[str, Any], dict[str, np.ndarray], dict[str, str]], None]) -> bytes:
    """The good file, its parts out of the pool and `w` as block4, with its document, tensors or metadata
    changed, packed by the safetensors library."""
    program = _program()
    tensors = safetensors.numpy.load(dumps(program))
    document = json.loads(zlib.decompress(tensors.pop("__program__").tobytes()))
    del tensors["__pool__"]
    for name, constant in program.constants.items():
        codec = "block4" if name == "w" else "dense"
        encoded = CODECS[codec].encode(constant.array, {})
        assert encoded is not None
        tensors |= {f"{name}.{part}" if part else name: array for part, array in encoded[0].items()}
        entry = document["constants"][name]
        document["constants"][name] = {"dtype": entry["dtype"], "shape": entry["shape"], "codec": codec}
    metadata = {"format": "pyrt", "format_version": "3"}
    change(document, tensors, metadata)
    text = metadata.pop("program", json.dumps(document)).encode()
    tensors.setdefault("__program__", np.frombuffer(zlib.compress(text), np.uint8))
    tensors.setdefault("__pool__", np.zeros(64, np.uint8))
    kept = {name: array for name, array in tensors.items() if array.size or name == "o"}
    return safetensors.numpy.save(kept, {k: v for k, v in metadata.items() if v != "DROP"})


def _pool(d: Any, **change: Any) -> None:
    """Says that `m` lies in the pool."""
    entry = {"dtype": "f32", "shape": [16], "codec": "dense"}
    d["constants"]["m"] = {**entry, "pooled": {"": ["f32", [16], 0]}, **change}


def _deflated(text: bytes, more: bytes = b"") -> np.ndarray:
    return np.frombuffer(zlib.compress(text) + more, np.uint8)


HOSTILE: dict[str, tuple[Callable[[Any, Any, Any], object], str]] = {
    "format": (lambda d, t, m: m.update(format="zip"), "'zip'"),
    "no format": (lambda d, t, m: m.update(format="DROP"), "format"),
    "no program": (lambda d, t, m: t.update(__program__=np.zeros(0, np.uint8)), "__program__"),
    "program floats": (lambda d, t, m: t.update(__program__=np.zeros(9, np.float32)), "__program__"),
    "program not deflated": (lambda d, t, m: t.update(__program__=np.zeros(9, np.uint8)), "JSON"),
    "program cut off": (lambda d, t, m: t.update(__program__=_deflated(b"{}" * 99)[:-3]), "cut off"),
    "program too long": (lambda d, t, m: t.update(__program__=_deflated(b" " * (2**26 + 1))), "64 MiB"),
    "program and more": (lambda d, t, m: t.update(__program__=_deflated(b"{}", b"more")), "longer"),
    "no pool": (lambda d, t, m: t.update(__pool__=np.zeros(0, np.uint8)), "__pool__"),
    "pooled list": (lambda d, t, m: _pool(d, pooled=[]), "pooled"),
    "pooled text": (lambda d, t, m: _pool(d, pooled={"": "f32"}), "pooled part ''"),
    "pooled dtype": (lambda d, t, m: _pool(d, pooled={"": ["f64", [16], 0]}), "pooled part ''"),
    "pooled beyond": (lambda d, t, m: _pool(d, pooled={"": ["f32", [16], 1]}), "beyond the pool"),
    "pooled before": (lambda d, t, m: _pool(d, pooled={"": ["f32", [16], -4]}), "offset -4"),
    "pooled huge": (lambda d, t, m: _pool(d, pooled={"": ["f32", [2**30, 2**9], 0]}), "beyond the pool"),
    "options list": (lambda d, t, m: d["constants"]["w"].update(options=[]), "options"),
    "not json": (lambda d, t, m: m.update(program="{"), "JSON"),
    "deep json": (lambda d, t, m: m.update(program="[" * 100000), "JSON"),
    "json list": (lambda d, t, m: m.update(program="[]"), "dict"),
    "infinity": (lambda d, t, m: m.update(program='{"a": Infinity}'), "Infinity"),
    "version": (lambda d, t, m: m.update(format_version="1"), "format version 1, expected 3; compress"),
    "no version": (lambda d, t, m: m.update(format_version="DROP"), "format version 1, expected 3; compress"),
    "no nodes": (lambda d, t, m: d.pop("nodes"), "'nodes'"),
    "nodes dict": (lambda d, t, m: d.update(nodes={}), "nodes"),
    "node text": (lambda d, t, m: d.update(nodes=["conv"]), "node 0"),
    "inputs numbers": (lambda d, t, m: d.update(inputs=[1]), "inputs"),
    "value text": (lambda d, t, m: d["values"].update(x="u8"), "'x'"),
    "value shape": (lambda d, t, m: d["values"]["x"].update(shape=None), "'x'"),
    "value scale": (lambda d, t, m: d["values"]["x"].update(scale="1"), "scale"),
    "value scale huge": (lambda d, t, m: d["values"]["x"].update(scale=10**400), "scale"),
    "unknown op": (lambda d, t, m: d["nodes"][0].update(op="exec"), "'exec'"),
    "attributes list": (lambda d, t, m: d["nodes"][0].update(attributes=[]), "attributes"),
    "attribute type": (lambda d, t, m: d["nodes"][0]["attributes"].update(pads={}), "'pads'"),
    "attribute huge": (lambda d, t, m: d["nodes"][0]["attributes"].update(groups=10**30), "'groups'"),
    "codec": (lambda d, t, m: d["constants"]["w"].update(codec="zip"), "'zip'"),
    "codec list": (lambda d, t, m: d["constants"]["w"].update(codec=[]), "'w'"),
    "constant dtype": (lambda d, t, m: d["constants"]["w"].update(dtype="f64"), "'f64'"),
    "shape product": (lambda d, t, m: d["constants"]["w"].update(shape=[2**30, 2**30, 2**30]), "2^40"),
    "shape zero and huge": (lambda d, t, m: d["constants"]["w"].update(shape=[0, 2**30, 2**30]), "2^40"),
    "shape large": (lambda d, t, m: d["constants"]["w"].update(shape=[2**20, 2**19]), "mask"),
    "shape negative": (lambda d, t, m: d["constants"]["w"].update(shape=[-16, -8, 3, 3]), "-16"),
    "shape bool": (lambda d, t, m: d["constants"]["w"].update(shape=[True, 8, 3, 3]), "True"),
    "shape text": (lambda d, t, m: d["constants"]["w"].update(shape="abc"), "'w'"),
    "popcount": (lambda d, t, m: t["w.mask"].fill(255), "'w'"),
    "values short": (lambda d, t, m: t.update({"w.values": t["w.values"][:-1]}), "'w'"),
    "part missing": (lambda d, t, m: t.pop("w.values"), "'values'"),
    "tensor missing": (lambda d, t, m: t.pop("m"), "'m'"),
    "tensor extra": (lambda d, t, m: t.update(z=np.zeros(1, np.float32)), "'z'"),
    "tensor dtype": (lambda d, t, m: t.update(m=t["m"].astype(np.float16)), "'m'"),
    "constant gone": (lambda d, t, m: d["constants"].pop("o") and t.pop("o"), "'o'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_hostile(name: str, tmp_path: Path) -> None:
    change, found = HOSTILE[name]
    path = tmp_path / "h.pyrt"
    path.write_bytes(_rebuild(change))
    _refused(path, found)


def _refused(path: Path, found: str = "") -> None:
    with pytest.raises(FileFormatError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and found in message and "\n" not in message and len(message) < 500


def test_refuses_what_is_no_packed_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pyrt"
    _refused(path, "cannot read")
    good = dumps(_program())
    for data in (b"", b"1234567", b"just some text, long enough to have a length\n" * 9, os.urandom(4096)):
        path.write_bytes(data)
        _refused(path)
    for cut in (8, 9, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        _refused(path)
    path.write_bytes(good + b"\0")
    _refused(path)
    with pytest.raises(FileFormatError, match="<bytes>"):
        read(b"")
    with pytest.raises(FileFormatError):
        read(tmp_path)


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    """Any single damaged byte gives either a valid program or a FileFormatError."""
    good = dumps(_program())
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(good), 300):
        damaged = bytearray(good)
        damaged[position] ^= 1 << int(rng.integers(8))
        try:
            read(bytes(damaged))
        except FileFormatError:
            refused += 1
    assert refused > 50


def test_onnx_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x07" + bytes(20))
    with pytest.raises(FileFormatError, match=r"net\.onnx: an ONNX model, .*pyruntime compress"):
        read(path)
