"""Which form each layer takes: what every form costs, measured, and the best choice within a budget."""

from pyruntime.search.options import SHOWN, Option
from pyruntime.search.sensitivity import Row, measure

__all__ = ["SHOWN", "Option", "Row", "measure"]
