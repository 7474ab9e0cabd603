import numpy as np
import pytest
import torch

from engine.output.draw import CAP, LARGE, SMALLEST, Labels, annotate, colours, heat, red_at
from engine.structures import BACKGROUND, Objects

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


def test_a_box_of_no_class_has_no_name():
    alone = objects([0.9, 0.8])
    alone.labels[:] = BACKGROUND
    drawn = annotate(GREY, alone, CLASSES)
    assert (drawn[200, 100] != 90).any() and (drawn != 255).any(2).all()


def test_only_scores_from_show_on_are_drawn():
    drawn = annotate(GREY, objects([0.9, 0.3]), CLASSES, show=0.4)
    assert (drawn[:, 290:] == 90).all() and (drawn != 90).any()


def test_an_image_on_which_nothing_is_drawn_says_how_near_it_was():
    bare = annotate(GREY, objects([0.34, 0.3]), CLASSES, show=0.4)
    assert (bare[:450] == 90).all() and (bare[450:] == 255).any()  # "best 0.34 below show=0.4"
    assert (annotate(GREY, Objects.empty(), CLASSES, show=0.4) == 90).all()
    assert (annotate(GREY, Objects.empty(), CLASSES, caption="epoch 3")[450:] == 255).any()


def test_boxes_beyond_a_cap_are_counted_instead():
    count = CAP + 7
    boxes = torch.tensor([[10.0, 10, 20, 20]]).repeat(count, 1)
    boxes[-1] = torch.tensor([200.0, 200, 300, 300])  # of the lowest score: not drawn
    many = Objects(boxes, torch.full((count,), BACKGROUND), scores=torch.linspace(1, 0.5, count))
    drawn = annotate(GREY, many, CLASSES)
    assert (drawn[195:305, 195:305] == 90).all() and (drawn[450:] == 255).any()


def test_a_text_has_its_outline_one_pixel_around_it():
    labels = Labels(np.full((60, 400, 3), 128, np.uint8))
    labels.add("wide letters 0.93", 10, 20)
    level = labels.image[..., 0]
    white, black = (np.argwhere(where) for where in (level > 200, level < 60))
    assert (abs(black.min(0) - white.min(0)) <= 2).all()
    assert (abs(black.max(0) - white.max(0)) <= 2).all()


def test_texts_and_lines_grow_with_the_image():
    large = np.full((3 * LARGE, 3 * LARGE, 3), 90, np.uint8)
    one = Objects(torch.tensor([[500.0, 500, 2500, 2500]]), torch.tensor([0]))
    drawn = annotate(large, one, CLASSES)
    assert (drawn[1500, 498:503] != 90).any(1).all()  # six pixels wide
    white = np.argwhere((drawn == 255).all(2))
    assert np.ptp(white[:, 0]) > 25  # of 3 x 11 pixels


def test_small_images_are_enlarged_with_their_boxes():
    found = Objects(torch.tensor([[10.0, 10, 20, 30]]), torch.tensor([0]))
    drawn = annotate(GREY[:48, :24], found, CLASSES)  # 48 -> 480: ten times
    assert drawn.shape == (480, 240, 3)
    assert drawn[250, 100].tolist() == colours(2)[0].tolist()


@pytest.mark.parametrize("corner", [(470, 100), (-40, 10), (100, 100)])
def test_texts_stay_in_the_image_and_off_each_other(corner):
    labels = Labels(GREY.copy())
    for _ in range(3):
        labels.add("bee 0.50", *corner)
    starts, ends, baselines = zip(*labels.taken, strict=True)
    assert min(starts) >= 0 and max(ends) <= SMALLEST
    assert min(np.diff(sorted(baselines))) >= 16
    assert (labels.image == 255).all(2).any()


def lit(matrix, size, hot, cells=(4, 4), shape=(100, 200)):
    """Where a grey image changes most under one hot cell: (row, column), and the image."""
    weights = np.zeros(cells, np.float32)
    weights[hot] = 1
    image = np.full((*shape, 3), 90, np.uint8)
    drawn = heat(image, weights, np.array(matrix, np.float64), size)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8 and (image == 90).all()
    change = np.abs(drawn.astype(int) - 90).sum(2)
    return np.argwhere(change == change.max()).mean(0) + 0.5, drawn


def test_heat_of_a_squeezed_image():
    # 100 x 200 to 64 x 64: cell (1, 2) of 4 x 4 is centred at (1.5, 2.5) quarters: (37.5, 125).
    at, drawn = lit([[64 / 200, 0, 0], [0, 64 / 100, 0]], (64, 64), (1, 2))
    assert at == pytest.approx([37.5, 125], abs=1)
    red, _, blue = drawn[37, 125].astype(int)
    assert red > blue
    assert (drawn[:, :70] == 90).all() and (drawn[70:] == 90).all()  # a cell and a half away


def test_heat_of_a_cropped_image():
    # The middle 100 x 100 of the image fills 64 x 64. Cell (0, 0) is centred at 12.5 of it.
    at, drawn = lit([[0.64, 0, -32], [0, 0.64, 0]], (64, 64), (0, 0))
    assert (drawn[:, :50] == 90).all() and (drawn[:, 150:] == 90).all()  # what it did not see
    assert at[0] < 12.5 and 50 < at[1] < 62.5  # the corner of what it saw is as hot as the cell
    assert (drawn[5, 51] != 90).any()


def test_heat_of_a_letterboxed_image():
    # 200 wide to 64: factor .32, the height 100 becomes 32, from row 16 to 48 of the input.
    # Cell (1, 3), centred at (24, 56) of the input: row (24 - 16) / .32 = 25, column 175.
    matrix = [[0.32, 0, 0], [0, 0.32, 16]]
    at, _ = lit(matrix, (64, 64), (1, 3))
    assert at[0] == pytest.approx(25, abs=1) and at[1] > 174  # the last column goes on to the edge
    _, bare = lit(matrix, (64, 64), (0, 0), cells=(8, 8))  # in the grey above the image
    assert (bare == 90).all()


def test_heat_of_a_mirrored_image():
    # x -> 64 - .32 x: column 0 of the cells is at the right.
    at, _ = lit([[-0.32, 0, 64], [0, 0.64, 0]], (64, 64), (2, 1))
    assert at == pytest.approx([62.5, 125], abs=1)  # 200 - 75


def test_attention_without_a_preference_is_of_one_colour_that_is_not_red():
    even, drawn = np.full((4, 4), 1 / 16), np.full((64, 64, 3), 90, np.uint8)
    drawn = heat(drawn, even, np.eye(2, 3), (64, 64))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1
    assert drawn[0, 0, 1] > drawn[0, 0, 0]  # green, the middle of the scale
    assert red_at(even) == 2 and red_at(np.eye(4)) == 4


@pytest.mark.parametrize("name", ["\udcff", "a\nb", "\x1b[31m"])
def test_any_name_of_a_class_is_drawn(name):
    # a lone surrogate ended the process in OpenCV's text
    drawn = annotate(GREY, objects([0.9, 0.8]), [name] * len(CLASSES))
    assert (drawn != annotate(GREY, objects([0.9, 0.8]), [""] * len(CLASSES))).any()
