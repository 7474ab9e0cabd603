import numpy as np
import pytest

from classify.datasets.image_folder import ImageFolder
from engine.data.image import write_rgb
from engine.errors import UserError


@pytest.fixture
def images(tmp_path):
    """Writes images under tmp_path: the number of them by folder, each of its own grey."""

    def write(folders, prefix=""):
        for folder, count in folders.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                name = tmp_path / folder / f"{prefix and folder.split('/')[1]}{i:03d}.png"
                write_rgb(str(name), np.full((8, 8, 3), i, np.uint8))
        return str(tmp_path)

    return write


def paths(data):
    return [data.record(i).path for i in range(len(data))]


def test_labels_follow_the_sorted_folders(images):
    root = images({"train/b": 2, "train/a": 1, "val/a": 1, "val/b": 1})
    data = ImageFolder(root=root, split="train")
    assert data.classes == ["a", "b"] and data.report == [] and data.notes == []
    records = [data.record(i) for i in range(len(data))]
    assert [r.labels.tolist() for r in records] == [[0], [1], [1]]
    assert [r.path.rpartition("train/")[2] for r in records] == [
        "a/000.png",
        "b/000.png",
        "b/001.png",
    ]
    assert records[0].boxes is None and records[0].labels.dtype == np.int64
    assert data.image(2)[0, 0].tolist() == [1, 1, 1]


def test_ids_are_names_where_unique_else_paths(images, tmp_path):
    root = images({"train/a": 1, "train/b": 1, "val/a": 1})
    assert ImageFolder(root=root, split="train").record(1).id == "b/000.png"
    assert ImageFolder(root=root, split="val").record(0).id == "000"


def test_images_in_deeper_folders_count_hidden_ones_do_not(images):
    root = images(
        {"train/a": 1, "train/a/deep": 2, "train/.git": 1, "train/a/.cache": 1, "val/a": 1}
    )
    data = ImageFolder(root=root, split="train")
    assert data.classes == ["a"]
    assert [p.rpartition("train/")[2] for p in paths(data)] == [
        "a/000.png",
        "a/deep/000.png",
        "a/deep/001.png",
    ]


def test_validation_is_carved_out_of_train(images):
    root = images({"train/a": 20, "train/b": 10, "train/c": 2, "train/d": 1})
    train, val = (ImageFolder(root=root, split=s, val_share=0.2) for s in ("train", "val"))
    assert not set(paths(train)) & set(paths(val)) and len(train) + len(val) == 33
    # 20 %, but at least one and never all: 4 + 2 + 1 + 0.
    labels = [val.record(i).labels[0] for i in range(len(val))]
    assert np.bincount(labels).tolist() == [4, 2, 1]
    assert train.notes == []  # said once
    assert val.notes == [
        "no val split: 7 of the 33 training images are held out for validation "
        "(dataset.val_share=0.2)"
    ]
    assert paths(ImageFolder(root=root, split="val", val_share=0.2)) == paths(val)
    assert paths(ImageFolder(root=root, split="val", val_share=0.2, seed=1)) != paths(val)
    assert {train.record(i).id for i in range(len(train))}.isdisjoint(
        val.record(i).id for i in range(len(val))
    )


def test_no_share_leaves_train_whole(images):
    root = images({"train/a": 3})
    assert len(ImageFolder(root=root, split="train", val_share=0)) == 3
    with pytest.raises(UserError, match="no split 'val'.*there are train"):
        ImageFolder(root=root, split="val", val_share=0)
    with pytest.raises(UserError, match=r"val_share is 1, expected 0 <= val_share < 1"):
        ImageFolder(root=root, split="val", val_share=1)


def test_too_little_to_carve(images):
    root = images({"train/a": 1})
    with pytest.raises(UserError, match="train: no image left for 'val'"):
        ImageFolder(root=root, split="val")


def test_missing_split_lists_those_there(images):
    root = images({"train/a": 1, "val/a": 1})
    with pytest.raises(UserError, match=r"no split 'test' in .*there are train, val"):
        ImageFolder(root=root, split="test")


