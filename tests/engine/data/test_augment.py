import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import InterpolationMode, resize

from engine.data.augment import Augment
from engine.data.colour import blot, colour_matrix, recolour
from engine.data.samples import Samples
from engine.data.viewport import FILL, SHARP, Viewport, _soften, centre_crop, cut, warp
from engine.data.warp_truth import warp_boxes, warp_record
from engine.errors import UserError
from engine.record import Meta, Record
from engine.structures import Objects, to_original

few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)
fits = st.sampled_from(["squeeze", "letterbox"])
sides = st.integers(80, 160)
targets = st.tuples(st.integers(64, 96), st.integers(64, 96))
augments = st.builds(
    Augment, fit=fits, flip=st.sampled_from([0.0, 0.5, 1.0]), flip_vertical=st.just(0.5),
    scale=st.sampled_from([(1, 1), (0.7, 1.0), (0.7, 1.5), (1.5, 1.5)]),
    aspect=st.sampled_from([1.0, 1.3]),
)  # fmt: skip


class One:
    """A dataset of one image."""

    classes, report, notes = ["a", "b", "c"], [], []

    def __init__(self, image, labels, boxes=None):
        boxes = None if boxes is None else np.array(boxes, np.float32).reshape(-1, 4)
        self.truth = Record("one", "one.png", np.array(labels, np.int64), boxes)
        self.pixels = image

    def __len__(self):
        return 1

    def record(self, index):
        return self.truth

    def image(self, index):
        return self.pixels


def truth(*boxes, **more):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Record("one", "one.png", np.arange(len(boxes)), boxes, **more)


def seen(*record_and_view, **more):
    """What `warp_record` makes of a truth, as objects."""
    return Objects.from_record(warp_record(*record_and_view, **more), (0, 0))


def painted(rng, height, width):
    """A black image with a rectangle in each channel, and the rectangles [3, 4]."""
    image, boxes = np.zeros((height, width, 3), np.uint8), []
    for channel in range(3):
        w, h = rng.integers(16, width // 2), rng.integers(16, height // 2)
        x, y = rng.integers(1, width - w), rng.integers(1, height - h)
        image[y : y + h, x : x + w, channel] = 255
        boxes.append([x, y, x + w, y + h])
    return image, np.array(boxes, np.float32)


def extent(channel):
    """The box of what is bright; the fill around the image is darker."""
    ys, xs = np.nonzero(channel > 140)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@few
@given(augment=augments, seed=seeds, height=sides, width=sides, target=targets)
def test_boxes_and_labels_stay_with_their_pixels(augment, seed, height, width, target):
    rng = np.random.default_rng(seed)
    image, boxes = painted(rng, height, width)
    matrix = augment.random_viewport(rng, (height, width), target).matrix(target)
    moved, found = warp(image, matrix, target), seen(truth(*boxes), matrix, target, 0.3)
    for box, label in zip(found.boxes, found.labels, strict=True):
        if (box[2:] - box[:2]).min() > 3:  # thinner ones may fall between the pixels
            assert extent(moved[..., label]) == pytest.approx(box.tolist(), abs=1.5)
    missing = set(range(3)) - set(found.labels.tolist())
    assert all((moved[..., label] > 140).sum() == 0 for label in missing)


@few
@given(angle=st.floats(-180, 180), seed=seeds, height=sides, width=sides, flip=st.booleans())
def test_a_turned_box_holds_its_turned_pixels(angle, seed, height, width, flip):
    image, boxes = painted(np.random.default_rng(seed), height, width)
    side = 1.5 * max(height, width)  # all of it stays in view
    matrix = Viewport(width / 2, height / 2, side, side, angle, flip).matrix((96, 96))
    moved = warp(image, matrix, (96, 96))
    for channel, box in enumerate(warp_boxes(boxes, matrix)):
        assert extent(moved[..., channel]) == pytest.approx(box.tolist(), abs=2)


def test_a_quarter_turn_by_hand():
    # An image of 40 x 20 seen whole by a view of 40 x 40 about its centre (20, 10), turned by 90
    # degrees: (x, y) - centre becomes (-(y - 10), x - 20), about (20, 20).
    matrix = Viewport(20, 10, 40, 40, 90).matrix((40, 40))
    turned = warp_boxes(np.array([[2.0, 4.0, 12.0, 9.0]]), matrix)
    assert turned[0].tolist() == pytest.approx([21, 2, 26, 12])


@few
@given(
    seed=seeds,
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    rotate=st.sampled_from([0.0, 30.0, 180.0]),
    count=st.integers(0, 6),
    fit=fits,
)
def test_boxes_end_inside_and_every_field_keeps_its_length(seed, height, width, rotate, count, fit):
    rng, target = np.random.default_rng(seed), (40, 72)
    augment = Augment(fit=fit, flip=0.5, scale=(0.2, 3), aspect=2, rotate=rotate)
    corners = rng.uniform(0, 1, (count, 2, 2)) * (width, height)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    matrix = augment.random_viewport(rng, (height, width), target).matrix(target)
    found = seen(truth(*boxes), matrix, target, 0.3)
    x1, y1, x2, y2 = found.boxes.unbind(1)
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= 72)).all() and ((y1 >= 0) & (y1 < y2)).all()
    assert (y2 <= 40).all() and found.boxes.dtype == torch.float32
    assert {len(getattr(found, f)) for f in vars(found)} == {len(found)}
    assert set(found.labels.tolist()) <= set(range(count))


