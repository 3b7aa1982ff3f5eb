"""Helpers over the graph: constants, names, replacement, clone, save."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pyruntime import graph
from pyruntime.errors import FileFormatError
from pyruntime.frontends.onnx import load


def tied_model():
    """Two convolutions that share one weight."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], name="first"),
        helper.make_node("Conv", ["h", "w"], ["y"], name="second"),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 2, 4, 4)) for name in "xy"]
    weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")
    return load(helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:], [weight])))


def test_set_initializer_reaches_every_consumer_and_not_the_clone():
    model = tied_model()
    copy = graph.clone(model)
    graph.set_initializer(model, "w", np.full((2, 2, 1, 1), 3, np.float32))
    first, second = model.graph
    assert first.inputs[1] is second.inputs[1]
    assert graph.constant(first.inputs[1]).max() == 3
    assert graph.constant(copy.graph.initializers["w"]).max() == 1


def test_replace_constant_input_copies_only_if_shared():
    model = tied_model()
    first, second = model.graph
    new = graph.replace_constant_input(second, 1, np.zeros((2, 2, 1, 1), np.float32))
    assert new.name == "w_1" and second.inputs[1] is new
    assert graph.constant(first.inputs[1]).max() == 1
    again = graph.replace_constant_input(second, 1, np.ones((2, 2, 1, 1), np.float32))
    assert again is new and graph.constant(again).max() == 1


def test_unique_name_avoids_nodes_values_and_initializers():
    model = tied_model()
    for taken in ("w", "x", "h", "first"):
        assert graph.unique_name(model, taken) == f"{taken}_1"
    assert graph.unique_name(model, "free") == "free"


def test_insert_and_replace_keep_names_of_outputs():
    model = tied_model()
    second = list(model.graph)[1]
    relu = graph.insert_after(second, "Relu", [second.outputs[0]])
    graph.replace_value(second.outputs[0], relu.outputs[0])
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert model.graph.outputs[0] is relu.outputs[0]
    assert relu.inputs[0] is second.outputs[0] and second.outputs[0].name != "y"
    onnx.checker.check_model(graph.to_proto(graph.to_standard(model)), full_check=True)


def test_shapes_follow_a_changed_weight():
    model = tied_model()
    first, second = model.graph
    graph.replace_constant_input(first, 1, np.ones((6, 2, 3, 3), np.float32))
    graph.set_attribute(first, "kernel_shape", [3, 3])
    graph.replace_constant_input(second, 1, np.ones((5, 6, 1, 1), np.float32))
    graph.infer_shapes(model)
    assert graph.dims(first.outputs[0]) == ["N", 6, 2, 2]
    assert graph.dims(second.outputs[0]) == ["N", 5, 2, 2]


def test_dead_nodes_and_initializers_are_removed():
    model = tied_model()
    first, second = model.graph
    graph.insert_after(first, "Relu", [first.outputs[0]])
    graph.add_initializer(model, "unused", np.ones(3, np.float32))
    assert graph.remove_dead_nodes(model)
    assert [node.op_type for node in model.graph] == ["Conv", "Conv"]
    assert list(model.graph.initializers) == ["w"]
    assert not graph.remove_dead_nodes(model)
    assert graph.sole_consumer(first.outputs[0]) is second


def test_weight_initializer_looks_through_dequantize():
    model = tied_model()
    first = next(iter(model.graph))
    quantized = graph.add_initializer(model, "q", np.ones((2, 2, 1, 1), np.int8))
    scale = graph.add_initializer(model, "s", np.float32(0.5).reshape(()))
    zero_point = graph.add_initializer(model, "z", np.zeros((), np.int8))
    node = graph.insert_before(first, "DequantizeLinear", [quantized, scale, zero_point])
    first.replace_input_with(1, node.outputs[0])
    assert graph.weight_initializer(first.inputs[1]) is quantized
    assert graph.weight_initializer(first.inputs[0]) is None


def test_save_and_load(tmp_path):
    model = tied_model()
    graph.save(graph.to_standard(model), tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    assert [node.op_type for node in again.graph] == ["Conv", "Conv"]
    assert list(tmp_path.iterdir()) == [tmp_path / "m.onnx"]


def test_save_inlines_external_data_of_a_small_model(tmp_path):
    model = onnx.ModelProto()
    model.CopyFrom(graph.to_proto(graph.to_standard(tied_model())))
    (tmp_path / "a").mkdir()
    onnx.save(model, tmp_path / "a/m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    loaded = load(tmp_path / "a/m.onnx")
    graph.save(graph.to_standard(loaded), tmp_path / "alone.onnx")
    (tmp_path / "a/m.bin").unlink()
    assert graph.constant(load(tmp_path / "alone.onnx").graph.initializers["w"]).max() == 1
    with pytest.raises(FileFormatError, match=r"m\.bin"):
        load(tmp_path / "a/m.onnx")
