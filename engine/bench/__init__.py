"""Measurements beside peers: `python -m engine.bench`."""
