"""Heads that say what is in the whole image."""
