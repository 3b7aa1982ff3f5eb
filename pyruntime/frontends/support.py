"""What the later stages can take: a list of operators, and the conditions on each."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import is_constant, weight_initializer
from pyruntime.graph.nodes import get_int, get_string, has_attribute, label
from pyruntime.graph.shapes import dims, rank

_Check = Callable[[ir.Node], "str | None"]


def check_supported(model: ir.Model) -> None:
    """Errors: one ModelError that lists every node that cannot be run, as `op_type (name)`."""
    problems = [problem for node in model.graph if (problem := problem_of(node)) is not None]
    if not problems:
        return
    raise ModelError(
        f"unsupported nodes: {', '.join(problems)}; replace them in the model before exporting it"
    )


def problem_of(node: ir.Node) -> str | None:
    """`op_type (name)`, with a reason where the operator itself is supported; None if the node is fine."""
    check = SUPPORTED.get((node.domain, node.op_type))
    if check is None:
        return label(node)
    reason = check(node) or (None if (node.domain, node.op_type) in ANY_TYPE else _float_input(node))
    return None if reason is None else f"{label(node)}: {reason}"


def _any(node: ir.Node) -> str | None:
    return None


def _one_input(node: ir.Node) -> str | None:
    return None if len(node.inputs) == 1 else "its settings are not constant"


def _needs(*attributes: str) -> _Check:
    def check(node: ir.Node) -> str | None:
        if len(node.inputs) != 1:
            return "its settings are not constant"
        missing = [name for name in attributes if not has_attribute(node, name)]
        return f"'{missing[0]}' is not constant or its input's shape is unknown" if missing else None

    return check


def _conv(node: ir.Node) -> str | None:
    if weight_initializer(node.inputs[1]) is None:
        return "its weight is not constant"
    spatial = (rank(weight_initializer(node.inputs[1])) or 0) - 2
    if spatial not in (1, 2):
        return f"{spatial}-D convolution, only 1-D and 2-D are supported"
    if len(node.inputs) > 2 and node.inputs[2] is not None and weight_initializer(node.inputs[2]) is None:
        return "its bias is not constant"
    return None


def _conv_transpose(node: ir.Node) -> str:
    """What is left of them: the pass of this name rewrites the others."""
    weight = weight_initializer(node.inputs[1])
    if weight is None or not is_constant(node.inputs[1]):
        return "its weight is not a constant in float32"
    spatial = (rank(weight) or 0) - 2
    if spatial not in (1, 2):
        return f"{spatial}-D, only 1-D and 2-D are supported"
    if len(node.inputs) > 2 and node.inputs[2] is not None and not is_constant(node.inputs[2]):
        return "its bias is not constant"
    return "the size of its plane is not known; give the model's input a fixed height and width"


def _dynamic_quantization(node: ir.Node) -> str:
    return "quantized while running; give the float model it was made from"


def _pool(node: ir.Node) -> str | None:
    if len([output for output in node.outputs if output.uses() or output.is_graph_output()]) > 1:
        return "its second output is used"
    size = rank(node.inputs[0])
    return None if size in (3, 4, None) else f"{size - 2}-D pooling, only 1-D and 2-D are supported"


def _pad(node: ir.Node) -> str | None:
    mode = get_string(node, "mode", "constant")
    return _needs("pads")(node) or (None if mode in ("constant", "reflect", "edge") else f"mode '{mode}'")


def _resize(node: ir.Node) -> str | None:
    if len(node.inputs) != 1 or not (has_attribute(node, "scales") or has_attribute(node, "sizes")):
        return "its scales or sizes are not constant"
    if get_int(node, "antialias", 0):
        return "antialias"
    if get_string(node, "mode", "nearest") not in ("nearest", "linear"):
        return f"mode '{get_string(node, 'mode', 'nearest')}'"
    return None


def _cast(node: ir.Node) -> str | None:
    kind = node.outputs[0].dtype
    return None if kind == ir.DataType.FLOAT else f"to {kind.name if kind is not None else 'an unknown type'}"


def _prelu(node: ir.Node) -> str | None:
    return None if is_constant(node.inputs[1]) else "its slope is not constant"


def _quantization(node: ir.Node) -> str | None:
    if len(node.inputs) < 3 or not is_constant(node.inputs[1]) or not is_constant(node.inputs[2]):
        return "its scale or zero point is not constant"
    return None


def _float_input(node: ir.Node) -> str | None:
    kind = node.inputs[0].dtype if node.inputs[0] is not None else None
    return f"of type {kind.name}" if kind not in (ir.DataType.FLOAT, None) else None


def _gather(node: ir.Node) -> str | None:
    kind = node.inputs[1].dtype if node.inputs[1] is not None else None
    if kind not in (ir.DataType.INT64, ir.DataType.INT32):
        return f"its indices are of type {kind.name if kind is not None else 'unknown'}"
    return None if has_attribute(node, "axis") else "the shape of its data is unknown"


def _layer_norm(node: ir.Node) -> str | None:
    if len([output for output in node.outputs if output.uses() or output.is_graph_output()]) > 1:
        return "its second output is used"
    if not has_attribute(node, "epsilon"):
        return "the shape of its input is unknown"
    shape = dims(node.inputs[0]) or []
    if any(isinstance(dim, str) for dim in shape[get_int(node, "axis", -1) :]):
        return "it normalizes over a dimension of unknown size"
    return None if all(map(is_constant, node.inputs[1:])) else "its scale or bias is not constant"


def _where(node: ir.Node) -> str | None:
    kinds = {value.dtype for value in node.inputs if value is not None}
    other = next((kind for kind in kinds if kind not in (ir.DataType.FLOAT, None)), None)
    return None if other is None else f"of type {other.name}"


def _slice(node: ir.Node) -> str | None:
    missing = not has_attribute(node, "starts") or not has_attribute(node, "ends")
    return "its settings are not constant" if missing else None


def _expand(node: ir.Node) -> str | None:
    return None if has_attribute(node, "shape") else "its shape is not known"


# (domain, operator) -> what is wrong with a node of it, if anything.
SUPPORTED: dict[tuple[str, str], _Check] = {
    ("", "Identity"): _one_input,
    ("", "Conv"): _conv,
    ("", "ConvInteger"): _dynamic_quantization,
    ("", "ConvTranspose"): _conv_transpose,
    ("", "DynamicQuantizeLinear"): _dynamic_quantization,
    ("", "Gemm"): _any,
    ("", "MatMul"): _any,
    ("", "MatMulInteger"): _dynamic_quantization,
    ("", "Relu"): _one_input,
    ("", "Clip"): _needs("min", "max"),
    ("", "LeakyRelu"): _one_input,
    ("", "PRelu"): _prelu,
    ("", "Sigmoid"): _one_input,
    ("", "HardSigmoid"): _one_input,
    ("", "HardSwish"): _one_input,
    ("", "Tanh"): _one_input,
    ("", "Gelu"): _one_input,
    ("pyruntime", "Silu"): _one_input,
    ("", "Softmax"): _needs("axis"),
    ("", "Exp"): _one_input,
    ("", "Sqrt"): _one_input,
    ("", "Erf"): _one_input,
    ("", "Abs"): _one_input,
    ("", "MaxPool"): _pool,
    ("", "AveragePool"): _pool,
    ("", "GlobalAveragePool"): _pool,
    ("", "GlobalMaxPool"): _pool,
    ("", "ReduceMean"): _needs("axes"),
    ("", "Add"): _any,
    ("", "Sub"): _any,
    ("", "Mul"): _any,
    ("", "Div"): _any,
    ("", "Concat"): _any,
    ("", "Split"): _needs("split"),
    ("", "Slice"): _slice,
    ("", "Expand"): _expand,
    ("", "Gather"): _gather,
    ("", "LayerNormalization"): _layer_norm,
    ("", "Where"): _where,
    ("", "Pad"): _pad,
    ("", "Flatten"): _one_input,
    ("", "Reshape"): _needs("shape"),
    ("", "Transpose"): _needs("perm"),
    ("", "Squeeze"): _needs("axes"),
    ("", "Unsqueeze"): _needs("axes"),
    ("", "Resize"): _resize,
    ("", "Cast"): _cast,
    ("", "QuantizeLinear"): _quantization,
    ("", "DequantizeLinear"): _quantization,
}

# Operators that only move data, or that say themselves which types they take.
ANY_TYPE = {
    ("", "Identity"),
    ("", "MaxPool"),
    ("", "GlobalMaxPool"),
    ("", "Concat"),
    ("", "Split"),
    ("", "Slice"),
    ("", "Expand"),
    ("", "Gather"),
    ("", "Where"),
    ("", "Pad"),
    ("", "Flatten"),
    ("", "Reshape"),
    ("", "Transpose"),
    ("", "Squeeze"),
    ("", "Unsqueeze"),
    ("", "Resize"),
    ("", "Cast"),
    ("", "QuantizeLinear"),
    ("", "DequantizeLinear"),
}
