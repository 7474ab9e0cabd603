import numpy as np
import pytest
import torch
from torch import nn

from classify.heads.linear import Linear
from classify.losses import CrossEntropy
from engine.config.schema import Precision
from engine.network import IMAGENET, Network
from engine.structures import Assigned, Objects
from engine.training.precision import autocast


class Tiny(nn.Module):
    """One convolution of stride 8."""

    channels, strides = (4,), (8,)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)

    def forward(self, images):
        self.seen = images
        return [self.conv(images)]


class Spy(CrossEntropy):
    """Keeps what it is given."""

    def forward(self, output, assigned):
        self.output, self.assigned = output, assigned
        return super().forward(output, assigned)


def network(criterion=None, **options):
    torch.manual_seed(0)
    head = Linear(channels=Tiny.channels, num_classes=3, activation="softmax", top=3)
    return Network(backbone=Tiny(), head=head, criterion=criterion or CrossEntropy(), **options)


def truth(*labels):
    whole = torch.tensor([[0.0, 0.0, 16.0, 24.0]])
    return Objects.cat([Objects(whole, torch.tensor([label])) for label in labels])


def test_images_are_normalised_by_imagenets_colours():
    net, images = network(), torch.zeros(1, 3, 16, 24, dtype=torch.uint8)
    images[:, 0], images[:, 1] = 255, 51
    net(images)
    red, green, blue = net.backbone.seen[0, :, 0, 0].tolist()
    # White is (1 - mean) / std, 51 is 0.2, black is -mean / std.
    assert red == pytest.approx((1 - 0.485) / 0.229, rel=1e-5)
    assert green == pytest.approx((0.2 - 0.456) / 0.224, rel=1e-5)
    assert blue == pytest.approx(-0.406 / 0.225, rel=1e-5)


def test_mean_and_std_travel_with_the_weights():
    state = network().state_dict()
    np.testing.assert_allclose(state["mean"].flatten() / 255, IMAGENET.mean, rtol=1e-6)
    np.testing.assert_allclose(state["std"].flatten() / 255, IMAGENET.std, rtol=1e-6)


def test_the_head_is_told_height_and_width():
    output = network()(torch.zeros(2, 3, 16, 24, dtype=torch.uint8))
    assert output.slots.tolist() == [[0, 0, 24, 16]] and output.logits.shape == (2, 1, 3)


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_losses_and_decoding_are_float32(precision):
    net = network(Spy())
    with autocast(precision, torch.device("cpu")):
        output = net(torch.zeros(2, 3, 16, 24, dtype=torch.uint8))
    assert (output.logits.dtype is torch.bfloat16) == (precision is Precision.bf16)
    losses = net.losses(output, truth(0, 2))
    assert net.criterion.output.logits.dtype is torch.float32
    assert losses["class"].dtype is torch.float32 and losses["class"].requires_grad
    assert isinstance(net.criterion.assigned, Assigned)
    assert net.decode(output).scores.dtype is torch.float32


def test_every_parameter_gets_a_gradient():
    net = network()
    images = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    sum(net.losses(net(images), truth(0, 2)).values()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_order_of_the_colours_is_the_weights_own():
    net = network(colour="BGR", mean=(0, 0, 0), std=(1, 1, 1))
    images = torch.zeros(1, 3, 16, 24, dtype=torch.uint8)
    images[:, 0] = 255  # red stands last then
    net(images)
    assert net.backbone.seen[0, :, 0, 0].tolist() == [0, 0, 1]


def test_penalties_by_hand():
    net = network(l1=0.5, l2=4.0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.backbone.conv.weight[0, 0, 0, :2] = torch.tensor([3.0, -1.0])
        net.head.linear.weight[1, 2] = -2
        net.head.linear.bias[:] = 9  # biases are free
    terms = {key: float(value.detach()) for key, value in net.penalties().items()}
    assert terms == {"l1": 0.5 * (3 + 1 + 2), "l2": 4 / 2 * (9 + 1 + 4)}
    net.backbone.conv.weight.requires_grad_(False)  # what is frozen is free too
    assert float(net.penalties()["l1"].detach()) == 0.5 * 2


def test_penalties_are_for_training_alone():
    net, images = network(l2=1.0), torch.zeros(1, 3, 16, 24, dtype=torch.uint8)
    assert set(net.losses(net(images), truth(0))) == {"class", "l2"}
    assert set(net.eval().losses(net(images), truth(0))) == {"class"}
    assert set(network().losses(net(images), truth(0))) == {"class"}


def test_the_l2_penalty_is_the_weight_decay_of_plain_descent():
    images, ends = torch.randint(0, 255, (2, 3, 16, 24), dtype=torch.uint8), []
    for l2, decay in ((0.1, 0.0), (0.0, 0.1)):
        net = network(l2=l2)
        weights = [p for p in net.parameters() if p.ndim > 1]
        descent = torch.optim.SGD(weights, lr=0.5, weight_decay=decay)
        sum(net.losses(net(images), truth(0, 2)).values()).backward()
        descent.step()
        ends.append(weights)
    torch.testing.assert_close(ends[0], ends[1])
