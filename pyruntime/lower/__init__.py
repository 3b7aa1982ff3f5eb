"""Canonical ONNX with or without QuantizeLinear/DequantizeLinear -> Program (docs/format.md).

Patterns of Q/DQ become integer operators that differ from the QDQ definition by at most one step of their
output scale; everything else becomes float operators. Nothing is quantized that the model does not quantize.
"""

from pyruntime.lower.lowering import lower

__all__ = ["lower"]
