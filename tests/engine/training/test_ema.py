import pytest
import torch
from torch import nn

from engine.training.ema import Average


def weight(net, value):
    """The one-weight network with this weight."""
    nn.init.constant_(net.weight, value)
    return net


# The first update copies. Then decay (1 + n) / (10 + n): 2/11 * 1 + 9/11 * 2 = 20/11, and with
# n = 2, decay 3/12: 20/11 / 4 + 3 * 3/4 = 119/44.
@pytest.mark.parametrize(
    ("decay", "third"),
    [(0.998, 119 / 44), (0.2, 20 / 11 * 0.2 + 3 * 0.8), (0.25, 119 / 44)],
)
def test_the_warm_up_by_hand(decay, third):
    net = nn.Linear(1, 1, bias=False)
    ema = Average(weight(net, 0.0), decay)
    found = []
    for value in (1.0, 2.0, 3.0):
        ema.update_parameters(weight(net, value))
        found.append(ema.module.weight.item())
    assert found == pytest.approx([1, 20 / 11, third])


def test_after_the_warm_up_the_decay_holds():
    net = nn.Linear(1, 1, bias=False)
    ema = Average(weight(net, 1.0), 0.9)
    ema.n_averaged.fill_(1000)  # (1 + 1000) / (10 + 1000) = 0.991
    ema.update_parameters(weight(net, 2.0))
    assert ema.module.weight.item() == pytest.approx(1.1)  # 0.9 * 1 + 0.1 * 2


def test_buffers_are_averaged_and_counters_copied():
    net = nn.BatchNorm1d(1)
    ema = Average(net, 0.5)
    for mean, count in ((4.0, 1), (8.0, 7)):
        net.running_mean.fill_(mean)
        net.num_batches_tracked.fill_(count)
        ema.update_parameters(net)
    assert ema.module.running_mean.item() == pytest.approx(2 / 11 * 4 + 9 / 11 * 8)
    assert ema.module.num_batches_tracked.item() == 7


def test_the_network_itself_is_left_alone():
    net = nn.Linear(1, 1, bias=False)
    ema = Average(weight(net, 5.0), 0.9)
    with torch.no_grad():
        ema.module.weight.zero_()
    assert net.weight.item() == 5
