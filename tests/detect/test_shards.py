"""Shards: plain tars whose records and batches are those of the files, whatever is cut or wrong."""

import io
import json
import os
import tarfile
from dataclasses import fields

import numpy as np
import pytest
import sets

from classify.datasets.csv_labels import CSVLabels
from classify.datasets.image_folder import ImageFolder
from detect.bench.range_server import served
from detect.datasets.coco import COCO
from detect.datasets.shards import Shards
from detect.datasets.voc import VOC
from engine.data import shard_build, shard_index
from engine.data.augment import Augment
from engine.data.image import write_rgb
from engine.data.loader import Loader
from engine.errors import UserError
from engine.shard.write import png, write_all

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

TRUTH = {
    f"p{i:02d}": [("cat" if i % 3 else "bee", i, 2, 30 + i, 40), ("ant", 1, 1, 9, 9 + i)][: i % 3]
    for i in range(12)
}


def noise(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    write_rgb(str(path), rng.integers(0, 256, (sets.HEIGHT, sets.WIDTH, 3), np.uint8))


def voc(folder):
    sets.write_voc(folder, {"train": list(TRUTH), "val": ["p01"]}, TRUTH)
    for seed, name in enumerate(TRUTH):
        noise(folder / f"JPEGImages/{name}.png", seed)
    file = folder / "Annotations/p05.xml"
    file.write_text(file.read_text().replace("<name>ant", "<difficult>1</difficult><name>ant"))
    return lambda split: VOC(root=str(folder), split=split)


def coco(folder):
    sets.write_coco(folder, {"train": list(TRUTH), "val": ["p01"]}, TRUTH)
    for file in (folder / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        content["annotations"][0] |= {"iscrowd": 1, "area": 1 / 3}
        old, content["categories"][0]["id"] = content["categories"][0]["id"], 77
        for row in content["annotations"]:
            row["category_id"] = 77 if row["category_id"] == old else row["category_id"]
        file.write_text(json.dumps(content))
    return lambda split: COCO(root=str(folder), split=split)


def folders(folder):
    for seed, name in enumerate(["train/a/1", "train/a/2", "train/b/1", "train/b/x.y", "val/b/1"]):
        noise(folder / f"{name}.jpg", seed)
    return lambda split: ImageFolder(root=str(folder), split=split)


def labels(folder):
    for seed in range(4):
        noise(folder / f"{seed}.png", seed)
    (folder / "train.csv").write_text("filename,label\n0.png,a|b\n1.png,b\n2.png,\n3.png,c\n")
    (folder / "val.csv").write_text("filename,label\n1.png,b\n")
    return lambda split: CSVLabels(root=str(folder), split=split, separator="|")


FORMATS = {"voc": voc, "coco": coco, "image_folder": folders, "csv_labels": labels}


def written(make, folder, most=20_000):
    write_all(folder, {split: make(split) for split in ("train", "val")}, most)
    return str(folder)


def check_equal(shards, files):
    assert (shards.classes, len(shards)) == (files.classes, len(files))
    for index in range(len(files)):
        one, other = shards.record(index), files.record(index)
        for name in {f.name for f in fields(one)} - {"path"}:
            mine, its = getattr(one, name), getattr(other, name)
            assert type(mine) is type(its), name
            assert getattr(mine, "dtype", None) == getattr(its, "dtype", None), name
            assert np.array_equal(mine, its) if isinstance(its, np.ndarray) else mine == its, name
        assert np.array_equal(shards.image(index), files.image(index))


@pytest.mark.parametrize("name", FORMATS)
def test_records_and_images_are_those_of_the_files(tmp_path, name):
    make = FORMATS[name](tmp_path / "files")
    root = written(make, tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("train-*.tar"))) > (name in ("voc", "coco"))
    for split in ("train", "val"):
        data = Shards(root=root, split=split)
        check_equal(data, make(split))
        assert data.report == [] and data.notes == []
    assert data.categories == getattr(make("train"), "categories", None)
    bare = {"train": sorted(map(str, (tmp_path / "shards").glob("train-*.tar")))}
    for index in (tmp_path / "shards").glob("*.index"):
        index.unlink()
    classes = make("train").classes
    made = Shards(urls=bare, split="train", val_share=0, classes=classes)  # from the headers
    check_equal(made, make("train"))
    assert "have no index" in made.notes[0]


def content(batch):
    columns = [getattr(batch.objects, f).numpy().tobytes() for f in vars(batch.objects)]
    places = [(m.index, m.id, m.size, m.matrix.tobytes()) for m in batch.meta]
    return batch.images.numpy().tobytes(), columns, places


def batches(data, workers, detects, epoch=0, start=0, **options):
    mixed = {"mosaic": 0.5} if detects else {"cutmix": 0.5}
    augment = Augment(fit="letterbox", flip=0.5, scale=(0.5, 1.2), hue=9, mixup=0.3, **mixed)
    loader = Loader(
        dataset=data, augment=augment, size=(20, 24), batch_size=3, workers=workers, seed=3,
        train=True, prefetch=1, **options,
    )  # fmt: skip
    loader.sampler.seek(epoch, start)
    return [content(batch) for batch in loader]


@pytest.mark.parametrize("name", ["voc", "image_folder"])
def test_batches_are_those_of_the_files_also_by_http_and_from_the_middle_on(tmp_path, name):
    make = FORMATS[name](tmp_path / "files")
    root, detects = written(make, tmp_path / "shards"), name == "voc"
    wanted = batches(make("train"), 0, detects, epoch=1)
    assert batches(Shards(root=root, split="train"), 0, detects, epoch=1) == wanted
    assert batches(make("train"), 0, detects) != wanted
    with served(root) as url:
        data = Shards(root=url, split="train", requests=3)
        for workers in (0, 2):
            assert batches(data, workers, detects, epoch=1) == wanted
        assert batches(data, 1, detects, epoch=1, start=1, cache_mb=1) == wanted[1:]


def test_any_tool_reads_the_tars(tmp_path):
    make = folders(tmp_path / "files")
    written(make, tmp_path / "shards")
    with tarfile.open(tmp_path / "shards/train-000000.tar") as tar:
        names = tar.getnames()
        assert names[:3] == ["000000000.jpg", "000000000.cls", "000000000.json"]
        image = (tmp_path / "files/train/a/1.jpg").read_bytes()
        assert tar.extractfile(names[0]).read() == image
        assert tar.extractfile(names[1]).read() == b"0"
        truth = json.loads(tar.extractfile(names[2]).read())
        assert truth["labels"] == ["a"] and truth["file_name"] == "a/1.jpg"


def tar(path, members, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=form) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return str(path)


IMAGE = png(np.zeros((4, 6, 3), np.uint8))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tars_from_elsewhere(tmp_path, form):
    long = f"{'f' * 90}/{'g' * (120 if form != tarfile.USTAR_FORMAT else 9)}é"
    tar(tmp_path / "a-00.tar", {f"{long}.png": IMAGE, f"{long}.cls": b"11\n", "x.txt": b"x"}, form)
    tar(tmp_path / "a-01.tar", {"./1.CLS": b"2", "./1.png": IMAGE, "._1.png": b""}, form)
    before = sorted(os.listdir(tmp_path))
    urls = f"{tmp_path}/a-{{00..01}}.tar"
    data = Shards(urls=urls, split="train", val_share=0, index_folder=str(tmp_path / "kept"))
    assert data.classes == [str(i) for i in range(12)]
    assert [r.labels.tolist() for r in map(data.record, (0, 1))] == [[11], [2]]
    assert data.record(0).id == long.rpartition("/")[2] and data.record(0).boxes is None
    assert data.image(1).shape == (4, 6, 3) and data.read(0) == IMAGE
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "kept"])  # no file of the user's
    again = Shards(urls=urls, split="train", val_share=0, index_folder=str(tmp_path / "kept"))
    assert again.notes == [] and again.record(0).id == data.record(0).id
    beside = Shards(urls=urls, split="train", val_share=0, index_folder=str(tmp_path))
    assert beside.notes and (tmp_path / "a-00.tar.index").exists()


