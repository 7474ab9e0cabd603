"""Training without augmentation sees an image as evaluation does, to the bit."""

import numpy as np
import pytest

from engine.data.augment import FITS, Augment
from engine.data.image import write_rgb
from engine.data.samples import Samples
from engine.record import Record

SIZES = np.random.default_rng(0).integers(9, 700, (40, 2)).tolist()  # height, width
INPUTS = [(32, 32), (48, 80), (224, 160)]


class Images:
    """Random images of the sizes, with a box that touches two borders and one inside."""

    classes, notes, on_error = ["a", "b"], [], "fail"

    def __init__(self, folder=None):
        self.stored, self.folder, self.report = folder is not None, folder, []

    def __len__(self):
        return len(SIZES)

    def record(self, index):
        height, width = SIZES[index]
        box = [width / 3, height / 5, width / 1.5, height / 1.2]
        boxes = np.array([[0, 0, width / 2, height], box], np.float32)
        return Record(index, str(self.path(index)), np.array([0, 1]), boxes)

    def path(self, index):
        return f"{self.folder}/{index}.jpg"

    def image(self, index):
        rng = np.random.default_rng(index)
        coarse = rng.integers(0, 256, [-(-side // 5) for side in SIZES[index]] + [3], np.uint8)
        height, width = SIZES[index]
        return np.ascontiguousarray(coarse.repeat(5, 0).repeat(5, 1)[:height, :width])


@pytest.fixture(scope="module", params=["made", "stored"])
def images(request, tmp_path_factory):
    """Images that the dataset makes, and JPEG files, which are decoded at a reduced size."""
    if request.param == "made":
        return Images()
    data = Images(tmp_path_factory.mktemp("images"))
    for index in range(len(data)):
        write_rgb(data.path(index), data.image(index))
    return data


def pair(images, augment, size, index):
    """The sample of training and that of evaluation."""
    options = {"dataset": images, "augment": augment, "size": size, "seed": 3}
    return [Samples(**options, train=train)[2, index] for train in (True, False)]


@pytest.mark.parametrize("size", INPUTS)
@pytest.mark.parametrize("fit", FITS)
def test_without_augmentation_training_sees_what_evaluation_sees(fit, size, images):
    for index in range(len(images)):
        train, val = pair(images, Augment(fit=fit), size, index)
        assert np.array_equal(train.image, val.image), SIZES[index]
        assert np.array_equal(train.truth.boxes, val.truth.boxes)
        assert np.array_equal(train.truth.labels, val.truth.labels)
        assert np.array_equal(train.meta.matrix, val.meta.matrix)


@pytest.mark.parametrize("fit", ["squeeze", "letterbox"])
def test_a_flip_is_the_only_difference_where_nothing_else_is_random(fit, images):
    for index in range(len(images)):
        train, val = pair(images, Augment(fit=fit, flip=1.0), (48, 80), index)
        assert np.array_equal(train.image, val.image[:, ::-1]), SIZES[index]
        mirrored = val.truth.boxes * (-1, 1, -1, 1) + (80, 0, 80, 0)
        assert train.truth.boxes == pytest.approx(mirrored[:, [2, 1, 0, 3]], abs=1e-3)


def test_a_random_part_of_a_crop_is_not_the_centre(images):
    augment = Augment(fit="crop", flip=1.0)
    for index in range(5):
        train, val = pair(images, augment, (32, 32), index)
        assert not np.array_equal(train.image, val.image)
