"""How large an input the minutes of a run are enough for, by the time of a training step."""

import time
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from engine.builders.instantiate import part
from engine.training.precision import autocast, resolve

VIEWS, EPOCHS = 6000, 40  # images and epochs that the minutes should be enough for
TRAINING = 0.9  # of the minutes; the rest is the loss, waiting for images and evaluation
TRIED = 256  # pixels a side that a step is timed at
BATCH = 4  # images of that step
STEPS, SECONDS = 3, 2.0  # steps at least, and for how long; the fastest counts


def views(trainer: DictConfig, images: int) -> int:
    """How many images a run should see that has so many of training."""
    least = max(VIEWS, EPOCHS * images)
    return least if trainer.epochs is None else min(least, trainer.epochs * images)


def side(
    cfg: DictConfig,
    node: DictConfig,
    classes: int,
    images: int,
    backbone: Any,
    device: torch.device,
) -> int:
    """The side in pixels of the square input at which trainer.minutes are enough for `views`.

    Weights, statistics and random numbers stay as they are.

    Args:
        cfg: the whole configuration.
        node: of its head, with no key `auto`.
        classes: their number.
        images: of training.
        backbone: as built.
        device: where it trains.
    """
    an_image = TRAINING * 60 * cfg.trainer.minutes / views(cfg.trainer, images)  # seconds
    with torch.random.fork_rng():
        head = part(
            node,
            "head",
            channels=backbone.channels,
            strides=backbone.strides,
            num_classes=classes,
            activation=part(cfg.loss, "loss").activation,
        ).to(device)
        network = Both(backbone.to(device), head)
        taken = _seconds(network, torch.rand(BATCH, 3, TRIED, TRIED, device=device), cfg)
    return int(TRIED * (an_image * BATCH / taken) ** 0.5)


class Both(nn.Module):
    """A backbone and a head; the sum of what they output."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> a scalar."""
        output = self.head(self.backbone(images), tuple(images.shape[2:]))
        return torch.stack([x.float().sum() for x in output[:3] if x is not None]).sum()


def _seconds(network: nn.Module, images: Tensor, cfg: DictConfig) -> float:
    """The least time of a forward and a backward pass; the network is left as it was."""
    precision = resolve(cfg.trainer.precision, images.device)
    times: list[float] = []
    network.eval()  # batch statistics stay
    while len(times) < STEPS or sum(times) < SECONDS:
        start = time.perf_counter()
        with autocast(precision, images.device):
            total = network(images)
        total.backward()
        if images.device.type == "cuda":
            torch.cuda.synchronize(images.device)
        times.append(time.perf_counter() - start)
        network.zero_grad()
    network.train()
    return min(times)
