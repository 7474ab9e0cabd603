"""Keys of a detector that are `auto`: the input's size and the anchors, by boxes made by hand."""

import numpy as np
import pytest

from detect import fit
from detect.fit import anchors, image_size, pyramid
from detect.heads.retina import Retina
from detect.heads.yolo_v2 import YOLOv2
from detect.heads.yolo_v3 import YOLOv3
from engine.errors import UserError
from engine.finding import View

KEYS = {key: "auto" for key in fit.PYRAMID} | {"positive": 0.5}
STRIDES = [4, 8, 16, 32]


def seen(sizes, image=(480, 640), size=(240, 320)):
    """A view of boxes of these (width, height) in pixels of the originals, of one size."""
    sizes, image = np.asarray(sizes, float), np.asarray(image, float)
    boxes = np.concatenate([np.full_like(sizes, 8.0), 8.0 + sizes], 1)
    scale = np.tile(np.array(size[::-1]) / image[::-1], 2)
    images = np.tile(image, (len(sizes), 1))
    return View(size, boxes * scale, boxes, images, np.zeros(len(sizes), bool))


@pytest.mark.parametrize(
    ("side", "image", "most", "size"),
    [
        (64, (480, 640), 640, (256, 320)),  # 32 pixels of 320; 240 is rounded to 256
        (64, (640, 480), 640, (320, 256)),
        (12, (480, 640), 320, (288, 384)),  # would need 1,707: 102,400 pixels, about
        (12, (480, 640), 4096, (480, 640)),  # nothing is enlarged
        (300, (480, 640), 640, (160, 192)),  # the least: of 192 x 144
        (12, (100, 100), 640, (192, 192)),  # the least, though it enlarges
    ],
)
def test_a_size_that_shows_small_objects(side, image, most, size):
    assert image_size(seen([(side, side)] * 20, image), most) == size


def test_a_twentieth_of_the_objects_may_be_smaller():
    sizes = [(4, 4)] * 4 + [(64, 64)] * 96
    assert image_size(seen(sizes), 640) == (256, 320)


def test_images_of_several_shapes_get_a_square():
    view = seen([(64, 64)] * 20)
    turned = view.image_size.copy()
    turned[::3] = turned[::3, ::-1]
    assert image_size(view._replace(image_size=turned), 640) == (320, 320)


def test_what_does_not_train_does_not_choose():
    view = seen([(4, 4)] * 10 + [(64, 64)] * 10)
    ignored = view._replace(ignore=np.arange(20) < 10)
    assert image_size(ignored, 640) == (256, 320)
    with pytest.raises(UserError, match="image_size=auto: no object has an area; set image_size"):
        image_size(view._replace(ignore=np.ones(20, bool)), 640)
    with pytest.raises(UserError, match="head.first_stride=auto: no object has an area"):
        pyramid(view._replace(ignore=np.ones(20, bool)), STRIDES, KEYS)


def test_a_pyramid_for_squares_of_one_size():
    # 60 pixels of the input: three cells of stride 16 and no more than five of the coarsest map
    values, reach = pyramid(seen([(120, 120)] * 50), STRIDES, KEYS)
    assert values["first_stride"] == 16 and values["levels"] == 1
    best = max(
        min(a / 60, 60 / a) ** 2 for a in (16 * scale for scale in values["scales"])
    )  # the IoU of concentric squares
    assert best > 0.95 and 1.0 in values["ratios"]
    assert reach.startswith("fitted to 50 boxes, of which 100% have an anchor of IoU 0.5 or more")


def test_levels_reach_from_the_small_to_the_large():
    sizes = [(48, 48)] * 50 + [(480, 480)] * 50  # 24 and 240 pixels of the input
    values, _ = pyramid(seen(sizes), STRIDES, KEYS)
    assert values["first_stride"] == 8
    assert values["levels"] == 4  # 5 cells of 8, 16, 32 are 160 pixels, of 64 320


def test_ratios_follow_long_boxes():
    values, _ = pyramid(seen([(160, 40)] * 50), STRIDES, KEYS)
    assert min(values["ratios"]) == pytest.approx(0.25, rel=0.3)  # height / width


def test_keys_that_are_set_stay():
    keys = KEYS | {"first_stride": 8, "levels": 3, "ratios": [1.0]}
    values, _ = pyramid(seen([(48, 48)] * 50), STRIDES, keys)
    assert list(values) == ["scales"] and len(values["scales"]) == 3


def test_anchors_are_the_sizes_themselves_where_there_are_as_many():
    sizes = [(20, 40), (60, 60), (200, 80)]
    found, reach = anchors(seen(sizes * 5), 3, (1.0, 1.0))
    assert found == [[10, 20], [30, 30], [100, 40]]
    assert reach.endswith(
        "100% have an anchor of IoU 0.5 or more around their centre, 1.00 on average"
    )
    with pytest.raises(
        UserError, match="head.anchors=auto: the boxes have 3 different sizes, 4 an"
    ):
        anchors(seen(sizes * 5), 4, (1.0, 1.0))


def test_the_yolos_count_anchors_in_units_of_their_own():
    sizes = np.random.default_rng(0).uniform(20, 200, (400, 2))
    view = seen(sizes)
    cells, _ = YOLOv2.fits["anchors"](view, STRIDES, {})
    pixels, _ = anchors(view, 5, (1.0, 1.0))
    assert np.allclose(np.array(cells["anchors"]) * 32, pixels, atol=0.02)
    keys = {"fixed_anchors": None, "anchors_at": 416}
    scaled, _ = YOLOv3.fits["anchors"](view, STRIDES, keys)
    fixed, _ = YOLOv3.fits["anchors"](view, STRIDES, keys | {"fixed_anchors": True})
    at_416 = np.array(fixed["anchors"]) * 416 / [320, 240]  # the input's width and height
    assert np.allclose(scaled["anchors"], at_416, atol=0.01)


def test_a_head_of_the_values_reaches_the_boxes():
    sizes = np.random.default_rng(1).uniform(40, 300, (200, 2))
    view = seen(sizes)
    values, reach = pyramid(view, STRIDES, KEYS)
    head = Retina(channels=[8, 8, 8, 8], strides=STRIDES, num_classes=2, activation="sigmoid",
                  pyramid_channels=8, towers=0, **values)  # fmt: skip
    shapes = np.concatenate([np.asarray(level) for level in head.sides])
    best = fit.size_iou(fit.sizes_of(view, "scales"), shapes).max(1)
    share = float(reach.split("of which ")[1].split("%")[0]) / 100
    assert (best >= 0.5).mean() == pytest.approx(share, abs=0.03)
