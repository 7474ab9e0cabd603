"""Benchmarks of data and losses of detectors, for `python -m engine.bench`."""
