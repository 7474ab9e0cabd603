"""One small data set, written as other programs lay it out; see `sets` for its truth."""

import csv
import json
import shutil
from pathlib import Path

import sets
from hydra.utils import get_class
from omegaconf import OmegaConf

from detect.datasets.auto import Auto
from engine.config.folder import CONFIGS


def voc_xml(name, rows):
    things = "".join(sets._thing(*row) for row in rows)
    size = f"<size><width>{sets.WIDTH}</width><height>{sets.HEIGHT}</height></size>"
    return f"<annotation><filename>{name}.png</filename>{size}{things}</annotation>"


def write_xml(folder, names=sets.TRUTH):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.xml").write_text(voc_xml(name, sets.TRUTH[name]))


def voc_official(root):
    sets.write_voc(root, {"train": ["a", "b", "c"], "val": ["c"]})


def voc_without_lists(root):
    voc_official(root)
    shutil.rmtree(root / "ImageSets")


def voc_images_annots(root):
    sets.images(root / "images")
    write_xml(root / "annots")


def voc_one_folder(root):
    sets.images(root)
    write_xml(root)


def voc_roboflow(root):
    for split, names in (("train", ["a", "b"]), ("valid", ["c"])):
        sets.images(root / split, names)
        write_xml(root / split, names)
    (root / "README.roboflow.txt").write_text("exported")


def voc_sub_folders(root):
    for place, names in (("day 1", ["a", "b"]), ("day 2/late", ["c"])):
        sets.images(root / "images" / place, names)
        write_xml(root / "annotations" / place, names)


VOC = [voc_official, voc_without_lists, voc_images_annots, voc_one_folder, voc_roboflow]
VOC += [voc_sub_folders]


ROWS = {name: [sets._shares(*row) for row in rows] for name, rows in sets.TRUTH.items()}


def write_rows(folder, names=sets.TRUTH, endings="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.txt").write_bytes("".join(r + endings for r in ROWS[name]).encode())


def yolo_ultralytics(root):
    sets.write_yolo(root, {"train": ["a", "b"], "val": ["c"]})
    paths = "path: ../datasets/set\ntrain: images/train\nval: images/val\n"
    (root / "set.yaml").write_text(f"{paths}names: {{0: ant, 1: bee, 2: cat}}\n")
    (root / "data.yaml").unlink()


def yolo_years(root):
    sets.write_yolo(root, {"train2017": ["a", "b"], "val2017": ["c"]})


def yolo_roboflow(root):
    for split, names in (("train", ["a", "b"]), ("valid", ["c"])):
        sets.images(root / split / "images", names)
        write_rows(root / split / "labels", names, endings="\r\n")
    paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    (root / "data.yaml").write_text(f"{paths}nc: 3\nnames: ['ant', 'bee', 'cat']\n")
    for name in ("README.roboflow.txt", "README.dataset.txt"):
        (root / name).write_text("exported\n")


def yolo_other_folders(root):
    for split, names in (("set1", ["a", "b"]), ("set2", ["c"])):
        sets.images(root / split / "images", names)
        write_rows(root / split / "labels", names)
    paths = "train: [set1/images]\nval:\n  - set2/images\n"
    (root / "data.yaml").write_text(f"{paths}names: [ant, bee, cat]\n")


def yolo_beside(root):
    sets.images(root)
    write_rows(root)
    (root / "classes.txt").write_text("ant\nbee\ncat\n")


def yolo_beside_in_images(root):
    for split, names in (("train", ["a", "b"]), ("val", ["c"])):
        sets.images(root / "images" / split, names)
        write_rows(root / "images" / split, names)
    (root / "data.yaml").write_text("names: [ant, bee, cat]\n")


def yolo_darknet_roboflow(root):
    for split, names in (("train", ["a", "b"]), ("valid", ["c"])):
        sets.images(root / split, names)
        write_rows(root / split, names)
        (root / split / "_darknet.labels").write_text("ant\nbee\ncat\n")


def yolo_cvat(root):
    for split, names in (("train", ["a", "b"]), ("valid", ["c"])):
        sets.images(root / f"obj_{split}_data", names)
        write_rows(root / f"obj_{split}_data", names)
        rows = "".join(f"data/obj_{split}_data/{name}.png\n" for name in names)
        (root / f"{split}.txt").write_text(rows)
    (root / "obj.names").write_text("ant\nbee\ncat\n")
    lists = "train = data/train.txt\nvalid = data/valid.txt\n"
    (root / "obj.data").write_text(
        f"classes = 3\n{lists}names = data/obj.names\nbackup = backup/\n"
    )


