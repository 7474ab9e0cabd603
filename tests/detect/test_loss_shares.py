"""Every loss: the mean of what two processes compute is what one process does, gradients too."""

from itertools import product

import hydra
import pytest
import torch

from detect.coder import YOLOCoder
from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.distributed import collectives
from engine.network_protocols import LossOptions
from engine.structures import BACKGROUND, IGNORE, Assigned, Output

IMAGES, SLOTS, CLASSES = 4, 12, 3
LOSSES = sorted(path.stem for path in (CONFIGS / "loss").glob("*.yaml"))
BOX_LOSSES = sorted(path.stem for path in (CONFIGS / "loss/box").glob("*.yaml"))
TABLE = [(name, []) for name in LOSSES]
TABLE += [("multibox", [f"loss/box={name}"]) for name in BOX_LOSSES]
TABLE += [("bce", ["loss.per_image=true"]), ("cross_entropy", ["loss.entropy=0.5"]),
          ("cross_entropy", ["loss.smoothing=0.1", "loss.class_weights=[1,2,3,4]"]),
          ("mse", ["loss.activation=sigmoid"])]  # fmt: skip
# Which images have objects: those of the first process are 0 and 1, of the second 2 and 3.
SCENES = {"all": [9, 2, 1, 4], "one process has none": [7, 2, 0, 0], "one": [0, 0, 0, 1],
          "none": [0, 0, 0, 0]}  # fmt: skip


def compose(name, overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return part(hydra.compose("train", overrides=[f"loss={name}", *overrides]).loss, "loss")


def tensors(logits):
    """Raw outputs and targets of all images; labels are drawn later."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=random)

    pred = {"logits": draw(IMAGES, SLOTS, logits), "boxes": draw(IMAGES, SLOTS, 4) / 4,
            "objectness": draw(IMAGES, SLOTS)}  # fmt: skip
    target = {"boxes": draw(IMAGES, SLOTS, 4) / 4, "weight": draw(IMAGES, SLOTS).exp(),
              "iou": draw(IMAGES, SLOTS).sigmoid()}  # fmt: skip
    fixed = {"slots": torch.rand(SLOTS, 4, generator=random) * 8 + torch.tensor([0, 0, 20, 20]),
             "cells": torch.full((SLOTS, 2), 8.0), "size": (32, 32),
             "coder": YOLOCoder()}  # fmt: skip
    return pred, target, fixed, draw(IMAGES * 5, logits), draw(IMAGES * 5, logits, 4)


def drawn_labels(counts):
    """[B, A]: so many positive slots an image, besides background and ignored ones."""
    labels = torch.full((IMAGES, SLOTS), BACKGROUND)
    labels[:, -2:] = IGNORE
    for image, count in enumerate(counts):
        labels[image, :count] = torch.arange(count) % CLASSES
    return labels


def as_shares(labels):
    """The labels as shares of the classes [B, A, 4], the first of two in each."""
    shares = torch.zeros(*labels.shape, CLASSES + 1)
    shares.scatter_(-1, labels.clamp(min=0)[..., None], 0.75 * (labels >= 0)[..., None])
    shares[..., -1] = 0.25 * (labels >= 0)
    return shares


def gradients(criterion, labels, images, detector):
    """The loss's terms of some images, and its gradients to their raw outputs."""
    pred, target, fixed, region_logits, region_code = tensors(CLASSES + 1)
    leaves = {k: v[images].clone().requires_grad_() for k, v in pred.items()}
    rows = torch.cat([torch.arange(5 * i, 5 * i + 5 - i) for i in range(IMAGES)[images]])
    of_regions = [x[rows].clone().requires_grad_() for x in (region_logits, region_code)]
    output = Output(**leaves, **fixed, regions=lambda boxes: of_regions)
    sampled = (torch.zeros(len(rows), 4), rows % (CLASSES + 1) - 1, torch.zeros(len(rows), 4))
    assigned = Assigned(labels[images], **{k: v[images] for k, v in target.items()},
                        regions=sampled)  # fmt: skip
    if not detector:
        output, assigned = Output(leaves["logits"]), Assigned(labels[images])
    terms = criterion(output, assigned)
    sum(terms.values()).backward()
    found = [*leaves.values(), *of_regions]
    return terms, [x.grad if x.grad is not None else torch.zeros_like(x) for x in found]


def as_processes(criterion, labels, detector, monkeypatch):
    """The terms and gradients of two processes that share the images."""
    halves, counts = (slice(0, 2), slice(2, 4)), ([], [])
    monkeypatch.setattr(collectives, "world", lambda: 2)
    results = []
    for attempt in range(2):  # the first tells what each process sends
        for rank, half in enumerate(halves):
            received = iter([a + b for a, b in zip(*counts, strict=True)] if attempt else [])

            def reduce(total, rank=rank, attempt=attempt, received=received):
                if attempt:
                    total.copy_(next(received))
                else:
                    counts[rank].append(total.clone())

            monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
            results.append(gradients(criterion, labels, half, detector))
            assert not attempt or next(received, None) is None
    return results[2:]


def kinds(criterion):
    """What the loss is for: detectors, classifiers of one label, of shares of several."""
    if "boxes" in criterion.trains:
        yield "detector"
    if criterion.requires == {"logits"}:
        yield "classifier"
    if LossOptions.takes_shares.of(criterion):
        yield "shares"


@pytest.mark.parametrize(("name", "overrides"), TABLE)
def test_two_processes_are_one(name, overrides, monkeypatch):
    criterion = compose(name, overrides)
    assert list(kinds(criterion))
    for kind, scene in product(kinds(criterion), SCENES):
        labels, detector = drawn_labels(SCENES[scene]), kind == "detector"
        labels = as_shares(labels) if kind == "shares" else labels
        whole, expected = gradients(criterion, labels, slice(None), detector)
        with monkeypatch.context() as patch:
            (terms, first), (others, second) = as_processes(criterion, labels, detector, patch)
        for term, value in whole.items():
            mean = (terms[term] + others[term]) / 2
            torch.testing.assert_close(mean, value, msg=f"{term}, {kind}, {scene}")
        for one, a, b in zip(expected, first, second, strict=True):
            torch.testing.assert_close(torch.cat([a, b]) / 2, one, msg=f"{kind}, {scene}")
        assert all(x.isfinite().all() for x in expected)
