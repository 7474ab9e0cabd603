"""onelook in Python: `load`, what a model finds, `train` and `evaluate`."""

import inspect
import itertools
import json
import logging
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import hydra
import numpy as np
import pytest
import torch
from command_line import SHAPES, TINY, metrics, run
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase
from omegaconf import OmegaConf
from PIL import Image

import onelook
from classify.backbones.resnet_cifar import ResNetCIFAR
from detect.datasets.shapes import Shapes
from engine import predict
from engine import train as training
from engine.config.schema import CONFIGS
from engine.errors import Stopped
from engine.output.predictions import Category
from engine.record import Meta
from engine.runtime import exported
from engine.structures import Objects
from onelook import Found, UserError, evaluate, load, train
from onelook.compose import compose, without_hydra
from onelook.runs import as_application

RUN = [*TINY, *SHAPES, "report=false"]
SIZES = (
    (300, 400, ".jpg"),
    (64, 64, ".png"),
    (90, 70, ".png"),
    (700, 500, ".jpg"),
    (64, 96, ".png"),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A detector after an epoch, trained in this process."""
    return train([*RUN, f"hydra.run.dir={tmp_path_factory.mktemp('run')}"])


@pytest.fixture(scope="module")
def model(done):
    return load(done.checkpoint, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five images, two of which are decoded at a reduced size."""
    shapes, folder = Shapes(split="val", size=64), tmp_path_factory.mktemp("images")
    for i, (height, width, suffix) in enumerate(SIZES):
        image = cv2.resize(shapes.image(i), (width, height))
        cv2.imwrite(str(folder / f"{i}{suffix}"), image[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("film") / "film.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for i in range(6):
        writer.write(cv2.resize(Shapes(split="val", size=64).image(i), (96, 64)))
    writer.release()
    return path


def predicted(checkpoint, source, folder):
    """The rows of predict.py's function, run in this process."""
    cfg = compose("predict", [f"checkpoint={checkpoint}", f"source={source}", "device=cpu",
                              f"hydra.run.dir={folder}"])  # fmt: skip
    with as_application(cfg):
        predict.predict(without_hydra(cfg))
    return json.loads((folder / "predictions.json").read_text())


def rows(found):
    return [row for each in found for row in each.to_coco()]


def test_a_folder_is_what_the_command_predicts_to_the_last_bit(done, model, folder, tmp_path):
    run("predict.py", f"checkpoint={done.checkpoint}", f"source={folder}", "device=cpu",
        f"hydra.run.dir={tmp_path}", cwd=tmp_path)  # fmt: skip
    expected = json.loads((tmp_path / "predictions.json").read_text())
    found = model(folder)
    assert iter(found) is found
    found = list(found)
    assert rows(found) == expected and len(expected) > 100
    assert rows(model(f"{folder}/*")) == expected
    assert [(each.id, each.size) for each in found] == [
        (str(i), size[:2]) for i, size in enumerate(SIZES)
    ]
    paths = sorted(folder.iterdir())
    assert rows(model(paths)) == rows(model(tuple(map(str, paths)))) == expected
    assert rows(model(path for path in paths)) == expected  # in batches of four, here too


def test_a_file_and_a_video_are_what_the_command_predicts(done, model, folder, film, tmp_path):
    expected = predicted(done.checkpoint, folder / "0.jpg", tmp_path / "file")
    assert model(folder / "0.jpg").to_coco() == expected and expected
    expected = predicted(done.checkpoint, film, tmp_path / "film")
    found = list(model(film))
    assert rows(found) == expected and len({row["image_id"] for row in expected}) == 6
    capture = cv2.VideoCapture(film)
    frames = [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB) for _ in range(6)]
    for i in (0, 1, 5, 2):
        assert np.array_equal(found[i].image, frames[i])


def test_pixels_are_predicted_as_the_file_that_holds_them(model, folder):
    path = folder / "1.png"
    array = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    clear = Image.fromarray(np.dstack([array, np.full((64, 64), 255, np.uint8)]))
    same = model([path, array, Image.open(path), clear])
    assert [each.id for each in same] == ["1", 1, 2, 3] and same[1].path is None
    assert repr(same[1]).startswith("<Found image 1: ")
    for each in same:
        assert np.array_equal(each.boxes, same[0].boxes)
        assert np.array_equal(each.scores, same[0].scores)
        assert np.array_equal(each.image, array)
    turned = Image.open(path)
    turned.getexif()[274] = 6  # shown a quarter clockwise
    assert np.array_equal(model(turned).image, np.rot90(array, -1))


def test_an_endless_iterator_is_read_a_batch_ahead(model, folder):
    taken = []
    endless = (taken.append(i) or folder / "1.png" for i in itertools.count())
    found = list(itertools.islice(model(endless), 6))
    assert len(found) == 6 and len(taken) == 8  # two batches of loader.batch_size=4
    assert model([]) == []


BAD = [
    (3, "got int, expected a path, a PIL image or an array"),
    ({"a": 1}, "got dict, expected"),
    (np.zeros((8, 8), np.uint8), r"got an array \[8, 8\] of uint8, .* grey one: np.stack"),
    (np.zeros((8, 8, 3)), r"array \[8, 8, 3\] of float64, .* in 0..1"),
    (np.zeros((3, 8, 8), np.uint8), r"channels first: x.transpose\(1, 2, 0\)"),
    (np.zeros((8, 8, 4), np.uint8), r"without its alpha"),
    (np.zeros((2, 8, 8, 3), np.uint8), r"of a batch: list\(x\)"),
    (np.zeros((0, 8, 3), np.uint8), r"array \[0, 8, 3\]"),
    (torch.zeros(3, 8, 8), r"got torch.Tensor, .* x.permute\(1, 2, 0\).numpy\(\)"),
    (Image.new("I;16", (8, 8)), "PIL image of mode I;16, .* 8 bits"),
    ("nowhere.jpg", "source=nowhere.jpg: no such file, folder or glob"),
    ([str(CONFIGS)], "has several images: give it alone"),
]


@pytest.mark.parametrize(("images", "message"), BAD, ids=[message for _, message in BAD])
def test_what_is_no_image_is_named_in_one_line(model, images, message):
    with pytest.raises(UserError, match=message) as error:
        model(images)
    assert "\n" not in str(error.value)


def test_four_threads_find_what_one_finds(model, folder):
    paths = [path for path in sorted(folder.iterdir()) for _ in range(6)]
    expected = [model(path).to_coco() for path in paths]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda path: model(path).to_coco(), paths)) == expected
        folders = pool.map(lambda _: rows(model(folder)), range(4))
        assert list(folders) == [rows(model(folder))] * 4