@few
@given(seed=seeds, target=targets, fit=fits, share=st.floats(0.05, 1))
def test_a_smaller_view_lies_in_the_image_and_a_larger_one_around_it(seed, target, fit, share):
    rng = np.random.default_rng(seed)
    for scale, larger in ((share, False), (1 / share, True)):
        augment = Augment(fit=fit, scale=(scale, scale))
        viewport = augment.random_viewport(rng, (100, 200), target)
        full = augment.full_viewport((100, 200), target)
        for middle, side, whole in ((viewport.x, viewport.width, full.width),
                                    (viewport.y, viewport.height, full.height)):  # fmt: skip
            start = (200 if whole is full.width else 100) / 2 - whole / 2
            inside = (start - 1e-6 <= middle - side / 2, middle + side / 2 <= start + whole + 1e-6)
            around = (middle - side / 2 <= start + 1e-6, start + whole - 1e-6 <= middle + side / 2)
            assert all(around if larger else inside)


@few
@given(seed=seeds)
def test_flips_mirror_pixels_and_boxes(seed):
    image, boxes = painted(np.random.default_rng(seed), 50, 70)
    for augment, mirrored in (
        (Augment(flip=1.0), image[:, ::-1]),
        (Augment(flip_vertical=1.0), image[::-1]),
        (Augment(flip=1.0, flip_vertical=1.0), image[::-1, ::-1]),
    ):
        viewport = augment.random_viewport(np.random.default_rng(seed), (50, 70), (50, 70))
        matrix = viewport.matrix((50, 70))
        np.testing.assert_array_equal(warp(image, matrix, (50, 70)), mirrored)
        moved = warp_boxes(boxes, matrix)
        assert [extent(mirrored[..., c]) for c in range(3)] == pytest.approx(moved, abs=1e-9)


def test_letterbox_keeps_the_shape_and_pads():
    # 200 x 100 into 64 x 64: 3.125 pixels become one, so 64 x 32, with 16 rows above and below.
    augment, white = Augment(fit="letterbox"), np.full((100, 200, 3), 255, np.uint8)
    matrix = augment.full_viewport((100, 200), (64, 64)).matrix((64, 64))
    seen = warp(white, matrix, (64, 64))
    assert (seen[:15] == FILL).all() and (seen[-15:] == FILL).all()
    assert (seen[17:-17, 1:-1] == 255).all()
    box = warp_boxes(np.array([[20.0, 10.0, 70.0, 60.0]]), matrix)[0]
    assert box.tolist() == pytest.approx([6.4, 19.2, 22.4, 35.2])


def smooth(height, width):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1)


@pytest.mark.parametrize("target", [(40, 60), (96, 64), (57, 131), (31, 46)])
@pytest.mark.parametrize("degrees", [0, 1e-6])  # a resize, and a warp
def test_squeeze_is_a_resize_with_antialiasing(target, degrees):
    image = smooth(60, 90)
    viewport = Augment().full_viewport((60, 90), target)._replace(angle=degrees)
    seen = warp(image, viewport.matrix(target), target)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    there = resize(pixels, list(target), antialias=True).permute(1, 2, 0).numpy()
    inside = np.s_[2:-2, 2:-2]  # at the border a warp mixes in the fill, a resize repeats the edge
    # The warp counts positions in steps of 1/32 pixel: up to 255/32 for each axis, mostly far less.
    difference = np.abs(seen[inside].astype(int) - there[inside])
    assert difference.max() <= 8 and difference.mean() < 1.2


