"""The file a peer gets for a packed network: its QDQ form, with weights the peer's kernels can add up here.

Without VNNI, ONNX Runtime and OpenVINO add pairs of u8 * s8 products in saturating 16 bits: with weights of
8 bits their answers are wrong there (cosine 0.48 to ours on EfficientNet-Lite0), with weights of 7 bits
they are right, and as fast. It is what their quantizers do for such CPUs (`reduce_range`). Our own result
needs no such care; what the peer must agree with is our result for the same 7-bit network.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyruntime.bench.runner import Entrant
from pyruntime.loading import load_program
from pyruntime.program import Program
from pyruntime.session import cpu_features

if TYPE_CHECKING:
    import onnx

SEVEN_BITS = 63


def peer_entrants(packed: str, peers: Iterable[str], label: str, folder: Path) -> list[Entrant]:
    """Entrants of the peers on a packed file, and, where they need another form of it, ours to agree with.

    Args:
        packed: path of the `.pyrt` file; it is also the group of entrants that run it as it is.
        label: follows the peer's name.
        folder: the files are written to a new folder below it.
    """
    import onnx

    from pyruntime.pack import write

    program, group = load_program(packed), packed
    scratch = Path(tempfile.mkdtemp(dir=folder))
    entrants = []
    if not adds_exactly():
        program, label = seven_bit_weights(program), f"{label} (7-bit weights)"
        group = str(scratch / "seven_bits.pyrt")
        write(program, group)
        entrants.append(Entrant(f"pyruntime {label}", "pyruntime", group, group, timed=False))
    onnx_file = str(scratch / "qdq.onnx")
    onnx.save_model(qdq_model(program), onnx_file)
    return entrants + [Entrant(f"{peer} {label}", peer, onnx_file, group) for peer in peers]


def adds_exactly() -> bool:
    """Whether this CPU has products of bytes that do not saturate, so that peers can take 8-bit weights."""
    features = cpu_features()
    return any(features.get(name) for name in ("avxvnni", "avx512vnni", "neondot"))


def seven_bit_weights(program: Program) -> Program:
    """A copy whose int8 weights of layers are halved to [-63, 63], their multipliers doubled."""
    result = copy.copy(program)
    result.constants = dict(program.constants)
    halved, doubled = set(), set()
    for node in program.nodes:
        if node.op in ("conv", "dense") and program.dtype(node.inputs[0]) == "u8":
            halved.add(node.inputs[1])
            doubled.add(node.inputs[2])
    for name in halved:
        constant = program.constants[name]
        half = np.clip(np.rint(constant.array / 2), -SEVEN_BITS, SEVEN_BITS).astype(np.int8)
        result.constants[name] = replace(constant, array=half)
    for name in doubled:
        constant = program.constants[name]
        result.constants[name] = replace(constant, array=constant.array * np.float32(2))
    return result


def qdq_model(program: Program) -> onnx.ModelProto:
    """The program in QDQ form, of the operators that peers have fast kernels for."""
    from pyruntime.export_onnx import to_onnx
    from pyruntime.export_onnx.operators import EMITTERS
    from pyruntime.export_onnx.transformer import softmax_attention

    return to_onnx(program, {**EMITTERS, "attention": softmax_attention})


def signed_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a QDQ model whose u8 activations of both signs are s8 around 0, a little coarser.

    Activations without negative values (zero point 0) stay u8.
    """
    import onnx
    from onnx import numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    for node in result.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        zero_point = arrays.get(node.input[2])
        if zero_point is None or zero_point.dtype != np.uint8 or zero_point.ndim or zero_point == 0:
            continue
        scale, zero = float(arrays[node.input[1]]), int(zero_point)
        parameters = (np.float32(scale * max(zero, 255 - zero) / 127), np.int8(0))
        for position, array in zip((1, 2), parameters, strict=True):
            name = f"{node.name}_signed_{position}"
            result.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
            node.input[position] = name
    return result
