"""Ours against the recipe that it grew from (``benchmarks.baseline``): see docs/benchmarks.md."""
