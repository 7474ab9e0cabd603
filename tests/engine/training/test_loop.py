import copy
import io
import re
import time
from functools import partial

import numpy as np
import pytest
import torch
from epochs import epoch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from classify.heads.linear import Linear
from classify.losses import CrossEntropy
from classify.metrics.top_k import TopK
from detect.metrics.coco_map import COCOMap
from detect.metrics.voc_map import VOCMap
from engine.config.schema import Precision
from engine.data.augment import Augment
from engine.data.loader import Loader
from engine.network import Network
from engine.output.run_log import Silent
from engine.record import Record
from engine.structures import Objects
from engine.training import loop
from engine.training.clip import GlobalNorm, NoClip
from engine.training.ema import Average
from engine.training.finetune import Finetune
from engine.training.guard import Guard
from engine.training.loop import evaluate_network, predict_batches, train_epoch
from engine.training.optimizer import build_optimizer
from engine.training.run import Clock, Progress, Run
from engine.training.schedule import Plateau

CPU = torch.device("cpu")


class Tiny(nn.Module):
    """Two convolutions, stride 8 in all, and no batch statistics."""

    channels, strides = (8,), (8,)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 8, 2, 2))

    def forward(self, images):
        return [self.layers(images)]


class ImageDataset:
    """Random images whose brightest channel is their class; boxed or labelled as a whole."""

    classes, notes, report = ["red", "green", "blue"], [], []

    def __init__(self, numbers, boxed=False):
        self.numbers, self.boxed = list(numbers), boxed

    def __len__(self):
        return len(self.numbers)

    def record(self, index):
        number = self.numbers[index]
        box = np.array([[4, 4, 20, 24]], np.float32) if self.boxed else None
        return Record(number, f"{number}.png", np.array([number % 3]), box)

    def image(self, index):
        number = self.numbers[index]
        image = np.random.default_rng(number).integers(0, 100, (32, 32, 3), np.uint8)
        image[..., number % 3] += 120
        return image


class Blind(Linear):
    """Predicts nothing, like a detector before its first step."""

    def decode(self, output):
        return Objects.empty()


def network(head=Linear, criterion=None):
    torch.manual_seed(0)
    made = head(channels=Tiny.channels, num_classes=3, activation="softmax", top=3)
    return Network(backbone=Tiny(), head=made, criterion=criterion or CrossEntropy())


def loader(data, batch_size, train=False, augment=None):
    return Loader(
        dataset=data, augment=augment or Augment(), size=(32, 32), batch_size=batch_size,
        train=train,
    )  # fmt: skip


def run(net, accumulate=1, clock=None, ema=None, lr=0.1, limit=20):
    optim = build_optimizer(
        [(1.0, net.parameters())], partial(torch.optim.SGD, lr=lr, momentum=0.9)
    )
    return Run(
        network=net,
        ema=Average(net, ema) if ema else None,
        optimizer=optim,
        schedule=LambdaLR(optim, lambda _: 1.0),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        clip=NoClip(),
        finetune=Finetune(),
        guard=Guard(network=net, limit=limit, device=CPU),
        clock=clock or Clock(100, None),
        device=CPU,
        precision=Precision.fp32,
        accumulate=accumulate,
    )


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def trained(batch_size, accumulate, images=8, epochs=2):
    net = network()
    going = run(net, accumulate)
    for _ in range(epochs):
        means = epoch(going, loader(ImageDataset(range(images)), batch_size, train=True))
    return weights(net), means, going.clock.step


def test_two_batches_of_four_are_one_of_eight():
    halves, means, steps = trained(4, 2)
    whole, together, _ = trained(8, 1)
    assert steps == 2
    torch.testing.assert_close(halves, whole, rtol=0, atol=1e-6)
    assert not torch.allclose(whole, weights(network()), atol=1e-3)
    assert means["train/class"] == pytest.approx(together["train/class"], rel=1e-5)
    assert means["train/grad_norm"] == pytest.approx(together["train/grad_norm"], rel=1e-4)


def test_what_is_left_at_the_end_of_an_epoch_is_a_step_too():
    _, _, steps = trained(2, 3, epochs=1)  # four batches: three, and one
    assert steps == 2


