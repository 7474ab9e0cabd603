"""Which parts train, how fast, and what a frozen part keeps."""

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from classify.backbones.sequential import SequentialBackbone
from classify.backbones.vit import ViT
from classify.heads.linear import Linear
from classify.heads.stacked_linear import StackedLinear
from classify.losses import CrossEntropy
from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.network import Network, groups, parameters
from engine.structures import Objects
from engine.training.finetune import Finetune
from engine.training.optimizer import build_optimizer


class Backbone(SequentialBackbone):
    """Three maps: groups a (4 numbers and 2 of normalisation), b, c."""

    channels, strides, taps = (1, 1, 1), (1, 1, 1), (1, 2, 3)

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 1, 1)  # 4 parameters
        self.norm = nn.BatchNorm2d(1)  # 2
        self.b = nn.Conv2d(1, 1, 1)  # 2
        self.c = nn.Conv2d(1, 1, 3, padding=1)  # 10


def network(head=Linear, backbone=None, **options):
    torch.manual_seed(0)  # weights of which every gradient is large enough to see
    backbone = backbone or Backbone()
    given = {"channels": backbone.channels, "num_classes": 2, "activation": "softmax"}
    return Network(backbone=backbone, head=head(**given, **options), criterion=CrossEntropy())


def trained(net):
    return {name for name, p in net.named_parameters() if p.requires_grad}


HEAD = {"head.linear.weight", "head.linear.bias"}  # 1 * 2 + 2 = 4 parameters
C = HEAD | {"backbone.c.weight", "backbone.c.bias"}


@pytest.mark.parametrize(
    ("last", "names", "count"), [(0, HEAD, 4), (1, C, 14), (None, None, 22), (3, None, 22)]
)
def test_the_last_groups_train(last, names, count):
    net = network().train()
    assert Finetune(last=last)(net, epoch=0) == count
    assert trained(net) == (names or {name for name, _ in net.named_parameters()})
    assert net.backbone.norm.training == (names is None)


def step(net, finetune, epochs=2, name="sgd"):
    param_groups = finetune.param_groups(net)
    sgd = build_optimizer(param_groups, part(node(name), "optimizer"))
    torch.manual_seed(0)
    for epoch in range(epochs):
        net.train()
        finetune(net, epoch)
        images = torch.randint(0, 255, (4, 3, 5, 5), dtype=torch.uint8)
        objects = Objects(torch.zeros(4, 4), torch.tensor([0, 1, 1, 0]), torch.arange(4))
        sum(net.losses(net(images), objects).values()).backward()
        sgd.step()
        sgd.zero_grad()


def node(name):
    return OmegaConf.load(CONFIGS / f"optimizer/{name}.yaml")


def test_what_is_frozen_keeps_its_weights_and_its_statistics():
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    step(net, Finetune(last=1))
    changed = {
        key for key, value in net.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == C


def test_without_freezing_everything_moves():
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    step(net, Finetune())
    moved = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert {"backbone.a.weight", "backbone.norm.running_mean", "backbone.b.weight"} <= moved
    assert moved >= C


def test_rates_fall_with_depth():
    net = network()
    param_groups = Finetune(decay=0.5).param_groups(net)
    # a, b, c, head: .5 ** 3, .5 ** 2, .5, 1
    assert [(factor, sum(p.numel() for p in held)) for factor, held in param_groups] == [
        (0.125, 6), (0.25, 2), (0.5, 10), (1.0, 4),
    ]  # fmt: skip
    sgd = build_optimizer(param_groups, part(node("sgd"), "optimizer"))
    base = node("sgd").lr
    assert {round(group["lr"] / base, 6) for group in sgd.param_groups} == {0.125, 0.25, 0.5, 1}


def test_one_more_group_every_few_epochs():
    net = network()
    finetune = Finetune(unfreeze_every=2)
    counts = [finetune(net.train(), epoch) for epoch in range(8)]
    assert counts == [4, 4, 14, 14, 16, 16, 22, 22]
    assert sum(p.numel() for _, held in finetune.param_groups(net) for p in held) == 22


def test_more_groups_than_there_are_is_refused():
    with pytest.raises(UserError, match="finetune.last=4: got a network of 3 groups"):
        Finetune(last=4).param_groups(network())


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adamw"])
def test_a_fused_optimizer_takes_what_starts_to_train_later(name):
    net = network()
    before = net.backbone.a.weight.clone()
    step(net, Finetune(unfreeze_every=1), epochs=5, name=name)
    assert not torch.equal(net.backbone.a.weight, before)


def test_what_trains_is_reported_once(caplog):
    caplog.set_level("INFO", "onelook")
    finetune, net = Finetune(last=0), network()
    for epoch in range(3):
        finetune(net, epoch)
    assert caplog.messages == ["epoch 1: the last 1 of 4 groups: 4 of 22 parameters train"]


def test_that_nothing_is_frozen_is_no_news_unless_something_was(caplog):
    caplog.set_level("INFO", "onelook")
    for finetune in (Finetune(), Finetune(decay=0.5), Finetune(unfreeze_every=1)):
        net = network()
        for epoch in range(6):
            finetune(net, epoch)
    assert caplog.messages == [  # of the third
        "epoch 1: the last 1 of 4 groups: 4 of 22 parameters train",
        "epoch 2: the last 2 of 4 groups: 14 of 22 parameters train",
        "epoch 3: the last 3 of 4 groups: 16 of 22 parameters train",
        "epoch 4: all 22 of 22 parameters train",
    ]


def test_an_extra_head_trains_alone():
    net = network(StackedLinear, inner=6)
    assert Finetune(last=0)(net, 0) == 6 * 2 + 2
    assert trained(net) == {"head.extra.weight", "head.extra.bias"}


def test_the_groups_of_a_transformer_are_all_of_it():
    vit = ViT(name="vit_tiny", positions=32)
    found = [id(p) for group in vit.groups() for p in parameters(group)]
    assert sorted(found) == sorted(id(p) for p in vit.parameters())
    assert len(groups(network(backbone=vit))) == 6  # embedding, four parts of layers, head


@pytest.mark.parametrize(
    "wrong", [{"last": -1}, {"decay": 0.0}, {"decay": 1.5}, {"unfreeze_every": 0}]
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(UserError, match=f"finetune.{next(iter(wrong))}=.*expected"):
        Finetune(**wrong)