def test_the_score_is_that_of_load(done, model, folder):
    everything = rows(model(folder))
    half = float(np.median([row["score"] for row in everything]))
    above = [row for row in everything if row["score"] > half]
    assert 0 < len(above) < len(everything)
    assert rows(load(done.checkpoint, device="cpu", score=half)(folder)) == above
    high = [f"head.postprocess.score={half}"]
    assert rows(load(done.checkpoint, device="cpu", overrides=high)(folder)) == above
    lowered = load(done.checkpoint, device="cpu", score=0.01, overrides=high)
    assert rows(lowered(folder)) == everything


def exported_file(done, folder):
    """A file that stands for an exported one, whose sessions `half` answers."""
    saved = torch.load(done.checkpoint, weights_only=True)
    (folder / "model.onnx").write_bytes(b"opened by nobody")
    described = {
        "format": exported.FORMAT,
        "sha256": exported.sha256(folder / "model.onnx"),
        "outputs": ["boxes", "scores", "labels"],
        "nms": True,
        "batch": 1,
        "classes": saved["classes"],
        "category_ids": saved["categories"],
        "head": ["boxes", "logits"],
        "protocol": "",
        "checkpoint": {key: saved[key] for key in exported.OF_CHECKPOINT},
    }
    (folder / "model.json").write_text(json.dumps(described))
    return folder / "model.onnx"


