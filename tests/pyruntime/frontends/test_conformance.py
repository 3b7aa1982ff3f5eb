"""The conformance cases of the onnx package, by operator and by exported layer."""

from __future__ import annotations

import pathlib
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx_models import run

from pyruntime.errors import ModelError
from pyruntime.frontends.onnx import load
from pyruntime.frontends.support import SUPPORTED
from pyruntime.graph import infer_shapes, to_proto, to_standard

DATA = pathlib.Path(onnx.__file__).parent / "backend/test/data"

# Cases that ONNX Runtime cannot be fed or does not implement as the standard says.
NOT_RUNNABLE = (
    "float8",
    "e4m3",
    "e5m2",
    "int4",
    "int2",
    "float4",
    "e2m1",
    "sequence",
    "identity_opt",
    "_cast",
)
DIFFERENT = {"test_resize_downsample_scales_linear_align_corners"}
SIMPLE = {
    "BatchNormalization",
    "Dropout",
    "Gather",
    "GroupNormalization",
    "InstanceNormalization",
    "Min",
    "Max",
    "Neg",
    "Pow",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceSum",
    "ReduceSumSquare",
    "Sum",
    "Upsample",
}
QUANTIZED = {"QLinearConv", "QLinearMatMul", "DepthToSpace", "SpaceToDepth"}


def conformance_cases():
    claimed = {op for domain, op in SUPPORTED if not domain} | SIMPLE | QUANTIZED
    for case in collect_testcases(None):
        if case.model is None or any(word in case.name for word in NOT_RUNNABLE) or case.name in DIFFERENT:
            continue
        if {node.op_type for node in case.model.graph.node} <= claimed:
            yield case


def as_float32(array):
    is_other = array.dtype in (np.float16, np.float64) or array.dtype.name == "bfloat16"
    return array.astype(np.float32) if is_other else array


def array_of(item):
    return numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else np.asarray(item)


@pytest.mark.filterwarnings("ignore")  # of the cases' own computations
def test_operator_conformance():
    """Every case of an operator we claim agrees, with all but the first input constant."""
    passed, refused = Counter(), Counter()
    for case in conformance_cases():
        op = case.model.graph.node[-1].op_type
        for inputs, outputs in case.data_sets:
            proto = onnx.ModelProto()
            proto.CopyFrom(case.model)
            arrays = [array_of(item) for item in inputs]
            for info, array in list(zip(case.model.graph.input, arrays, strict=False))[1:]:
                proto.graph.initializer.append(numpy_helper.from_array(array, info.name))
            del proto.graph.input[1:]
            try:
                model = load(proto)
            except ModelError as error:
                assert "\n" not in str(error)
                refused[op] += 1
                continue
            standard = to_proto(to_standard(model))
            feeds = {info.name: as_float32(arrays[0]) for info in standard.graph.input}
            for found, wanted in zip(run(standard, feeds), outputs, strict=True):
                wanted = as_float32(array_of(wanted))
                assert found.shape == wanted.shape, case.name
                np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3, err_msg=case.name)
            infer_shapes(model)
            passed[op] += 1
    assert sum(passed.values()) > 250
    always = {"Conv", "Gemm", "MatMul", "Relu", "Clip", "Concat", "Slice", "Transpose", "Reshape", "Gelu"}
    always |= {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Softmax", "HardSwish", "QLinearConv"}
    always |= {"ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare", "InstanceNormalization"}
    always |= {"GroupNormalization"}
    missing = always - set(passed)
    assert not missing
    assert not {"Gemm", "MatMul", "Relu", "Concat", "Slice", "Transpose", "Gelu", "Softmax"} & set(refused)
