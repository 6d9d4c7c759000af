"""Benchmarks: what each part costs and how it grows."""
