"""Writes the truth of any dataset as COCO JSON (https://cocodataset.org/#format-data)."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.check.scan import ScannedImage
from engine.record import columns
from engine.whole_file import WholeText


class CocoWriter(WholeText):
    """Writes a COCO annotation file image by image, so that the objects are never all in memory.

    A box has the numbers of the dataset's record, as x, y, width, height: for VOC, whose pixels
    count from 1 with both ends inside, it is off by at most one. An ignored object (difficult or
    crowd) has `iscrowd` and `ignore` 1. The label of a whole image gets the image as its box.
    `file_name` is the path below the common folder of all images, which is in `info.images`.

    Args:
        path: the file; it is there after `close`.
        classes: names by label.
        categories: the category id of each label.
    """

    def __init__(self, path: Path, classes: Sequence[str], categories: Sequence[int]) -> None:
        self.categories, self.count = categories, 0
        pairs = zip(categories, classes, strict=True)
        self.named = [{"id": number, "name": name} for number, name in pairs]
        self.images: list[dict[str, Any]] = []
        super().__init__(path)
        self.file.write('{"annotations": [')

    def add(self, scanned: ScannedImage) -> None:
        """Write one image and its objects."""
        height, width = scanned.annotated_size
        record = scanned.record
        number = record.id if isinstance(record.id, int) else len(self.images) + 1
        name = {"id": number, "file_name": record.path}
        self.images.append({**name, "width": width, "height": height})
        boxes, labels, _, ignored, areas = columns([record], [scanned.annotated_size])
        # float64 keeps the difference of two float32 numbers
        objects = (boxes.astype(float), labels, areas, ignored.astype(int))
        for box, label, area, ignore in zip(*(c.tolist() for c in objects), strict=True):
            self.count += 1
            annotation = {
                "id": self.count,  # from 1: pycocotools takes 0 for "no match"
                "image_id": number,
                "category_id": self.categories[label],
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": area,
                "iscrowd": ignore,
                "ignore": ignore,
            }
            self.file.write((",\n" if self.count > 1 else "\n") + json.dumps(annotation))

    def end(self) -> str:
        """Return the images and the categories."""
        folders = {os.path.dirname(image["file_name"]) for image in self.images}
        folder = os.path.commonpath(folders) if folders else ""
        for image in self.images:
            image["file_name"] = Path(os.path.relpath(image["file_name"], folder or ".")).as_posix()
        rest = {"info": {"images": folder}, "images": self.images, "categories": self.named}
        return "\n],\n" + json.dumps(rest)[1:] + "\n"
