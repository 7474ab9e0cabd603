"""Darknet's files of whole detectors: their order by hand, what else Darknet does, refusals.

`test_darknet_opencv.py` compares whole networks with OpenCV's reader.
"""

import logging
from dataclasses import replace

import darknet_files as files
import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from classify.backbones.block import conv_block
from classify.backbones.darknet import Darknet19, Darknet53, DarknetTiny, PoolAhead
from classify.backbones.darknet_detectors import YOLO_V2, YOLO_V3, YOLO_V3_TINY
from classify.backbones.sequential import SequentialBackbone
from detect.heads.yolo_v2 import YOLOv2, darknet_reorg
from detect.heads.yolo_v3 import YOLOv3
from detect.heads.yolo_v3_tiny import YOLOv3Tiny
from engine.builders import from_checkpoint, parts
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.structures import Preprocessing, Pretrained
from engine.weights import darknet
from engine.weights.pretrained import fill

ANCHORS = [[i, i] for i in range(1, 10)]
HEADS = {  # our head on Darknet's backbone, and what the backbone says of its files
    "yolo_v2": (Darknet19, YOLO_V2, YOLOv2, {"activation": "softmax"}),
    "yolo_v3": (Darknet53, YOLO_V3, YOLOv3, {"activation": "sigmoid", "anchors": ANCHORS}),
    "yolo_v3_tiny": (DarknetTiny, YOLO_V3_TINY, YOLOv3Tiny, {"activation": "sigmoid"}),
}
COUNTS = {  # of the published files: bytes less the header, by 4
    ("yolo_v2", 80): 50_983_561, ("yolo_v2", 20): 50_676_061, ("yolo_v3", 80): 62_001_757,
    ("yolo_v3_tiny", 80): 8_858_734,
}  # fmt: skip


def on_meta(name, classes):
    backbone, _, head, options = HEADS[name]
    with torch.device("meta"):
        net = backbone()
        given = {"channels": net.channels, "strides": net.strides, "num_classes": classes}
        return net.eval(), head(**given, **options).eval()


@pytest.mark.parametrize(("name", "classes"), COUNTS)
def test_the_table_of_a_file_is_our_head_in_running_order(name, classes):
    backbone, head = on_meta(name, classes)
    head.sizes = torch.ones(head.sizes.shape)  # which are read
    ran = []
    for key, module in head.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, key=key: ran.append(key))
    head(backbone(torch.empty(1, 3, 64, 64, device="meta")), (64, 64))
    detector = HEADS[name][1]
    layers = detector.layers(backbone.channels)
    assert ran == [f"{layer.name}.0" if layer.width else layer.name for layer in layers]
    order = [e for layer in layers for e in layer.order(detector.anchors * (5 + classes))]
    held = {k: tuple(v.shape) for k, v in head.state_dict().items() if "tracked" not in k}
    assert dict(order) == held and len(order) == len(held)
    whole = [t for _, t in darknet._order(backbone)] + [torch.empty(s) for _, s in order]
    assert sum(tensor.numel() for tensor in whole) == COUNTS[name, classes]
    assert COUNTS[name, classes] in detector.files


class Small(SequentialBackbone):
    """Three convolutions under a YOLOv3, and Darknet's file of both."""

    channels, strides, taps = (4, 8, 12), (8, 16, 32), (0, 1, 2)
    darknets = replace(YOLO_V3, files={5000: "other.weights (model=other)"})

    def __init__(self, *, weights=None):
        super().__init__()
        for i, (into, width) in enumerate([(3, 4), (4, 8), (8, 12)]):
            stride = 2 if i else 8
            block = conv_block(into, width, 3, activation=nn.ReLU, stride=stride)
            self.add_module(f"stage{i}", block)
        self.pretrain(weights)


BACKBONE = 4 * (4 + 27) + 8 * (4 + 36) + 12 * (4 + 72)  # 1356
FIXED = 3854  # the rest but for the outputs
EACH = (12 + 1) + (8 + 1) + (4 + 1)  # 27: a weight of each channel, and a bias


def small(path, count, start=0):
    return files.write(path, np.arange(start, start + count, dtype=np.float32))


def whole(classes):
    return BACKBONE + FIXED + EACH * 3 * (5 + classes)