def yolo_lists(root):
    sets.images(root / "images")
    write_rows(root / "labels")
    (root / "train.txt").write_text("./images/a.png\nimages//b.png\n")
    (root / "val.txt").write_text("/home/someone/set/images/c.png\n")
    (root / "classes.txt").write_text("ant\nbee\ncat\n")


YOLO = [yolo_ultralytics, yolo_years, yolo_roboflow, yolo_other_folders, yolo_beside]
YOLO += [yolo_beside_in_images, yolo_darknet_roboflow, yolo_cvat, yolo_lists]


def write_json(file, names=sets.TRUTH, rename=lambda name: f"{name}.png", **more):
    file.parent.mkdir(parents=True, exist_ok=True)
    data = sets.coco(list(names))
    for row in data["images"]:
        row["file_name"] = rename(row["file_name"].removesuffix(".png"))
    file.write_text(json.dumps(more | data))


def coco_official(root):
    sets.write_coco(root, {"train": ["a", "b"], "val": ["c"]})
    (root / "annotations/captions_train2017.json").write_text('{"images": [], "annotations": []}')


def coco_roboflow(root):
    for split, names in (("train", ["a", "b"]), ("valid", ["c"])):
        sets.images(root / split, names)
        write_json(root / split / "_annotations.coco.json", names, info={"version": "1"})
    (root / "README.dataset.txt").write_text("exported")


def coco_roboflow_whole(root):
    sets.images(root / "train")
    write_json(root / "train/_annotations.coco.json")


def coco_cvat(root):
    sets.images(root / "images/default")
    write_json(root / "annotations/instances_default.json")


def coco_cvat_subsets(root):
    for split, names in (("Train", ["a", "b"]), ("Validation", ["c"])):
        sets.images(root / "images" / split, names)
        write_json(root / f"annotations/instances_{split}.json", names)


def coco_label_studio(root):
    sets.images(root / "images")
    write_json(root / "result.json", rename=lambda name: f"images\\{name}.png")


def coco_label_studio_paths(root):
    sets.images(root / "images")
    write_json(root / "result.json", rename=lambda n: f"../../label-studio/data/images/{n}.png")


def coco_beside(root):
    sets.images(root)
    write_json(root / "labels_my-project_2024-01-01.json", rename=lambda name: f"./{name}.png")


def coco_file_a_split(root):
    for split, names in (("train", ["a", "b"]), ("validation", ["c"])):
        write_json(root / f"{split}.json", names, lambda name: f"images/{name}.png")
    sets.images(root / "images")


COCO = [coco_official, coco_roboflow, coco_roboflow_whole, coco_cvat, coco_cvat_subsets]
COCO += [coco_label_studio, coco_label_studio_paths, coco_beside, coco_file_a_split]


BOXES = [(name, *row) for name, rows in sets.TRUTH.items() for row in rows]


