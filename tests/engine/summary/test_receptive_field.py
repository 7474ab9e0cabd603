import hydra
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import SqueezeExcitation

from classify.backbones.resnet_cifar import ZeroPadded
from engine.builders import parts
from engine.config.schema import CONFIGS
from engine.summary.receptive_field import ReceptiveField, ReceptiveFields

FIELDS = {  # at the last map; see test_recurrence_and_gradient_agree for how they are checked
    "alexnet": 195, "vgg16": 212, "resnet18": 435, "resnet34": 899, "resnet50": 427,
    "mobilenet_v2": 491,
}  # fmt: skip
DEEPER = ("resnet34", "resnet101", "darknet53")  # the blocks of others that stay, more often
OTHERS = ["alexnet_2012", "googlenet", "mobilenet_v1", "mobilenet_v3_large", "darknet19",
          "darknet53", "csp_darknet", "resnet_cifar", "resnet101"]  # fmt: skip


def receptive_field(layer, size=(32, 32), channels=4, image=None):
    image = torch.zeros(1, channels, *size) if image is None else image
    with torch.no_grad(), ReceptiveFields() as fields:
        fields.register(image, ReceptiveField())
        return fields.of(layer(image))


def backbone(name):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return parts.backbone(hydra.compose("train", overrides=[f"model={name}"])).eval()


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        # Of cell 0: kernel 7, padding 3 sees pixels -3 to 4, the next cell starts 2 later.
        (nn.Conv2d(4, 4, 7, stride=2, padding=3), ReceptiveField(2, -3, 4)),
        (nn.Conv2d(4, 4, 3, dilation=4), ReceptiveField(1, 0, 9)),
        (
            nn.Conv2d(4, 4, (3, 1), stride=(2, 1)),
            ReceptiveField(1, 0, 1),
        ),  # nothing along the width
        (nn.MaxPool2d(3, 2, 1), ReceptiveField(2, -1, 2)),
        (nn.MaxPool2d(3, 2, dilation=2), ReceptiveField(2, 0, 5)),
        (nn.AvgPool2d(2), ReceptiveField(2, 0, 2)),
        # 3 + (3 - 1) * 2: the second kernel steps over cells that lie 2 apart.
        (nn.Sequential(nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 3)), ReceptiveField(2, 0, 7)),
        (nn.ZeroPad2d((2, 0, 0, 0)), ReceptiveField(1, -2, -1)),
        (lambda x: torch.cat([F.pad(x, (1, -1)), x], 1), ReceptiveField(1, -1, 1)),
        (lambda x: x[..., 1::2], ReceptiveField(2, 1, 2)),
        (
            lambda x: x[..., 0, ::2],
            ReceptiveField(),
        ),  # of a smaller tensor; along the height does not count
        (lambda x: torch.cat([x[..., ::2], x[..., 1::2]], 1), ReceptiveField(2, 0, 2)),
        (nn.PixelUnshuffle(2), ReceptiveField(2, 0, 2)),
        (nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2)), ReceptiveField(1, -0.5, 1.5)),
        # Behind a stride of 2, back to single pixels: each sees up to ceil(4 / 2) cells.
        (
            nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(4, 4, 4, 2)),
            ReceptiveField(1, -0.5, 3.5),
        ),
        (nn.AdaptiveAvgPool2d(32), ReceptiveField()),  # a cell for a cell
        (nn.BatchNorm2d(4).eval(), ReceptiveField()),
        (nn.LocalResponseNorm(3), ReceptiveField()),
        (lambda x: x.mean(1), ReceptiveField()),  # over channels
    ],
)
def test_by_hand(layer, expected):
    assert receptive_field(layer) == expected


@pytest.mark.parametrize(
    "layer",
    [
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d(7),
        nn.AdaptiveMaxPool2d(1),
        lambda x: x.mean((2, 3)),
        lambda x: x.sum(),
        lambda x: x.amax((2, 3)),
        nn.Linear(32, 8),
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: x + x.mean((2, 3), keepdim=True),  # a sum is no gate
    ],
)
def test_what_sees_the_whole_image(layer):
    assert receptive_field(layer).size == float("inf")


def test_a_gate_does_not_widen_the_field():
    gated = nn.Sequential(nn.Conv2d(4, 4, 3), SqueezeExcitation(4, 2))
    assert receptive_field(gated) == ReceptiveField(1, 0, 3)


def test_what_holds_no_image_has_no_receptive_field():
    with ReceptiveFields() as fields:
        assert fields.of(torch.zeros(2) + 1) is None


class Blur(nn.Module):
    """A convolution's window with equal, positive weights on one channel."""

    def __init__(self, like):
        super().__init__()
        self.options = {"stride": like.stride, "padding": like.padding, "dilation": like.dilation}
        self.kernel = torch.ones(1, 1, *like.kernel_size).double() / like.weight[0, 0].numel()

    def forward(self, x):
        return F.conv2d(x.mean(1, keepdim=True), self.kernel, **self.options)


def blurred(module):
    """The same windows without what could cut a path: every weight positive, no maximum, no gate.

    It shares nothing with the recurrence: what a cell sees is what its gradient reaches.
    """
    for name, inner in module.named_children():
        if isinstance(inner, nn.Conv2d):
            setattr(module, name, Blur(inner))
        elif isinstance(inner, nn.MaxPool2d):
            window = (inner.kernel_size, inner.stride, inner.padding, inner.ceil_mode)
            setattr(module, name, nn.AvgPool2d(*window))
        elif isinstance(inner, ZeroPadded):  # a single channel is not padded
            setattr(module, name, nn.AvgPool2d(1, 2))
        elif isinstance(inner, SqueezeExcitation) or not list(inner.children()):
            setattr(module, name, nn.Identity())
        else:
            blurred(inner)
    return module


def by_gradient(network, level):
    """Field and stride, pixels along the width, of two cells in the middle of a map."""
    image = torch.ones(1, 3, 64, 2048, dtype=torch.float64, requires_grad=True)
    map_ = network(image)[level]
    row, column = map_.shape[2] // 2, map_.shape[3] // 2
    spans = []
    for cell in (column, column + 1):
        (gradient,) = torch.autograd.grad(map_[:, :, row, cell].sum(), image, retain_graph=True)
        hit = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
        assert hit[0] > 0 and hit[-1] < 2047  # not cut by the border
        spans.append((int(hit[0]), int(hit[-1]) + 1))
    return spans[0][1] - spans[0][0], spans[1][0] - spans[0][0]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in DEEPER else ()) for n in (*FIELDS, *OTHERS)],
)
def test_recurrence_and_gradient_agree(name):
    network = backbone(name)
    with torch.no_grad(), ReceptiveFields() as fields:
        image = torch.zeros(1, 3, 64, 64)
        fields.register(image, ReceptiveField())
        found = [fields.of(feature) for feature in network(image)]
    assert [r.jump for r in found] == list(network.strides)
    assert found[-1].size == FIELDS.get(name, found[-1].size)
    network = blurred(network)
    for level in {0, len(found) // 2, len(found) - 1}:
        assert by_gradient(network, level) == (found[level].size, found[level].jump)
