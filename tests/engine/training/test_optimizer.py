from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.training.optimizer import build_optimizer

OPTIMIZERS = sorted((CONFIGS / "optimizer").glob("*.yaml"))


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))


def all_of(net):
    return [(1.0, net.parameters())]


def test_only_weights_decay():
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    for parameter in net.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(all_of(net), partial(torch.optim.SGD, lr=0.1, weight_decay=0.5)).step()
    linear, norm = net
    assert linear.weight.item() == pytest.approx(0.95)  # 1 - 0.1 * 0.5 * 1
    assert [linear.bias.item(), norm.weight.item(), norm.bias.item()] == [1, 1, 1]


def test_each_depth_has_its_own_rate():
    net = network()
    param_groups = [(0.25, net[0].parameters()), (1.0, net[2].parameters())]
    groups = build_optimizer(param_groups, partial(torch.optim.SGD, lr=0.8)).param_groups
    held = [(g["lr"], [id(p) for p in g["params"]]) for g in groups]
    weight, bias = net[0].parameters()
    weight2, bias2 = net[2].parameters()
    assert held == [
        (0.2, [id(weight)]),
        (0.2, [id(bias)]),
        (0.8, [id(weight2)]),
        (0.8, [id(bias2)]),
    ]


def test_an_empty_group_is_left_out():
    net = nn.Linear(2, 2, bias=False)
    groups = build_optimizer(all_of(net), partial(torch.optim.SGD, lr=1.0)).param_groups
    assert len(groups) == 1


@pytest.mark.parametrize("path", OPTIMIZERS, ids=lambda p: p.stem)
def test_every_optimizer_builds_and_steps(path):
    node = OmegaConf.load(path)
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    made = build_optimizer(all_of(net), part(node, "optimizer"))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    made.step()
    for old, new in zip(before, net.parameters(), strict=True):
        assert (new < old).all()  # down the gradient
    for group in made.param_groups:
        assert group["lr"] == node.lr
        assert bool(group.get("fused")) == node.get("fused", False)
    assert [g["weight_decay"] for g in made.param_groups] == [node.weight_decay, 0]


def test_there_are_six():
    assert len(OPTIMIZERS) == 6
