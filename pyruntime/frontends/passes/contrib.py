"""Fused operators that ONNX Runtime writes when it saves an optimised model -> the standard operators."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from pyruntime.graph.nodes import get_string, insert_before, replace_node, topological_nodes

_DOMAIN = "com.microsoft"
# Activation -> names of its parameters, in the order in which `activation_params` gives them.
_ACTIVATIONS = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
}


def run(model: ir.Model) -> bool:
    """Take apart FusedConv, FusedGemm, BiasGelu, FastGelu and Gelu of com.microsoft."""
    changed = False
    for node in topological_nodes(model):
        rule = _RULES.get(node.op_type) if node.domain == _DOMAIN else None
        if rule is not None:
            changed |= rule(node)
    return changed


def _fused_conv(node: ir.Node) -> bool:
    added = node.inputs[3] if len(node.inputs) > 3 else None
    return _layer(node, "Conv", added, "activation_params")


def _fused_gemm(node: ir.Node) -> bool:
    return _layer(node, "Gemm", None, "")


def _layer(node: ir.Node, op_type: str, added: ir.Value | None, parameters: str) -> bool:
    activation = get_string(node, "activation", "")
    names = _ACTIVATIONS.get(activation) if activation else ()
    if names is None:
        return False
    attributes = {name: item for name, item in node.attributes.items() if not name.startswith("activation")}
    result = insert_before(node, op_type, node.inputs[:3], attributes, name=node.name).outputs[0]
    if added is not None:
        result = insert_before(node, "Add", [result, added]).outputs[0]
    if activation:
        settings: dict[str, float | ir.Attr] = {}
        if parameters in node.attributes:
            settings = dict(zip(names, node.attributes[parameters].as_floats(), strict=False))
        for name in names:
            if f"activation_{name}" in node.attributes:
                settings[name] = node.attributes[f"activation_{name}"].as_float()
        result = insert_before(node, activation, [result], settings).outputs[0]
    replace_node(node, result)
    return True


def _gelu(approximate: str) -> Callable[[ir.Node], bool]:
    def rule(node: ir.Node) -> bool:
        data = node.inputs[0]
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            data = insert_before(node, "Add", [data, node.inputs[1]]).outputs[0]
        gelu = insert_before(node, "Gelu", [data], {"approximate": approximate}, name=node.name)
        replace_node(node, gelu.outputs[0])
        return True

    return rule


_RULES: dict[str, Callable[[ir.Node], bool]] = {
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "Gelu": _gelu("none"),
    "BiasGelu": _gelu("none"),
    "FastGelu": _gelu("tanh"),
}
