"""Darknet's detectors on its backbones: what follows these in a file, by our heads' names.

Of yolov2.cfg, yolov2-voc.cfg, yolov3.cfg and yolov3-tiny.cfg (https://github.com/pjreddie/darknet);
layers that hold no weights (route, reorg, upsample) are those of the heads.
"""

from collections.abc import Iterator, Sequence

from torchvision.models.detection import SSD300_VGG16_Weights
from torchvision.models.segmentation import FCN_ResNet50_Weights

from engine.structures import Preprocessing
from engine.weights.darknet import PREPROCESSING
from engine.weights.darknet_detector import Detector, Layer, Published

# data/coco.names has COCO's classes in COCO's order, those of VOC by VOC's names.
RENAMED = {
    "motorcycle": "motorbike",
    "airplane": "aeroplane",
    "couch": "sofa",
    "potted plant": "pottedplant",
    "dining table": "diningtable",
    "tv": "tvmonitor",
}
CATEGORIES: list[str] = SSD300_VGG16_Weights.COCO_V1.meta["categories"][1:]
COCO = [RENAMED.get(name, name) for name in CATEGORIES if name != "N/A"]
VOC: list[str] = FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"][1:]

COCO_CELLS = [[0.57273, 0.677385], [1.87446, 2.06253], [3.33843, 5.47434], [7.88282, 3.52778],
              [9.77052, 9.16828]]  # fmt: skip
# The published file was trained with anchors 1, 2, 3 on the finer map (`mask = 1,2,3` of commit
# 481d9d9; the cfg was changed to 0,1,2 in f86901f, the file was not): mAP .332 with them, .178 with
# 0, 1, 2, as measured in github.com/ultralytics/yolov3 (number 256); .331 is published.
TINY_COCO = [[23, 27], [37, 58], [81, 82], [81, 82], [135, 169], [344, 319]]

FILES = {  # numbers in the published files
    50_983_561: "yolov2.weights (model=yolo_v2)",
    50_676_061: "yolov2-voc.weights (model=yolo_v2)",
    62_001_757: "yolov3.weights (model=yolo_v3)",
    8_858_734: "yolov3-tiny.weights (model=yolo_v3_tiny)",
}
LETTERBOX = Preprocessing(416, 416, PREPROCESSING.mean, PREPROCESSING.std, fit="letterbox")


def _yolo_v2(channels: Sequence[int]) -> list[Layer]:
    fine, coarse = channels[-2:]
    return [
        Layer("deep.0", coarse, 1024, 3),
        Layer("deep.1", 1024, 1024, 3),
        Layer("through", fine, 64),
        Layer("joined", 4 * 64 + 1024, 1024, 3),
        Layer("predictor", 1024, None),
    ]


def _yolo_v3(channels: Sequence[int]) -> Iterator[Layer]:
    coarser = 0
    for i, wide in enumerate(reversed(channels[-3:])):
        width = wide // 2
        if coarser:
            yield Layer(f"laterals.{i - 1}", coarser, coarser // 2)
        for j in range(5):  # 1x1 and 3x3 take turns
            into = wide + coarser // 2 if j == 0 else wide
            yield (
                Layer(f"sets.{i}.{j}", width, wide, 3)
                if j % 2
                else Layer(f"sets.{i}.{j}", into, width)
            )
        yield Layer(f"predictors.{i}.0", width, wide, 3)
        yield Layer(f"predictors.{i}.1", wide, None)
        coarser = width


def _yolo_v3_tiny(channels: Sequence[int]) -> list[Layer]:
    fine, coarse = channels[-2:]
    width = coarse // 4
    return [
        Layer("narrow", coarse, width),
        Layer("predictors.0.0", width, 2 * width, 3),
        Layer("predictors.0.1", 2 * width, None),
        Layer("lateral", width, width // 2),
        Layer("predictors.1.0", width // 2 + fine, width, 3),
        Layer("predictors.1.1", width, None),
    ]


YOLO_V2 = Detector(
    layers=_yolo_v2,
    anchors=5,
    preprocessing=LETTERBOX,
    head={"darknet_reorg": True},
    boxes={},
    published={80: Published(COCO, {"anchors": COCO_CELLS}), 20: Published(VOC)},
    files=FILES,
)
YOLO_V3 = Detector(
    layers=lambda channels: list(_yolo_v3(channels)),
    anchors=3,
    preprocessing=LETTERBOX,
    head={},
    boxes={"fixed_anchors": True},
    published={80: Published(COCO), 20: Published(VOC)},
    files=FILES,
)
YOLO_V3_TINY = Detector(
    layers=_yolo_v3_tiny,
    anchors=3,
    preprocessing=LETTERBOX,
    head={},
    boxes={"fixed_anchors": True},
    published={80: Published(COCO, {"anchors": TINY_COCO}), 20: Published(VOC)},
    files=FILES,
)
