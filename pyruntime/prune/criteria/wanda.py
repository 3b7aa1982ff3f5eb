"""Wanda: the squared weight times the mean square of what it multiplies (Sun et al. 2024).

It is what the output loses when the weight goes and nothing makes up for it. The root, the paper's
|W| * ||x||, ranks the same.
"""

from __future__ import annotations

import numpy as np

from pyruntime.prune.criteria.criterion import Criterion, Scores, Subject, squared


def weights(subject: Subject) -> Scores:
    assert subject.measured is not None and subject.measured.moments is not None
    energy = np.einsum("gkk->gk", subject.measured.moments).astype(np.float64)
    out, taps, channels = subject.weight.shape
    by_output = np.repeat(energy.reshape(subject.groups, taps, channels), out // subject.groups, axis=0)
    scores: Scores = squared(subject.weight) * by_output
    return scores


CRITERION = Criterion(weights=weights, needs=("moments",), weights_need=("moments",))