def head_of(classes):
    return YOLOv3(channels=Small.channels, strides=Small.strides, num_classes=classes,
                  activation="sigmoid", anchors=ANCHORS)  # fmt: skip


def test_the_sizes_by_hand():
    # Sets 12 -> 6: 1x1 and 3x3 in turn; the next 8 + 3 -> 4, then 4 + 2 -> 2; two laterals.
    def conv(a, b, kernel):
        return b * (4 + a * kernel**2)

    def level(into, width):
        wide = 2 * width
        pairs = 3 * conv(width, wide, 3) + 2 * conv(wide, width, 1)  # the last 3x3 predicts
        return conv(into, width, 1) + pairs

    laterals = conv(6, 3, 1) + conv(4, 2, 1)
    assert level(12, 6) + level(11, 4) + level(6, 2) + laterals == FIXED


def test_numbers_land_where_they_stand_in_the_file(tmp_path):
    backbone = Small(weights=str(small(tmp_path / "a.weights", whole(3))))
    # 4 shifts, 4 scales, 4 means, 4 variances, then 4 * 3 * 9 weights
    norm = backbone.stage0[1]
    assert norm.bias.tolist() == [0, 1, 2, 3] and norm.weight.tolist() == [4, 5, 6, 7]
    assert norm.running_mean.tolist() == [8, 9, 10, 11]
    assert norm.running_var.tolist() == [12, 13, 14, 15]
    assert backbone.stage0[0].weight.flatten().tolist() == list(range(16, 124))
    loaded, head = backbone.pretrained, head_of(3)
    assert fill(head, loaded.unused_tensors)
    first = head.sets[0][0]
    assert first[1].bias.tolist() == list(range(1356, 1362))
    assert first[0].weight.flatten().tolist() == list(range(1356 + 4 * 6, 1356 + 4 * 6 + 72))
    last = head.predictors[2][1]  # 24 biases, then 24 * 4 weights end the file
    end = whole(3)
    assert last.weight.flatten().tolist() == list(range(end - 96, end))
    assert last.bias.tolist() == list(range(end - 120, end - 96))
    assert loaded.classes == ["class 0", "class 1", "class 2"]
    assert loaded.preprocessing.fit == "letterbox" and loaded.preprocessing.size == 416
    assert loaded.preprocessing.mean == (0, 0, 0) and loaded.boxes == {"fixed_anchors": True}


def test_a_head_of_other_classes_takes_all_but_the_outputs(tmp_path, caplog):
    caplog.set_level(logging.INFO, "onelook")
    backbone = Small(weights=str(small(tmp_path / "a.weights", whole(3))))
    head = head_of(4)
    before = head.predictors[0][1].weight.clone()
    assert not fill(head, backbone.pretrained.unused_tensors)
    assert head.sets[0][0][1].bias.tolist() == list(range(1356, 1362))
    assert torch.equal(head.predictors[0][1].weight, before)
    assert "a detector of 3 classes" in caplog.text
    # 20 normalised convolutions of 5 tensors, and 3 layers of outputs of 2
    assert "100 of the head's 106 tensors matched" in caplog.text


