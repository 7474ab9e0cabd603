"""`python -m engine.shard`, and how its tars are named on a command line."""

import hydra
import pytest
import sets

from detect.datasets.shards import Shards
from engine.config import tools  # noqa: F401  # registers the schemas
from engine.config.arguments import check_arguments, readable
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.shard.write import write_shards


def config(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("shard", overrides=list(overrides))


def test_every_split_is_written_once_and_images_drawn_here_too(tmp_path):
    sets.write_voc(tmp_path / "voc", {"train": ["a", "b"], "val": ["c"]})
    out = tmp_path / "out"
    given = ["dataset=voc", f"dataset.root={tmp_path}/voc", f"out={out}"]
    write_shards(config(*given))
    names = [
        "shards.json",
        *(f"{s}-000000.tar{e}" for s in ("train", "val") for e in ("", ".index")),
    ]
    assert sorted(p.name for p in out.iterdir()) == names
    with pytest.raises(UserError, match="there are shards in it; name another folder"):
        write_shards(config(*given))
    drawn = tmp_path / "drawn"
    write_shards(config("dataset=shapes", "dataset.train=3", "split=train", f"out={drawn}"))
    data = Shards(root=str(drawn), split="train", val_share=0)
    assert len(data) == 3 and data.image(0).shape == (128, 128, 3)
    assert len(data.record(0).boxes) == len(data.record(0).labels) > 0


def test_an_image_that_cannot_be_read_stops_or_is_left_out(tmp_path):
    sets.write_voc(tmp_path / "voc", {"train": ["a", "c"], "val": ["c"]})
    (tmp_path / "voc/JPEGImages/a.png").write_bytes(b"")
    given = ["dataset=voc", f"dataset.root={tmp_path}/voc", f"out={tmp_path}/out", "split=train"]
    with pytest.raises(UserError, match=r"a\.png.*empty.*dataset\.on_error=skip"):
        write_shards(config(*given))
    assert not list((tmp_path / "out").glob("*"))
    write_shards(config(*given, "dataset.on_error=skip"))
    data = Shards(root=f"{tmp_path}/out", split="train", val_share=0)
    assert [data.record(i).id for i in range(len(data))] == ["c"]


def test_a_pattern_needs_no_second_quotes_but_the_first(monkeypatch):
    pattern = "dataset.urls=s3://bucket/train-{000..099}.tar"
    assert readable(pattern) == "dataset.urls='s3://bucket/train-{000..099}.tar'"
    for same in ("a='x-{0..1}.tar'", "a={train: x}", "a=[x-{0..1}.tar]", "a=b"):
        assert readable(same) == same
    expanded = [f"dataset.urls=x-{i}.tar" for i in range(3)]
    monkeypatch.setattr("sys.argv", ["train.py", *expanded])
    with pytest.raises(UserError, match="3 times: a shell expands braces, so quote the pattern"):
        check_arguments("train", "train")
