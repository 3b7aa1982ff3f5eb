"""Gradients of the tensors of a network, by reverse differentiation in NumPy."""

from pyruntime.gradient.reverse import Step, differentiate, tensors

__all__ = ["Step", "differentiate", "tensors"]
