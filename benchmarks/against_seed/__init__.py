"""Ours against the recipe that it grew from (``benchmarks.seed``): see docs/benchmarks.md."""
