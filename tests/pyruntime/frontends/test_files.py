"""Files: what is wrong is said in one line that names the file; external data of any size."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model_of, normal, ops

from pyruntime.errors import FileFormatError, ModelError
from pyruntime.frontends.onnx import NEWEST_OPSET, canonicalize, load
from pyruntime.graph import constant, save, to_proto, to_standard


def make(*args, **kwargs):
    return helper.make_node(*args, **kwargs)


def small_model(opset=17):
    return model_of(
        [make("Gemm", ["x", "w"], ["y"], transB=1)], {"x": ("N", 6)}, ["y"], {"w": normal(4, 6)}, opset=opset
    )


@pytest.fixture
def path(tmp_path):
    onnx.save(small_model(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_every_kind_of_source(path):
    proto = small_model()
    for source in (path, str(path), path.read_bytes(), proto, canonicalize(load(proto))):
        assert ops(load(source)) == ["Gemm"]


def test_sources_are_not_changed():
    proto = small_model()
    before = proto.SerializeToString()
    model = load(proto)
    standard = to_standard(model)
    to_proto(standard)
    assert proto.SerializeToString() == before
    names = sorted(model.graph.initializers)
    canonicalize(model)
    assert sorted(model.graph.initializers) == names


BAD_FILES = {
    "empty": (b"", "empty"),
    "text": (b"ir_version: 8\nthis is text, not a protobuf\n", "not an ONNX model"),
    "json": (b'{"nodes": []}', "not an ONNX model"),
    "zip": (b"PK\x03\x04" + bytes(100), "not an ONNX model"),
    "zeros": (bytes(1000), "not an ONNX model"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_not_a_model(tmp_path, kind):
    data, message = BAD_FILES[kind]
    (tmp_path / "bad.onnx").write_bytes(data)
    with pytest.raises(FileFormatError, match=message) as error:
        load(tmp_path / "bad.onnx")
    assert "bad.onnx" in str(error.value) and "\n" not in str(error.value)


def test_truncated_at_any_place(path):
    data = path.read_bytes()
    for length in range(1, len(data) - 1, 7):
        with pytest.raises((FileFormatError, ModelError)) as error:
            load(data[:length])
        assert "\n" not in str(error.value)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileFormatError, match=r"none\.onnx: no such file"):
        load(tmp_path / "none.onnx")
    with pytest.raises(FileFormatError, match="is a directory"):
        load(tmp_path)


def test_flipped_bytes_never_give_anything_but_our_errors(path):
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(random.integers(1, 4)):
            broken[random.integers(len(broken))] = random.integers(256)
        try:
            load(bytes(broken))
        except (FileFormatError, ModelError) as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("opset", [7, 13, NEWEST_OPSET])
def test_opsets_taken(opset):
    constants = {"w": normal(4, 6), "b": normal(4)}
    proto = model_of(
        [make("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"x": ("N", 6)}, ["y"], constants, opset=opset
    )
    assert ops(load(proto)) == ["Gemm"]


@pytest.mark.parametrize("opset", [1, 6, NEWEST_OPSET + 1])
def test_opsets_refused(opset):
    with pytest.raises(ModelError, match=f"opset {opset} is not supported"):
        load(small_model(opset=opset))


MALFORMED = {
    "undefined input": ([make("Add", ["x", "nothing"], ["y"], name="a1")], "a1.*'nothing'"),
    "defined twice": ([make("Relu", ["x"], ["y"]), make("Tanh", ["x"], ["y"])], "'y' is defined twice"),
    "no producer of output": ([make("Relu", ["x"], ["z"])], "output 'y'"),
    "too few inputs": ([make("Conv", ["x"], ["y"], name="c1")], "c1.*1 inputs"),
    "attribute missing": ([make("Concat", ["x", "x"], ["y"], name="c2")], "c2.*'axis' is missing"),
    "attribute of another type": ([make("Concat", ["x", "x"], ["y"], axis=1.5, name="c3")], "c3.*axis"),
    "axis out of range": ([make("Concat", ["x", "x"], ["y"], axis=7, name="c4")], "c4.*axis 7"),
    "shapes do not fit": ([make("Add", ["x", "w"], ["y"], name="a2")], "a2.*broadcast"),
    "channels do not fit": ([make("Conv", ["x", "w"], ["y"], name="c5")], "c5"),
    "cycle": (
        [make("Add", ["x", "b"], ["a"]), make("Relu", ["a"], ["b"]), make("Relu", ["b"], ["y"])],
        "cycle",
    ),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_models(kind):
    nodes, message = MALFORMED[kind]
    proto = model_of(nodes, {"x": (1, 3, 4, 4)}, ["y"], {"w": normal(4, 5, 3, 3)})
    with pytest.raises(ModelError, match=message) as error:
        load(proto)
    assert "\n" not in str(error.value)


def external(tmp_path, **entries):
    """Model whose weight `[4, 6]` lies in another file."""
    proto = small_model()
    (weight,) = proto.graph.initializer
    array = numpy_helper.to_array(weight)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", "offset": "0", "length": str(array.nbytes), **entries}.items():
        weight.external_data.add(key=key, value=value)
    (tmp_path / "w.bin").write_bytes(array.tobytes())
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    return tmp_path / "m.onnx", array


def test_external_data_is_found_relative_to_the_model(tmp_path, monkeypatch):
    path, array = external(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    model = load(path)
    np.testing.assert_array_equal(constant(next(iter(model.graph)).inputs[1]), array)
    monkeypatch.chdir(tmp_path)
    assert ops(load("m.onnx")) == ["Gemm"]


def test_external_data_missing_or_too_short(tmp_path):
    path, _ = external(tmp_path)
    (tmp_path / "w.bin").write_bytes(bytes(50))
    with pytest.raises(FileFormatError, match=r"'w\.bin' ends before tensor 'w'"):
        load(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(FileFormatError, match=r"'w\.bin' of tensor 'w' is missing"):
        load(path)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname"])
def test_external_data_outside_the_folder_is_refused(tmp_path, location):
    path, _ = external(tmp_path, location=location)
    with pytest.raises(FileFormatError, match="outside the model's folder"):
        load(path)


@pytest.mark.parametrize("entries", [{"offset": "1000"}, {"length": "8"}, {"offset": "-4"}, {"length": "x"}])
def test_external_data_with_impossible_numbers(tmp_path, entries):
    path, _ = external(tmp_path, **entries)
    with pytest.raises((FileFormatError, ModelError)):
        load(path)


def test_more_than_2_gb(tmp_path):
    """A weight of 2.1 GB in a sparse file: loading neither reads it nor makes a protobuf of it."""
    out, inner = 4, 140_000_000
    proto = small_model()
    (weight,) = proto.graph.initializer
    weight.ClearField("raw_data")
    weight.dims[:] = [out, inner]
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = inner
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", "offset": "0", "length": str(out * inner * 4)}.items():
        weight.external_data.add(key=key, value=value)
    with open(tmp_path / "w.bin", "wb") as file:
        file.truncate(out * inner * 4)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    tracemalloc.start()
    model = load(tmp_path / "m.onnx")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6
    standard = to_standard(model)
    assert standard.graph.initializers["w"].const_value.nbytes > 2**31
    assert model.graph.outputs[0].shape[1] == out


def test_save_of_a_large_model_uses_external_data(tmp_path, monkeypatch):
    monkeypatch.setattr("pyruntime.graph.model._EXTERNAL_DATA_BYTES", 4000)
    proto = model_of(
        [make("Gemm", ["x", "w"], ["y"], transB=1)], {"x": ("N", 60)}, ["y"], {"w": normal(40, 60)}
    )
    save(to_standard(load(proto)), tmp_path / "big.onnx")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
    weight = constant(next(iter(load(tmp_path / "big.onnx").graph)).inputs[1])
    np.testing.assert_array_equal(weight, normal(40, 60))
