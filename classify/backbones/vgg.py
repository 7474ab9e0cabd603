"""VGG 11 to 19, with and without batch normalisation (arXiv 1409.1556, table 1), by torchvision.

Deviation: the convolutions start as torchvision's do (arXiv 1502.01852), not from a shallower net.
"""

from collections.abc import Iterable

from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from classify.backbones.sequential import SequentialBackbone
from classify.backbones.torchvision_detectors import SSD300
from engine.errors import UserError

TABLE = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}  # columns of table 1
NAMES = (*TABLE, *(f"{name}_bn" for name in TABLE))


class VGG(SequentialBackbone):
    """Maps before the poolings at strides 4, 8 and 16, and behind the last pooling, stride 32.

    The poolings drop an odd last row or column: a map's sides are rounded down.

    Args:
        name: vgg11, vgg13, vgg16, vgg19, or one of these with _bn.
        weights: None, DEFAULT, a name of torchvision's, or a file (`engine.weights.pretrained`).
    """

    channels = (256, 512, 512, 512)
    strides = (4, 8, 16, 32)
    detectors = (SSD300,)

    def __init__(self, *, name: str, weights: str | None = None) -> None:
        super().__init__()
        if name not in NAMES:
            raise UserError(f"backbone.name={name}: expected one of {', '.join(NAMES)}")
        plain = name.removesuffix("_bn")
        # Without torchvision's 100 million numbers of classifier, which would only be thrown away.
        self.features = make_layers(cfgs[TABLE[plain]], batch_norm=plain != name)
        pools = [i for i, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        self.taps = (pools[2] - 1, pools[3] - 1, pools[4] - 1, pools[4])
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        self.pretrain(weights, name)

    def layers(self) -> Iterable[nn.Module]:
        """Of `features`, as torchvision names them."""
        return self.features
