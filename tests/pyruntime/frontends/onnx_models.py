"""Small ONNX models and the comparison of a model with its canonical form, run by ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from pyruntime.frontends.onnx import canonicalize, load
from pyruntime.graph import to_proto, to_standard

Arrays = dict[str, np.ndarray]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[Any, ...]],
    outputs: list[str],
    constants: Arrays | None = None,
    *,
    opset: int = 17,
    ir_version: int = 8,
    input_type: int = TensorProto.FLOAT,
    output_type: int = TensorProto.FLOAT,
    list_constants_as_inputs: bool = False,
    domains: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """Model of nodes: `inputs` name -> shape, `constants` name -> array; outputs have no declared shape."""
    constants = constants or {}
    infos = [helper.make_tensor_value_info(name, input_type, shape) for name, shape in inputs.items()]
    if list_constants_as_inputs:
        infos += [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in constants.items()
        ]
    graph = helper.make_graph(
        nodes,
        "test",
        infos,
        [helper.make_tensor_value_info(name, output_type, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def run(proto: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray]:
    """Outputs of ONNX Runtime without graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def assert_same(
    proto: onnx.ModelProto, feeds: Arrays, *, rtol: float = 1e-5, atol: float = 1e-5, expected: Any = None
) -> ir.Model:
    """Load the model, convert back to standard ONNX, compare; the canonical form must be a fixed point."""
    model = load(proto)
    standard = to_proto(to_standard(model))
    onnx.checker.check_model(standard, full_check=True)
    wanted = run(proto, feeds) if expected is None else expected
    for found, value in zip(run(standard, feeds), wanted, strict=True):
        assert found.shape == value.shape
        np.testing.assert_allclose(found, value, rtol=rtol, atol=atol)
    assert describe(canonicalize(model)) == describe(model)
    assert describe(canonicalize(to_standard(model))) == describe(model)
    return model


def describe(model: ir.Model) -> list[tuple[str, dict[str, Any], list[Any]]]:
    """Operators, attributes and output shapes, for comparing two models."""
    rows = []
    for node in model.graph:
        attributes = {
            name: list(item.value) if isinstance(item.value, (tuple, list)) else item.value
            for name, item in sorted(node.attributes.items())
        }
        rows.append((node.op_type, attributes, [str(output.shape) for output in node.outputs]))
    return rows


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def node_of(model: ir.Model, op_type: str) -> ir.Node:
    (node,) = [node for node in model.graph if node.op_type == op_type]
    return node
