"""hotcoco's evaluator of detections (https://derekallman.github.io/hotcoco), fed with arrays."""

from collections.abc import Sequence

import numpy as np
from hotcoco import COCO, COCOeval

LEAST = 0.5  # IoU


def match_at_half(evaluator: COCOeval) -> COCOeval:
    """Match objects of every size at IoU 0.50 alone; returns the evaluator."""
    params = evaluator.params
    params.iou_thrs, params.area_rng, params.area_rng_lbl = [LEAST], params.area_rng[:1], ["all"]
    evaluator.evaluate()
    return evaluator


def judge(predicted: np.ndarray, true: np.ndarray, names: Sequence[str], images: int) -> COCOeval:
    """Return an evaluator of boxes with COCO's parameters; ids of everything count from 1.

    Args:
        predicted: [M, 8] image, x, y, w, h, score, category, area; the last is a mask's or a box's.
        true: [N, 8] image, x, y, w, h, category, area, crowd; annotation i has the id i + 1, as 0
            means "no match" to pycocotools.
        names: of the categories 1, 2, ...
        images: their number.
    """
    image, x, y, w, h, category, area, crowd = true.T
    truth = COCO.from_arrays(
        [{"id": i + 1} for i in range(images)],
        [{"id": k, "name": name} for k, name in enumerate(names, 1)],
        image.astype(np.int64),
        category.astype(np.int64),
        np.column_stack([x, y, w, h]),
        ids=np.arange(len(image)) + 1,
        area=area,
        iscrowd=crowd.astype(np.int64),
    )
    found = truth.load_res(predicted[:, :7])
    if (predicted[:, 7] != predicted[:, 3] * predicted[:, 4]).any():  # areas of masks
        ids = np.arange(len(predicted)) + 1
        found.update_anns(ids=ids, area=predicted[:, 7].copy())
    return COCOeval(truth, found, "bbox")
