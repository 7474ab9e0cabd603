"""Darknet's files of YOLOv2, v3 and v3-tiny: OpenCV 4's reader of them is the judge.

OpenCV 5 has no such reader; with one in a folder of its own:
pip install --target FOLDER "opencv-python-headless<5"
PYTHONPATH=FOLDER python -m pytest -m slow tests/detect/test_darknet_opencv.py
"""

import cv2
import darknet_files as files
import hydra
import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from detect.coder import MAX_LOG_SIZE
from engine.builders import from_checkpoint
from engine.config.schema import CONFIGS

EPS = 1e-5 - 1e-6  # OpenCV adds 1e-6 to variances; Darknet on a GPU, and torch, 1e-5
CASES = {  # preset, sections of the cfg, version of the header, side of the input
    "yolov2": ("yolo_v2", files.yolo_v2(80, files.V2_COCO), 1, 416),
    "yolov2-voc": ("yolo_v2", files.yolo_v2(20, files.V2_VOC), 1, 416),
    "yolov3": ("yolo_v3", files.yolo_v3(80), 2, 416),
    "yolov3 at 608": ("yolo_v3", files.yolo_v3(80), 2, 608),
    "yolov3-tiny": ("yolo_v3_tiny", files.yolo_v3_tiny(80, "1,2,3"), 2, 416),
    "yolov3-tiny at 320": ("yolo_v3_tiny", files.yolo_v3_tiny(80, "1,2,3"), 2, 320),
    "of 3 classes": ("yolo_v3_tiny", files.yolo_v3_tiny(3, "0,1,2"), 2, 416),
}


def ours(preset, path, size):
    """The network that predict.py makes of a file."""
    overrides = [f"model={preset}", f"backbone.weights={path}", f"image_size={size}"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("pretrained", overrides=[*overrides, "source=none"])
    return from_checkpoint.pretrained(cfg, torch.device("cpu"), overrides)[0].eval()


def theirs(folder, rows, size, image):
    """Raw outputs of each scale [n * (5 + K), h, w], and rows of box, objectness and scores."""
    weights = files.write(folder / "theirs.weights", files.numbers(rows, less_eps=EPS))
    (folder / "net.cfg").write_text(files.text(rows, size))
    net = cv2.dnn.readNetFromDarknet(str(folder / "net.cfg"), str(weights))
    net.enableWinograd(False)  # faster, and 3e-4 off
    net.setInput(image.float().div(255).numpy())
    last = [i for i, (kind, _) in enumerate(rows) if kind in ("yolo", "region")]
    raw = [torch.from_numpy(net.forward(f"conv_{i - 1}")[0]) for i in last]
    found = [net.forward(name) for name in net.getUnconnectedOutLayersNames()]
    return raw, torch.from_numpy(np.concatenate(found))


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(cv2.dnn, "readNetFromDarknet"), reason="needs OpenCV 4, which reads Darknet's files"
)
@pytest.mark.parametrize("case", CASES)
def test_a_darknet_file_gives_opencvs_numbers(case, tmp_path):
    preset, rows, minor, size = CASES[case]
    path = files.write(tmp_path / "ours.weights", files.numbers(rows), minor)
    torch.manual_seed(0)
    image = torch.randint(256, (1, 3, size, size), dtype=torch.uint8)
    raw, expected = theirs(tmp_path, rows, size, image)
    net = ours(preset, path, size)
    with torch.no_grad():
        output = net(image)
        boxes, scores = net.head.candidates(output)
    flat = torch.cat([level.permute(1, 2, 0).reshape(-1, scores.shape[2] + 5) for level in raw])
    got = torch.cat([output.boxes, output.objectness[..., None], output.logits], 2)[0]
    assert 0.25 < flat.std() < 5  # outputs that say something, and no score is 0 or 1
    torch.testing.assert_close(got, flat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.objectness[0].sigmoid(), expected[:, 4], rtol=0, atol=1e-4)
    kept = expected[:, 5:] > 0  # of a region layer OpenCV sets to 0 what its NMS drops
    assert kept.float().mean() > (0.2 if preset == "yolo_v2" else 0.999)
    torch.testing.assert_close(scores[0][kept], expected[:, 5:][kept], rtol=1e-4, atol=1e-4)
    near = (flat[:, 2:4] < MAX_LOG_SIZE).all(1)  # OpenCV lets a side overflow, as Darknet does
    assert near.float().mean() > 0.99
    relative = box_convert(boxes[0] / size, "xyxy", "cxcywh")
    torch.testing.assert_close(relative[near], expected[near, :4], rtol=1e-4, atol=1e-4)
