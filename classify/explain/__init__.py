"""Topics of `python -m engine.explain` about one label an image."""
