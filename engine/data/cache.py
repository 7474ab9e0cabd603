"""Decoded images kept in memory that the workers share."""

import torch
import torch.multiprocessing
from numpy import ndarray

from engine.errors import UserError

REDUCED = {1: 0, 2: 1, 4: 2, 8: 3}  # column of the table, by how much smaller an image was decoded


class Cache:
    """Images by index and reduction, until the budget is spent; none is ever dropped.

    Args:
        megabytes: the budget, taken at once and shared by all workers.
        length: images of the data set.
    """

    def __init__(self, *, megabytes: int, length: int) -> None:
        try:
            self.pixels = torch.empty(megabytes * 2**20, dtype=torch.uint8).share_memory_()
        except RuntimeError as error:
            raise UserError(
                f"loader.cache_mb={megabytes}: there is not so much shared memory ({error}); say "
                "less, or 0 for none"
            ) from error
        # Of each image: 1 + where it starts (0: not kept), height, width.
        self.table = torch.zeros(length, len(REDUCED), 3, dtype=torch.int64).share_memory_()
        self.used = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.lock = torch.multiprocessing.get_context().Lock()

    def get(self, index: int, reduce: int) -> ndarray | None:
        """[H, W, 3] uint8 RGB, not to be written to; None where it is not kept."""
        with self.lock:  # what another process has half written is not seen
            start, height, width = self.table[index, REDUCED[reduce]].tolist()
        if not start:
            return None
        return self.pixels[start - 1 :][: height * width * 3].view(height, width, 3).numpy()

    def put(self, index: int, reduce: int, image: ndarray) -> None:
        """Keep [H, W, 3] where there is room for it."""
        with self.lock:
            start = int(self.used)
            if start + image.size > len(self.pixels) or self.table[index, REDUCED[reduce], 0]:
                return
            self.pixels[start : start + image.size] = torch.from_numpy(image.reshape(-1))
            self.used += image.size
            place = torch.tensor([start + 1, *image.shape[:2]])
            self.table[index, REDUCED[reduce]] = place
