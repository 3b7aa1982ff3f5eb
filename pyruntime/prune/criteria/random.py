"""Random scores: the baseline every criterion must beat. Seeded by the tensor's name, so runs repeat."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from pyruntime.prune.criteria.criterion import Criterion, Scores, Subject


def weights(subject: Subject) -> Scores:
    """Uniform in (0, 1); what is already zero scores 0, so it is pruned first."""
    return _draw(subject.name, subject.weight)


def filters(subject: Subject) -> Scores:
    return _draw(subject.name, np.any(subject.weight, axis=(1, 2)))


def channels(subject: Subject) -> Scores:
    return _draw(subject.name, np.any(subject.weight, axis=(0, 1)))


def _draw(name: str, present: Any) -> Scores:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return np.where(present == 0, 0.0, 1.0 - generator.random(np.shape(present)))


CRITERION = Criterion(weights, filters, channels)
