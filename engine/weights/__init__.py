"""Weights in files: checkpoints of this program and files of others."""
