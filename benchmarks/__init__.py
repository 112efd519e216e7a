"""Measurements: `python -m benchmarks [NAME …]`. Nothing here is a test, and no test measures time."""
