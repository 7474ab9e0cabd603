"""The size of the network's input from the key `image_size`. No torch here: see `engine.cli`."""

from omegaconf import DictConfig, ListConfig

from engine.errors import UserError

WITHOUT_WEIGHTS = 64  # what image_size=auto is then, pixels


def size_of(cfg: DictConfig) -> tuple[int, int]:
    """(height, width) from `image_size`, an int or [height, width]."""
    value = cfg.image_size
    if value == "auto":  # until `backbone` knows its weights
        return (WITHOUT_WEIGHTS, WITHOUT_WEIGHTS)
    sides = (value, value) if isinstance(value, int) else ()
    sides = tuple(value) if isinstance(value, ListConfig) else sides
    if len(sides) != 2 or not all(isinstance(s, int) and s >= 32 for s in sides):
        raise UserError(f"image_size={value}: expected pixels >= 32, [height, width] or auto")
    return sides
