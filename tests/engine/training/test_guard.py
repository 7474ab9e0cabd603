import copy
import logging
from functools import partial

import pytest
import torch
from torch import nn

from engine.errors import Diverged
from engine.record import Meta
from engine.training.guard import Guard, guarded_step

MAKERS = {
    "sgd": partial(torch.optim.SGD, lr=0.1, weight_decay=0.1, fused=True),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1, fused=True),
    "adamw": partial(torch.optim.AdamW, lr=0.1, fused=True),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.1),
}


def meta(*names):
    return [Meta(0, name, f"{name}.jpg", (1, 1), None) for name in names]  # type: ignore[arg-type]


def guard(network, limit=3):
    return Guard(network=network, limit=limit, device=torch.device("cpu"))


@pytest.mark.parametrize("name", MAKERS)
def test_a_bad_step_is_as_if_it_had_never_been(name):
    torch.manual_seed(0)
    weights = torch.randn(4)

    def after(gradients):
        parameter = nn.Parameter(weights.clone())
        optimizer = MAKERS[name]([parameter])
        for gradient in gradients:
            parameter.grad = torch.full((4,), gradient)
            bad = ~parameter.grad.isfinite().all()
            guarded_step(optimizer, bad)
        return parameter.detach()

    nan, inf = float("nan"), float("inf")
    clean = after([0.5, -1.0, 2.0])
    assert not torch.equal(clean, weights)
    for planted in ([nan, 0.5, -1.0, 2.0], [0.5, nan, inf, -1.0, 2.0], [0.5, -1.0, 2.0, nan]):
        assert torch.equal(after(planted), clean), planted


def test_batch_statistics_of_a_bad_step_go_back():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    watch = guard(network)
    one = torch.tensor(1.0)
    network(torch.randn(2, 3, 4, 4))
    watch.watch(meta("a"))
    assert watch.finite(one) and not watch.is_bad_step(one)
    before = copy.deepcopy(network.state_dict())
    good, broken = torch.randn(2, 3, 4, 4), torch.full((2, 3, 4, 4), float("inf"))
    watch.watch(meta("b"))
    network(good)  # the first batch of a step of two
    watch.watch(meta("c"))
    network(broken)
    assert not watch.finite(torch.tensor(float("nan"))) and watch.is_bad_step(one)
    after = network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before if "num_batches" not in key)


def test_bad_steps_are_named_and_counted_in_a_row(caplog):
    caplog.set_level(logging.INFO, "onelook")
    watch, one, nan = guard(nn.Identity()), torch.tensor(1.0), torch.tensor(float("nan"))

    def step(name, loss, norm=one):
        watch.watch(meta(name))
        watch.finite(loss)
        watch.is_bad_step(norm)

    step("a", one)
    step("b", nan)
    step("c", one, norm=nan)
    assert watch.state() == {"row": 2}
    watch.report(12)
    assert [r.message for r in caplog.records] == [
        "step 11 skipped, its loss or gradient is not finite: b.jpg",
        "step 12 skipped, its loss or gradient is not finite: c.jpg",
    ]
    watch.report(12)
    assert len(caplog.records) == 2  # reported once
    again = guard(nn.Identity())
    again.restore(watch.state())
    again.watch(meta("d", "e"))
    again.finite(nan)
    again.is_bad_step(one)
    with pytest.raises(Diverged, match=r"^step 13: .* 3 times in a row, .* d.jpg, e.jpg; "):
        again.report(13)
    step("f", one)
    watch.report(13)
    assert watch.state() == {"row": 0}