def half(images):
    """Of a network of 96 x 96 pixels: the left half, and a second object that scores less."""
    assert images.shape == (1, 3, 96, 96) and images.dtype == np.uint8
    boxes = np.array([[[0, 0, 48, 96], [0, 0, 96, 96]]], np.float32)
    return {"boxes": boxes, "scores": np.float32([[0.75, 0.25]]), "labels": np.array([[2, 0]])}


def test_an_exported_file_predicts_and_keeps_its_threshold(done, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "session", lambda path, device: half)
    path = exported_file(done, tmp_path)
    found = load(path, device="cpu")([folder / "1.png", folder / "4.png"])
    assert [each.boxes.tolist() for each in found] == [
        [[0, 0, 32, 64], [0, 0, 64, 64]], [[0, 0, 48, 64], [0, 0, 96, 64]]
    ]  # fmt: skip
    assert found[0].labels.tolist() == [2, 0] and found[0].scores.tolist() == [0.75, 0.25]
    assert len(load(path, device="cpu", score=0.5)(folder / "1.png")) == 1
    message = "score=0.001: .*leaves out what scores 0.01 or less, .* head.postprocess.score=0.001"
    with pytest.raises(UserError, match=message):
        load(path, device="cpu", score=0.001)


@pytest.mark.slow
def test_an_exported_file_is_what_the_command_predicts(done, folder, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    run("-m", "engine.export", f"checkpoint={done.checkpoint}", f"hydra.run.dir={tmp_path}",
        cwd=tmp_path)  # fmt: skip
    path = tmp_path / "model.onnx"
    expected = predicted(path, folder, tmp_path / "out")
    model = load(path, device="cpu")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: rows(model(folder)), range(4))) == [expected] * 4


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A preset with weights from a file, and that file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.th"
    head = {"linear.weight": torch.randn(10, 64), "linear.bias": torch.zeros(10)}
    torch.save({"state_dict": {**ResNetCIFAR(depth=8).state_dict(), **head}}, path)
    return load("resnet_cifar", weights=path, device="cpu", overrides=["backbone.depth=8"]), path


def test_a_preset_with_weights_classifies(classifier, folder):
    model, path = classifier
    found = model(folder / "1.png")
    assert found.boxes is None and len(found) == 10
    assert found.scores[0] == found.scores.max() and abs(found.scores.sum() - 1) < 1e-5
    assert found.names[0] == f"class {found.labels[0]}"
    first = next(iter(found))
    assert first == (found.names[0], found.labels[0], found.scores[0], None)
    assert repr(found) == f"<Found 1.png: {found.names[0]} {100 * found.scores[0]:.1f}%>"
    sure = load("resnet_cifar", weights=path, device="cpu", score=float(found.scores[1]),
                overrides=["backbone.depth=8"])(folder / "1.png")  # fmt: skip
    assert sure.names == found.names[:1]


def hand_made(**change):
    objects = Objects(
        torch.tensor([[1.0, 2, 4, 6], [0, 0, 9, 9], [5, 5, 6, 6]]),
        torch.tensor([1, 0, 1]),
        scores=torch.tensor([0.75, 0.5, 0.25]),
    )
    wanted = {
        "objects": objects,
        "meta": Meta(0, "cat", "x/cat.jpg", (9, 12), np.eye(2, 3)),
        "categories": [Category(5, "cat"), Category(90, "dog")],
        "has_boxes": True,
        "image": lambda: np.zeros((9, 12, 3), np.uint8),
    }
    return Found(**(wanted | change))


