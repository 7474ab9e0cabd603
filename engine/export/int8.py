"""Quantizes an exported file to 8 bits, up to the layers whose outputs are boxes and scores."""

from pathlib import Path

from engine.data.loader import Loader


def quantize(path: Path, images: Loader, one_by_one: bool) -> None:
    """Replace the file."""
    raise NotImplementedError