def test_ids_of_equal_names_in_two_tars_differ(tmp_path):
    for name in ("a", "b"):
        tar(tmp_path / f"{name}.tar", {"0.png": IMAGE, "0.cls": b"cat"})
    data = Shards(urls=f"{tmp_path}/{{a,b}}.tar", split="train", val_share=0)
    assert data.record(0).id != data.record(1).id and data.classes == ["cat"]


def opened(place, **options):
    return Shards(urls=str(place), split="train", **({"val_share": 0} | options))


def test_a_cut_tar_is_named(tmp_path):
    members = {f"{i}.{e}": IMAGE if e == "png" else b"1" for i in range(3) for e in ("png", "cls")}
    path = tmp_path / "a.tar"
    tar(path, members)
    whole = path.read_bytes()
    at = whole.index(b"2.png\0")
    path.write_bytes(whole[: at + 512 + 20])
    with pytest.raises(UserError, match=r"a\.tar: it is cut short in '2\.png'"):
        opened(path)
    data = opened(path, on_error="skip")
    assert len(data) == 2 and "cut short in '2.png'" in data.report[0]["reason"]
    path.write_bytes(whole[: at + 1024])  # between two members
    with pytest.raises(UserError, match=r"a\.tar: it is cut short behind '2\.png'"):
        opened(path)
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match=r"a\.tar: no header of a tar stands at its beginning"):
        opened(path)


