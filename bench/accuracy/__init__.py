"""Accuracy of every compression method on the float networks of `bench/models`, as `docs/results.md`."""
