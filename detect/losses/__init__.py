"""Losses of detection, beside those of classification."""
