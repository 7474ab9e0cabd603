"""No step waits for a GPU, nor copies a constant to it: on fake tensors, where there is none."""

from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from fake_cuda import CUDA, fake_cuda
from omegaconf import OmegaConf

import classify.losses
import detect.losses.box
from engine.bench.step import compose
from engine.builders import parts
from engine.builders.compatibility import _fit, _loss_of, outputs
from engine.builders.instantiate import part
from engine.builders.run import prepare
from engine.config.schema import CONFIGS, Precision
from engine.network import Network
from engine.output.run_log import Silent
from engine.structures import Assigned, Batch, Meta, Objects, Output
from engine.training import loop

MODELS = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
TWO_STAGES = [model for model in MODELS if model.startswith("faster_rcnn")]
ONE_STAGE = [model for model in MODELS if model not in TWO_STAGES]
LOSSES = {path.stem: _loss_of(path) for path in sorted((CONFIGS / "loss").glob("*.yaml"))}
BOXES = sorted(path.stem for path in (CONFIGS / "loss/box").glob("*.yaml"))
# Of these no preset has one; a backbone's maps stand in.
HEADS = ["retina_light", "retina_v2", "single", "single_box", "single_class", "ssd_grid"]
FUSED = ["adam", "adamw", "momentum", "nesterov", "sgd"]
CLASSES, SIDE = 5, 128
NOTHING = {}, {}  # waits and uploads


def loaded(group, option):
    """An option's own YAML, with what its defaults name."""
    node, base = OmegaConf.load(CONFIGS / group / f"{option}.yaml"), OmegaConf.create()
    for default in node.pop("defaults", []):
        name, _, key = str(default).partition("@")
        if name != "_self_":
            found = loaded(group, name)
            base = OmegaConf.merge(base, {key: found} if key else found)
    return OmegaConf.merge(base, node)


def preset(model):
    """Backbone, head and side; Hydra would take a tenth of a second to compose them."""
    node = OmegaConf.load(CONFIGS / f"model/{model}.yaml")
    chosen = {"override /backbone": "resnet34", "override /head": "ssd"}
    for default in node.defaults:
        chosen |= {"override /head": "linear"} if default == "_base/classifier" else default
    head = chosen["override /head"]
    side = node.image_size if head.startswith("ssd_paper") else SIDE
    return loaded("backbone", chosen["override /backbone"]), loaded("head", head), side


def batch_of(side, boxes):
    """Two images, and three objects, or without boxes a label each."""
    rows = torch.tensor([0, 0, 1]) if boxes else torch.arange(2)
    truth = torch.tensor([[4.0, 4, 30, 30], [10, 12, 50, 60], [1, 1, 20, 40]])[: len(rows)]
    meta = [Meta(i, i, f"{i}.jpg", (side, side), np.eye(2, 3)) for i in range(2)]
    pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    return Batch(pixels, Objects(truth, torch.arange(len(rows)), rows), meta)


def fitting(head):
    """The losses that a head can have, by activation."""
    found = {}
    for node in LOSSES.values():
        criterion = part(node, "loss")
        if _fit(head, criterion):
            found.setdefault(criterion.activation, []).append(criterion)
    assert found
    return found


def noted(watch, node, backbone, features, side, objects):
    """What happens with every loss, when the head has seen the size before."""
    given = {"channels": backbone.channels, "strides": backbone.strides, "num_classes": CLASSES}
    for activation, criteria in fitting(node).items():
        with watch.all_fake():
            made = part(node, "head", **given, activation=activation)
        head = watch.placed(made)
        before = watch.noted()
        head(features, (side, side))
        watch.back_to(before)
        output = head(features, (side, side)).float()
        with torch.no_grad():
            assigned = head.assign(output, objects)
        for criterion in criteria:
            terms = watch.placed(criterion)(output, assigned)
            assert terms and all(term.device.type == "cuda" for term in terms.values())
    return watch.noted()


@pytest.mark.parametrize("model", ONE_STAGE)
def test_no_preset_waits_with_any_loss_it_can_have(model):
    backbone, head, side = preset(model)
    with fake_cuda() as watch:
        with torch.device("meta"):
            made = part(backbone, "backbone")
        network = watch.placed(Network(backbone=made, head=None, criterion=None))
        batch = batch_of(side, "boxes" in outputs(head)).to(CUDA)
        features = made((batch.images.float() - network.mean) / network.std)
        assert noted(watch, head, made, features, side, batch.objects) == NOTHING


