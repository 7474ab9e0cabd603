"""GoogLeNet (arXiv 1409.4842, table 1) by torchvision, as feature maps.

Deviations: torchvision's has batch normalisation and, in place of the 5x5 convolutions, 3x3 ones.
Its published weights were trained on images of mean .5 and deviation .5; torchvision converts
ImageNet's normalisation to that inside the network, here the preprocessing does so.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torchvision

from classify.backbones.sequential import SequentialBackbone

HALF = (0.5, 0.5, 0.5)
WEIGHTS = torchvision.models.GoogLeNet_Weights


class GoogLeNet(SequentialBackbone):
    """Maps of strides 4, 8, 16, 16, 16 and 32; head=auxiliary reads the first two of stride 16.

    Args:
        weights: None, DEFAULT, a name of torchvision's, or a file (`engine.weights.pretrained`).
    """

    channels = (192, 480, 512, 528, 832, 1024)
    strides = (4, 8, 16, 16, 16, 32)
    taps = (3, 6, 8, 11, 12, 15)  # conv3, inception3b, 4a, 4d, 4e, 5b

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        # init_weights: a truncated normal of deviation .01, as torchvision trains it from nothing.
        net: Any = torchvision.models.get_model(
            "googlenet", weights=None, aux_logits=False, init_weights=True
        )
        del net.avgpool, net.dropout, net.fc
        for key, layer in net.named_children():  # conv1, maxpool1, conv2, ...
            self.add_module(key, layer)
        self.pretrain(weights, "googlenet")
        files = {Path(entry.url).name for entry in WEIGHTS}
        torchvisions = {"DEFAULT", *WEIGHTS.__members__} | files
        if self.pretrained and Path(weights or "").name in torchvisions:
            preprocessing = dataclasses.replace(self.pretrained.preprocessing, mean=HALF, std=HALF)
            self.pretrained = self.pretrained._replace(preprocessing=preprocessing)
