"""Heads that classify the whole image."""
