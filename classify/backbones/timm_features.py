"""Any network of timm's that gives feature maps: backbone=timm backbone.name=NAME.

timm is an optional package; the file is not called timm.py so that it does not hide it.
"""

import importlib
import re
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
        self.name, own = name, weights == "DEFAULT"
        self.net = _create(_timm(), name, own)
        info = self.net.feature_info
        levels = list(zip(info.channels(), info.reduction(), strict=True))
        self.first = sum(stride < FINEST for _, stride in levels)
        self.channels = tuple(channels for channels, _ in levels[self.first :])
        self.strides = tuple(stride for _, stride in levels[self.first :])
        if own:
            self.pretrained = Pretrained(_preprocessing(self.net.pretrained_cfg), {}, None)
        else:
            self.pretrained = load(self, weights, None, rename=_published_name)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> a map a stride, fine to coarse."""
        try:
            maps = self.net(images)[self.first :]
        except AssertionError as error:  # how timm refuses a size
            reason = str(error).split("\n")[0]
            raise UserError(self._size_message(list(images.shape[2:]), reason)) from error
        last = str(getattr(self.net, "output_fmt", "")).endswith("NHWC")
        return [
            _channels_first(map_, channels, last, self.name)
            for map_, channels in zip(maps, self.channels, strict=True)
        ]

    def _size_message(self, size: list[int], reason: str) -> str:
        """What to do where a network takes images of some sizes only, as Swin and ViT do."""
        own = (getattr(self.net, "pretrained_cfg", None) or {}).get("input_size", [224])[-1]
        return (
            f"image_size={size}: backbone.name={self.name} does not take this size "
            f"({reason[:100]}); set image_size={own}"
        )


def _channels_first(map_: Tensor, channels: int, last: bool, name: str) -> Tensor:
    """[B, channels, h, w] of a map, whose channels may stand last, as Swin's do."""
    last = last or (map_.shape[1] != channels and map_.shape[-1] == channels)
    map_ = map_.permute(0, 3, 1, 2) if last and map_.dim() == 4 else map_
    if map_.dim() != 4 or map_.shape[1] != channels:
        raise UserError(
            f"backbone.name={name}: timm gives a map {list(map_.shape)}, expected [B, {channels}, "
            "h, w]: take another of timm's networks"
        )
    return map_


def _published_name(key: str) -> str:
    """The name of a tensor in timm's files: its maps' layers are in `net` here, and in a row."""
    return re.sub(r"_(\d+)\.", r".\1.", re.sub(r"^net\.(model\.)?", "", key))


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
