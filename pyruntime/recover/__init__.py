"""Win back the accuracy that pruning and quantization cost, from calibration data alone."""

from pyruntime.recover.bias import correct_bias
from pyruntime.recover.bn import match_statistics
from pyruntime.recover.equalize import equalize
from pyruntime.recover.moments import input_moments
from pyruntime.recover.obs import update_pruned
from pyruntime.recover.rounding import round_weights
from pyruntime.recover.smooth import smooth
from pyruntime.recover.spec import STEPS, parse_steps

__all__ = [
    "STEPS",
    "correct_bias",
    "equalize",
    "input_moments",
    "match_statistics",
    "parse_steps",
    "round_weights",
    "smooth",
    "update_pruned",
]
