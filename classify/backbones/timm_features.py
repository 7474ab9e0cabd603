"""Any network of timm's that gives feature maps: backbone=timm backbone.name=NAME.

timm is an optional package; the file is not called timm.py so that it does not hide it.
"""

import importlib
from typing import Any

from torch import Tensor, nn

from engine.errors import UserError, did_you_mean
from engine.structures import Preprocessing
from engine.weights.pretrained import Pretrained, load

FINEST = 4  # the stride of the first map: before it there is little but edges


class Timm(nn.Module):
    """The maps of stride 4 and coarser, as timm has them.

    timm's classifier is not kept: predicting ImageNet's classes takes a backbone of torchvision's.

    Args:
        name: see `timm.list_models()`.
        weights: None, DEFAULT (timm's own, fetched by timm), or a file
            (`engine.weights.pretrained`).
    """

    pretrained: Pretrained | None = None

    def __init__(self, *, name: str, weights: str | None = None) -> None:
        super().__init__()
        own = weights == "DEFAULT"
        self.net = _create(_timm(), name, own)
        info = self.net.feature_info
        levels = list(zip(info.channels(), info.reduction(), strict=True))
        self.first = sum(stride < FINEST for _, stride in levels)
        self.channels = tuple(channels for channels, _ in levels[self.first :])
        self.strides = tuple(stride for _, stride in levels[self.first :])
        if own:
            self.pretrained = Pretrained(_preprocessing(self.net.pretrained_cfg), {}, None)
        else:
            self.pretrained = load(self, weights, None)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> a map a stride, fine to coarse."""
        return self.net(images)[self.first :]


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError("backbone=timm needs timm: pip install timm") from error


def _create(timm: Any, name: str, pretrained: bool) -> Any:
    known = timm.list_models()
    if name.split(".")[0] not in known:
        raise UserError(f"backbone.name={name}: timm has no such model{did_you_mean(name, known)}")
    try:
        return timm.create_model(name, features_only=True, pretrained=pretrained)
    except Exception as error:  # of timm, of its hub and of the network: no fixed set
        reason = str(error).split("\n")[0][:200]
        hint = (
            "without a network, set backbone.weights=FILE" if pretrained else "it has no such maps"
        )
        raise UserError(f"backbone.name={name}: timm cannot make it ({reason}); {hint}") from error


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    size = config["input_size"][-1]
    return Preprocessing(
        size=size,
        resize=int(size / config["crop_pct"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )
