"""Decoded images in memory that all worker processes share."""

import torch
import torch.multiprocessing
from numpy import ndarray

from engine.errors import UserError

REDUCED = {1: 0, 2: 1, 4: 2, 8: 3}  # column of the table for an image decoded at 1 / reduce


class Cache:
    """Stores images by index and reduction until its memory is full; never drops one.

    Args:
        megabytes: memory, allocated at once and shared by all workers.
        length: number of images of the dataset.
    """

    def __init__(self, *, megabytes: int, length: int) -> None:
        try:
            self.pixels = torch.empty(megabytes * 2**20, dtype=torch.uint8).share_memory_()
        except RuntimeError as error:
            raise UserError(
                f"loader.cache_mb={megabytes}: not enough shared memory ({error}); set a smaller "
                "number, or 0 for no cache"
            ) from error
        # Of each image: 1 + its first byte in `pixels` (0: not stored), height, width.
        self.table = torch.zeros(length, len(REDUCED), 3, dtype=torch.int64).share_memory_()
        self.used = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.lock = torch.multiprocessing.get_context().Lock()

    def get(self, index: int, reduce: int) -> ndarray | None:
        """[H, W, 3] uint8 RGB, not to be written to; None where it is not stored."""
        with self.lock:  # so that no half-written entry of another process is read
            start, height, width = self.table[index, REDUCED[reduce]].tolist()
        if not start:
            return None
        return self.pixels[start - 1 :][: height * width * 3].view(height, width, 3).numpy()

    def put(self, index: int, reduce: int, image: ndarray) -> None:
        """Store [H, W, 3] if there is room for it and it is not there yet."""
        with self.lock:
            start = int(self.used)
            if start + image.size > len(self.pixels) or self.table[index, REDUCED[reduce], 0]:
                return
            self.pixels[start : start + image.size] = torch.from_numpy(image.reshape(-1))
            self.used += image.size
            self.table[index, REDUCED[reduce]] = torch.tensor([start + 1, *image.shape[:2]])
