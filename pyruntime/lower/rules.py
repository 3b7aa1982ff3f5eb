"""The rewriting rules, tried from top to bottom for every value that the program must compute.

A rule takes the value at the end of its pattern and answers with a Match or None. Integer forms stand before
float ones, larger patterns before smaller ones. Rules named `float_...` run their node in float32.
"""

from collections.abc import Callable

import onnx_ir as ir

from pyruntime.lower import conv, elementwise, movement, other, pool, products
from pyruntime.lower.context import Context, Match

Rule = Callable[[Context, ir.Value], "Match | None"]

RULES: tuple[Rule, ...] = (
    # Q at the end: integer operators
    conv.quantized_layer_with_residual,
    conv.quantized_layer,
    products.quantized_matmul,
    products.quantized_attention,
    elementwise.quantized_sum,
    elementwise.quantized_product,
    elementwise.quantized_function,
    pool.quantized_average_pool,
    pool.quantized_max_pool,
    movement.quantized_movement,
    other.quantized_layer_norm,
    # integers in, float out
    conv.integer_layer_to_float,
    products.matmul_to_float,
    products.attention_to_float,
    # borders
    other.quantize,
    other.dequantize,
    # data movement in whatever dtype it comes
    movement.move,
    pool.max_pool,
    other.cast,
    # float
    conv.float_layer_with_residual,
    conv.float_layer,
    elementwise.float_binary,
    elementwise.float_function,
    elementwise.float_prelu,
    pool.float_average_pool,
    other.float_softmax,
    other.float_layer_norm,
    other.float_where,
    other.float_reduce_mean,
    other.float_matmul,
    other.float_gemm,
)
