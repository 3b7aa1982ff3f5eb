"""Quantization: choose ranges from data, write them into the model as QuantizeLinear and DequantizeLinear."""

from pyruntime.quantize.affine import affine_layers
from pyruntime.quantize.assignment import Assignment, assign, uniform
from pyruntime.quantize.attention import fuse_attention
from pyruntime.quantize.calibrate import calibrate
from pyruntime.quantize.insert import LayerQuantization, QuantizeReport, insert_qdq
from pyruntime.quantize.per_token import RANGE as TOKEN_RANGE
from pyruntime.quantize.per_token import scale_tokens
from pyruntime.quantize.plan import QuantizePlan, make_plan
from pyruntime.quantize.ranges import Range
from pyruntime.quantize.scales import Grids, weight_grids
from pyruntime.quantize.spec import QuantizeSpec, parse_spec

__all__ = [
    "TOKEN_RANGE",
    "Assignment",
    "Grids",
    "LayerQuantization",
    "QuantizePlan",
    "QuantizeReport",
    "QuantizeSpec",
    "Range",
    "affine_layers",
    "assign",
    "calibrate",
    "fuse_attention",
    "insert_qdq",
    "make_plan",
    "parse_spec",
    "scale_tokens",
    "uniform",
    "weight_grids",
]