def test_classes_of_published_files():
    for detector in (YOLO_V2, YOLO_V3, YOLO_V3_TINY):
        coco, voc = (detector.published[n].classes for n in (80, 20))
        assert (len(coco), len(voc)) == (80, 20)
        assert coco[:5] == ["person", "bicycle", "car", "motorbike", "aeroplane"]
        assert coco[57:63] == ["sofa", "pottedplant", "bed", "diningtable", "toilet", "tvmonitor"]
        assert coco[-1] == "toothbrush" and voc[::19] == ["aeroplane", "tvmonitor"]
    assert YOLO_V2.published[80].boxes["anchors"][0] == [0.57273, 0.677385]
    assert YOLO_V2.published[20].boxes == {}  # our own are those of VOC


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (BACKBONE - 1, r"ends in stage2.0.weight: 1,355 numbers; expected 1,356 of this backbone "
                       r"alone, or 12,095 with a detector of 80 classes \(81 a class\)"),
        (whole(3) - 1, r"5,857 numbers; expected 1,356 .*cut short, or of another network"),
        (whole(3) + 1, "cut short"),
        (5000, r"5,000 numbers, those of other.weights \(model=other\); expected"),
    ],
)  # fmt: skip
def test_other_sizes_are_refused_in_one_line(tmp_path, count, message):
    with pytest.raises(UserError, match=message) as caught:
        Small(weights=str(small(tmp_path / "a.weights", count)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "left"),
    [
        (0, ""),  # darknet53.conv.74
        (6 * (4 + 12), "96 numbers behind"),  # a layer more
        (whole(80) - BACKBONE + 5, "numbers behind"),  # other layers: yolov3-spp, yolov4
    ],
)
def test_a_backbone_alone_still_loads(tmp_path, caplog, more, left):
    caplog.set_level(logging.INFO, "onelook")
    net = Small(weights=str(small(tmp_path / "net.conv.74", BACKBONE + more)))
    assert net.stage0[1].bias.tolist() == [0, 1, 2, 3] and net.pretrained.unused_tensors == {}
    assert net.pretrained.boxes == {} and net.pretrained.preprocessing.fit == "crop"
    assert ("numbers behind" in caplog.text) == bool(left) and left in caplog.text


def test_variances_below_0_are_of_another_network(tmp_path):
    path = small(tmp_path / "a.weights", BACKBONE, start=-14)  # 12 to 15 of the file: -2 to 1
    with pytest.raises(UserError, match=r"stage0.1.running_var: 2 of 4 variances are below 0"):
        Small(weights=str(path))


def test_published_files_of_another_model_are_named():
    with torch.device("meta"):
        darknet53 = Darknet53()
    data = np.zeros(5 + COUNTS["yolo_v3_tiny", 80], np.float32)
    data[:2] = np.array([0, 2], np.int32).view(np.float32)
    with pytest.raises(UserError) as caught:
        darknet.parse(data.tobytes(), "yolov3-tiny.weights", darknet53, YOLO_V3)
    message = str(caught.value)
    assert "8,858,734 numbers, those of yolov3-tiny.weights (model=yolo_v3_tiny)" in message
    assert "expected 40,620,640 of this backbone alone, or 62,001,757 with a detector" in message