def of_features(watch, name, boxes=True):
    """What is noted of a head of this YAML over a backbone's maps."""
    backbone = SimpleNamespace(channels=[16, 32, 64], strides=[8, 16, 32])
    features = [
        torch.zeros(2, channels, SIDE // stride, SIDE // stride, device=CUDA)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    objects = batch_of(SIDE, boxes).objects.to(CUDA)
    return noted(watch, loaded("head", name), backbone, features, SIDE, objects)


@pytest.mark.parametrize("name", HEADS)
def test_no_other_head_waits(name):
    with fake_cuda() as watch:
        assert of_features(watch, name) == NOTHING


def run_of(watch, cfg, network=None):
    """A run of the configuration, of a network that there is or of its own, all on the device."""
    with watch.all_fake():
        network = network or parts.network(cfg, CLASSES, parts.backbone(cfg))
        run = prepare(cfg, watch.placed(network), 2, CUDA, cfg.trainer.precision)
    run.ema.n_averaged = torch.tensor(1)  # a number that can be read, past the first copy
    return run


class Ready:
    """A loader that gives one batch again and again; it is its own sampler."""

    def __init__(self, batch, batches):
        self.batch, self.batches, self.seed, self.batch_size = batch, batches, 0, 3
        self.sampler, self.merge, self.position = self, None, 0

    def seek(self, *_):
        pass

    def __len__(self):
        return self.batches

    def __iter__(self):
        for position in range(1, self.batches + 1):
            self.position = position
            yield self.batch


def steps(watch, run, batch):
    """What is noted in each of two steps; given gradients stand in for backward."""

    def backward(loss):
        assert loss.requires_grad and loss.device.type == "cuda"
        for parameter in run.network.parameters():
            parameter.grad = torch.zeros_like(parameter)

    found = []
    with mock.patch.object(torch.Tensor, "backward", backward):
        watch.clear()
        for _ in loop.train_epoch(run, Ready(batch, 2 * run.accumulate), Silent()):
            found.append(watch.noted())
            watch.clear()
    return found


def composed(model, *overrides):
    cfg = compose(model, 2, 2, *overrides)
    cfg.image_size = preset(model)[2]
    return cfg


SMALL = ["backbone=vgg11_bn", "head.levels=3"]
COMBINED = [
    ["optimizer=adamw", "trainer.precision=fp32", "trainer.l2=1e-4"],
    ["optimizer=adam", "trainer.precision=bf16", "clip=norm"],
    ["optimizer=momentum", "trainer.precision=fp16"],
    ["optimizer=nesterov", "trainer.precision=tf32", "clip=value"],
    ["optimizer=sgd", "trainer.precision=fp16", "clip=none", "trainer.accumulate=2"],
]


@pytest.mark.parametrize("overrides", COMBINED, ids=" ".join)
def test_the_whole_step_waits_for_nothing(overrides):
    cfg = composed("ssd_resnet34", *SMALL, *overrides)
    with fake_cuda() as watch:
        found = steps(watch, run_of(watch, cfg), batch_of(SIDE, True))
        assert found[-1] == NOTHING


def test_an_optimizer_that_is_not_fused_waits_once():
    cfg = composed("ssd_resnet34", *SMALL, "optimizer=rmsprop", "trainer.precision=fp32")
    with fake_cuda() as watch:
        waits, uploads = steps(watch, run_of(watch, cfg), batch_of(SIDE, True))[-1]
    assert [line.split(" in ")[1] for line in waits] == ["guarded_step: a number is read"]
    assert waits.total() == 1 and not uploads


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("model", ONE_STAGE)
def test_the_whole_step_of_every_preset_waits_for_nothing(model, precision):
    with fake_cuda() as watch:
        network = None
        for optimizer in FUSED:
            cfg = composed(model, f"trainer.precision={precision}", f"optimizer={optimizer}")
            run = run_of(watch, cfg, network)
            network = run.network
            batch = batch_of(cfg.image_size, "boxes" in network.head.outputs)
            assert steps(watch, run, batch)[-1] == NOTHING, optimizer


def test_an_evaluation_waits_for_what_is_found_alone():
    cfg = composed("resnet_cifar", "backbone=vgg11", "trainer.precision=bf16")
    with fake_cuda() as watch:
        network, batch = run_of(watch, cfg).network, batch_of(SIDE, False)
        watch.clear()
        watch.answer = 1  # all numbers are finite
        found = loop.predict_batches(network, Ready(batch, 1), CUDA, Precision.bf16)
        assert [len(predicted) for predicted, _, _ in found] == [2 * CLASSES]
        waits = [line.split(" in ")[1] for line in watch.waits]
    assert waits == ["cpu: copied to the CPU", "refuse_nan_output: a number is read"]
    assert watch.waits.total() == 2 and not watch.uploads


@pytest.mark.parametrize("box", BOXES)
def test_no_gradient_of_a_box_loss_reads_a_number(box):
    # On the meta device, whose gradients torch can take without a GPU, there is none to read.
    code = torch.zeros(2, 9, 4, device="meta", requires_grad=True)
    logits = torch.zeros(2, 9, 3, device="meta", requires_grad=True)
    slots, cells = torch.ones(9, 4, device="meta"), torch.ones(9, 2, device="meta")
    coder = part(OmegaConf.create({"_target_": "detect.coder.CentreSize"}), "head.coder")
    output = Output(logits, code, None, slots, cells, coder, (8, 8))
    labels = torch.zeros(2, 9, dtype=torch.int64, device="meta")
    focal = part(OmegaConf.create({**LOSSES["focal"], "box": loaded("loss/box", box)}), "loss")
    terms = focal(output, Assigned(labels, code.detach(), labels.float()))
    gradients = torch.autograd.grad(sum(terms.values()), [logits, code])
    assert [x.shape for x in gradients] == [logits.shape, code.shape]


BREAKS = {
    "an item": lambda labels: torch.tensor(float((labels >= 0).sum().item())),
    "a mask": lambda labels: labels[labels >= 0].sum(),
    "rows": lambda labels: (labels >= 0).nonzero().sum(),
    "a list": lambda labels: labels.new_tensor([1.0, 2.0]).sum(),
    "a copy": lambda labels: labels.cpu().sum(),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_waits_or_is_copied_is_found_with_its_line(name, monkeypatch):
    monkeypatch.setattr(classify.losses, "num_positives", BREAKS[name])
    with fake_cuda() as watch:
        waits, uploads = of_features(watch, "linear", boxes=False)
    assert all(" of classify/losses.py in forward: " in line for line in waits | uploads)
    assert bool(uploads) == (name == "a list") and bool(waits) == (name != "a list")


def test_a_tensor_of_the_wrong_device_is_refused_with_its_line(monkeypatch):
    monkeypatch.setattr(detect.losses.box, "mean_count", lambda count: torch.ones(3))
    with fake_cuda() as watch, pytest.raises(AssertionError, match="of detect/losses/box.py in fo"):
        of_features(watch, "ssd_grid")
