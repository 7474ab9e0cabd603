"""`dataset=auto` on real sets: as they are, and a few images of each laid out in other ways."""

import csv
import json
import re

import layouts
import pytest

from classify.datasets.image_folder import ImageFolder
from detect.datasets.auto import Auto
from detect.datasets.coco import COCO
from detect.datasets.voc import VOC
from engine.data.image import image_size_of
from engine.errors import UserError

COUNT = 8  # images of each set


@pytest.mark.parametrize(
    ("name", "make"), [("voc2012_sub", VOC), ("coco_tiny", COCO), ("hymenoptera256", ImageFolder)]
)
def test_a_real_set_is_found(shared_data, name, make):
    root = shared_data / name
    for split in ("train", "val"):
        found, known = layouts.read(root, split), make(root=str(root), split=split)
        assert type(found) is make and found.classes == known.classes
        assert found.index.labels.tolist() == known.index.labels.tolist()
        if known.index.boxes is not None:
            assert (found.index.boxes == known.index.boxes).all()


def test_a_table_beside_a_set_with_splits_is_named_and_not_taken(shared_data):
    option, _, line = Auto.choose({"root": str(shared_data / "bccd")})
    assert option == "voc" and "PASCAL VOC (364 XML files, lists in ImageSets/Main)" in line
    assert re.search("; not CSV of boxes .test.csv.: dataset=csv .*cell_type", line)


@pytest.fixture(params=["bccd", "voc2012_sub", "coco_tiny"])
def few(request, shared_data):
    """(image file, size, [(class, x1, y1, x2, y2)]) of the first images with objects."""
    make = COCO if request.param == "coco_tiny" else VOC
    data = make(root=str(shared_data / request.param), split="val")
    rows = []
    for i in range(len(data)):
        record = data.record(i)
        names = [data.classes[label] for label in record.labels]
        boxes = [tuple(box) for box in record.boxes.tolist()]
        if boxes and len(rows) < COUNT:
            objects = [(n, *box) for n, box in zip(names, boxes, strict=True)]
            rows.append((record.path, image_size_of(record.path), objects))
    return rows


def link(folder, path):
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / path.rpartition("/")[2]
    place.symlink_to(path)
    return place


def to_xml(root, few):
    for path, _, rows in few:
        things = "".join(layouts.sets._thing(*row) for row in rows)
        image = link(root / "images", path)
        (root / "annots").mkdir(exist_ok=True)
        (root / f"annots/{image.stem}.xml").write_text(f"<annotation>{things}</annotation>")


def to_cvat(root, few):
    images = []
    for path, (high, wide), rows in few:
        name = link(root / "images", path).name
        boxes = "".join(map(layouts.sets._cvat_box, *zip(*rows, strict=True)))
        images.append(f'<image name="{name}" width="{wide}" height="{high}">{boxes}</image>')
    (root / "annotations.xml").write_text(f"<annotations>{''.join(images)}</annotations>")


def to_yolo(root, few):
    names = sorted({row[0] for _, _, rows in few for row in rows})
    for path, (high, wide), rows in few:
        image = link(root / "train/images", path)
        shares = [
            (names.index(k), (a + c) / 2 / wide, (b + d) / 2 / high, (c - a) / wide, (d - b) / high)
            for k, a, b, c, d in rows
        ]
        (root / "train/labels").mkdir(exist_ok=True)
        text = "".join(" ".join(map(repr, row)) + "\n" for row in shares)
        (root / f"train/labels/{image.stem}.txt").write_text(text)
    (root / "data.yaml").write_text(f"train: ../train/images\nnames: {json.dumps(names)}\n")


