"""Smoothing: the same function, and less noise from activations with one scale."""

import numpy as np
from onnx import helper
from toolmodels import build, he, sqnr_db

import pyruntime as prt
from pyruntime import graph
from pyruntime.evaluate import observe
from pyruntime.lower import lower
from pyruntime.quantize import QuantizeSpec, calibrate, insert_qdq, make_plan
from pyruntime.recover.smooth import Activations, best_scale, smooth
from pyruntime.recover.spans import find_spans

node = helper.make_node


def outlier_net(rng, spread):
    """Two convolutions; the channels between them differ in range by `spread`."""
    factors = spread ** rng.uniform(-0.5, 0.5, 16).astype(np.float32)
    nodes = [
        node("Conv", ["x", "a", "b"], ["c"], name="first"),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "w"], ["y"], name="second"),
    ]
    constants = {
        "a": he(rng, 16, 4, 1, 1) * factors[:, None, None, None],
        "b": rng.normal(size=16).astype(np.float32) * 0.1 * factors,
        "w": he(rng, 8, 16, 1, 1) / factors[:, None, None],
    }
    return build(nodes, constants, {"x": ["N", 4, 8, 8]}, {"y": ["N", 8, 8, 8]})


def images():
    return np.random.default_rng(9).normal(size=(16, 4, 8, 8)).astype(np.float32)


def run(model, x):
    (values,) = observe(model, {"x": x}, ["y"], batch=len(x))
    return values["y"]


def quantized(model, x):
    copy = graph.clone(model)
    names = make_plan(copy).names
    insert_qdq(copy, calibrate(copy, {"x": x}, QuantizeSpec(calibrate="minmax"), names))
    (y,) = prt.InferenceSession(lower(copy)).run(None, {"x": x})
    return y


def test_quantized_activations_gain_and_the_function_stays():
    model, x = outlier_net(np.random.default_rng(0), 100.0), images()
    before = run(model, x)
    rough = sqnr_db(before, quantized(model, x))
    smooth(model, {"x": x})
    np.testing.assert_allclose(run(model, x), before, rtol=1e-4, atol=1e-4)
    assert sqnr_db(before, quantized(model, x)) > rough + 3


def test_even_channels_stay_as_they_are():
    """Nothing to gain: the weights must not be touched at all."""
    rng = np.random.default_rng(1)
    model = outlier_net(rng, 1.0)
    (span,) = find_spans(model)
    signs = rng.choice([-1.0, 1.0], (8, 16, 1, 1)).astype(np.float32)
    graph.set_initializer(model, "w", signs)
    from pyruntime.recover.common import own_layers

    layers = own_layers(model)
    seen = Activations.of(16)
    seen.update(np.tile(np.linspace(-1, 1, 101), (16, 1)))
    assert best_scale(span, [layers["second"]], seen) is None


def test_dead_channels_and_zero_weights():
    model, x = outlier_net(np.random.default_rng(2), 100.0), images()
    first, second = (graph.constant(model.graph.initializers[name]).copy() for name in ("a", "w"))
    bias = graph.constant(model.graph.initializers["b"]).copy()
    first[3], bias[3], second[:, 5] = 0, 0, 0
    second[np.random.default_rng(3).uniform(size=second.shape) < 0.5] = 0
    for name, array in (("a", first), ("w", second), ("b", bias)):
        graph.set_initializer(model, name, array)
    before = run(model, x)
    smooth(model, {"x": x})
    np.testing.assert_allclose(run(model, x), before, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(graph.constant(model.graph.initializers["w"]) == 0, second == 0)


def test_a_normalization_takes_in_the_factors():
    """LayerNormalization -> MatMul with one channel far larger: the same function, less noise in int8."""
    rng = np.random.default_rng(4)
    gain = np.ones(16, np.float32)
    gain[3] = 40.0
    nodes = [
        node("MatMul", ["x", "v"], ["h"], name="first"),
        node("LayerNormalization", ["h", "gain", "shift"], ["n"], axis=-1, name="norm"),
        node("MatMul", ["n", "w"], ["y"], name="second"),
    ]
    w = he(rng, 16, 8)
    w[3] /= 40.0
    constants = {"v": he(rng, 16, 16), "gain": gain, "shift": rng.normal(size=16).astype(np.float32), "w": w}
    model = build(nodes, constants, {"x": ["N", 5, 16]}, {"y": ["N", 5, 8]})
    x = rng.normal(size=(32, 5, 16)).astype(np.float32)
    smoothed = graph.clone(model)
    smooth(smoothed, {"x": x})
    wanted = run(model, x)
    np.testing.assert_allclose(run(smoothed, x), wanted, rtol=1e-4, atol=1e-4)
    assert abs(graph.constant(smoothed.graph.initializers["gain"])[3]) < 30
    assert sqnr_db(wanted, quantized(smoothed, x)) > sqnr_db(wanted, quantized(model, x)) + 3
