"""Writes a dataset as tars that are read by range."""