def test_each_batch_of_a_short_last_group_has_a_share_of_that_group():
    # Five batches by two are groups of 2, 2 and 1: each batch of the first two counts 1/2 of its
    # step, the only one of the last counts 1.
    net, plain = network(), network()
    epoch(run(net, accumulate=2), loader(ImageDataset(range(10)), 2, train=True))
    optim = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    batches = list(loader(ImageDataset(range(10)), 2, train=True))
    assert len(batches) == 5
    for group in (batches[:2], batches[2:4], batches[4:]):
        losses = [plain.losses(plain(b.images), b.objects)["class"] for b in group]
        optim.zero_grad()
        (sum(losses) / len(group)).backward()
        optim.step()
    torch.testing.assert_close(weights(net), weights(plain), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_gradient_is_clipped_at_its_own_scale(scaled):
    # A norm above 0.01 is cut to 0.01, so the first step moves the weights by 0.1 * 0.01 = 0.001.
    # Clipped while times 1024 it would be cut to 0.01 / 1024; unclipped, 1e9 is above any norm.
    net, before = network(), weights(network())
    going = run(net)
    going.scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=1024.0)
    going.clip = GlobalNorm(max=0.01)
    means = epoch(going, loader(ImageDataset(range(4)), 4, train=True))
    assert (weights(net) - before).norm().item() == pytest.approx(0.001, rel=1e-3)
    assert means["train/clipped"] == 1

    free = run(network())
    alone = epoch(free, loader(ImageDataset(range(4)), 4, train=True))
    assert means["train/grad_norm"] == pytest.approx(alone["train/grad_norm"], rel=1e-4)
    moved = (weights(free.network) - before).norm().item()
    assert moved == pytest.approx(0.1 * means["train/grad_norm"], rel=1e-3)


def test_training_lowers_the_loss():
    net = network()
    going, batches = run(net, ema=0.9), loader(ImageDataset(range(12)), 4, train=True)
    losses = []
    for going.epoch in range(8):
        losses.append(epoch(going, batches)["train/class"])
    assert losses[0] == pytest.approx(np.log(3), abs=0.3)  # no better than a guess, ln 3
    assert losses[-1] < 0.1
    assert going.evaluated is going.ema.module and going.ema.n_averaged == 24


def test_every_epoch_draws_anew_and_by_its_number_alone():
    def images(epochs):
        seen = []
        net = network()
        net.register_forward_pre_hook(lambda _, args: seen.append(args[0].numpy().tobytes()))
        going, batches = run(net), loader(ImageDataset(range(4)), 4, True, Augment(flip=0.5, hue=9))
        for going.epoch in epochs:
            epoch(going, batches)
        return seen

    first, second, third = images([0, 1, 2])
    assert len({first, second, third}) == 3
    assert images([2]) == [third]  # a resumed run sees what the uninterrupted one saw


def test_the_budget_of_minutes_ends_an_epoch():
    going = run(network(), clock=Clock(100, minutes=1, before=60.0))
    epoch(going, loader(ImageDataset(range(12)), 4, train=True))
    assert going.clock.step == 1 and going.clock.done == 1


def test_the_steps_end_it_too():
    going = run(network(), clock=Clock(2, None))
    epoch(going, loader(ImageDataset(range(12)), 4, train=True))
    assert going.clock.step == 2


def test_means_leave_out_what_is_not_finite_or_was_skipped():
    # Losses (2 + 4) / 2; norms (3 + 7) / 2, one of those two steps clipped; one of three skipped.
    progress, yes, no = Progress(), torch.tensor(True), torch.tensor(False)
    for loss in (2.0, float("nan"), 4.0):
        value = torch.tensor(loss)
        progress.add_losses({"class": value}, value.isfinite())
    for norm, clipped, skipped in ((3.0, no, no), (1e9, yes, yes), (7.0, yes, no)):
        progress.add_step(torch.tensor(norm), clipped, skipped)
    assert progress.means() == {
        "train/class": 3, "train/grad_norm": 5, "train/clipped": 0.5, "train/skipped": 1,
    }  # fmt: skip


