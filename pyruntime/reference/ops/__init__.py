"""The registry of reference operators: one line per operator of docs/format.md."""

from collections.abc import Callable

from pyruntime.program import Array
from pyruntime.reference.call import Call
from pyruntime.reference.ops.add import add
from pyruntime.reference.ops.attention import attention
from pyruntime.reference.ops.average_pool import average_pool
from pyruntime.reference.ops.cast import cast
from pyruntime.reference.ops.concat import concat
from pyruntime.reference.ops.conv import conv
from pyruntime.reference.ops.dense import dense
from pyruntime.reference.ops.dequantize import dequantize
from pyruntime.reference.ops.div import div
from pyruntime.reference.ops.expand import expand
from pyruntime.reference.ops.flatten import flatten
from pyruntime.reference.ops.gather import gather
from pyruntime.reference.ops.layer_norm import layer_norm
from pyruntime.reference.ops.lut import lut
from pyruntime.reference.ops.matmul import matmul
from pyruntime.reference.ops.max_pool import max_pool
from pyruntime.reference.ops.mul import mul
from pyruntime.reference.ops.pad import pad
from pyruntime.reference.ops.prelu import prelu
from pyruntime.reference.ops.quantize import quantize
from pyruntime.reference.ops.reduce_mean import reduce_mean
from pyruntime.reference.ops.reshape import reshape
from pyruntime.reference.ops.resize import resize
from pyruntime.reference.ops.slice import slice_
from pyruntime.reference.ops.softmax import softmax
from pyruntime.reference.ops.squeeze import squeeze
from pyruntime.reference.ops.sub import sub
from pyruntime.reference.ops.transpose import transpose
from pyruntime.reference.ops.unary import unary
from pyruntime.reference.ops.unsqueeze import unsqueeze
from pyruntime.reference.ops.where import where

OPS: dict[str, Callable[[Call], Array]] = {
    "quantize": quantize,
    "dequantize": dequantize,
    "conv": conv,
    "dense": dense,
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": div,
    "lut": lut,
    "unary": unary,
    "prelu": prelu,
    "max_pool": max_pool,
    "average_pool": average_pool,
    "reduce_mean": reduce_mean,
    "softmax": softmax,
    "matmul": matmul,
    "attention": attention,
    "layer_norm": layer_norm,
    "gather": gather,
    "where": where,
    "expand": expand,
    "concat": concat,
    "slice": slice_,
    "pad": pad,
    "reshape": reshape,
    "flatten": flatten,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "transpose": transpose,
    "resize": resize,
    "cast": cast,
}
