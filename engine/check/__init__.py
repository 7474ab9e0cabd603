"""What there is in a dataset and what is wrong with it: `python -m engine.check`."""
