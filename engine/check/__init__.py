"""Statistics and defects of a dataset: `python -m engine.check`."""
