"""The size of the network's input, key `image_size`. No import of torch here: see `engine.cli`."""

from omegaconf import DictConfig, ListConfig

from engine.errors import UserError

WITHOUT_WEIGHTS = 64  # pixels of image_size=auto where no pretrained weights set it


def size_of(cfg: DictConfig) -> tuple[int, int]:
    """Return (height, width) from `image_size`: an int, [height, width] or auto."""
    value = cfg.image_size
    if value == "auto":  # not yet replaced by the size of the backbone's weights
        return (WITHOUT_WEIGHTS, WITHOUT_WEIGHTS)
    sides = (value, value) if isinstance(value, int) else ()
    sides = tuple(value) if isinstance(value, ListConfig) else sides
    if len(sides) != 2 or not all(isinstance(s, int) and s >= 32 for s in sides):
        raise UserError(f"image_size={value}: expected pixels >= 32, [height, width] or auto")
    return sides
