"""Trains, evaluates and runs image classifiers and detectors: the command `onelook`."""