def test_what_was_found_by_hand(tmp_path):
    found = hand_made()
    assert repr(found) == "<Found cat.jpg: 2 dog, 1 cat>" and len(found) == 3
    assert found.boxes.dtype == np.float32 and found.boxes.tolist()[0] == [1, 2, 4, 6]
    assert found.names == ["dog", "cat", "dog"] and found.labels.tolist() == [1, 0, 1]
    assert next(iter(found)) == ("dog", 1, 0.75, [1, 2, 4, 6])
    plain = json.loads(json.dumps(found.to_dict()))
    assert (plain["id"], plain["path"], plain["size"]) == ("cat", "x/cat.jpg", [9, 12])
    assert plain["objects"][1] == {"name": "cat", "label": 0, "score": 0.5, "box": [0, 0, 9, 9]}
    assert found.to_coco()[0] == {
        "image_id": "cat",
        "file_name": "cat.jpg",
        "category_id": 90,
        "category_name": "dog",
        "bbox": [1, 2, 3, 4],
        "score": 0.75,
    }
    drawn = found.draw(show=0.6)
    assert drawn.dtype == np.uint8 and drawn.any() and not np.array_equal(drawn, found.draw())
    found.save(tmp_path / "cat.png", show=0.6)
    assert np.array_equal(cv2.imread(str(tmp_path / "cat.png"))[..., ::-1], drawn)
    assert repr(hand_made(objects=Objects.empty())) == "<Found cat.jpg: nothing>"
    boxes_alone = Objects(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([-1]))
    assert hand_made(objects=boxes_alone).names == ["object"]
    forged = [Category(1, "a\nb"), Category(2, "\x1b[31m")]
    assert repr(hand_made(categories=forged)) == r"<Found cat.jpg: 2 \x1b[31m, 1 a\nb>"


LOADS = [
    ({"path": "resnet50"}, r"load\('resnet50', weights='DEFAULT'\)"),
    ({"path": "nowhere.pt"}, "checkpoint nowhere.pt: no such file"),
    ({"path": "resnet5", "weights": "DEFAULT"}, "no such model; did you mean 'resnet50'"),
    ({"path": "resnet50", "weights": "DEFAUL"}, "did you mean 'DEFAULT'"),
    ({"path": "resnet50", "weights": "DEFAULT", "trust": True}, "trust= is for checkpoints"),
    ({"score": 2}, "score=2: expected a number from 0, below 1"),
    ({"device": "gpu"}, "device=gpu: not usable here"),
    ({"trust": "os"}, "trust=os: expected a list"),
    ({"overrides": ["source=a.jpg"]}, r"overrides: source: use model\(\.\.\.\)"),
    ({"overrides": ["head.postprocess.scor=0.1"]}, "did you mean 'score'"),
    ({"overrides": ["draw=3"]}, "does not read draw"),
    ({"overrides": ["--help"]}, "--help: expected key=value"),
    ({"overrides": "trainer.precision=fp32"}, "expected a list"),
]


@pytest.mark.parametrize(("arguments", "message"), LOADS, ids=[message for _, message in LOADS])
def test_what_cannot_be_loaded_is_named_in_one_line(done, arguments, message):
    before = list(sys.argv)
    with pytest.raises(UserError, match=message) as error:
        load(**({"path": done.checkpoint, "device": "cpu"} | arguments))
    assert "\n" not in str(error.value) and sys.argv == before


def test_a_program_that_uses_hydra_itself_is_left_alone(done, classifier, folder, tmp_path):
    (tmp_path / "conf.yaml").write_text("a: 1\naugment: {flip: 0}\n")
    state, config = GlobalHydra.instance(), HydraConfig.instance()
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
        cfg = hydra.compose("conf", ["augment.flip=1"], return_hydra_config=True)
        config.set_config(cfg)
        try:
            own = GlobalHydra.instance(), GlobalHydra.instance().hydra, config.cfg
            load(done.checkpoint, device="cpu")
            evaluate(
                [f"checkpoint={done.checkpoint}", "report=false", f"hydra.run.dir={tmp_path}/e"]
            )
            load(
                "resnet_cifar", weights=classifier[1], device="cpu", overrides=["backbone.depth=8"]
            )
            with pytest.raises(UserError):
                load("nowhere.pt", overrides=["nonsense=1"])
            assert own == (GlobalHydra.instance(), GlobalHydra.instance().hydra, config.cfg)
            assert str(VersionBase.instance().getbase()) == "1.2"
            assert hydra.compose("conf", ["a=2"]).a == 2
        finally:
            config.cfg = None
    assert state is not None


