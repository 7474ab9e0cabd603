"""Searches: Hydra's sweeper `study`, whose trials are trainings in processes of their own."""

import hashlib

from hydra.core.plugins import Plugins
from omegaconf import OmegaConf


def register() -> None:
    """Let Hydra find the sweeper `study`, and the folder that its configuration names."""
    OmegaConf.register_new_resolver("study_name", name, replace=True)
    plugins = Plugins.instance()
    from engine.sweep.study import Study

    # Hydra takes sweepers whose name begins so, and no others.
    plugins.class_name_to_class["hydra_plugins.onelook.Study"] = Study


def name(overrides: list[str], objectives: list[str]) -> str:
    """Return a short name that the same overrides, in any order, and objectives have."""
    text = "\n".join([*sorted(overrides), *objectives])
    return hashlib.sha256(text.encode()).hexdigest()[:8]
