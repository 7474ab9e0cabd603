"""One small data set, written in every format of boxes."""

import csv
import json

import numpy as np
import yaml

from engine.data.image import write_rgb

CLASSES = ["ant", "bee", "cat"]
HEIGHT, WIDTH = 48, 64
# Name, and (class, xmin, ymin, xmax, ymax) in whole pixels; b has no object.
TRUTH = {
    "a": [("cat", 4, 6, 36, 30), ("ant", 0, 0, 64, 48)],
    "b": [],
    "c": [("bee", 10, 20, 17, 41)],
}


def images(folder, names=TRUTH):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        grey = np.full((HEIGHT, WIDTH, 3), 40 * i % 256, np.uint8)
        write_rgb(str(folder / f"{name}.png"), grey)
    return folder


def write_voc(root, splits, truth=TRUTH):
    """`splits` names the images of each."""
    images(root / "JPEGImages", truth)
    for part in ("Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    for split, names in splits.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(names) + "\n")
    for name, rows in truth.items():
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        (root / f"Annotations/{name}.xml").write_text(
            f"<annotation>{size}{''.join(_thing(*row) for row in rows)}</annotation>"
        )


def _thing(name, *corners):
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def coco(names, truth=TRUTH):
    numbers = {name: 10 * i + 3 for i, name in enumerate(truth)}
    rows = [(numbers[n], *row) for n in names for row in truth[n]]
    return {
        "images": [
            {"id": numbers[n], "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH}
            for n in names
        ],
        "annotations": [
            {
                "id": i,
                "image_id": image,
                "category_id": 7 * CLASSES.index(name) + 2,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            for i, (image, name, x1, y1, x2, y2) in enumerate(rows, 1)
        ],
        "categories": [{"id": 7 * i + 2, "name": name} for i, name in enumerate(CLASSES)],
    }


def write_coco(root, splits, truth=TRUTH):
    (root / "annotations").mkdir(parents=True)
    for split, names in splits.items():
        images(root / f"{split}2017", names)
        file = root / f"annotations/instances_{split}2017.json"
        file.write_text(json.dumps(coco(names, truth)))


def write_yolo(root, splits, truth=TRUTH):
    for split, names in splits.items():
        images(root / "images" / split, names)
        (root / "labels" / split).mkdir(parents=True)
        for name in names:
            if truth[name]:
                rows = [_shares(*row) for row in truth[name]]
                (root / f"labels/{split}/{name}.txt").write_text("\n".join(rows) + "\n")
    (root / "data.yaml").write_text(yaml.safe_dump({"names": dict(enumerate(CLASSES))}))


def _shares(name, x1, y1, x2, y2):
    shares = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT
    return " ".join(map(str, (CLASSES.index(name), *shares)))


def cvat(splits, truth=TRUTH):
    """`splits` names the images of each subset; "" is no subset."""
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    images = []
    for split, names in splits.items():
        of = f' subset="{split}"' if split else ""
        for name in names:
            boxes = "".join(_cvat_box(*row) for row in truth[name])
            images.append(f'<image id="1" name="{name}.png"{of} {size}>{boxes}</image>')
    version = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>'
    return "\n".join([version, *images, "</annotations>"])


def _cvat_box(name, *corners):
    keys = ("xtl", "ytl", "xbr", "ybr")
    box = " ".join(f'{k}="{v}"' for k, v in zip(keys, corners, strict=True))
    made = f'source="manual" occluded="0" {box} z_order="0"'
    return f'<box label="{name}" {made}><attribute name="id">7</attribute></box>'


def write_cvat(root, splits, truth=TRUTH):
    images(root / "images", truth)
    (root / "annotations.xml").write_text(cvat(splits, truth))


def write_csv(root, splits, truth=TRUTH):
    images(root, truth)
    for split, names in splits.items():
        with open(root / f"{split}.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["filename", "class", "xmin", "ymin", "xmax", "ymax", "width", "height"])
            for name in names:
                boxes = truth[name] or [("", "", "", "", "")]
                rows.writerows([f"{name}.png", *row, WIDTH, HEIGHT] for row in boxes)
