"""The learning-rate finder: `python -m engine.lr_find`."""