def write_table(file, top, row, empty=None, names=sets.TRUTH):
    """A row a box as `row(image, class, x1, y1, x2, y2)`; `empty` is that of b, without a box."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [row(*box) for box in BOXES if box[0] in names] + [empty] * (empty is not None)
    with open(file, "w", newline="") as opened:
        csv.writer(opened).writerows([*([top] if top else []), *rows])


def csv_corners(root):
    sets.write_csv(root, {"train": ["a", "b"], "val": ["c"]})


def csv_other_names(root):
    sets.images(root / "pics")
    write_table(root / "boxes.csv", ["kind", "x1", "x2", "y1", "y2", "image"],
                lambda n, k, a, b, c, d: [k, a, c, b, d, f"./{n}.png"],
                ["", "", "", "", "", "b.png"])  # fmt: skip


def csv_xywh(root):
    sets.images(root)
    write_table(root / "boxes.csv", ["image_id", "x", "y", "width", "height", "label"],
                lambda n, k, a, b, c, d: [n, a, b, c - a, d - b, k],
                ["b", "", "", "", "", ""])  # fmt: skip


def csv_centre(root):
    sets.images(root)
    write_table(root / "boxes.csv", ["file", "label", "x_center", "y_center", "w", "h"],
                lambda n, k, a, b, c, d: [f"{n}.png", k, (a + c) / 2, (b + d) / 2, c - a, d - b],
                ["b.png", "", "", "", "", ""])  # fmt: skip


def csv_text(root):  # as Kaggle has it
    sets.images(root / "train")
    write_table(root / "train.csv", ["image_id", "width", "height", "bbox", "label"],
                lambda n, k, a, b, c, d: [n, 64, 48, f"[{a}.0, {b}.0, {c - a}.0, {d - b}.0]", k],
                ["b", 64, 48, "", ""])  # fmt: skip


def csv_shares(root):  # as Open Images has it
    sets.images(root / "train")
    write_table(root / "train-annotations-bbox.csv",
                ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"],
                lambda n, k, a, b, c, d: [n, "xclick", k, 1, a / 64, c / 64, b / 48, d / 48],
                ["b", "", "", "", "", "", "", ""])  # fmt: skip


def csv_retinanet(root):
    sets.images(root / "images")
    write_table(root / "annotations.csv", None,
                lambda n, k, a, b, c, d: [f"/home/me/set/images/{n}.png", a, b, c, d, k],
                ["/home/me/set/images/b.png", "", "", "", "", ""])  # fmt: skip
    (root / "classes.csv").write_text("ant,0\nbee,1\ncat,2\n")


def csv_makesense(root):
    sets.images(root)
    write_table(root / "labels_my-project.csv", None,
                lambda n, k, a, b, c, d: [k, a, b, c - a, d - b, f"{n}.png", 64, 48],
                ["", "", "", "", "", "b.png", 64, 48])  # fmt: skip


def csv_roboflow(root):
    top = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
    for split, names in (("train", "ab"), ("valid", "c")):
        sets.images(root / split, names)
        empty = ["b.png", 64, 48, "", "", "", "", ""] if split == "train" else None
        write_table(root / split / "_annotations.csv", top,
                    lambda n, k, *box: [f"{n}.png", 64, 48, k, *box], empty, names)  # fmt: skip


def csv_split_column(root):
    sets.images(root / "images")
    split = {"a": "train", "b": "Train", "c": "valid"}
    write_table(root / "boxes.csv", ["image", "set", "label", "x1", "y1", "x2", "y2"],
                lambda n, *box: [n, split[n], *box],
                ["b", "Train", "", "", "", "", ""])  # fmt: skip


CSV = [csv_corners, csv_other_names, csv_xywh, csv_centre, csv_text, csv_shares, csv_retinanet]
CSV += [csv_makesense, csv_roboflow, csv_split_column]


def labelme_file(name):
    shapes = [
        {"label": k, "points": [[c, b], [a, d]], "shape_type": "rectangle", "flags": {}}
        for k, a, b, c, d in sets.TRUTH[name]
    ]
    size = {"imageHeight": sets.HEIGHT, "imageWidth": sets.WIDTH}
    return {
        "version": "5.0",
        "shapes": shapes,
        "imagePath": f"..\\{name}.png",
        "imageData": None,
        **size,
    }


def write_labelme(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(labelme_file(name), indent=2))


def labelme_beside(root):
    sets.images(root)
    write_labelme(root, sets.TRUTH)


def labelme_folders(root):
    for split, names in (("train", "ab"), ("val", "c")):
        sets.images(root / "images" / split, names)
        write_labelme(root / "labels" / split, names)


def via_regions(name):
    shapes = [
        {"name": "rect", "x": a, "y": b, "width": c - a, "height": d - b}
        for _, a, b, c, d in sets.TRUTH[name]
    ]
    attributes = [{"kind": row[0]} for row in sets.TRUTH[name]]
    pairs = zip(shapes, attributes, strict=True)
    return [{"shape_attributes": s, "region_attributes": r} for s, r in pairs]


def via_json(names=sets.TRUTH, number=list):
    return {
        f"{name}.png99": {"filename": f"{name}.png", "size": 99, "file_attributes": {},
                          "regions": number(via_regions(name))}
        for name in names
    }  # fmt: skip


def via_two(root):
    sets.images(root / "images")
    (root / "via_region_data.json").write_text(json.dumps(via_json()))


def via_one(root):  # its regions are by number, and a file a folder of a split
    for split, names in (("train", "ab"), ("val", "c")):
        sets.images(root / split, names)
        numbered = via_json(names, lambda rows: {str(i): row for i, row in enumerate(rows)})
        (root / split / "via_region_data.json").write_text(json.dumps(numbered))


def via_project(root):
    sets.images(root)
    project = {"_via_settings": {}, "_via_img_metadata": via_json(), "_via_attributes": {}}
    (root / "via_project.json").write_text(json.dumps(project))


def via_csv(root):
    sets.images(root)
    top = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
    rows = [
        [f"{name}.png", 99, "{}", len(regions), i, *map(json.dumps, region.values())]
        for name in sets.TRUTH
        for regions in [via_regions(name)]
        for i, region in enumerate(regions or [{"s": {}, "r": {}}])
    ]
    with open(root / "via_export_csv.csv", "w", newline="") as opened:
        lines = csv.writer(opened)
        lines.writerow([*top, "region_shape_attributes", "region_attributes"])
        lines.writerows(rows)


def cvat_task(root):
    sets.write_cvat(root, {"": "abc"})


def cvat_project(root):
    for split, names in (("Train", "ab"), ("Validation", "c")):
        sets.images(root / "images" / split, names)
    (root / "annotations.xml").write_text(sets.cvat({"Train": "ab", "Validation": "c"}))


def cvat_file_a_split(root):
    sets.images(root / "photos")
    for split, names in (("train", "ab"), ("valid", "c")):
        (root / f"{split}.xml").write_text(sets.cvat({"": names}))


CVAT = [cvat_task, cvat_project, cvat_file_a_split]
JSON = [labelme_beside, labelme_folders, via_two, via_one, via_project, via_csv]
ALL = [*VOC, *CVAT, *YOLO, *COCO, *CSV, *JSON]


def image_folder_splits(root):
    for place, name in (("train/cat", "a"), ("train/dog", "b"), ("valid/dog", "c")):
        sets.images(root / place, [name])


def image_folder_classes(root):
    for place, name in (("cat", "a"), ("dog", "b"), ("dog/more", "c")):
        sets.images(root / "Animals" / place, [name])
    (root / "README.md").write_text("# Animals")


def csv_labels_flat(root):
    sets.images(root / "train")
    (root / "labels.csv").write_text("id,breed\na,cat\nb,dog\nc,dog\n")


def csv_labels_numbers(root):
    sets.images(root)
    (root / "train.csv").write_text("filename,label\n./a.png,cat\nb.png,dog\n")
    (root / "val.csv").write_text("filename,label\nc.png,dog\n")


def csv_labels_one_hot(root):  # as Roboflow has it
    for split, names in (("train", "ab"), ("valid", "c")):
        sets.images(root / split, names)
        rows = [f"{name}.png, {int(name == 'a')}, {int(name != 'a')}" for name in names]
        (root / split / "_classes.csv").write_text("\n".join(["filename, cat, dog", *rows]) + "\n")


def csv_labels_split_column(root):
    sets.images(root)
    rows = "image,label,split", "a,cat,train", "b,dog,train", "c,dog,validation"
    (root / "all.csv").write_text("\n".join(rows) + "\n")


def csv_labels_one_hot_split(root):
    sets.images(root)
    rows = "image,cat,dog,split", "a,1,0,train", "b,0,1,train", "c,0,1,val"
    (root / "all.csv").write_text("\n".join(rows) + "\n")


LABELS = [image_folder_splits, image_folder_classes, csv_labels_flat, csv_labels_numbers]
LABELS += [csv_labels_one_hot, csv_labels_split_column, csv_labels_one_hot_split]


def nested(values):
    """Keys with dots as dicts, as the command line makes them."""
    made = {}
    for key, value in values.items():
        group, _, inner = key.partition(".")
        if inner:
            made.setdefault(group, {})[inner] = value
        else:
            made[key] = list(value) if isinstance(value, tuple) else value
    return made


def chosen(path):
    """The option and the keys that `dataset=auto` puts in its place."""
    option, values, _ = Auto.choose({"root": str(path)})
    return option, values


def read(path, split="train", **more):
    """The split of what `dataset=auto` takes a path for."""
    option, values = chosen(path)
    target = OmegaConf.load(CONFIGS / "dataset" / f"{option}.yaml")["_target_"]
    return get_class(target)(**nested(values), split=split, **more)


def truth(*parts):
    """Class and corners of each object by the stem of its image."""
    found = {}
    for data in parts:
        for record in map(data.record, range(len(data))):
            names = [data.classes[label] for label in record.labels]
            rows = zip(names, record.boxes.tolist(), strict=True)
            found[Path(record.path).stem] = sorted((name, *box) for name, box in rows)
            assert Path(record.path).is_file()
    return found


TRUTH = {name: sorted(rows) for name, rows in sets.TRUTH.items()}
