"""Notices a network that outputs the same for every image, whatever its metric makes of that."""

from weakref import WeakSet

import torch
from torch import Tensor

from engine.console import info
from engine.distributed import collectives
from engine.network import Predictor
from engine.structures import Fixed, Output

ROUNDING = 1e-5  # relative; of float32 after a whole network
_reported: WeakSet[Predictor] = WeakSet()  # a network is reported once, not after every epoch


class SameAnswer:
    """The range over all images of what a network outputs, of several slots their largest."""

    def __init__(self) -> None:
        self.images = 0
        self.least, self.most, self.rounding = torch.zeros(0), torch.zeros(0), ROUNDING

    def add(self, output: Output | Fixed) -> None:
        """Add the images of a batch; no value is read from the device."""
        fields = output.numbers.values()
        outputs = [x.flatten(2).amax(1) if x.ndim > 2 else x for x in fields]
        self.rounding = max(self.rounding, *(torch.finfo(x.dtype).eps for x in outputs))
        answers = torch.cat([x.float() for x in outputs], 1)  # [B, F]
        least, most = answers.amin(0), answers.amax(0)
        self.least = least if not self.images else self.least.minimum(least)
        self.most = most if not self.images else self.most.maximum(most)
        self.images += len(answers)

    def report(self, network: Predictor) -> None:
        """Print one line if no image of all processes had an answer of its own."""
        ranges = collectives.all_gather([(self.images, self.least.cpu(), self.most.cpu())])
        ranges = [found for found in ranges if found[0]]
        images = sum(count for count, _, _ in ranges)
        if images < 2 or network in _reported:
            return
        least = torch.stack([found[1] for found in ranges]).amin(0)
        most = torch.stack([found[2] for found in ranges]).amax(0)
        if _is_equal(least, most, self.rounding):
            _reported.add(network)
            info(
                f"the network gives all {images} images the same output, so these numbers are "
                "those of a constant: it has trained too few steps, its statistics of batch "
                "normalisation are not those of this data, or optimizer.lr is too large and its "
                "units are dead"
            )


def was_reported(network: Predictor) -> bool:
    """Return whether a network was found to give all images one answer."""
    return network in _reported


def _is_equal(least: Tensor, most: Tensor, rounding: float) -> bool:
    return bool((most - least <= rounding * (1 + most.abs().maximum(least.abs()))).all())
