"""Batch-norm scale: channels with a small |gamma| carry little signal (network slimming, Liu et al. 2017).

The canonical form folds batch normalization into the weights. But a normalized channel has variance one, so
|gamma| is the standard deviation of the layer's output, which calibration data show; it is as well defined
for layers that never had a normalization.
"""

from __future__ import annotations

from pyruntime.prune.criteria.criterion import Criterion, Scores, Subject


def filters(subject: Subject) -> Scores:
    assert subject.measured is not None and subject.measured.deviation is not None
    return subject.measured.deviation


CRITERION = Criterion(filters=filters, needs=("deviation",))