def reorg_slowly(x):
    """As blas.c does, one number at a time: out[in_index] = x[out_index]."""
    channels, rows, columns = x.shape
    flat, out = x.flatten(), torch.empty(x.numel())
    for k in range(channels):
        offset, c2 = divmod(k, channels // 4)
        for j in range(rows):
            for i in range(columns):
                w2, h2 = i * 2 + offset % 2, j * 2 + offset // 2
                there = w2 + columns * 2 * (h2 + rows * 2 * c2)
                out[i + columns * (j + rows * k)] = flat[there]
    return out.view(channels * 4, rows // 2, columns // 2)


def test_darknets_reorg():
    x = torch.arange(2 * 8 * 6 * 10.0).view(2, 8, 6, 10)
    got = darknet_reorg(x)
    assert torch.equal(got, torch.stack([reorg_slowly(image) for image in x]))
    # Not the paper's stacking in another order: here cell (1, 0) holds pixels of row 1, not 2.
    assert got[0, 0, 1, 0] != x[0, 0, 2, 0]
    with pytest.raises(UserError, match="6 channels, expected a multiple of 4"):
        YOLOv2(channels=[4, 4], strides=[16, 32], num_classes=3, activation="softmax",
               passthrough=6, darknet_reorg=True)  # fmt: skip


def test_the_head_reorders_only_when_asked():
    def through(**options):
        torch.manual_seed(0)
        head = YOLOv2(channels=[8, 4], strides=[16, 32], num_classes=3, activation="softmax",
                      conv_channels=4, passthrough=8, **options).eval()  # fmt: skip
        maps = [torch.arange(8 * 36.0).view(1, 8, 6, 6) / 100, torch.ones(1, 4, 3, 3)]
        with torch.no_grad():
            return head(maps, (96, 96)).logits

    plain = through()
    assert torch.equal(plain, through(darknet_reorg=False))
    assert not torch.allclose(plain, through(darknet_reorg=True))


def test_the_pooling_that_looks_ahead():
    x = torch.tensor([[[[-1.0, -5, -9], [-2, -7, -3]]]])
    assert PoolAhead()(x).tolist() == [[[[-1, -3, -3], [-2, -3, -3]]]]


def test_fixed_anchors_do_not_scale():
    def sides(**options):
        head = YOLOv3Tiny(channels=[4, 8], strides=[16, 32], num_classes=3, activation="sigmoid",
                          **options).eval()  # fmt: skip
        maps = [torch.zeros(1, 4, 52, 26), torch.zeros(1, 8, 26, 13)]
        slots = head(maps, (832, 416)).slots
        return (slots[:, 2:] - slots[:, :2])[[0, -1]]

    # The first of stride 32 and the last of stride 16, of the input's shape or as they are
    torch.testing.assert_close(sides(), torch.tensor([[81.0, 164], [37, 116]]))
    torch.testing.assert_close(sides(fixed_anchors=True), torch.tensor([[81.0, 82], [37, 58]]))
    with pytest.raises(UserError, match="anchors=.*of two anchors or a multiple"):
        sides(anchors=[[1, 2], [3, 4], [5, 6]])
    with pytest.raises(UserError, match="maps of stride 16 and 32"):
        YOLOv3Tiny(channels=[4], strides=[32], num_classes=3, activation="sigmoid")


def pretrained(path, *more):
    overrides = ["model=yolo_v3_tiny", f"backbone.weights={path}", *more]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("pretrained", overrides=[*overrides, "source=none"])
    return cfg, *from_checkpoint.pretrained(cfg, torch.device("cpu"), overrides)


def test_a_preset_predicts_by_a_file_as_darknet_does(tmp_path, caplog):
    caplog.set_level(logging.INFO, "onelook")
    path = files.write(tmp_path / "yolov3-tiny.weights", np.ones(8_858_734, np.float32))
    cfg, net, classes = pretrained(path)
    assert classes == list(YOLO_V3_TINY.published[80].classes)
    assert cfg.image_size == 416 and cfg.augment.fit == "letterbox"
    assert net.mean.flatten().tolist() == [0, 0, 0] and net.std.flatten().tolist() == [255] * 3
    # `mask = 1,2,3`: with what the published file was trained, 23 x 27 first
    assert cfg.head.fixed_anchors is True and net.head.sizes[0, 0].tolist() == [23, 27]
    assert "the head starts from the weights of the same file" in caplog.text
    assert "head.fixed_anchors=True" in caplog.text
    own = "head.anchors=[[10,14],[23,27],[37,58],[81,82],[135,169],[344,319]]"
    assert pretrained(path, own)[1].head.sizes[0, 0].tolist() == [10, 14]


def whole_tiny(classes):
    return 8_858_734 - (80 - classes) * 3 * (512 + 1 + 256 + 1)


@pytest.mark.parametrize(("classes", "whole"), [(3, True), (4, False)])
def test_training_takes_what_the_file_needs(tmp_path, classes, whole):
    path = files.write(tmp_path / "a.weights", np.ones(whole_tiny(3), np.float32))
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", ["model=yolo_v3_tiny", f"backbone.weights={path}"])
    net = parts.network(cfg, classes, parts.backbone(cfg))
    # outputs that train anew keep this program's own anchors, which scale with image_size
    assert cfg.head.fixed_anchors is (True if whole else None) and cfg.head.anchors is None
    assert net.head.fixed_anchors is whole and net.head.narrow[1].bias[0] == 1
    assert list(cfg.preprocessing.mean) == [0, 0, 0]


def test_the_reorg_comes_with_the_layers_behind_it():
    loaded = Pretrained(Preprocessing(), {}, ["a"], head=YOLO_V2.head, boxes={"anchors": [[1, 1]]})
    for classes, anchors in ((1, [[1, 1]]), (2, None)):
        node = OmegaConf.create({"darknet_reorg": None, "anchors": None})
        parts._fill_in_head(node, loaded, classes)
        assert node == {"darknet_reorg": True, "anchors": anchors}
    node = OmegaConf.create({"darknet_reorg": False, "anchors": [[2, 2]], "scales": None})
    parts._fill_in_head(node, loaded, 1)  # what is set stays
    assert node == {"darknet_reorg": False, "anchors": [[2, 2]], "scales": None}
