"""A small detector, exported by the real command, in the place of its checkpoint."""

import json
import runpy
import shutil
import threading
import time
from itertools import groupby
from urllib.error import HTTPError
from urllib.request import urlopen

import cv2
import numpy as np
import onnx
import pytest
import uvicorn
from command_line import ROOT, SHAPES, TINY, ended, metrics, run
from onnx import numpy_helper

from onelook import load

EXPORT = ("-m", "engine.export")
BEST = "checkpoint=run/checkpoints/best.pt"
QUICK = ["parity.images=5", "hydra.run.dir=out"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a run and, in `out`, its file for images of any size."""
    folder = tmp_path_factory.mktemp("exported")
    run("train.py", *TINY, *SHAPES, "model=ssd_resnet34", "trainer.epochs=8", "hydra.run.dir=run",
        "head.postprocess.score=0.1", "trainer.ema=null", cwd=folder)  # fmt: skip
    run(*EXPORT, BEST, "dynamic=size", *QUICK, cwd=folder)
    return folder


def described(folder):
    return json.loads((folder / "out/model.json").read_text())


def found(folder):
    """The boxes and scores [N, 5] of a predictions file, by image and class."""
    rows = sorted(
        (row["file_name"], row["category_name"], *row["bbox"], row["score"])
        for row in json.loads((folder / "predictions.json").read_text())
    )
    return {key: np.array([row[2:] for row in of]) for key, of in groupby(rows, lambda r: r[:2])}


def assert_same_objects(one, other):
    """Every object has one like it, whatever their order."""
    assert one and one.keys() == other.keys()
    for key, rows in one.items():
        apart = np.abs(rows[:, None] - other[key]) / (1e-2, 1e-2, 1e-2, 1e-2, 1e-5)  # [N, N, 5]
        assert sorted(apart.max(2).argmin(1)) == list(range(len(rows)))
        assert apart.max(2).min(1).max() < 1


def test_it_is_published_with_its_description_and_what_was_compared(exported):
    about, parity = described(exported), json.loads((exported / "out/parity.json").read_text())
    assert not parity["failed"] and parity["images"] == 5 and parity["objects"] > 20
    assert parity["differences"]["box"] < 1e-3 and parity["other_size"]["objects"] > 0
    assert about["input"]["shape"] == ["batch", 3, "height", "width"] and about["size"] == [96, 96]
    assert about["outputs"][:3] == ["boxes", "scores", "labels"]
    assert about["thresholds"]["score"] == 0.1 and len(about["classes"]) == len(
        about["category_ids"]
    )
    assert not list((exported / "out").glob("model.failed*"))


@pytest.fixture(scope="module")
def predicted(exported):
    """The same folder, with what eval.py and predict.py make of the checkpoint and of the file."""
    run("-m", "engine.check", *SHAPES, "samples=2", "hydra.run.dir=check", cwd=exported)
    shutil.copytree(exported / "check/images", exported / "images")
    for kind, name in (("pt", "run/checkpoints/best.pt"), ("onnx", "out/model.onnx")):
        for command, more in (("eval", "report=false"), ("predict", "source=images")):
            run(f"{command}.py", f"checkpoint={name}", "device=cpu", more,
                f"hydra.run.dir={command}_{kind}", cwd=exported)  # fmt: skip
    return exported


def test_eval_and_predict_give_what_the_checkpoint_gives(predicted):
    for command in ("eval", "predict"):
        of_each = (found(predicted / f"{command}_{kind}") for kind in ("pt", "onnx"))
        assert_same_objects(*of_each)
    a, b = metrics(predicted / "eval_pt"), metrics(predicted / "eval_onnx")
    assert a["primary_value"] == pytest.approx(b["primary_value"], abs=1e-4)
    assert a["protocol"] == b["protocol"]


def test_python_finds_what_predict_writes(predicted):
    for name in ("run/checkpoints/best.pt", "out/model.onnx"):
        kind = name.rpartition(".")[2]
        rows = [row for found in load(predicted / name, device="cpu")(predicted / "images")
                for row in found.to_coco()]  # fmt: skip
        assert rows == json.loads((predicted / f"predict_{kind}/predictions.json").read_text())


def test_the_server_of_the_docs_answers(predicted, monkeypatch):
    monkeypatch.setenv("MODEL", str(predicted / "out/model.onnx"))
    app = runpy.run_path(str(ROOT / "docs/server.py"))["app"]
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        image = next((predicted / "images").iterdir()).read_bytes()
        answer = json.load(urlopen(f"http://127.0.0.1:{port}/", image, timeout=60))
        for wrong in (b"no image", b""):
            with pytest.raises(HTTPError, match="400"):
                urlopen(f"http://127.0.0.1:{port}/", wrong, timeout=60)
    finally:
        server.should_exit = True
        thread.join()
    wanted = load(predicted / "out/model.onnx", device="cpu")(cv2.imdecode(
        np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB))  # fmt: skip
    assert answer["objects"] == wanted.to_dict()["objects"] and answer["objects"]


def test_a_file_whose_weight_was_changed_fails(exported, tmp_path):
    changed = onnx.load(exported / "out/model.onnx")
    first = next(node for node in changed.graph.node if node.op_type == "Conv").input[1]
    weight = next(tensor for tensor in changed.graph.initializer if tensor.name == first)
    values = numpy_helper.to_array(weight).copy()
    values.flat[values.size // 2] += 1e-2
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(changed, tmp_path / "model.onnx")
    verify = (*EXPORT, f"checkpoint={exported}/run/checkpoints/best.pt", *QUICK,
              f"verify={tmp_path}/model.onnx", "dynamic=batch")  # fmt: skip
    process = ended(*verify, cwd=tmp_path)
    assert process.returncode == 1 and "does not hold: " in process.stdout
    assert "the worst image: " in process.stdout
    shutil.copy(exported / "out/model.json", tmp_path)
    assert (
        "does not hold: it is not the file that model.json" in ended(*verify, cwd=tmp_path).stdout
    )
    process = ended("eval.py", f"checkpoint={tmp_path}/model.onnx", cwd=tmp_path)
    assert process.returncode == 2 and "somebody changed it" in process.stderr


@pytest.mark.parametrize(
    "command, wrong, named",
    [
        ("predict.py", ["head.postprocess.score=0.5"], "fixed since it was exported"),
        ("eval.py", ["trainer.precision=bf16"], "fixed since it was exported"),
        ("eval.py", ["checkpoint=out/model.pt2"], "by unpickling"),
        ("eval.py", ["checkpoint=model.onnx"], "model.onnx: No such file"),
        ("-m engine.export", ["verify=a.pt2"], "expected a .onnx or .xml file"),
        ("-m engine.export", ["format=onx"], "did you mean 'onnx'?"),
        ("-m engine.export", ["verify=none.onnx", BEST], "none.onnx: cannot be opened"),
        ("-m engine.export", [], "exported already"),
    ],
)
def test_what_a_file_cannot_do_is_one_line(predicted, command, wrong, named):
    source = ["source=images"] if command == "predict.py" else []
    command = command.split()
    process = ended(*command, "checkpoint=out/model.onnx", *source, *wrong, cwd=predicted)
    assert process.returncode == 2 and named in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
