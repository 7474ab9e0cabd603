"""What the first evaluation shows: nothing predicted, one class for all, one answer for all."""

import logging

import numpy as np
import pytest
import torch
from broken_sets import CLASSES, CLASSIFIER, SMALL, images, made, objects

from classify.diagnosis.one_class import one_class
from classify.metrics.top_k import TopK
from detect.metrics.coco_map import COCOMap
from detect.metrics.voc_map import VOCMap
from engine.doctor import after
from engine.record import Meta
from engine.structures import Objects
from engine.training.loop import evaluate_network

BOX = [10.0, 10, 60, 60]


def batch(labels):
    """An object an image, all in one place."""
    rows = torch.arange(len(labels))
    scores = torch.full((len(labels),), 0.9)
    return Objects(torch.tensor([BOX] * len(labels)), torch.tensor(labels), rows, scores)


def judged(metric, predicted, true):
    """A metric after the images of these labels, one an image."""
    metric.update(batch(predicted), batch(true), META)
    metric.compute()
    return metric


TRUE = [0, 1, 2, 0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("kind", [TopK, VOCMap, COCOMap])
def test_one_class_that_takes_all_is_named(kind):
    [(what, change)] = judged(kind(classes=CLASSES), [1] * 9, TRUE).findings()
    assert what.startswith("one class takes all: 100% of 9 ")
    assert what.endswith(" are 'bee', 33% of the truth is")
    assert "optimizer.lr" in change
    assert judged(kind(classes=CLASSES), [1] * 8 + [0], TRUE).findings() == []
    assert judged(kind(classes=CLASSES), [1] * 9, [1] * 8 + [0]).findings() == []  # most of them


def test_few_predictions_are_of_one_class_by_chance():
    assert one_class(CLASSES, np.array([1] * 7), np.array(TRUE), "images") == []
    assert one_class(CLASSES, np.array([], int), np.array(TRUE), "images") == []
    assert one_class(CLASSES, np.array([1] * 8), np.array([], int), "images") == []


META = [Meta(i, i, f"{i}.png", (100, 100), np.eye(2, 3)) for i in range(9)]


def lines(caplog):
    return [message for message in caplog.messages if "same output" in message or "; " in message]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["model=ssd_resnet34", "head.postprocess.score=0.9"], "head.postprocess.score=0.9"),
        (["model=faster_rcnn_resnet18"], "head.score=0.05"),
    ],
)
def test_no_detection_above_the_threshold_is_named(overrides, key, caplog):
    caplog.set_level(logging.INFO)
    found, metric = made([*overrides, *SMALL], objects(8)), VOCMap(classes=CLASSES)
    caplog.clear()
    after.first_evaluation(found.cfg, found.run, metric, [(Objects.empty(), META)])
    assert lines(caplog) == [
        f"warning: nothing is predicted in 9 images: no score is above {key}; lower "
        f"{key.split('=')[0]}, or train longer (trainer.epochs) at a higher optimizer.lr"
    ]
    caplog.clear()
    found.run.best = 0.0  # a later evaluation, or one of a resumed run
    after.first_evaluation(found.cfg, found.run, metric, [(Objects.empty(), META)])
    found.run.best = float("-inf")
    after.first_evaluation(found.cfg, found.run, metric, [])  # an epoch without an evaluation
    assert lines(caplog) == []


def test_one_answer_for_all_images_is_named_once(caplog):
    caplog.set_level(logging.INFO)
    found = made(CLASSIFIER, images([i % 3 for i in range(9)]))
    caplog.clear()
    torch.nn.init.zeros_(found.run.evaluated.head.linear.weight)
    run, metric = found.run, TopK(classes=CLASSES)
    network, loader = run.evaluated, found.loaders[1]
    _, predicted = evaluate_network(network, loader, metric, run.device, run.precision)
    after.first_evaluation(found.cfg, run, metric, predicted)
    [line] = lines(caplog)  # not that one class takes all, too
    assert line.startswith("the network gives all 9 images the same output")
    assert "optimizer.lr" in line
