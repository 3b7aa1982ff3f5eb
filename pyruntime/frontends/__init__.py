"""Frontends: networks of other tools -> `onnx_ir.Model` in canonical form."""
