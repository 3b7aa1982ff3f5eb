"""Checks of a model as it comes: errors of one line, before any pass stumbles over it."""

from __future__ import annotations

import pathlib

import onnx
import onnx_ir as ir

from pyruntime.errors import FileFormatError, ModelError
from pyruntime.graph.nodes import label

OLDEST_OPSET = 7
NEWEST_OPSET = int(onnx.defs.onnx_opset_version())


def check_definitions(proto: onnx.ModelProto, name: str) -> None:
    """Every name is defined once, before its use or as an input; every output exists."""
    graph = proto.graph
    defined = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    made = {output for node in graph.node for output in node.output if output}
    for node in graph.node:
        for value in node.input:
            if value and value not in defined and value not in made:
                raise ModelError(
                    f"{name}: node {node.op_type} ({node.name or 'unnamed'}) reads '{value}', which "
                    f"nothing defines; "
                    "export the model again"
                )
        if clash := [output for output in node.output if output and output in defined]:
            raise ModelError(f"{name}: value '{clash[0]}' is defined twice; export the model again")
        defined.update(output for output in node.output if output)
    for output in graph.output:
        if output.name not in defined:
            raise ModelError(f"{name}: nothing computes the output '{output.name}'; export the model again")
    if not graph.output:
        raise ModelError(f"{name}: the model has no outputs; export the model again")


def check_external_data(model: ir.Model, name: str) -> None:
    """External files exist, lie in or below the model's folder, and are long enough for their tensors."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        location = pathlib.PurePath(tensor.location)
        if location.is_absolute() or ".." in location.parts:
            raise FileFormatError(
                f"{name}: tensor '{value.name}' wants external data '{location}' outside the model's folder; "
                "put it beside the model and use a relative path"
            )
        path = pathlib.Path(tensor.path)
        if not path.is_file():
            raise FileFormatError(
                f"{name}: external data '{location}' of tensor '{value.name}' is missing; put it "
                f"beside the model"
            )
        needed, found = (tensor.offset or 0) + tensor.nbytes, path.stat().st_size
        if (tensor.length is not None and tensor.length != tensor.nbytes) or needed > found:
            raise FileFormatError(
                f"{name}: external data '{location}' ends before tensor '{value.name}' does ({found} "
                f"of {needed} bytes); "
                "copy it again"
            )


def check_opset(model: ir.Model) -> None:
    version = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        advice = "export the model with a newer opset" if version < OLDEST_OPSET else "install a newer onnx"
        raise ModelError(
            f"opset {version} is not supported (only {OLDEST_OPSET} to {NEWEST_OPSET}); {advice}"
        )


def check_structure(model: ir.Model) -> None:
    """Every value read exists; every node has the inputs and attributes its operator requires."""
    known = {*model.graph.inputs, *model.graph.initializers.values()}
    is_canonical = "pyruntime" in model.opset_imports
    opset = model.opset_imports.get("", 1)
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.producer() is None and value not in known:
                raise ModelError(
                    f"node {label(node)} reads '{value.name}', which nothing defines; correct the model"
                )
        if node.domain in ("", "ai.onnx") and not is_canonical:
            _check_node(node, opset)


def _check_node(node: ir.Node, opset: int) -> None:
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except (
        Exception
    ):  # onnx raises SchemaError, which its older versions do not export; reported as unsupported
        return
    given = len(node.inputs)
    if not schema.min_input <= given <= schema.max_input or not node.outputs:
        raise ModelError(
            f"node {label(node)}: {given} inputs and {len(node.outputs)} outputs, its operator takes "
            f"{schema.min_input} to {schema.max_input} inputs; correct the model"
        )
    for index, formal in enumerate(schema.inputs[:given]):
        if formal.option == onnx.defs.OpSchema.FormalParameterOption.Single and node.inputs[index] is None:
            raise ModelError(
                f"node {label(node)}: input {index} ('{formal.name}') is missing; correct the model"
            )
    for name, attribute in schema.attributes.items():
        if attribute.required and name not in node.attributes:
            raise ModelError(f"node {label(node)}: attribute '{name}' is missing; correct the model")
