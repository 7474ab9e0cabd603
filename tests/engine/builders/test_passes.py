from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from engine.builders.passes import several
from engine.errors import UserError
from engine.passes.merge import SuppressAcross, mean_scores
from engine.structures import Fixed

BOXES = {"postprocess": {"iou": 0.45, "nms": "class_wise", "max_detections": 70}}
CPU = torch.device("cpu")


class Exported:
    """In the place of an exported file, which takes images of some sizes alone."""

    def __init__(self, outputs=("logits", "boxes"), takes=None):
        self.head, self.takes, self.seen = SimpleNamespace(outputs=set(outputs)), takes, []

    def eval(self):
        return self

    def __call__(self, images):
        self.seen.append(tuple(images.shape[2:]))
        if self.takes and self.seen[-1] not in self.takes:
            raise UserError("a.onnx: does not run on 1 images")
        return Fixed(torch.zeros(1, 0, 4), torch.zeros(1, 0), torch.zeros(1, 0).long())

    def decode(self, output):
        return output.objects()


def make(network=None, head=None, size=(320, 416), **keys):
    cfg = OmegaConf.create({"tile": None, "overlap": 0.2, "tta": [], **keys})
    full = OmegaConf.create({"image_size": list(size), "head": BOXES if head is None else head})
    return several(cfg, full, network or Exported(), CPU)


def test_images_pass_once_by_default():
    assert make() is None


def test_the_passes_are_those_asked_for_with_the_heads_own_suppression():
    network = Exported()
    found = make(network, tile=640, tta=["flip", "scales"])
    # 265.6 and 345.28, 384 and 499.2, in whole cells of 32
    assert found.passes.sizes == [(320, 416), (256, 352), (384, 512)] and found.passes.flip
    assert network.seen == [(256, 352), (384, 512)] and found.passes.tile == 640
    assert isinstance(found.merge, SuppressAcross) and found.merge.by_class
    assert (found.merge.iou, found.merge.max_detections) == (0.45, 70)
    # 53.1 and 76.8 are nearest to 64 itself
    assert make(tta=["scales"], size=(64, 64)).passes.sizes == [(64, 64), (32, 32), (96, 96)]
    assert make(Exported({"logits"}), head={"top": 5}, tta=["flip"]).merge is mean_scores


@pytest.mark.parametrize(
    ("network", "head", "keys", "words"),
    [
        (Exported(), BOXES, {"tta": ["flp"]}, r"tta=\[flp\]: expected some of .* 'flip'"),
        (Exported({"logits"}), {"top": 5}, {"tile": 640}, "tile=640.*labels whole images"),
        (Exported(), {"top": 5}, {"tile": 640}, "tile=640.*one box an image"),
        (Exported(), {"top": 5}, {"tta": ["flip"]}, r"tta=\[flip\].*one box an image"),
        (Exported(takes=[(320, 416)]), BOXES, {"tta": ["scales"]},
         r"tta=\[scales\].*352 x 256 pixels .*dynamic=size"),
    ],
)  # fmt: skip
def test_what_a_network_does_not_take_is_refused_in_one_line(network, head, keys, words):
    with pytest.raises(UserError, match=words) as caught:
        make(network, head, **keys)
    assert "\n" not in str(caught.value)
