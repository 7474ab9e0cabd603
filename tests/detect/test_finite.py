"""Outputs that are no numbers are refused by the name of their image, whatever the head."""

import math

import numpy as np
import pytest
import torch
from heads import CHANNELS, CLASSES, HEADS, SIZE, STRIDES, make
from torch import nn

from detect.heads.faster_rcnn import FasterRCNN
from detect.heads.single import Single
from detect.metrics.coco_map import COCOMap
from engine.config.schema import Precision
from engine.errors import UserError
from engine.record import Meta
from engine.structures import Batch, Objects
from engine.training.loop import evaluate_network, predict_batches

CPU = torch.device("cpu")
GIVEN = {"channels": CHANNELS, "strides": STRIDES, "num_classes": CLASSES}
SINGLE = {"channels": CHANNELS, "num_classes": CLASSES, "activation": "softmax", "hidden": 8}
EVERY = {
    **{name: lambda name=name: make(name) for name in HEADS},
    "faster_rcnn": lambda: FasterRCNN(**GIVEN, pyramid_channels=16, hidden=32),  # type: ignore[arg-type]
    "single": lambda: Single(**SINGLE),  # type: ignore[arg-type]
    "single_box": lambda: Single(**SINGLE, predict_classes=False),  # type: ignore[arg-type]
    "single_class": lambda: Single(**SINGLE, predict_boxes=False),  # type: ignore[arg-type]
}


class Net(nn.Module):
    """A head on maps that are the images' mean; losses are left out."""

    def __init__(self, head):
        super().__init__()
        self.head, self.decode = head, head.decode

    def forward(self, images):
        mean = images.float().mean((1, 2, 3), keepdim=True) / 255
        mean = torch.where(mean == 1, math.nan, mean)  # of a white image
        maps = [
            mean.expand(-1, c, -(-SIZE[0] // s), -(-SIZE[1] // s))
            for c, s in zip(CHANNELS, STRIDES, strict=True)
        ]
        return self.head(maps, SIZE)

    def losses(self, output, objects):
        return {}


class Loader:
    """One batch of three images."""

    batch_size, merge = 3, None

    def __init__(self, white=None):
        self.images = torch.full((3, 3, *SIZE), 100, dtype=torch.uint8)
        if white is not None:
            self.images[white] = 255

    def __len__(self):
        return 1

    def __iter__(self):
        metas = [Meta(i, i, f"images/{i}.jpg", SIZE, np.eye(2, 3)) for i in range(3)]
        yield Batch(self.images, Objects.empty(), metas)


def run(net, loader):
    return list(predict_batches(net, loader, CPU, Precision.fp32))


def finite(name):
    """A head whose maps of one colour give finite numbers."""
    net = Net(EVERY[name]()).eval()
    assert len(run(net, Loader())) == 1
    return net


@pytest.mark.parametrize("name", EVERY)
def test_an_image_whose_output_is_no_number_is_named(name):
    with pytest.raises(UserError, match=r"images/1\.jpg: the network gives .* NaN or infinite"):
        run(finite(name), Loader(white=1))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_no_metric_of_zero(name, value):
    net = finite(name)
    for parameter in net.parameters():
        parameter.data.fill_(value)
    with pytest.raises(UserError, match=r"images/0\.jpg: .*NaN or infinite.*training has diverged"):
        evaluate_network(net, Loader(), COCOMap(classes=["a"] * 5), CPU, Precision.fp32)  # type: ignore[arg-type]


def test_a_second_stage_that_gives_no_numbers_is_named():
    net = finite("faster_rcnn")
    for parameter in net.head.stage.parameters():
        parameter.data.fill_(math.nan)
    with pytest.raises(UserError, match=r"images/0\.jpg: got box .* expected finite numbers"):
        run(net, Loader())


def test_a_box_that_overflows_is_named():
    net = finite("ssd, sigmoid")
    net.decode = lambda output: Objects(
        torch.tensor([[0, 0, math.inf, 9]]), torch.tensor([0]), torch.tensor([2])
    )
    with pytest.raises(UserError, match=r"images/2\.jpg: got box .* expected finite numbers"):
        run(net, Loader())


@pytest.mark.parametrize("name", EVERY)
def test_every_head_names_what_decides_on_its_detections(name):
    head = EVERY[name]()
    assert ("at most" in head.protocol and "NMS" in head.protocol) or "best" in head.protocol
