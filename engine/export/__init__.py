"""Exports checkpoints: a file is written, compared, and published only where it holds."""
