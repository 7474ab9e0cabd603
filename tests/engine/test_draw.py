import numpy as np
import pytest
import torch

from engine.draw import SMALLEST, Labels, annotate, colours
from engine.structures import Objects

GREY = np.full((SMALLEST, SMALLEST, 3), 90, np.uint8)
CLASSES = ["ant", "bee"]


def objects(scores):
    boxes = torch.tensor([[100.0, 100, 200, 300], [300, 50, 400, 90]])
    return Objects(boxes, torch.tensor([0, 1]), scores=torch.tensor(scores))


def test_boxes_stand_where_they_are_in_the_colour_of_their_class():
    drawn = annotate(GREY, objects([0.9, 0.8]), CLASSES)
    assert drawn[200, 100].tolist() == colours(2)[0].tolist()
    assert drawn[90, 350].tolist() == colours(2)[1].tolist()
    assert (drawn[320:] == 90).all() and (GREY == 90).all()  # nothing elsewhere, none on the input


def test_only_scores_from_show_on_are_drawn():
    drawn = annotate(GREY, objects([0.9, 0.3]), CLASSES, show=0.4)
    assert (drawn[:, 290:] == 90).all() and (drawn != 90).any()


def test_small_pictures_are_enlarged_with_their_boxes():
    found = Objects(torch.tensor([[10.0, 10, 20, 30]]), torch.tensor([0]))
    drawn = annotate(GREY[:48, :24], found, CLASSES)  # 48 -> 480: ten times
    assert drawn.shape == (480, 240, 3)
    assert drawn[250, 100].tolist() == colours(2)[0].tolist()


@pytest.mark.parametrize("corner", [(470, 100), (-40, 10), (100, 100)])
def test_texts_stay_in_the_picture_and_off_each_other(corner):
    labels = Labels(GREY.copy())
    for _ in range(3):
        labels.add("bee 0.50", *corner)
    starts, ends, baselines = zip(*labels.taken, strict=True)
    assert min(starts) >= 0 and max(ends) <= SMALLEST
    assert min(np.diff(sorted(baselines))) >= 16
    assert (labels.image == 255).all(2).any()
