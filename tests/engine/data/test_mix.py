"""What a training image can be made of, held against painted pixels and independent judges."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torchvision.ops import box_iou

from engine.builders.instantiate import part
from engine.config.schema import CONFIGS
from engine.data.augment import Augment
from engine.data.colour import BLURS, salt_and_pepper
from engine.data.mix import quarters
from engine.data.overlap_crop import overlap_crop
from engine.data.samples import Samples
from engine.data.viewport import Viewport, warp
from engine.data.warp_truth import warp_boxes, warp_record
from engine.errors import UserError
from engine.record import Record
from engine.structures import collate, to_original

few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)
sides = st.integers(90, 260)
targets = st.tuples(st.integers(64, 96), st.integers(64, 96))
viewports = st.builds(
    Viewport, x=st.floats(-50, 300), y=st.floats(-50, 300), width=st.floats(20, 900),
    height=st.floats(20, 900), angle=st.just(0.0), flip_x=st.booleans(), flip_y=st.booleans(),
)  # fmt: skip
geometry = st.builds(
    Augment, fit=st.sampled_from(["squeeze", "letterbox"]), flip=st.just(0.5),
    flip_vertical=st.just(0.5), scale=st.sampled_from([(1, 1), (0.5, 1.5)]),
    aspect=st.sampled_from([1.0, 1.5]), zoom_out=st.sampled_from([0.0, 1.0]),
    overlaps=st.sampled_from([(), (0.0,), (0.1, 0.5, 0.9)]), min_visible=st.just(0.0),
)  # fmt: skip
PRESETS = sorted(path.stem for path in (CONFIGS / "augment").glob("*.yaml"))


class Painted:
    """Images of one bright rectangle each, image i in channel i % 3, which is its label."""

    classes, report, notes = ["red", "green", "blue"], [], []

    def __init__(self, *, seed=0, size=(120, 150), count=3, boxes=True):
        rng = np.random.default_rng(seed)
        self.size_of, self.boxes = size, boxes
        w, h = rng.integers(40, size[1] // 2, count), rng.integers(40, size[0] // 2, count)
        x, y = rng.integers(0, size[1] - w), rng.integers(0, size[0] - h)
        self.truth = np.stack([x, y, x + w, y + h], 1).astype(np.float32)

    def __len__(self):
        return len(self.truth)

    def record(self, index):
        boxes = self.truth[index : index + 1] if self.boxes else None
        return Record(f"{index}", f"{index}.png", np.array([index % 3]), boxes)

    def image(self, index):
        image = np.zeros((*self.size_of, 3), np.uint8)
        x1, y1, x2, y2 = self.truth[index].astype(int)
        image[y1:y2, x1:x2, index % 3] = 255
        return image


def samples(data, augment, size=(64, 96), seed=0, train=True, **more):
    return Samples(dataset=data, augment=augment, size=size, seed=seed, train=train, **more)


def filled(sample, channel):
    """The pixels [H, W] that the boxes of a label cover, and those that are bright."""
    height, width = sample.image.shape[:2]
    covered = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in sample.truth.boxes[sample.truth.labels == channel].round().astype(int):
        covered[y1:y2, x1:x2] = True
    return covered, sample.image[..., channel] > 180  # the fill around images is darker


@few
@given(augment=geometry, seed=seeds, height=sides, width=sides, target=targets)
def test_boxes_cover_their_pixels_and_no_others(augment, seed, height, width, target):
    data = Painted(seed=seed, size=(height, width))
    sample = samples(data, augment, target, seed)[0, seed % 3]
    covered, bright = filled(sample, seed % 3)
    border = 2 * (covered.any(0).sum() + covered.any(1).sum())
    assert (covered != bright).sum() <= 1.5 * border  # a pixel along the edges


@few
@given(seed=seeds, target=targets, aspect=st.sampled_from([1.0, 1.5]))
def test_a_mosaic_keeps_the_boxes_of_all_its_images(seed, target, aspect):
    data = Painted(seed=seed)
    augment = Augment(mosaic=1.0, flip=0.5, aspect=aspect, min_visible=0.0)
    sample = samples(data, augment, target, seed)[0, 1]
    assert len(sample.truth.labels) == len(sample.truth.boxes) == len(sample.truth.ignore)
    for channel in range(3):
        covered, bright = filled(sample, channel)
        border = 2 * (covered.any(0).sum() + covered.any(1).sum())
        assert (covered != bright).sum() <= 2 * border


def test_the_centre_of_a_mosaic_keeps_a_fifth_from_every_side():
    # Of 100 rows 20 to 80, of 200 columns 40 to 160; 300 draws come within a few of each end.
    drawn = [quarters(np.random.default_rng(seed), (100, 200)) for seed in range(300)]
    rows, columns = zip(*(parts[0].size for parts in drawn), strict=True)
    assert 20 <= min(rows) <= 23 and 77 <= max(rows) <= 80
    assert 40 <= min(columns) <= 46 and 154 <= max(columns) <= 160


def test_a_mosaic_shows_its_images_at_their_own_scale():
    # An image of the input's size, seen whole by its view: a part shows pixels one to one.
    data = Painted(size=(120, 150), count=3)
    sizes = []
    for seed in range(20):
        sample = samples(data, Augment(mosaic=1.0, min_visible=0.0), (120, 150), seed)[0, 0]
        sizes += (sample.truth.boxes[:, 2:] - sample.truth.boxes[:, :2]).tolist()
    whole = (data.truth[:, 2:] - data.truth[:, :2]).tolist()
    assert any(size in whole for size in sizes)
    assert all(any(w <= a and h <= b for a, b in whole) for w, h in sizes)


@few
@given(seed=seeds, alpha=st.sampled_from([0.2, 1.0, 8.0]))
def test_mixup_blends_images_and_keeps_boxes_whole(seed, alpha):
    data = Painted(seed=seed)
    sample = samples(data, Augment(mixup=1.0, mixup_alpha=alpha), (120, 150), seed)[0, 0]
    first, other = sample.truth.boxes
    assert sample.truth.labels[0] == 0 and first.tolist() == data.truth[0].tolist()
    index = sample.truth.labels[1]
    assert other.tolist() == data.truth[index].tolist() and sample.scores is None
    share = sample.image[..., 0].max() / 255 if index else 1.0
    expected = share * data.image(0) + (1 - share) * data.image(index)
    np.testing.assert_allclose(sample.image, expected, atol=1)


@few
@given(seed=seeds, kind=st.sampled_from(["mixup", "cutmix"]), boxes=st.booleans())
def test_classes_of_whole_images_have_their_shares_as_scores(seed, kind, boxes):
    class Flat(Painted):
        def image(self, index):
            return np.full((120, 150, 3), 200 * index, np.uint8)

    data = Flat(count=2, boxes=boxes)  # a classifier may have them: dataset.view=largest
    augment = Augment(**{kind: 1.0, f"{kind}_alpha": 1.0})
    sample = samples(data, augment, (64, 96), seed, whole_images=boxes)[0, 0]
    shares, labels = sample.scores, sample.truth.labels
    assert shares.sum() == pytest.approx(1) and labels[0] == 0 and len(labels) == 2
    light = sample.image.mean() / 200  # how much of the second image is seen
    assert light == pytest.approx(shares[1] if labels[1] else 0, abs=0.005)
    objects = collate([sample]).objects
    assert objects.scores.tolist() == pytest.approx(shares.tolist())


@few
@given(
    viewport=viewports,
    height=sides,
    width=sides,
    target=targets,
    step=st.sampled_from([1, 2, 4, 8]),
)
def test_a_snapped_viewport_is_near_and_shows_whole_pixels(viewport, height, width, target, step):
    snapped = viewport.snap((height, width), target, step)
    for side, axis in ((width, 0), (height, 1)):
        pixels, middle, whole = target[1 - axis], viewport[axis], viewport[2 + axis]
        low, high = max(middle - whole / 2, 0), min(middle + whole / 2, side)
        if low >= high:
            continue
        row = snapped._replace(flip_x=False, flip_y=False).matrix(target)[axis]
        scale, shift = row[axis], row[2]
        before = [(edge - middle + whole / 2) * pixels / whole for edge in (low, high)]
        thin = high - low < step or before[1] - before[0] < 1  # then it is made one pixel wide
        if not thin:
            after = [edge * scale + shift for edge in (low, high)]
            room = 1 + step * max(scale, pixels / whole)
            assert after == pytest.approx(before, abs=room)
        ends = -shift / scale, (pixels - shift) / scale
        reach = -(-side // step) * step
        for end in (max(ends[0], 0), min(ends[1], reach)):
            assert end / step == pytest.approx(round(end / step), abs=1e-6)
            assert end * scale + shift == pytest.approx(round(end * scale + shift), abs=1e-6)


@few
@given(viewport=viewports, seed=seeds, target=targets)
def test_a_snapped_viewport_is_made_as_a_warp_makes_it(viewport, seed, target):
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 256, (130, 170, 3), np.uint8), (0, 0), 4)
    matrix = viewport.snap((130, 170), target).matrix(target)
    turned = matrix + [[0, 1e-9, 0], [0, 0, 0]]  # no longer upright, so it is warped
    seen, there = warp(image, matrix, target), warp(image, turned, target)
    difference = np.abs(seen.astype(int) - there)
    assert np.median(difference) <= 2 and np.quantile(difference, 0.9) <= 16


@few
@given(viewport=viewports, target=targets, angle=st.sampled_from([0.0, 3.0, -40.0]))
def test_the_inverse_map_undoes_a_random_viewport(viewport, target, angle):
    viewport = viewport._replace(angle=angle).snap((120, 150), target)
    matrix = viewport.matrix(target)
    boxes = Painted(size=(120, 150)).truth
    points = np.vstack([matrix, (0, 0, 1)])
    np.testing.assert_allclose(
        (np.linalg.inv(points) @ points @ [[3], [4], [1]])[:2, 0], (3, 4), atol=1e-6
    )
    if not angle:
        record = Record("a", "", np.arange(3), warp_boxes(boxes, matrix).astype(np.float32))
        meta = samples(Painted(size=(120, 150)), Augment())[0, 0].meta._replace(matrix=matrix)
        there = collate([samples(Painted(), Augment())[0, 0]._replace(truth=record)]).objects
        np.testing.assert_allclose(to_original(there, [meta]).boxes, boxes, atol=0.05)


@few
@given(seed=seeds, least=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7]), count=st.integers(1, 6))
def test_the_overlap_crop_keeps_its_promise(seed, least, count):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 1, (count, 2, 2)) * (200, 140)
    boxes = np.concatenate([corners.min(1), corners.max(1) + 1], 1).astype(np.float32)
    whole = Viewport(100, 70, 200, 140)
    viewport = overlap_crop(rng, whole, boxes, (least,))
    crop = [viewport.x - viewport.width / 2, viewport.y - viewport.height / 2]
    crop += [viewport.x + viewport.width / 2, viewport.y + viewport.height / 2]
    assert crop[0] > -1e-6 and crop[1] > -1e-6 and crop[2] < 200.001 and crop[3] < 140.001
    if viewport == whole:
        return
    assert 0.4999 < viewport.width / viewport.height < 2.0001
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    held = ((middles > crop[:2]) & (middles < crop[2:])).all(1)
    overlaps = box_iou(torch.tensor([crop], dtype=torch.float32), torch.from_numpy(boxes))[0]
    assert held.any() and overlaps[held].max() >= least - 1e-5


class Draws:
    """A generator that keeps the order of what it permutes and draws these shares in every row."""

    def __init__(self, *shares):
        self.shares = shares

    def permutation(self, values):
        return np.array(values)

    def random(self, shape):
        return np.broadcast_to(np.array(self.shares, float), shape)


@pytest.mark.parametrize(("least", "crops"), [(0.55, True), (0.56, False)])
def test_the_overlap_of_a_crop_is_the_shared_area_over_the_union(least, crops):
    # Sides 0.3 + 0.7 * 2/7 = 0.5 of the view, from its corner: (0, 0, 50, 50). With the object it
    # shares 40 * 40 = 1600, of 2500 + 50 * 40 - 1600 = 2900 in all: 0.5517.
    whole, box = Viewport(50, 50, 100, 100), np.array([[10, 0, 60, 40]], np.float32)
    viewport = overlap_crop(Draws(2 / 7, 2 / 7, 0, 0), whole, box, (least,))
    assert viewport[:4] == pytest.approx((25, 25, 50, 50) if crops else whole[:4])


@pytest.mark.parametrize(
    ("size", "draws", "crop"),
    [
        # Sides are 0.3 + 0.7 * 0.9 = 0.93 and 0.3 of the view's.
        ((100, 100), (0.9, 0), (60, 30)),  # 93 x 30, cut to twice its height
        ((100, 100), (0, 0.9), (30, 60)),  # 30 x 93, cut to twice its width
        ((200, 100), (0.9, 0), (60, 30)),  # 186 x 30
        ((200, 100), (0, 0.9), (60, 93)),  # 60 x 93, as it is
        ((100, 400), (0, 0.9), (30, 60)),  # 30 x 372
        ((100, 400), (0.9, 0), (93, 120)),  # as it is
    ],
)
def test_the_overlap_crop_is_at_most_twice_as_long_as_wide(size, draws, crop):
    whole = Viewport(size[0] / 2, size[1] / 2, *size)
    viewport = overlap_crop(Draws(*draws, 0, 0), whole, np.array([[0, 0, 10, 10.0]]), (0.0,))
    assert (viewport.width, viewport.height) == pytest.approx(crop)
    assert (viewport.x, viewport.y) == pytest.approx((crop[0] / 2, crop[1] / 2))


def test_every_overlap_is_drawn_and_one_asks_for_no_crop():
    whole, boxes = Viewport(100, 100, 200, 200), np.array([[60, 60, 140, 140]], np.float32)
    drawn = [
        overlap_crop(np.random.default_rng(seed), whole, boxes, (0.0, 1.0)) for seed in range(200)
    ]
    assert 70 < drawn.count(whole) < 130
    assert overlap_crop(np.random.default_rng(0), whole, boxes[:0], (0.5,)) == whole


@few
@given(seed=seeds)
def test_zooming_out_shows_the_whole_image_at_up_to_four_times_its_side(seed):
    viewport = Augment(zoom_out=1.0).random_viewport(
        np.random.default_rng(seed), (90, 120), (64, 64)
    )
    assert 1 <= viewport.width / 120 <= 4 and viewport.width / 120 == pytest.approx(
        viewport.height / 90
    )
    assert viewport.x - viewport.width / 2 <= 1e-6 and viewport.x + viewport.width / 2 >= 120 - 1e-6
    assert (
        viewport.y - viewport.height / 2 <= 1e-6 and viewport.y + viewport.height / 2 >= 90 - 1e-6
    )


@pytest.mark.parametrize(
    ("box", "kept"), [((-6, 5, 4, 9), False), ((-4, 5, 6, 9), True), ((15, 15, 24, 24), True)]
)
def test_an_object_whose_middle_is_out_of_view_is_gone(box, kept):
    record = Record("a", "", np.array([0]), np.array([box], np.float32))
    found = warp_record(record, np.eye(2, 3), (20, 20), 0.0, centre=True)
    assert len(found.labels) == len(found.boxes) == kept and not found.ignore.any()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (37, 3000), (120, 150)])
def test_every_preset_takes_every_image(preset, size):
    class Odd(Painted):
        def __init__(self, truth):
            self.truth = truth

        def record(self, index):
            boxes = None if preset == "imagenet" else self.truth[index]
            return Record("a", "a.png", np.arange(len(self.truth[index])), boxes)

        def image(self, index):
            return np.full((*size, 3), 9, np.uint8)

    edge = [[0, 0, 1, 1], [0, 0, size[1], size[0]]]
    data = Odd([np.array(edge, np.float32), np.zeros((0, 4), np.float32)])
    augment = part(OmegaConf.load(CONFIGS / "augment" / f"{preset}.yaml"), "augment")
    for epoch in range(6):
        for index in range(2):
            sample = samples(data, augment, (40, 72))[epoch, index]
            assert sample.image.shape == (40, 72, 3) and sample.image.dtype == np.uint8
            boxes = sample.objects.boxes
            assert (boxes >= 0).all() and (boxes <= torch.tensor([72, 40, 72, 40])).all()
            assert {len(getattr(sample.objects, f)) for f in vars(sample.objects)} == {len(boxes)}


def window(image):
    """Every 5 x 5 neighbourhood, edges mirrored: [H, W, 3, 25]."""
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), "reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (0, 1)).reshape(
        *image.shape, 25
    )


GAUSSIAN = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]).ravel() / 256


@pytest.mark.parametrize(
    ("blur", "judge"),
    [
        ("gaussian", lambda x: x @ GAUSSIAN),
        ("mean", lambda x: x.mean(-1)),
        ("median", lambda x: np.median(x, -1)),
        ("maximum", lambda x: x.max(-1)),
        ("minimum", lambda x: x.min(-1)),
    ],
)
def test_a_filter_is_what_it_is_called(blur, judge):
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    inside = np.s_[2:-2, 2:-2]  # at the edges each filter has rules of its own
    expected = judge(window(image).astype(float))
    np.testing.assert_allclose(BLURS[blur](image)[inside], expected[inside], atol=0.51)


@few
@given(seed=seeds)
def test_salt_and_pepper_are_white_and_black_and_few(seed):
    image = np.full((60, 80, 3), 100, np.uint8)
    salt_and_pepper(np.random.default_rng(seed), image)
    changed = image[(image != 100).any(2)]
    assert set(np.unique(changed)) <= {0, 255} and len(changed) <= 0.05 * 4800
    assert (changed == changed[:, :1]).all()


def test_filters_and_noise_are_drawn_by_their_probability():
    data = Painted(size=(90, 90))
    plain = samples(data, Augment(), (90, 90))
    for setting in ({"blur": 0.5, "blurs": ["mean"]}, {"noise": 0.5}):
        some = samples(data, Augment(**setting), (90, 90))
        same = [np.array_equal(some[e, 0].image, plain[e, 0].image) for e in range(100)]
        assert 25 < sum(same) < 75


def test_swapped_channels_keep_their_values():
    data = Painted(size=(90, 90))
    seen = [samples(data, Augment(swap=0.5), (90, 90))[e, 0].image for e in range(60)]
    channels = [int(image.reshape(-1, 3).max(0).argmax()) for image in seen]
    assert channels.count(0) > 30 and {1, 2} < set(channels)  # a third of the swaps leave it


@pytest.mark.parametrize(
    ("settings", "boxes", "message"),
    [
        ({"mosaic": 1.0}, False, "augment.mosaic needs boxes"),
        ({"overlaps": [0.5]}, False, "augment.overlaps needs boxes"),
        ({"cutmix": 1.0}, True, "augment.cutmix mixes .* the network learns boxes: set "),
    ],
)
def test_what_does_not_fit_the_truth_is_refused(settings, boxes, message):
    with pytest.raises(UserError, match=message):
        samples(Painted(boxes=boxes), Augment(**settings))
    samples(Painted(boxes=boxes), Augment(**settings), train=False)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"zoom_most": 0.5}, "augment.zoom_most=0.5: expected a ratio of at least 1"),
        ({"overlaps": [2.0]}, r"augment.overlaps=\[2.0\]: expected shares in 0..1"),
        ({"blurs": ["medain"]}, r"augment.blurs=\['medain'\]: .*did you mean 'median'"),
        ({"mixup_alpha": 0}, "augment.mixup_alpha=0: expected more than 0"),
        ({"mosaic": -0.1}, "augment.mosaic=-0.1: expected a share in 0..1"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(wrong, message):
    with pytest.raises(UserError, match=f"^{message}"):
        Augment(**wrong)
