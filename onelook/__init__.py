"""Trains, evaluates and runs image classifiers and detectors: in Python, and as a command.

    from onelook import load

    model = load("best.pt")
    found = model("cat.jpg")

What is named here loads where it is first used, so that `onelook --help` waits for no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.errors import UserError
    from onelook.found import Found
    from onelook.model import Model, load
    from onelook.runs import Run, evaluate, train

__all__ = ["Found", "Model", "Run", "UserError", "evaluate", "load", "train"]

PLACES = {
    "Found": "onelook.found",
    "Model": "onelook.model",
    "Run": "onelook.runs",
    "UserError": "engine.errors",
    "evaluate": "onelook.runs",
    "load": "onelook.model",
    "train": "onelook.runs",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in PLACES:
        raise AttributeError(f"module 'onelook' has no attribute '{name}'")
    return getattr(importlib.import_module(PLACES[name]), name)
