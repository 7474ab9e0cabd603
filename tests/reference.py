"""pycocotools as the judge of our COCO numbers."""

import contextlib
import io
import json

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def mended(truth, rows):
    """Copies of a truth file and of results that pycocotools reads and scores right.

    It needs area and iscrowd, takes annotation ids of 0 for "no match" and of repeated ones the
    last, and refuses results of unlisted images; nothing else is changed.
    """
    truth, rows = json.loads(json.dumps([truth, rows]))
    for number, row in enumerate(truth["annotations"], 1):
        row["id"] = number
        row["area"] = row.get("area", row["bbox"][2] * row["bbox"][3])
        row["iscrowd"] = int(row.get("iscrowd", 0))
    listed = {image["id"] for image in truth["images"]}
    return truth, [row for row in rows if row["image_id"] in listed]


def pycocotools_stats(truth, rows):
    """Its twelve numbers [12] for the contents of two files; -1 where there is no object."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {"info": {}, **truth}
        reference.createIndex()
        evaluator = COCOeval(reference, reference.loadRes(rows), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return np.array(evaluator.stats)