def test_done_is_the_further_of_steps_and_minutes():
    now = time.perf_counter()
    assert Clock(10, None, step=4).done == 0.4
    assert Clock(10, 1, step=4, started=now - 15).done == 0.4  # 15 of 60 seconds
    assert Clock(10, 1, step=4, started=now - 30).done == pytest.approx(0.5, abs=0.02)
    assert Clock(10, 1, before=20, started=now - 10).done == pytest.approx(0.5, abs=0.02)
    assert Clock(10, 1, step=40, started=now - 600).done == 1


def test_what_is_left_is_the_nearer_of_steps_and_minutes():
    now = time.perf_counter()
    assert Clock(10, None).left is None  # nothing is known yet
    assert Clock(10, 1, before=20, started=now).left == pytest.approx(40, abs=0.1)
    # 4 of 10 steps took 30 seconds, so 6 more take 45; a minute leaves 30.
    assert Clock(10, None, step=4, started=now - 30).left == pytest.approx(45, abs=0.1)
    assert Clock(10, 1, step=4, started=now - 30).left == pytest.approx(30, abs=0.1)
    # Resumed at step 4, one step took 3 seconds: 5 more take 15.
    clock = Clock(10, None, step=5, before=500, started=now - 3, resumed=4)
    assert clock.left == pytest.approx(15, abs=0.1)
    assert Clock(10, 1, step=10, started=now - 99).left == 0


def bar_of(monkeypatch, columns):
    """What the bar of 20 steps an epoch shows, on a terminal of so many columns."""
    shown = io.StringIO()
    bar = partial(tqdm, file=shown, ncols=columns, mininterval=0, ascii=True)
    monkeypatch.setattr(
        loop, "tqdm", lambda *a, **k: bar(*a, **k | {"disable": False, "dynamic_ncols": False})
    )
    going = run(network(), clock=Clock(20 * 40, None))
    data = loader(ImageDataset(range(20)), 1, train=True)
    for _ in train_epoch(going, data, Silent()):
        pass
    return [state for state in shown.getvalue().split("\r") if state.strip()]


def test_the_bar_of_44_columns_has_the_loss_and_what_is_left_of_the_run(monkeypatch):
    monkeypatch.setattr(Clock, "left", 734.0)
    states = bar_of(monkeypatch, 44)
    assert all(len(state) <= 44 for state in states)
    assert any(state.startswith("epoch 1/40 50%, 12 min left ") for state in states)
    assert re.match(r"epoch 1/40 100%, loss [^ ]+, 12 min left ", states[-1]), states[-1]


def test_a_step_is_done_before_the_schedule_looks():
    # Of 4 steps 1/4 is done after the first: 0.8 * (1 - 1/4) = 0.6, then 0.4, 0.2 and 0.
    going = run(network(), clock=Clock(4, None), lr=0.8)
    going.schedule = LambdaLR(going.optimizer, lambda _: 1 - going.clock.done)
    assert going.rate == 0.8  # the first step's
    batches = loader(ImageDataset(range(16)), 4, train=True)
    rates = [going.rate for _ in train_epoch(going, batches, Silent())]
    assert rates == pytest.approx([0.6, 0.4, 0.2, 0])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    total=st.integers(1, 30), minutes=st.none() | st.floats(1e-6, 1e-3), steps=st.integers(1, 40)
)
def test_done_never_falls(total, minutes, steps):
    clock, seen = Clock(total, minutes), []
    for clock.step in range(steps):
        seen.append(clock.done)
    assert seen == sorted(seen) and all(0 <= done <= 1 for done in seen)


def predictions(numbers, batch_size):
    """Return scores and boxes by image."""
    batches = predict_batches(
        network(), loader(ImageDataset(numbers), batch_size), CPU, Precision.fp32
    )
    return {
        m.id: (objects.of(i).scores.tolist(), objects.of(i).boxes.tolist())
        for objects, batch, _ in batches
        for i, m in enumerate(batch.meta)
    }