@pytest.mark.parametrize("short", [0.3, 1.0, SHARP])
def test_a_side_that_hardly_shrinks_is_not_blurred_and_no_bit_differs(short):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    across, down = math.sqrt((1.9**2 - 1) / 6), math.sqrt(max(short**2 - 1, 0.01) / 6)
    both = cv2.GaussianBlur(image, (3, 3), sigmaX=across, sigmaY=down)
    assert np.array_equal(_soften(image, 1.9, short), both)
    both = cv2.GaussianBlur(image, (3, 3), sigmaX=down, sigmaY=across)
    assert np.array_equal(_soften(image, short, 1.9), both)


@pytest.mark.parametrize(
    ("side", "step"), [(64, 1), (95, 1), (97, 2), (191, 2), (193, 4), (1e4, 8)]
)
def test_an_image_is_decoded_smaller_where_a_third_more_fills_the_input(side, step):
    assert Viewport(0, 0, 3 * side, side).reduce((64, 64)) == step
    assert Viewport(0, 0, side, 3 * side).reduce((64, 64)) == step  # the other side decides
    # An input half as high needs half as many rows: both sides shrink alike.
    assert Viewport(0, 0, side, side / 2).reduce((32, 64)) == step


@pytest.mark.parametrize("angle", [0.0, 1e-7])  # turned at all, it is warped and not resized
def test_what_shrinks_along_one_side_keeps_every_line_of_the_other(angle):
    # Lines 0, 200, 0, 200, ..., 64 of them, four times as long as the input's: a shrink by four
    # along the lines must leave each line its own, an average of neighbours would be 100.
    lines = np.tile(np.array([0, 200], np.uint8).repeat(3).reshape(2, 1, 3), (32, 256, 1))
    wide = Viewport(128, 32, 256, 64, angle).matrix((64, 64))
    seen = warp(lines, wide, (64, 64))[2:-2, 2:-2].astype(int)
    assert np.abs(seen - lines[2:-2, 2:62]).max() <= 2
    high = Viewport(32, 128, 64, 256, angle).matrix((64, 64))
    seen = warp(lines.transpose(1, 0, 2), high, (64, 64))[2:-2, 2:-2].astype(int)
    assert np.abs(seen - lines[2:-2, 2:62].transpose(1, 0, 2)).max() <= 2


def test_the_same_size_is_the_same_image():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    matrix = Augment().full_viewport((32, 48), (32, 48)).matrix((32, 48))
    np.testing.assert_array_equal(warp(image, matrix, (32, 48)), image)


