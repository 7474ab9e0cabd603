"""What passes cost: how often the network runs, and how long."""

import time
from collections import Counter, defaultdict
from typing import Any

from torch import Tensor

from engine.network import Predictor
from engine.structures import Objects


class Timed:
    """A network whose time, decoding included, is counted by the size of its input.

    Args:
        network: that predicts.
    """

    def __init__(self, network: Predictor) -> None:
        self.network, self.head = network, network.head
        self.images: Counter[tuple[int, int]] = Counter()  # with those that fill up a batch
        self.seconds: dict[tuple[int, int], float] = defaultdict(float)
        self._size = (0, 0)

    def eval(self) -> Any:
        """As of the network."""
        self.network.eval()
        return self

    def __call__(self, images: Tensor) -> Any:
        """As of the network."""
        started, self._size = time.perf_counter(), (images.shape[2], images.shape[3])
        output = self.network(images)
        self.images[self._size] += len(images)
        self.seconds[self._size] += time.perf_counter() - started
        return output

    def decode(self, output: Any) -> Objects:
        """As of the network; it waits for a device that computes the output."""
        started = time.perf_counter()
        objects = self.network.decode(output)
        self.seconds[self._size] += time.perf_counter() - started
        return objects

    def losses(self, output: Any, objects: Objects) -> dict[str, Tensor]:
        """As of the network."""
        return self.network.losses(output, objects)

    def cost(self, images: int, size: tuple[int, int]) -> str:
        """What an image cost, of so many, and what it does at (height, width) alone, in a line."""
        runs, seconds = self.images.total() / images, sum(self.seconds.values()) / images
        one = self.seconds[size] / max(self.images[size], 1)
        return (
            f"the network ran {runs:.1f} times an image, {1000 * seconds:.0f} ms; "
            f"once it is {1000 * one:.0f} ms"
        )