def to_coco(root, few):
    names = sorted({row[0] for _, _, rows in few for row in rows})
    boxes = [(i, *row) for i, (_, _, rows) in enumerate(few) for row in rows]
    images = [
        {"id": i, "file_name": link(root / "train", path).name, "height": h, "width": w}
        for i, (path, (h, w), _) in enumerate(few)
    ]
    annotations = [
        {"id": n, "image_id": i, "category_id": names.index(k), "bbox": [a, b, c - a, d - b]}
        for n, (i, k, a, b, c, d) in enumerate(boxes, 1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (root / "train/_annotations.coco.json").write_text(json.dumps(whole))


def table(name, top, row):
    def write(root, few):
        cells = [row(link(root / "images", p), s, *o) for p, s, rows in few for o in rows[:1]]
        cells += [row(root / p.rpartition("/")[2], s, *o) for p, s, rows in few for o in rows[1:]]
        with open(root / name, "w", newline="") as file:
            csv.writer(file).writerows([*([top] if top else []), *cells])

    return write


def to_labelme(root, few):
    for path, (high, wide), rows in few:
        image = link(root, path)
        shapes = [{"label": k, "points": [[a, b], [c, d]], "shape_type": "rectangle"}
                  for k, a, b, c, d in rows]  # fmt: skip
        size = {"imagePath": image.name, "imageHeight": high, "imageWidth": wide}
        image.with_suffix(".json").write_text(json.dumps({"shapes": shapes, **size}))


def to_via(root, few):
    rows = {}
    for path, _, objects in few:
        name = link(root, path).name
        regions = [
            {"shape_attributes": {"name": "rect", "x": a, "y": b, "width": c - a, "height": d - b},
             "region_attributes": {"type": k}} for k, a, b, c, d in objects
        ]  # fmt: skip
        rows[name] = {"filename": name, "size": -1, "regions": regions, "file_attributes": {}}
    (root / "via.json").write_text(json.dumps(rows))


WAYS = {
    "voc": to_xml,
    "cvat": to_cvat,
    "yolo": to_yolo,
    "coco": to_coco,
    "csv": table("boxes.csv", ["img", "what", "x1", "y1", "x2", "y2"],
                 lambda p, s, k, *box: [f"./{p.name}", k, *box]),
    "csv retinanet": table("annotations.csv", None,
                           lambda p, s, k, *box: [f"/data/images/{p.name}", *box, k]),
    "csv kaggle": table("train.csv", ["image_id", "width", "height", "bbox", "label"],
                        lambda p, s, k, a, b, c, d: [p.stem, s[1], s[0], [a, b, c - a, d - b], k]),
    "csv shares": table("train.csv", ["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"],
                        lambda p, s, k, a, b, c, d: [p.stem, k, a / s[1], c / s[1], b / s[0],
                                                     d / s[0]]),
    "csv makesense": table("labels.csv", None, lambda p, s, k, a, b, c, d:
                           [k, a, b, c - a, d - b, p.name, s[1], s[0]]),
    "labelme": to_labelme,
    "via": to_via,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_real_images_laid_out_otherwise_read_to_the_same_truth(tmp_path, few, way):
    WAYS[way](tmp_path, few)
    assert layouts.chosen(tmp_path)[0] == way.partition(" ")[0]
    found = layouts.truth(layouts.read(tmp_path, val_share=0))
    assert found == {path.rpartition("/")[2].split(".")[0]: sorted(rows) for path, _, rows in few}


# What each of the small inputs beside the real data is taken for: images and objects, or the line.
CASES = {
    "01_csv_dot_with_lists/csv_part_dot": ("csv", 8, 8),
    "01_csv_dot_with_lists/csv_dot_lists": ("csv", 8, 8),
    "02_normalised_csv/openimages_ext": ("csv", 8, 8),
    "03_all_ignored/coco_crowd1": ("coco", 8, 8),
    "03_all_ignored/coco_crowdstr": ("coco", 8, 8),
    "05_same_category_name/coco_dupcatname": ("coco", 8, 8),
    "06_valid_split/if_valid": ("image_folder", 8, 8),
    "06_valid_split/rf_yolo": ("yolo", 6, 6),
    "08_check_vs_train/yolo_darknet": ("yolo", 8, 8),
    "08_check_vs_train/yolo_nolabels": ("yolo", 8, 0),
    "10_voc_splits_without_imagesets/voc_noimagesets": ("voc", 8, 8),
    "11_yaml_names/yolo_names_bool": ("yolo", 8, 8),
    "11_yaml_names/yolo_names_num": ("yolo", 8, 8),
    "11_yaml_names/yolo_names_str1": "names is 'cat', a text",
    "13_tilde/voc_crlf": ("voc", 8, 8),
    "16_roboflow_coco/rf_coco": ("coco", 6, 6),
    "18_csv_small/csv_abs": ("csv", 8, 8),
    "18_csv_small/csv_dotslash": ("csv", 8, 8),
    "18_csv_small/csv_nan": "row 3: unknown class 'nan'",
    "18_csv_small/lab_kaggle": ("csv_labels", 8, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_small_inputs_that_were_lost_in_silence(shared_data, case):
    root = shared_data.parent / "cases" / case
    if not root.is_dir():
        pytest.skip("no small inputs beside the real data")
    if isinstance(CASES[case], str):
        with pytest.raises(UserError, match=CASES[case]):
            layouts.read(root, val_share=0)
        return
    data = layouts.read(root, val_share=0)
    assert (layouts.chosen(root)[0], len(data), int(data.index.first[-1])) == CASES[case]