@pytest.mark.parametrize("size", [(2000, 2000), (1501, 1999)])
def test_a_strong_reduction_averages_areas(size):
    # Averages of 23 x 31 random values spread by 74 / sqrt(713) = 2.8; single ones by 74.
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image[: size[0] // 2] //= 2
    seen = warp(image, Augment().full_viewport(size, (64, 64)).matrix((64, 64)), (64, 64))
    there = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(seen[1:-1, 1:-1].astype(int) - there[1:-1, 1:-1]).mean() < 3


def test_a_strong_reduction_stays_in_place():
    # 71 columns of 0, 3, 6 ... onto 8: column i averages those about x = (i + 1/2) 71/8: 3 x - 3/2.
    ramp = np.tile(np.arange(0, 213, 3, np.uint8)[None, :, None], (71, 1, 3))
    seen = warp(ramp, Augment().full_viewport((71, 71), (8, 8)).matrix((8, 8)), (8, 8))
    expected = [3 * (i + 0.5) * 71 / 8 - 1.5 for i in range(8)]
    assert seen[4, 1:-1, 0].tolist() == pytest.approx(expected[1:-1], abs=2)


@few
@given(height=st.integers(1, 5000), width=st.integers(1, 5000), target=targets, fit=fits)
def test_the_full_viewport_of_any_size_goes_back_exactly(height, width, target, fit):
    matrix = Augment(fit=fit).full_viewport((height, width), target).matrix(target)
    whole = warp_boxes(np.array([[0.0, 0.0, width, height]]), matrix)[0]
    longest = (whole[2:] - whole[:2]) / target[::-1]
    assert longest.max() == pytest.approx(1)  # it touches the sides,
    assert (whole[:2] + whole[2:]).tolist() == pytest.approx([target[1], target[0]])  # centred
    back = to_original(
        Objects.from_record(truth(whole), (0, 0)), [Meta(0, 0, "", (height, width), matrix)]
    )
    assert back.boxes[0].tolist() == pytest.approx([0, 0, width, height], rel=1e-4, abs=1e-2)


@pytest.mark.parametrize(
    ("shift", "box", "ignored"),
    [
        (0, [0, 0, 10, 10], False),
        (-7, [0, 0, 3, 10], False),  # 30 % is left
        (-8, [0, 0, 2, 10], True),  # 20 %
        (-10, None, None),
        (35, [35, 0, 40, 10], False),  # half, at the right border
    ],
)
def test_a_hidden_object_is_ignored_and_one_out_of_view_is_gone(shift, box, ignored):
    matrix = np.array([[1.0, 0.0, shift], [0.0, 1.0, 0.0]])
    found = seen(truth((0, 0, 10, 10)), matrix, (20, 40), 0.3)
    assert found.boxes.tolist() == ([] if box is None else [box])
    assert found.ignore.tolist() == ([] if box is None else [ignored])
    assert found.area.tolist() == ([] if box is None else [(box[2] - box[0]) * 10])


def test_an_ignored_object_stays_ignored():
    ignored = truth((0, 0, 9, 9), (1, 1, 9, 9), ignore=np.array([True, False]))
    found = seen(ignored, np.eye(2, 3), (20, 20), 0.3)
    assert found.ignore.tolist() == [True, False] and found.labels.tolist() == [0, 1]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("fit", ["squeeze", "letterbox"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (33, 3000)])
def test_odd_images_and_one_pixel_boxes_come_through(size, fit, train):
    image = np.full((*size, 3), 9, np.uint8)
    augment = Augment(fit=fit, flip=0.5, scale=(0.5, 2), aspect=2, rotate=20, hue=9, contrast=0.5)
    data = One(image, [0, 2], [[0, 0, 1, 1], [0, 0, size[1], size[0]]])
    samples = Samples(dataset=data, augment=augment, size=(32, 48), seed=0, train=train)
    for epoch in range(5):
        sample = samples[epoch, 0]
        assert sample.image.shape == (32, 48, 3) and sample.image.dtype == np.uint8
        assert sample.objects.boxes.isfinite().all() and sample.meta.size == size
        if not train:
            assert 2 in sample.objects.labels.tolist()


def test_no_object_at_all():
    data = One(np.zeros((50, 50, 3), np.uint8), [], [])
    augment = Augment(scale=(0.5, 2), rotate=10)
    sample = Samples(dataset=data, augment=augment, size=(32, 32), seed=0, train=True)[0, 0]
    assert len(sample.objects) == 0 and sample.objects.boxes.shape == (0, 4)


@few
@given(seed=seeds, fit=fits)
def test_a_whole_image_keeps_its_label_whatever_the_view(seed, fit):
    augment = Augment(fit=fit, flip=0.5, scale=(0.05, 4), aspect=2, rotate=180)
    data = One(np.zeros((30, 90, 3), np.uint8), [2])
    sample = Samples(dataset=data, augment=augment, size=(32, 48), seed=seed, train=True)[0, 0]
    assert sample.objects.boxes.tolist() == [[0, 0, 48, 32]]
    assert sample.objects.labels.tolist() == [2] and not sample.objects.ignore.any()


class Draws:
    """A generator whose every uniform draw is the same end of its range."""

    def __init__(self, value):
        self.value = value

    def uniform(self, low, high, count):
        return np.full(count, float(self.value))


@few
@given(seed=seeds)
def test_no_colour_change_is_none(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(recolour(image, Augment().random_colour(rng)), image)


@few
@given(seed=seeds)
def test_a_seed_draws_what_the_generators_own_ranges_draw(seed):
    # As runs before drew: one call for each number, so that they resume exactly.
    augment = Augment(scale=(0.5, 0.9), aspect=1.7, rotate=30, flip=0.5, zoom_out=1.0)
    viewport = augment.random_viewport(np.random.default_rng(seed), (80, 100), (64, 64))
    rng = np.random.default_rng(seed)
    side, stretch = rng.uniform(0.5, 0.9), math.exp(rng.uniform(-1, 1) * math.log(1.7) / 2)
    part = Viewport(50, 40, 100, 80).part((side * stretch, side / stretch), rng.uniform(-1, 1, 2))
    angle, flip, _, _ = rng.uniform(-1, 1) * 30, *rng.random(2), rng.random()
    larger = rng.uniform(1, 4)
    part = part.part((larger, larger), rng.uniform(-1, 1, 2))
    assert viewport == pytest.approx((*part[:4], angle, flip < 0.5, False), rel=1e-12)


@few
@given(*[st.floats(-1, 1)] * 3, st.floats(-180, 180))
def test_the_colour_map_is_the_product_of_its_four(brightness, contrast, saturation, hue):
    axis = np.full(3, math.radians(hue) / math.sqrt(3))
    grey = np.tile([0.299, 0.587, 0.114], (3, 1))
    linear = (np.eye(3) * (1 + saturation) - saturation * grey) @ cv2.Rodrigues(axis)[0]
    shift = np.full((3, 1), 255 * brightness - 128 * contrast)
    matrix = colour_matrix(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    assert matrix == pytest.approx(np.hstack([(1 + contrast) * linear, shift]), abs=1e-9)


@pytest.mark.parametrize(
    ("setting", "draw", "colour", "becomes"),
    [
        # 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 59.8 + 58.7 + 5.7 = 124.2
        ({"saturation": 1.0}, -1, (200, 100, 50), (124, 124, 124)),
        ({"saturation": 0.5}, -1, (200, 100, 50), (162, 112, 87)),  # half-way there
        ({"saturation": 0.5}, 1, (90, 90, 90), (90, 90, 90)),
        ({"contrast": 0.5}, 1, (128, 200, 40), (128, 236, 0)),  # 128 + 1.5 * (72, -88)
        ({"contrast": 0.5}, -1, (128, 200, 40), (128, 164, 84)),
        ({"brightness": 0.2}, 1, (0, 100, 230), (51, 151, 255)),  # 0.2 * 255 = 51, saturating
        ({"hue": 120.0}, 1, (200, 30, 7), (7, 200, 30)),  # a third of the wheel: red to green
        ({"hue": 120.0}, -1, (200, 30, 7), (30, 7, 200)),
        ({"hue": 50.0}, 1, (90, 90, 90), (90, 90, 90)),
    ],
)
def test_colours_by_hand(setting, draw, colour, becomes):
    matrix = Augment(**setting).random_colour(Draws(draw))
    assert recolour(np.array([[colour]], np.uint8), matrix)[0, 0].tolist() == list(becomes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fit": "cut"}, "augment.fit=cut: expected squeeze, letterbox or crop"),
        ({"scale": [1.2, 0.7]}, r"augment.scale=\[1.2, 0.7\]: expected \[least, most\]"),
        ({"scale": [0, 1]}, r"augment.scale=\[0, 1\]: .*above 0"),
        ({"scale": [1]}, r"augment.scale=\[1\]: expected"),
        ({"aspect": 0.8}, "augment.aspect=0.8: expected a ratio of at least 1"),
        ({"resize": 0.9}, "augment.resize=0.9: expected at least 1"),
        ({"interpolation": "cubic"}, "augment.interpolation=cubic: expected bilinear or bicubic"),
        ({"erase": 1.1}, "augment.erase=1.1: expected a share in 0..1"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(wrong, message):
    with pytest.raises(UserError, match=f"^{message}"):
        Augment(**wrong)


@pytest.mark.parametrize("size", [(300, 500), (500, 301), (256, 256), (97, 131), (1, 40)])
@pytest.mark.parametrize(("side", "resize"), [(224, 256), (224, 232), (299, 342), (64, 64)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_centre_crop_is_torchvisions_to_the_bit(size, side, resize, interpolation):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    recipe = ImageClassification(
        crop_size=side,
        resize_size=resize,
        interpolation=InterpolationMode(interpolation),
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    expected = recipe(torch.from_numpy(image).permute(2, 0, 1)) * 255
    viewport = centre_crop(size, (side, side), resize / side)
    got = cut(image, viewport, (side, side), interpolation)
    assert np.array_equal(got, expected.permute(1, 2, 0).round().byte().numpy())


@few
@given(seeds, sides, sides, targets)
def test_a_random_crop_stays_in_the_image_and_keeps_its_shape(seed, height, width, target):
    augment = Augment(fit="crop", scale=(0.35, 1.0))
    crop = augment.random_viewport(np.random.default_rng(seed), (height, width), target)
    assert crop.x - crop.width / 2 > -1e-6 and crop.x + crop.width / 2 < width + 1e-6
    assert crop.y - crop.height / 2 > -1e-6 and crop.y + crop.height / 2 < height + 1e-6
    assert crop.width / crop.height == pytest.approx(target[1] / target[0])


@few
@given(seeds)
def test_a_blot_is_one_rectangle_of_the_mean_colour(seed):
    image = np.zeros((60, 80, 3), np.uint8)
    blot(np.random.default_rng(seed), image)
    rows, columns = np.nonzero((image == FILL).all(2))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert len(rows) == height * width  # the hull is full
    # 2 to 33 % of 4800 pixels, sides rounded down; a rectangle too long for the image is cut
    assert 0.25 * 96 <= len(rows) <= 1584


def test_erasing_is_for_training_alone():
    one = One(np.zeros((40, 40, 3), np.uint8), [0])
    options = {"dataset": one, "augment": Augment(erase=1.0), "size": (40, 40), "seed": 0}
    assert Samples(**options, train=True)[0, 0].image.any()
    assert not Samples(**options, train=False)[0, 0].image.any()
