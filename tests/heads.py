"""A small instance of every detection head with slots, for the tests of them all."""

import torch

from detect.heads.retina import Retina
from detect.heads.ssd import SSD
from detect.heads.ssd_paper import SSDPaper
from detect.heads.yolo_v1 import YOLOv1
from detect.heads.yolo_v2 import YOLOv2
from detect.heads.yolo_v3 import YOLOv3
from detect.heads.yolo_v3_tiny import YOLOv3Tiny

CLASSES, CHANNELS, STRIDES = 5, (8, 8, 16, 16), (4, 8, 16, 32)
ANCHORS = [  # arXiv 1804.02767, 2.3
    [10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326],
]  # fmt: skip
PRIORS = [[1.3221, 1.73145], [3.19275, 4.00944], [5.05587, 8.09892], [9.47112, 4.84053]]
SMALL = {"conv_channels": 8, "hidden": 16}
PAPER = {
    "extras": [[8, 3, 2, 1], [8, 3, 2, 1]],
    "scales": [0.1, 0.25, 0.45, 0.7, 0.95],
    "ratios": [[2], [2, 3], [2, 3], [2]],
}
RETINA = {"pyramid_channels": 8, "towers": 1}
HEADS = {
    "ssd, softmax": (SSD, {"activation": "softmax", "extra_channels": 8}),
    "ssd, sigmoid": (SSD, {"activation": "sigmoid", "extra_channels": 8}),
    "retina": (Retina, {"activation": "sigmoid", **RETINA}),
    "retina, light, softmax": (Retina, {"activation": "softmax", "levels": 3, **RETINA}),
    "retina, v2": (
        Retina,
        {"activation": "sigmoid", "group_norm": True, "extra_from": "c", **RETINA},
    ),
    "ssd_paper": (SSDPaper, {"activation": "softmax", **PAPER}),
    "ssd_paper, light, sigmoid": (SSDPaper, {"activation": "sigmoid", "light": True, **PAPER}),
    "yolo_v1, linear": (YOLOv1, {"activation": "linear", **SMALL}),
    "yolo_v1, softmax": (
        YOLOv1,
        {"activation": "softmax", **SMALL, "boxes_per_cell": 3, "grid": 6},
    ),
    "yolo_v2": (YOLOv2, {"activation": "softmax", "anchors": PRIORS, "conv_channels": 8}),
    "yolo_v2, linear": (YOLOv2, {"activation": "linear", "anchors": PRIORS, "conv_channels": 8}),
    "yolo_v3": (YOLOv3, {"activation": "sigmoid", "anchors": ANCHORS}),
    "yolo_v3, softmax": (YOLOv3, {"activation": "softmax", "anchors": ANCHORS}),
    "yolo_v3_tiny": (YOLOv3Tiny, {"activation": "sigmoid"}),
}
SIZE = (128, 160)  # height, width


def make(name, **options):
    """A head of the table, always with the same weights."""
    torch.manual_seed(0)
    kind, fixed = HEADS[name]
    given = {"channels": CHANNELS, "strides": STRIDES, "num_classes": CLASSES}
    return kind(**given | fixed | options)
