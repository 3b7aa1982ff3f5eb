"""Which channels of a network must go together, and their removal.

`analyse` gives every channel of every tensor a label and lets each operator tie the labels of its inputs,
weights and outputs; channels with one class stay or go together. `shrink` removes classes, `mask` sets their
weights to zero. What an operator does not allow, or what cannot be proved, makes channels fixed, with the
reason.
"""

from pyruntime.prune.dependency.analysis import analyse
from pyruntime.prune.dependency.dependencies import Dependencies, Group, Member
from pyruntime.prune.dependency.surgery import mask, shrink

__all__ = ["Dependencies", "Group", "Member", "analyse", "mask", "shrink"]
