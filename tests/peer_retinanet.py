"""torchvision's RetinaNet on our MobileNet v1 x 0.25, trained for some minutes as its reference is.

    python tests/peer_retinanet.py ROOT WEIGHTS MINUTES OUT
    python eval.py dataset=voc dataset.root=ROOT split=test metric=voc_map predictions=OUT/test.json

ROOT is a VOC set. torchvision's own anchors, pyramid, towers, loss, horizontal flip and SGD, whose
rate is that of references/detection for a batch of 4; the rate falls by a cosine to the end of the
minutes. Images are at most 512 pixels wide, as those of `experiment=detector`. No layer is frozen,
since the backbone is small.
"""

import json
import math
import sys
import time
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from classify.backbones.mobilenet import MobileNetV1
from detect.datasets.voc import VOC

BATCH, RATE, DECAY = 4, 0.0025, 1e-4  # 0.01 for 16 images: references/detection/README.md
SIDES = 384, 512  # shorter and longer, pixels: those of `experiment=detector` on BCCD
CHANNELS = 256  # of torchvision's pyramid


class Pyramid(nn.Module):
    """The backbone's maps of stride 8 to 32 under torchvision's pyramid."""

    out_channels = CHANNELS

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.body = MobileNetV1(width_factor=0.25, weights=weights)
        extra = LastLevelP6P7(CHANNELS, CHANNELS)
        self.fpn = FeaturePyramidNetwork(list(self.body.channels[1:]), CHANNELS, extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> maps by name, fine to coarse."""
        return self.fpn(OrderedDict((str(i), x) for i, x in enumerate(self.body(images)[1:])))


def sample(data: VOC, index: int, flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """An image [3, H, W] in 0..1 and its truth, exchanged left and right or not."""
    record = data.record(index)
    live = ~record.ignore if record.ignore is not None else slice(None)
    image = torch.from_numpy(data.image(index).copy()).permute(2, 0, 1) / 255
    boxes = torch.from_numpy(record.boxes[live]).clone()
    if flip:
        image = image.flip(-1)
        boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
    return image, {"boxes": boxes, "labels": torch.from_numpy(record.labels[live])}


def train(model: nn.Module, data: VOC, minutes: float) -> int:
    """Train until the minutes are over; returns the epochs."""
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=DECAY)
    start, epoch = time.perf_counter(), 0
    while True:
        for rows in torch.randperm(len(data)).split(BATCH):
            done = (time.perf_counter() - start) / 60 / minutes
            if done >= 1:
                return epoch
            warm = min(1.0, 20 * done)
            for group in optimizer.param_groups:
                group["lr"] = RATE * warm * (1 + math.cos(math.pi * done)) / 2
            pairs = [sample(data, int(row), bool(torch.rand(()) < 0.5)) for row in rows]
            losses = model([image for image, _ in pairs], [truth for _, truth in pairs])
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
        epoch += 1


@torch.inference_mode()
def predict(model: nn.Module, data: VOC) -> list[dict]:
    """COCO rows of all images."""
    model.eval()
    rows = []
    for index in range(len(data)):
        (found,) = model([sample(data, index, flip=False)[0]])
        sides = found["boxes"][:, 2:] - found["boxes"][:, :2]
        boxes = torch.cat([found["boxes"][:, :2], sides], 1).tolist()
        for box, label, score in zip(
            boxes, found["labels"].tolist(), found["scores"].tolist(), strict=True
        ):
            rows.append({"image_id": data.record(index).id, "category_id": label + 1,
                         "bbox": box, "score": score})  # fmt: skip
    return rows


def main(root: str, weights: str, minutes: str, out: str) -> None:
    torch.manual_seed(0)
    data = VOC(root=root, split="train")
    low, high = SIDES
    model = RetinaNet(Pyramid(weights), len(data.classes), min_size=low, max_size=high)
    epochs = train(model.train(), data, float(minutes))
    Path(out).mkdir(parents=True, exist_ok=True)
    for split in ("val", "test"):
        rows = predict(model, VOC(root=root, split=split))
        (Path(out) / f"{split}.json").write_text(json.dumps(rows))
    print(f"{epochs} epochs in {minutes} minutes: {out}/val.json, {out}/test.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
