"""AlexNet twice: as torchvision has it (arXiv 1404.5997) and as published in 2012.

alexnet_2012 is the network of "ImageNet Classification with Deep Convolutional Neural Networks"
(NIPS 2012), section 3.5: convolutions 2, 4 and 5 in two groups, as on its two cards, and response
normalisation (3.3) before the first two poolings. Deviation in both: the first convolution is
padded by 2, without which its 224-pixel input gives no whole number of cells.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from classify.backbones.sequential import SequentialBackbone
from engine.errors import UserError

LEAST = 63  # pixels a side, below which the last pooling has nothing left to pool
BIAS_ONE = (1, 3, 4)  # of the convolutions, in the order they run (NIPS 2012, section 5)
WIDTHS = {
    "alexnet": (64, 192, 384, 256, 256),
    "alexnet_2012": (96, 256, 384, 384, 256),
}


class AlexNet(SequentialBackbone):
    """Maps behind convolutions 1, 2 and 5 and behind the last pooling, strides 4, 8, 16 and 32.

    Nothing is padded in its poolings: a map may be one cell smaller than image size / stride.

    Args:
        name: alexnet (torchvision's) or alexnet_2012.
        weights: None, DEFAULT, a name of torchvision's, or a file (`engine.weights.pretrained`).
    """

    strides = (4, 8, 16, 32)

    def __init__(self, *, name: str, weights: str | None = None) -> None:
        super().__init__()
        if name not in WIDTHS:
            raise UserError(f"backbone.name={name}: expected one of {', '.join(WIDTHS)}")
        published = name == "alexnet_2012"
        widths, groups = WIDTHS[name], 2 if published else 1
        first = self._layer(3, widths[0], 11, stride=4, padding=2)
        second = self._layer(widths[0], widths[1], 5, padding=2, groups=groups)
        third = self._layer(widths[1], widths[2], 3, padding=1)
        fourth = self._layer(widths[2], widths[3], 3, padding=1, groups=groups)
        fifth = self._layer(widths[3], widths[4], 3, padding=1, groups=groups)
        norm = [self._normalisation()] if published else []
        layers = [*first, *norm, self._pooling(), *second, *norm, self._pooling()]
        layers += [*third, *fourth, *fifth, self._pooling()]
        self.features = nn.Sequential(*layers)
        relus = [i for i, layer in enumerate(layers) if isinstance(layer, nn.ReLU)]
        self.taps = (relus[0], relus[1], relus[4], len(layers) - 1)
        self.channels = (widths[0], widths[1], widths[4], widths[4])
        if published:
            self._start_as_published()
        self.pretrain(weights, None if published else name)

    @staticmethod
    def _layer(channels: int, width: int, kernel: int, **options: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, width, kernel, **options), nn.ReLU(inplace=True)]  # type: ignore[arg-type]

    @staticmethod
    def _pooling() -> nn.Module:
        return nn.MaxPool2d(3, stride=2)  # overlapping: 3 x 3 every 2 (3.4)

    @staticmethod
    def _normalisation() -> nn.Module:
        # The paper's alpha, 1e-4, weighs the sum over n = 5 neighbours; torch weighs their mean.
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    def _start_as_published(self) -> None:
        """Section 5: normal weights; biases of 1 so that the rectifiers behind start alive."""
        convolutions = [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
        for i, layer in enumerate(convolutions):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, float(i in BIAS_ONE))

    def layers(self) -> Iterable[nn.Module]:
        """Of `features`, as torchvision names them."""
        return self.features

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps, fine to coarse."""
        size = list(images.shape[2:])
        if min(size) < LEAST:
            raise UserError(f"image_size={size}: AlexNet needs {LEAST} pixels a side, or more")
        return super().forward(images)
