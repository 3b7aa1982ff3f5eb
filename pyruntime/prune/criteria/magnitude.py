"""Magnitude: the squared weight, so that a block or a filter is judged by its L2 norm (Han et al. 2015)."""

from __future__ import annotations

from pyruntime.prune.criteria.criterion import Criterion, Scores, Subject, squared


def scores(subject: Subject) -> Scores:
    return squared(subject.weight)


CRITERION = Criterion(weights=scores)
