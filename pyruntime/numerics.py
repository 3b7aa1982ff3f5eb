"""Float32 arithmetic and scalar functions, stated once for the reference and for lowering's tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SMALLEST_NORMAL = np.finfo(np.float32).tiny


def flush(x: npt.ArrayLike) -> Array:
    """float32 copy of x with subnormals replaced by zero."""
    y = np.array(x, dtype=np.float32)
    y[np.abs(y) < SMALLEST_NORMAL] = 0
    return y


def fma(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> Array:
    """Float32 `a*b + c`, rounded once, subnormals flushed.

    The product of two float32 is exact in float64. The sum is rounded to odd in float64
    (53 bits, more than 24 + 2), which makes the second rounding, to float32, the only one that counts.
    """
    with np.errstate(all="ignore"):
        product = flush(a).astype(np.float64) * flush(b).astype(np.float64)
        product, addend = np.broadcast_arrays(product, flush(c).astype(np.float64))
        total = product + addend
        virtual = total - product  # TwoSum: total + error is the exact sum
        error = (product - (total - virtual)) + (addend - virtual)
        even = (np.ascontiguousarray(total).view(np.int64) & 1) == 0
        inexact = np.isfinite(total) & np.isfinite(error) & (error != 0) & even
        odd = np.where(inexact, np.nextafter(total, np.copysign(np.inf, error)), total)
        return flush(odd)


_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits


def exp(x: npt.ArrayLike) -> Array:
    """Float32 exp as the kernels compute it, bit for bit (docs/format.md, section 2.1)."""
    t = np.clip(np.array(x, dtype=np.float32), np.float32(-104), np.float32(89))
    shifted = fma(t, np.float32(1.44269504), _ROUND)
    whole = shifted - _ROUND
    r = fma(whole, np.float32(-0.693147182), t)
    r = fma(whole, np.float32(1.90465421e-9), r)
    p: Array = np.full_like(t, np.float32(0.0013951717))
    for coefficient in (0.008369599, 0.041666187, 0.16666512, 0.5):
        p = fma(p, r, np.float32(coefficient))
    p = fma(p, flush(r * r), r) + np.float32(1)
    n = np.where(np.isnan(whole), 0, whole).astype(np.int64)
    half = n >> 1
    return flush(flush(p * _power_of_two(half)) * _power_of_two(n - half))


def _power_of_two(n: Array) -> Array:
    power: Array = np.ldexp(np.float32(1), n.astype(np.int32)).astype(np.float32)
    return power


def lane_sum(x: Array, squares: bool = False) -> Array:
    """Float32 sum (of squares) over the last axis in the order of the kernels: 16 partial sums, partial l of
    elements l, l + 16, ..., squares by fma; then partial l += partial l + 8, l + 4, l + 2, l + 1.
    """
    part: Array = np.zeros((*x.shape[:-1], 16), np.float32)
    for start in range(0, x.shape[-1], 16):
        block = x[..., start : start + 16]
        lanes = part[..., : block.shape[-1]]
        lanes[...] = fma(block, block, lanes) if squares else flush(lanes + block)
    for step in (8, 4, 2, 1):
        part = flush(part[..., :step] + part[..., step : 2 * step])
    return part[..., 0]


def round_clamp(x: Array, low: float, high: float, dtype: npt.DTypeLike) -> Array:
    """`clamp(rne(x), low, high)` as an integer array; NaN gives low."""
    rounded = np.rint(np.asarray(x, dtype=np.float64))
    rounded = np.where(np.isnan(rounded), low, rounded)
    return np.clip(rounded, low, high).astype(dtype)


def quantize(x: npt.ArrayLike, scale: float, zero_point: int, dtype: npt.DTypeLike) -> Array:
    """`clamp(rne(x / scale) + zero_point, qmin, qmax)`, `x / scale` one float32 division; NaN gives qmin."""
    info = np.iinfo(np.dtype(dtype))
    with np.errstate(all="ignore"):
        quotient = np.asarray(x, dtype=np.float32) / np.float32(scale)
    return round_clamp(np.rint(quotient).astype(np.float64) + zero_point, info.min, info.max, dtype)


def dequantize(q: npt.ArrayLike, scale: npt.ArrayLike, zero_point: npt.ArrayLike) -> Array:
    """`f32(q - zero_point) * scale` in float32; scale and zero_point broadcast."""
    difference = np.asarray(q, dtype=np.int64) - np.asarray(zero_point, dtype=np.int64)
    product: Array = difference.astype(np.float32) * np.asarray(scale, dtype=np.float32)
    return product


_erf = np.frompyfunc(math.erf, 1, 1)


def erf(x: Array) -> Array:
    return np.asarray(_erf(x), dtype=np.float64)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _silu(x: Array) -> Array:
    return np.where(x == -np.inf, 0.0, x * _sigmoid(x))


def _gelu(x: Array) -> Array:
    return np.where(x == -np.inf, 0.0, 0.5 * x * (1 + erf(x / math.sqrt(2))))


def _gelu_tanh(x: Array) -> Array:
    y = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return np.where(x == -np.inf, 0.0, y)


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


Function = Callable[[Array, Mapping[str, Any]], Array]

# float64 in, float64 out; the caller rounds to float32. The attributes are those of the `unary` operator.
FUNCTIONS: dict[str, Function] = {
    "relu": lambda x, a: np.maximum(x, 0),
    "clip": lambda x, a: np.clip(x, a.get("lo", -np.inf), a.get("hi", np.inf)),
    "leaky_relu": lambda x, a: np.where(x < 0, x * a["alpha"], x),
    "sigmoid": lambda x, a: _sigmoid(x),
    "hard_sigmoid": lambda x, a: _hard_sigmoid(x, a["alpha"], a["beta"]),
    "hard_swish": lambda x, a: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "tanh": lambda x, a: np.tanh(x),
    "gelu": lambda x, a: _gelu(x),
    "gelu_tanh": lambda x, a: _gelu_tanh(x),
    "silu": lambda x, a: _silu(x),
    "exp": lambda x, a: np.exp(x),
    "sqrt": lambda x, a: np.sqrt(x),
    "erf": lambda x, a: erf(x),
    "neg": lambda x, a: -x,
    "abs": lambda x, a: np.abs(x),
    "reciprocal": lambda x, a: 1 / x,
}


def unary(function: str, x: npt.ArrayLike, attributes: Mapping[str, Any]) -> Array:
    """float32 result of a `unary` operator, computed in float64 and rounded once."""
    with np.errstate(all="ignore"):
        return FUNCTIONS[function](np.asarray(x, dtype=np.float64), attributes).astype(np.float32)


def hashed_positions(count: int, size: int) -> tuple[Array, Array]:
    """For each position below `count`: an index below `size` (int64) and a sign (-1 or 1, int64).

    A fixed mixing function of the position (the finalizer of MurmurHash3, 64 bits), so that a file needs to
    store neither.
    """
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            x ^= x >> np.uint64(33)
            x *= np.uint64(factor)
        x ^= x >> np.uint64(33)
    index = ((x >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32)
    return index.astype(np.int64), 1 - 2 * (x & np.uint64(1)).astype(np.int64)
