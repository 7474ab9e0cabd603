"""Exported files in the place of checkpoints: their description, and the engines that run them."""