def test_missing_root_or_train(images, tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such folder; expected images in .*/train/<"):
        ImageFolder(root=str(tmp_path / "nowhere"), split="train")
    with pytest.raises(UserError, match=r": found cats; expected images in .*/train/<class>/"):
        ImageFolder(root=images({"cats/deep": 0}), split="train")


def test_without_folders_of_splits_the_folders_are_the_classes(images, tmp_path):
    root = images({"a/deep": 3, "b": 4, ".git/x": 1})
    (tmp_path / "a/._0.jpg").write_bytes(b"notes of macOS")
    train, val = (ImageFolder(root=root, split=s, val_share=0.3) for s in ("train", "val"))
    assert train.classes == val.classes == ["a", "b"] and len(train) + len(val) == 7
    assert "2 of the 7 training images are held out" in val.notes[0] and not train.report


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_val_by_its_other_names(images, name):
    root = images({"train/a": 2, "train/b": 2, f"{name}/a": 1, f"{name}/b": 1})
    assert len(ImageFolder(root=root, split="val")) == 2


def test_class_unknown_to_train(images):
    root = images({"train/cats": 1, "val/cats": 1, "val/cat": 1})
    with pytest.raises(
        UserError, match=r"val/cat: the class 'cat' is unknown.*did you mean 'cats'"
    ):
        ImageFolder(root=root, split="val")


def test_empty_class_and_class_missing_from_val(images):
    root = images({"train/a": 1, "train/b": 1, "val/a": 1})
    (note,) = ImageFolder(root=root, split="val").notes
    assert note.endswith("val: no image of b")
    images({"val/b": 0})
    with pytest.raises(UserError, match=r"val/b: no image in it; fill or remove it"):
        ImageFolder(root=root, split="val")


def test_other_files_are_reported(images, tmp_path):
    root = images({"train/a": 1, "val/a": 1})
    (tmp_path / "train/list.csv").write_text("x")
    (tmp_path / "train/a/notes.txt").write_text("x")
    data = ImageFolder(root=root, split="train")
    assert len(data) == 1
    told = [(e["file"].rpartition("train/")[2], e["reason"].split(":")[0]) for e in data.report]
    assert told == [("list.csv", "lies beside the class folders"), ("a/notes.txt", "no image")]
    assert {e["action"] for e in data.report} == {"left out"}


@pytest.mark.parametrize("kind", ["empty", "link"])
def test_empty_files_and_dangling_links(images, tmp_path, kind):
    root = images({"train/a": 2, "val/a": 1})
    bad = tmp_path / "train/a/bad.jpg"
    bad.touch() if kind == "empty" else bad.symlink_to(tmp_path / "gone.jpg")
    reason = "is empty" if kind == "empty" else "No such file"
    with pytest.raises(UserError, match=rf"train/a/bad\.jpg: .*{reason}.*dataset\.on_error=skip"):
        ImageFolder(root=root, split="train")
    data = ImageFolder(root=root, split="train", on_error="skip")
    assert len(data) == 2
    (entry,) = data.report
    assert entry["file"] == str(bad) and reason in entry["reason"]
    with pytest.raises(UserError, match="on_error is 'no', expected 'fail' or 'skip'"):
        ImageFolder(root=root, split="train", on_error="no")


def test_hymenoptera(shared_data):
    root = str(shared_data / "hymenoptera256")
    train, val = (ImageFolder(root=root, split=s) for s in ("train", "val"))
    assert train.classes == val.classes == ["ants", "bees"]
    for data, counts in ((train, [123, 121]), (val, [70, 83])):
        labels = [data.record(i).labels[0] for i in range(len(data))]
        assert np.bincount(labels).tolist() == counts
    assert train.image(0).shape[2] == 3


def test_cifar10_carves(shared_data):
    root = str(shared_data / "cifar10_subset")
    train, val, test = (ImageFolder(root=root, split=s) for s in ("train", "val", "test"))
    assert [len(train), len(val), len(test)] == [2700, 300, 1000]
    assert len({test.record(i).id for i in range(1000)}) == 1000
