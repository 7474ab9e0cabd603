"""The size of the network's input, key `image_size`. No import of torch here: see `engine.cli`."""

from typing import Any

from omegaconf import DictConfig, ListConfig

from engine.config.ranges import Side, fits
from engine.errors import UserError

WITHOUT_WEIGHTS = 64  # pixels of image_size=auto where no pretrained weights set it


def size_of(cfg: DictConfig) -> tuple[int, int]:
    """Return (height, width) from `image_size`: an int, [height, width] or auto."""
    value = cfg.image_size
    if value == "auto":  # not yet replaced by the size of the backbone's weights
        return (WITHOUT_WEIGHTS, WITHOUT_WEIGHTS)
    sides: Any = (value, value) if isinstance(value, int) else ()
    sides = tuple(value) if isinstance(value, ListConfig) else sides
    if not fits(sides, tuple[Side, Side]):
        raise UserError(f"image_size={value}: expected 32 to 4,096 pixels, [height, width] or auto")
    return sides
