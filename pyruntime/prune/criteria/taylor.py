"""Taylor: the change of the network's outputs to first order (Molchanov et al. 2019, their squared form).

A filter or channel is replaced by its mean rather than by zero, since the biases after it take the mean over;
a weight is set to zero. The outputs themselves take the place of a loss, so no labels are needed (see
`prune.effects`).
"""

from __future__ import annotations

import numpy as np

from pyruntime.prune.criteria.criterion import DAMPING, Criterion, Scores, Subject, squared


def weights(subject: Subject) -> Scores:
    """Damped: the samples do not show every effect; of weights without any, the smallest go first."""
    assert subject.measured is not None and subject.measured.weights is not None
    square = squared(subject.weight)
    effects = subject.measured.weights
    per_square = np.divide(effects, square, out=np.zeros_like(effects), where=square > 0)
    return effects + DAMPING * float(per_square.mean()) * square


def filters(subject: Subject) -> Scores:
    assert subject.measured is not None and subject.measured.outputs is not None
    return subject.measured.outputs


def channels(subject: Subject) -> Scores:
    assert subject.measured is not None and subject.measured.inputs is not None
    return subject.measured.inputs


CRITERION = Criterion(
    weights,
    filters,
    channels,
    needs=("gradients",),
    weights_need=("weight gradients",),
    comparable=True,
    weights_comparable=True,
)