def test_a_run_returns_what_it_wrote(done):
    assert done.primary == "mAP" and done.metrics == metrics(done.folder)["metrics"]
    assert done.value == done.metrics["mAP"] and "IoU 0.50" in done.protocol
    saved = torch.load(done.checkpoint, weights_only=True)
    assert saved["classes"] == Shapes(split="train").classes
    log = (done.folder / "train.log").read_text()
    assert log.count("\nresults, checkpoints and images: ") == 1
    overrides = OmegaConf.load(done.folder / ".hydra/overrides.yaml")
    assert [text for text in overrides if "hydra" not in text] == RUN


def test_a_second_run_in_a_thread_gives_the_same(done, tmp_path):
    logger, handlers = logging.getLogger("onelook"), logging.getLogger("onelook").handlers[:]
    found = []
    thread = threading.Thread(
        target=lambda: found.append(train([*RUN, f"hydra.run.dir={tmp_path}/again"]))
    )
    thread.start()
    thread.join()
    assert found[0].metrics == done.metrics and found[0].folder == tmp_path / "again"
    assert logger.handlers == handlers and logger.level == logging.NOTSET
    assert not HydraConfig.initialized()
    scored = evaluate([f"checkpoint={done.checkpoint}", f"hydra.run.dir={tmp_path}/eval",
                       "report=false"])  # fmt: skip
    assert scored.metrics == done.metrics and (tmp_path / "eval/predictions.json").is_file()


def test_what_a_command_refuses_is_raised(done, tmp_path):
    for task, overrides, message in (
        (train, ["trainer.epoch=3"], "trainer.epoch: no such key; here this is trainer.epochs=3"),
        (train, ["trainer.epochs=abc"], "expected a whole number from 1"),
        (train, ["model=ssd_resnet34,resnet18"], "several values are a sweep"),
        (train, ["hydra.mode=MULTIRUN"], "a sweep is `onelook train -m`"),
        (train, ["loss=cross_entropy", f"hydra.run.dir={tmp_path}"], "they do not fit"),
        (train, [*RUN, f"hydra.run.dir={done.folder}"], "has the checkpoints of a run"),
        (train, [*RUN, f"hydra.run.dir={done.checkpoint}/x"], "Not a directory: .*set hydra"),
        (evaluate, ["source=a.jpg", f"hydra.run.dir={tmp_path}"], "source=a.jpg: eval.py needs"),
        (evaluate, [f"hydra.run.dir={tmp_path}"], "set checkpoint=PATH"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message) as error:
            task(overrides)
        assert "\n" not in str(error.value)
    assert not HydraConfig.initialized()


def test_ctrl_c_is_the_programs_to_answer(monkeypatch, tmp_path):
    def stopped(cfg):
        raise Stopped(signal.SIGINT, "saved")

    monkeypatch.setattr(training, "train", stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            train([f"hydra.run.dir={tmp_path}"])
        signal.signal(signal.SIGINT, lambda *_: None)
        with pytest.raises(UserError, match="^saved$"):
            train([f"hydra.run.dir={tmp_path}"])
    finally:
        signal.signal(signal.SIGINT, before)


def test_every_name_is_there_and_says_what_it_is():
    for name in onelook.__all__:
        assert inspect.getdoc(getattr(onelook, name))
    with pytest.raises(AttributeError, match="module 'onelook' has no attribute 'lod'"):
        _ = onelook.lod
    assert {Path(inspect.getfile(getattr(onelook, name))).parent.name for name in
            ("load", "train", "evaluate")} == {"onelook"}  # fmt: skip
