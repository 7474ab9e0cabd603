"""A network layer by layer: `python -m engine.summary`."""
