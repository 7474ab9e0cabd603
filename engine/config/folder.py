"""Where the configurations are. No Hydra here: the parts work without it."""

from pathlib import Path

ENGINE = Path(__file__).resolve().parents[1]
INSTALLED = (ENGINE / "configs").is_dir()  # by a wheel, which has configs/ there; else a checkout
CONFIGS = (ENGINE if INSTALLED else ENGINE.parent) / "configs"
