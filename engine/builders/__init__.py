"""Builds the parts, the network and the run of a configuration."""