def test_a_result_does_not_depend_on_the_place_in_a_batch_or_its_padding():
    forward = predictions(range(10), 4)  # the last batch holds two
    assert predictions(reversed(range(10)), 4) == forward
    assert predictions([1, 2, 3, 4, 9], 4)[9] == forward[9]
    assert len(forward) == 10 and len({tuple(s) for s, _ in forward.values()}) == 10


def test_the_network_sees_full_batches_only():
    net, sizes = network(), []
    net.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    results = list(predict_batches(net, loader(ImageDataset(range(6)), 4), CPU, Precision.fp32))
    assert sizes == [4, 4] and [len(batch.meta) for _, batch, _ in results] == [4, 2]
    assert results[1][0].batch_index.max() == 1  # the padding has no predictions


def test_few_images_are_not_padded_to_a_large_batch():
    net, sizes = network(), []
    net.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    list(predict_batches(net, loader(ImageDataset(range(3)), 10**9), CPU, Precision.fp32))
    assert sizes == [3]


def test_predicting_changes_no_weight_and_keeps_no_graph():
    net = network()
    before = copy.deepcopy(net.state_dict())
    for objects, _, losses in predict_batches(
        net, loader(ImageDataset(range(3)), 2), CPU, Precision.fp32
    ):
        assert not objects.scores.requires_grad and not losses["class"].requires_grad
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items()) and not net.training


def test_evaluation_of_a_trained_network():
    data, going = ImageDataset(range(12)), run(network())
    for going.epoch in range(8):
        epoch(going, loader(data, 4, train=True))
    metric = TopK(classes=data.classes)
    for net, accuracy in ((network(Blind), 0), (going.network, 1)):  # each starts afresh
        scores, predicted = evaluate_network(net, loader(data, 5), metric, CPU, Precision.fp32)
        assert scores["top1"] == accuracy
    assert scores["loss/class"] < 0.2
    assert [m.id for _, meta in predicted for m in meta] == list(range(12))


def test_the_loss_of_a_split_weighs_its_images_alike():
    data, net = ImageDataset(range(5)), network()
    scores, _ = evaluate_network(
        net, loader(data, 2), TopK(classes=data.classes), CPU, Precision.fp32
    )
    with torch.no_grad():
        costs = [net.losses(net(b.images), b.objects)["class"].item() for b in loader(data, 2)]
    assert len(costs) == 3  # of two, two and one
    expected = (2 * costs[0] + 2 * costs[1] + costs[2]) / 5
    assert scores["loss/class"] == pytest.approx(expected, rel=1e-5)
    whole, _ = evaluate_network(
        net, loader(data, 5), TopK(classes=data.classes), CPU, Precision.fp32
    )
    assert scores["loss/class"] == pytest.approx(whole["loss/class"], rel=1e-5)


@pytest.mark.parametrize("make", [VOCMap, COCOMap])
def test_evaluation_before_anything_is_predicted(make):
    data = ImageDataset(range(5), boxed=True)
    metric = make(classes=data.classes)
    for _ in range(2):  # the second starts afresh
        scores, predicted = evaluate_network(
            network(Blind), loader(data, 2), metric, CPU, Precision.fp32
        )
        assert scores[metric.primary] == 0 and np.isfinite(scores["loss/class"])
        assert sum(len(objects) for objects, _ in predicted) == 0 and len(predicted) == 3


def test_a_plateau_lowers_the_rate_for_good_and_through_a_resume():
    def plateaued():
        made = run(network(), lr=0.8)
        made.plateau_factor = Plateau(patience=2, gamma=0.5).plateau_factor
        return made

    going, batches, rates = plateaued(), loader(ImageDataset(range(4)), 4, train=True), []
    for value in (0.3, 0.2, 0.2, 0.1, 0.4, 0.4, None, 0.4, 0.4):
        for _ in train_epoch(going, batches, Silent()):
            rates.append(going.rate)  # as the epoch's last step leaves it
        going.end_epoch({"epoch": going.epoch + 1}, value)
        again = plateaued()
        again.restore(copy.deepcopy(going.state()), "")
        going = again
    # Stale are the 2nd, 3rd and 4th, then the 6th, 8th and 9th: it falls after the 3rd and the 8th.
    assert rates == pytest.approx([0.8] * 3 + [0.4] * 5 + [0.2])
