"""ResNet 18 to 152 (arXiv 1512.03385, table 1) by torchvision, as feature maps.

torchvision's bottleneck strides in the 3x3 convolution, not in the 1x1 as the paper's does. The
stem for small images is section 4.2's 3x3 convolution; the stages behind it stay table 1's.
"""

from typing import Any

import torchvision
from torch import nn

from classify.backbones.sequential import SequentialBackbone
from classify.backbones.torchvision_detectors import RETINANET
from engine.errors import UserError
from engine.structures import Preprocessing

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
STRIDES = {"imagenet": (4, 8, 16, 32), "cifar": (1, 2, 4, 8)}


class ResNet(SequentialBackbone):
    """Feature maps of the four stages.

    Args:
        name: resnet18, resnet34, resnet50, resnet101 or resnet152.
        stem: imagenet, strides 4 to 32; or cifar for images of about 32 pixels, strides 1 to 8.
        weights: None, DEFAULT, a name of torchvision's, or a file (`engine.weights.pretrained`).
    """

    taps = (4, 5, 6, 7)  # layer1 to layer4
    detectors = (RETINANET,)

    def __init__(self, *, name: str, stem: str = "imagenet", weights: str | None = None) -> None:
        super().__init__()
        if name not in NAMES:
            raise UserError(f"backbone.name={name}: expected one of {', '.join(NAMES)}")
        if stem not in STRIDES:
            raise UserError(f"backbone.stem={stem}: expected {' or '.join(STRIDES)}")
        self.strides = STRIDES[stem]
        net: Any = torchvision.models.get_model(name, weights=None)
        width = net.fc.in_features
        self.channels = (width // 8, width // 4, width // 2, width)
        if stem == "cifar":
            net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
            net.maxpool = nn.Identity()
            self.extra_prefixes = ("conv1.",)  # which torchvision's files have for large images
            self.default_preprocessing = Preprocessing(size=32, resize=32)
        del net.avgpool, net.fc
        for key, layer in net.named_children():  # conv1, bn1, relu, maxpool, layer1, ...
            self.add_module(key, layer)
        self.pretrain(weights, name)
