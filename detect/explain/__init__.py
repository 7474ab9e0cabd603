"""Topics of `python -m engine.explain` about boxes."""
