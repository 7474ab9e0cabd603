"""Trains, evaluates and runs any network; knows no task."""