def test_a_tar_that_misses_a_member_or_has_wrong_truth_is_named(tmp_path):
    box = {"labels": ["a"], "boxes": [[3, 0, 1, 2]]}
    wrong = {
        "no image": {"0.cls": b"1"},
        r"neither a \.cls nor": {"0.png": IMAGE},
        r"its \.json cannot be read": {"0.png": IMAGE, "0.json": b"{"},
        r'"boxes" is .* expected': {"0.png": IMAGE, "0.json": json.dumps(box).encode()},
        "2 image": {"0.png": IMAGE, "0.jpg": IMAGE, "0.cls": b"1"},
        '"boxes" are missing': {
            "1.png": IMAGE, "1.json": b'{"labels": ["a"], "boxes": [[0, 0, 1, 2]]}',
            "0.png": IMAGE, "0.json": b'{"labels": ["a"]}',
        },
    }  # fmt: skip
    for reason, members in wrong.items():
        path = tar(tmp_path / "a.tar", members)
        with pytest.raises(UserError, match=rf"a\.tar: sample '0': .*{reason}"):
            opened(path)


def test_a_tar_that_changed_since_its_index_is_named(tmp_path):
    root = written(folders(tmp_path / "files"), tmp_path / "shards", most=10**6)
    path = tmp_path / "shards/train-000000.tar"
    data, whole = Shards(root=root, split="train"), path.read_bytes()
    path.write_bytes(bytes(512) + whole[:-512])
    with pytest.raises(UserError, match=r"train-000000\.tar/a/1\.jpg: not at bytes .*another file"):
        data.image(0)
    path.write_bytes(whole[:2000])
    with pytest.raises(UserError, match=r"x\.y\.jpg: not at bytes .*ends before"):
        data.image(3)
    with pytest.raises(UserError, match=r"train-000000\.tar: it is cut short in '000000000\.jpg'"):
        Shards(root=root, split="train")
    path.unlink()
    with pytest.raises(UserError, match=r"train-000000\.tar: No such file"):
        Shards(root=root, split="train")


def test_servers_that_fail_are_named_in_a_line(tmp_path, monkeypatch):
    path = tar(tmp_path / "a.tar", {"0.png": IMAGE, "0.cls": b"cat"})
    with served(tmp_path) as url:
        assert opened(f"{url}/a.tar").read(0) == IMAGE
        with pytest.raises(UserError, match=r"/b\.tar: the server answers 404 Not Found; check"):
            opened(f"{url}/b.tar")
        with pytest.raises(UserError, match=r"no shards\.json there"):
            Shards(root=url, split="train")
    with served(tmp_path, ranges=False) as url, pytest.raises(UserError, match="support of Range"):
        opened(f"{url}/a.tar")
    monkeypatch.setattr("engine.data.http_ranges.WAIT", 0.001)
    with pytest.raises(UserError, match=r"no answer after 5 tries \(ConnectionRefusedError"):
        opened(f"{url}/a.tar")
    assert path


def test_what_names_no_tars(tmp_path):
    for urls, reason in {
        "x-{03..01}.tar": "03 is above 01",
        "x-{a..b}.tar": "no two whole numbers",
        "x-{0..1.tar": "without its other half",
        "x-{007..0010}.tar": "differ in their digits",
        "x-{0..99999999}.tar": "more than",
    }.items():
        with pytest.raises(UserError, match=reason):
            opened(urls)
    for options in ({}, {"root": "a", "urls": "b"}):
        with pytest.raises(UserError, match="set one of them"):
            Shards(split="train", **options)
    with pytest.raises(UserError, match=r"no \*\.tar in it"):
        Shards(root=str(tmp_path), split="train")
    with pytest.raises(UserError, match="names x.tar 2 times"):
        opened("x{,}.tar")


def test_an_index_is_arrays_and_of_one_version(tmp_path):
    place = tar(tmp_path / "a.tar", {"0.png": IMAGE, "0.cls": b"cat"})
    index = shard_build.build(place)
    assert shard_index.load(shard_index.dump(index)).names == ["cat"]
    assert shard_index.load(b"something else") is None
    columns = [v for v in vars(index.images).values() if v is not None and v is not True]
    assert all(isinstance(v, np.ndarray) and v.dtype != object for v in columns)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_object_store(tmp_path, monkeypatch):
    path = tar(tmp_path / "a.tar", {"0.png": IMAGE, "0.cls": b"cat"})
    try:
        import obstore  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match=r'obstore: pip install "onelook\[stores\]"'):
            opened("s3://bucket/a.tar")
        return
    (tmp_path / "bucket").mkdir()
    os.rename(path, tmp_path / "bucket/a.tar")
    with served(tmp_path) as url:
        store = {"ENDPOINT": url, "ALLOW_HTTP": "true", "SKIP_SIGNATURE": "true", "REGION": "x"}
        for name, value in store.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        data = opened("s3://bucket/a.tar")
        for workers in (0, 1):  # the workers are forked after this process has read
            loader = Loader(dataset=data, augment=Augment(), size=(8, 8), batch_size=1,
                            workers=workers)  # fmt: skip
            assert len(list(loader)) == 1
        with pytest.raises(UserError, match=r"b\.tar: no such object"):
            opened("s3://bucket/b.tar")
