"""One small data set, written as other programs lay it out; see `sets` for its truth."""

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


def chosen(path):
    """The option and the keys that `dataset=auto` puts in its place."""
    option, values, _ = Auto.choose({"root": str(path)})
    return option, values


def read(path, split="train", **more):
    """The split of what `dataset=auto` takes a path for."""
    option, values = chosen(path)
    target = OmegaConf.load(CONFIGS / "dataset" / f"{option}.yaml")["_target_"]
    return get_class(target)(**values, split=split, **more)


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
