"""Category ids with gaps come through training, evaluation and prediction to other programs."""

import json

import pytest
import sets
import torch
from command_line import TINY, ended, metrics, run
from reference import mended, pycocotools_stats

from engine.output import predictions
from engine.structures import Objects


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a COCO data set whose category ids are 2, 9 and 16, and its folder."""
    folder = tmp_path_factory.mktemp("gaps")
    sets.write_coco(folder / "data", {"train": list("ac"), "val": list("ac")})
    run("train.py", *TINY, "model=ssd_resnet34", "dataset=coco", "dataset.root=data",
        "loader.batch_size=2", "hydra.run.dir=run", cwd=folder)  # fmt: skip
    return folder


def load(path):
    return json.loads(path.read_text())


def by_image(rows):
    """Rows without their images' ids, which predict.py cannot know, by the file's name."""
    found = {}
    for row in rows:
        name = row["file_name"]
        found.setdefault(name, []).append({k: v for k, v in row.items() if k != "image_id"})
    return found


def test_the_checkpoint_keeps_the_ids(trained):
    state = torch.load(trained / "run/checkpoints/last.pt", weights_only=True)
    assert (state["classes"], state["categories"]) == (sets.CLASSES, [2, 9, 16])


def test_eval_and_predict_write_the_same_rows(trained):
    checkpoint, low = "checkpoint=run/checkpoints/last.pt", "head.postprocess.score=0"
    run("eval.py", checkpoint, low, "hydra.run.dir=eval", cwd=trained)
    run("predict.py", checkpoint, low, "source=data/val2017", "hydra.run.dir=predict", cwd=trained)
    scored, predicted = (load(trained / f"{name}/predictions.json") for name in ("eval", "predict"))
    assert by_image(predicted) == by_image(scored) and set(by_image(scored)) == {"a.png", "c.png"}
    names = dict(zip([2, 9, 16], sets.CLASSES, strict=True))
    assert {(row["category_id"], row["category_name"]) for row in predicted} == set(names.items())


def test_pycocotools_reads_the_rows_and_gives_our_number(trained):
    run("eval.py", "checkpoint=run/checkpoints/last.pt", "metric=coco_map", "hydra.run.dir=coco",
        "head.postprocess.score=0", cwd=trained)  # fmt: skip
    truth = load(trained / "data/annotations/instances_val2017.json")
    ours = list(metrics(trained / "coco")["metrics"].values())[:12]
    expected = pycocotools_stats(*mended(truth, load(trained / "coco/predictions.json")))
    assert [-1 if x is None else x for x in ours] == expected.tolist()


def test_a_perfect_detector_scores_one(trained, tmp_path):
    truth = load(trained / "data/annotations/instances_val2017.json")
    state = torch.load(trained / "run/checkpoints/last.pt", weights_only=True)
    categories = predictions.named(state["classes"], state["categories"])
    labels = {category.id: label for label, category in enumerate(categories)}
    rows = []
    for image in truth["images"]:
        mine = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        xywh = torch.tensor([row["bbox"] for row in mine]).float()
        found = Objects(
            torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
            torch.tensor([labels[row["category_id"]] for row in mine]),
        )
        meta = predictions.Meta(0, image["id"], image["file_name"], (48, 64), torch.eye(3).numpy())
        rows += map(json.loads, predictions.lines(found, [meta], categories))
    assert pycocotools_stats(*mended(truth, rows))[0] == pytest.approx(1)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    gt = trained / "data/annotations/instances_val2017.json"
    run("eval.py", f"truth={gt}", "predictions=rows.json", "metric=coco_map",
        "hydra.run.dir=out", cwd=tmp_path)  # fmt: skip
    assert metrics(tmp_path / "out")["metrics"]["AP"] == pytest.approx(1)


def test_a_checkpoint_that_does_not_know_them_says_so(trained):
    state = torch.load(trained / "run/checkpoints/last.pt", weights_only=True)
    del state["categories"]
    torch.save(state | {"format": 5}, trained / "old.pt")
    out = run("predict.py", "checkpoint=old.pt", "source=data/val2017/a.png", "hydra.run.dir=old",
              "head.postprocess.score=0", cwd=trained)  # fmt: skip
    assert "does not keep the category ids of its data set" in out
    written = load(trained / "old/predictions.json")
    names = {row["category_id"]: row["category_name"] for row in written}
    assert names == {1: "ant", 2: "bee", 3: "cat"}
    gt = "truth=data/annotations/instances_val2017.json"
    rows = [row | {"image_id": 3} for row in written]
    (trained / "rows.json").write_text(json.dumps(rows))
    out = run("eval.py", gt, "predictions=rows.json", "metric=coco_map", "hydra.run.dir=clash",
              cwd=trained)  # fmt: skip
    assert "names and ids of classes are in conflict" in out and "calls category_id 2 'bee'" in out
    assert "a category_id that this ground truth does not list (1, 3; it lists 2, 9, 16)" in out


def test_a_limit_is_said_and_is_not_predicts(trained):
    limit = ["checkpoint=run/checkpoints/last.pt", "loader.batch_size=1"]
    out = run("eval.py", *limit, "trainer.limit=1", "hydra.run.dir=limit", cwd=trained)
    assert "\n1 images val; " in out and "only the first batches (trainer.limit=1)" in out
    said = metrics(trained / "limit")["protocol"]
    assert "only the first batches (trainer.limit=1)" in said and "scores above 0.01" in said
    assert "class_wise NMS (IoU above 0.5" in said and "at most 100 detections" in said
    state = torch.load(trained / "run/checkpoints/last.pt", weights_only=True)
    state["config"]["trainer"]["limit"] = 1
    torch.save(state, trained / "limited.pt")
    limit[0] = "checkpoint=limited.pt"
    out = run("eval.py", *limit, "hydra.run.dir=kept", cwd=trained)
    assert "\n1 images val; " in out and "only the first batches (trainer.limit=1)" in out
    out = run("eval.py", *limit, "trainer.limit=null", "hydra.run.dir=free", cwd=trained)
    assert "\n2 images val; " in out and "trainer.limit" not in out
    out = run("predict.py", *limit, "source=data/val2017", "hydra.run.dir=all", cwd=trained)
    assert "2 images, " in out


def test_rows_below_show_are_not_nothing(trained):
    state = torch.load(trained / "run/checkpoints/last.pt", weights_only=True)
    for key, tensor in (*state["model"].items(), *state["ema"].items()):
        if key.startswith("head.predictors."):
            tensor.zero_()  # every score is 1/2
    torch.save(state, trained / "half.pt")
    out = run("predict.py", "checkpoint=half.pt", "source=data/val2017/a.png",
              "show=1", "head.postprocess.score=0", "hydra.run.dir=show", cwd=trained)  # fmt: skip
    count = len(load(trained / "show/predictions.json"))
    assert f"nothing scores show=1 or more; predictions.json has {count} below it" in out


def test_boxes_that_the_rule_leaves_out_are_in_the_protocol(trained):
    file = trained / "data/annotations/instances_val2017.json"
    truth = load(file)
    first = truth["annotations"][0]
    for number, box in ((90, [5, 5, 0, 9]), (91, [900, 5, 9, 9])):
        truth["annotations"].append(first | {"id": number, "bbox": box, "area": box[2] * box[3]})
    (trained / "flat.json").write_text(json.dumps(truth))
    rule = "2 boxes without area or outside their image do not count (pycocotools would count them)"
    data = ["dataset=coco", "dataset.annotations=flat.json", "dataset.images=data/val2017"]
    out = run("eval.py", "checkpoint=run/checkpoints/last.pt", *data, "split=train",
              "dataset.val_share=0", "hydra.run.dir=rule", cwd=trained)  # fmt: skip
    assert rule in out and rule in metrics(trained / "rule")["protocol"]
    (trained / "perfect.json").write_text(json.dumps(
        [row | {"score": 1} for row in truth["annotations"][:-2]]))  # fmt: skip
    files = ["predictions=perfect.json", "metric=coco_map"]
    out = run("eval.py", *data, "split=train", "dataset.val_share=0", *files,
              "hydra.run.dir=files", cwd=trained)  # fmt: skip
    assert rule in out and metrics(trained / "files")["metrics"]["AP"] == pytest.approx(1)
    out = run("eval.py", "truth=flat.json", *files, "hydra.run.dir=truth", cwd=trained)
    assert rule not in out and metrics(trained / "truth")["metrics"]["AP"] < 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint=run/checkpoints/last.pt", "source=a.png"], "are for predict.py source="),
        (["truth=data/val2017/a.png", "predictions=a.json"], "got binary data, expected a JSON"),
        (["truth=gt.json", "checkpoint=a.pt"], "truth= scores predictions=FILE"),
        (["truth=run/metrics.json", "predictions=a.json"], "is it a COCO truth file"),
    ],
)
def test_what_eval_does_not_do_is_refused(trained, arguments, message):
    got = ended("eval.py", *arguments, "metric=coco_map", "hydra.run.dir=refused", cwd=trained)
    assert got.returncode == 2 and message in got.stderr + got.stdout
    assert len(got.stderr.strip().splitlines()) <= 1
