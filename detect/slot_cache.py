"""A head's slots, made once for each size of image and device instead of in every step."""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

Slots = tuple[Tensor, Tensor]  # boxes [A, 4] and the (width, height) [A, 2] of their cells
MOST = 64  # sizes that are kept


class SlotCache:
    """What `make` returns for a key, moved to the device of a map and kept there.

    A copy or a pickle of it is empty, and no state dict holds it. A graph that is being compiled
    or exported has the slots inside instead.
    """

    def __init__(self) -> None:
        self.kept: dict[Hashable, Slots] = {}

    def __call__(self, like: Tensor, key: Hashable, make: Callable[[], Slots]) -> Slots:
        """The slots on the device of `like`.

        Args:
            like: a map of the head.
            key: all that they depend on, besides the head's own numbers.
            make: makes them, on any device.
        """
        if torch.compiler.is_compiling():
            return _on(like, make)
        place = (key, like.device, type(like))  # a fake tensor is of no use to a real one
        if place not in self.kept:
            # made in an evaluation, they are used in training too, where gradients pass them
            with torch.inference_mode(False), torch.no_grad():
                made = _on(like, make)
            while len(self.kept) >= MOST:
                del self.kept[next(iter(self.kept))]
            self.kept[place] = made
        return self.kept[place]

    def __deepcopy__(self, memo: dict[int, Any]) -> "SlotCache":
        return SlotCache()

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": {}}


def _on(like: Tensor, make: Callable[[], Slots]) -> Slots:
    slots, cells = make()
    return slots.to(like.device), cells.to(like.device)
