"""Heads that say what is in the whole picture."""
