"""The real command line, in processes of its own.

Each command runs once by a Python of its own, as users start it (train.py where it is resumed);
the others are forked.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest
import torch
from command_line import ROOT, SHAPES, TINY, assert_resumes_exactly, metrics, run, start, table

from detect.datasets.shapes import Shapes
from engine.output.card import without_folders


@pytest.fixture(scope="session")
def voc(tmp_path_factory) -> Path:
    """Eight images of shapes in VOC's layout: five in train, three in val."""
    root = tmp_path_factory.mktemp("voc")
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    shapes = Shapes(split="train", size=96, train=8)
    for i in range(8):
        record = shapes.record(i)
        cv2.imwrite(str(root / f"JPEGImages/p{i}.jpg"), shapes.image(i)[..., ::-1])
        objects = "".join(
            f"<object><name>{shapes.classes[label]}</name><bndbox><xmin>{x1}</xmin>"
            f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for label, (x1, y1, x2, y2) in zip(record.labels, record.boxes.tolist(), strict=True)
        )
        size = "<size><width>96</width><height>96</height><depth>3</depth></size>"
        xml = f"<annotation>{size}{objects}</annotation>"
        (root / f"Annotations/p{i}.xml").write_text(xml)
    for split, names in {"train": range(5), "val": range(5, 8)}.items():
        text = "".join(f"p{i}\n" for i in names)
        (root / f"ImageSets/Main/{split}.txt").write_text(text)
    return root


@pytest.fixture(scope="session")
def trained(voc, tmp_path_factory) -> Path:
    """The run folder of a detector after one epoch on `voc`."""
    folder = tmp_path_factory.mktemp("trained")
    run("train.py", *TINY, "dataset=voc", f"dataset.root={voc}",
        f"hydra.run.dir={folder}", cwd=folder)  # fmt: skip
    return folder


def test_a_run_leaves_what_it_promises(trained):
    for name in ("config.yaml", "metrics.csv", "metrics.json", "card.md", "data_report.json",
                 "train.log", "checkpoints/best.pt", "checkpoints/last.pt",
                 "tensorboard"):  # fmt: skip
        assert (trained / name).exists(), name
    assert len(list((trained / "images").glob("p*.jpg"))) == 3  # the validation split
    assert len(list((trained / "images").glob("matches_*.jpg"))) == 4
    assert (trained / "images" / "anchors.png").exists()
    found = metrics(trained)
    assert found["primary_name"] == "mAP" and found["primary_value"] == found["metrics"]["mAP"]
    assert set(found) >= {"seconds", "images_per_second", "protocol", "dataset", "commit"}
    rows = table(trained / "metrics.csv")
    assert len(rows) == 1 and float(rows[0]["val/mAP"]) == found["primary_value"]
    state = torch.load(trained / "checkpoints/last.pt", weights_only=True)
    assert state["classes"] == Shapes(split="train").classes
    assert state["preprocessing"]["size"] == [96, 96]


def test_the_card_of_a_run_says_what_the_run_knows_and_names_no_folder_of_the_machine(trained, voc):
    text = (trained / "card.md").read_text()
    found = metrics(trained)
    state = torch.load(trained / "checkpoints/best.pt", weights_only=True)
    for line in (
        "backbone mobilenet_v1_025, head ssd, loss focal",
        "- Input: 96 x 96 pixels",
        f"- dataset=voc, folder {voc.name}",
        "- 5 images trained on, 3 validated on",
        f"classes: {', '.join(state['classes'])}",
        f"mAP {found['primary_value']} on val, epoch 1: {found['protocol']}",
        "seed 0, computed in fp32",
        "Random weights.",
        f"dataset=voc dataset.root={voc.name}\n",
        "eval.py checkpoint=RUN/checkpoints/best.pt",
        f"torch {torch.__version__}",
    ):
        assert line in text, line
    assert str(voc.parent) not in text and str(trained.parent) not in text


@pytest.mark.parametrize(
    "given, card",
    [("dataset.root=/home/me/data/", "dataset.root=data"), ("a=[/x/y/b,c/d]", "a=[b,c/d]"),
     ("backbone.weights=~/w/net.pt", "backbone.weights=net.pt"), ("lr=0.1", "lr=0.1"),
     ("dataset.urls=s3://bucket/a.tar", "dataset.urls=s3://bucket/a.tar")],
)  # fmt: skip
def test_a_card_keeps_the_last_name_of_an_absolute_path(given, card):
    assert without_folders(given) == card


def test_eval_and_predict_agree_to_the_last_bit(trained, voc, tmp_path):
    checkpoint = f"checkpoint={trained / 'checkpoints/last.pt'}"
    out = run("eval.py", checkpoint, f"hydra.run.dir={tmp_path}/eval", cwd=tmp_path, fresh=True)
    scored = metrics(tmp_path / "eval")
    assert scored["protocol"] in out and "IoU 0.50" in out
    assert scored["primary_value"] == metrics(trained)["primary_value"]
    # predict sees all eight images, in other batches of three; eval scores the three of val
    run("predict.py", checkpoint, f"source={voc / 'JPEGImages'}", "loader.batch_size=3",
        f"hydra.run.dir={tmp_path}/pred", cwd=tmp_path, fresh=True)  # fmt: skip
    assert len(list((tmp_path / "pred/images").glob("*.jpg"))) == 8
    file = tmp_path / "pred/predictions.json"
    rows = json.loads(file.read_text())
    assert {row["image_id"] for row in rows} <= {f"p{i}" for i in range(8)}
    out = run("eval.py", "dataset=voc", f"dataset.root={voc}", "metric=voc_map",
              f"predictions={file}", f"hydra.run.dir={tmp_path}/file", cwd=tmp_path)  # fmt: skip
    rescored = metrics(tmp_path / "file")["metrics"]
    assert rescored == {k: v for k, v in scored["metrics"].items() if k in rescored}
    assert "not in this ground truth" in out
    val = [r for r in rows if r["image_id"] in ("p5", "p6", "p7")]
    assert val == json.loads((tmp_path / "eval/predictions.json").read_text())


def test_eval_and_predict_agree_on_tiles_and_views_and_say_so(trained, voc, tmp_path):
    keys = [f"checkpoint={trained / 'checkpoints/last.pt'}", "tile=64", "tta=[flip]"]
    run("eval.py", *keys, "report=false", f"hydra.run.dir={tmp_path}/eval", cwd=tmp_path)
    how = "tiles of 64 px, overlap 0.2, and the whole image, flipped views: merged"
    assert how in metrics(tmp_path / "eval")["protocol"]
    out = run("predict.py", *keys, f"source={voc / 'JPEGImages'}", "loader.batch_size=7",
              "loader.workers=2", f"hydra.run.dir={tmp_path}/pred", cwd=tmp_path)  # fmt: skip
    # 4 windows and the whole, flipped or not: 80 of 8 images are 12 batches of 7, or 84
    assert how in out and "the network ran 10.5 times an image" in out
    rows = json.loads((tmp_path / "pred/predictions.json").read_text())
    val = [r for r in rows if r["image_id"] in ("p5", "p6", "p7")]
    assert val and val == json.loads((tmp_path / "eval/predictions.json").read_text())


def test_predict_reads_and_writes_video(trained, tmp_path):
    path = str(tmp_path / "film.avi")
    film = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for i in range(6):
        film.write(Shapes(split="train", size=96).image(i)[:64])
    film.release()
    run("predict.py", f"checkpoint={trained / 'checkpoints/last.pt'}", f"source={path}", "show=0.1",
        "save=[images,json,csv,yolo,crops]", f"hydra.run.dir={tmp_path}/out",
        cwd=tmp_path)  # fmt: skip
    annotated = cv2.VideoCapture(str(tmp_path / "out/images/film.mp4"))
    assert int(annotated.get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    rows = json.loads((tmp_path / "out/predictions.json").read_text())
    assert {row["frame"] for row in rows} <= set(range(6)) and rows
    assert all(row["image_id"] == f"film_{row['frame']:06d}" for row in rows)
    lines = table(tmp_path / "out/predictions.csv")
    assert [int(x["frame"]) for x in lines if x["class"]] == [row["frame"] for row in rows]
    assert len(list((tmp_path / "out/labels").glob("film_00000?.txt"))) == 6
    shown = [row for row in rows if row["score"] >= 0.1]
    assert len(list((tmp_path / "out/crops").rglob("film_*.jpg"))) == len(shown)
    process = start("predict.py", f"checkpoint={trained / 'checkpoints/last.pt'}", "show=40",
                    f"source={path}", cwd=tmp_path)  # fmt: skip
    assert "show=40.0: expected a number from 0 to 1\n" in process.communicate()[1]


class Webcam(BaseHTTPRequestHandler):
    """Images without end, at most a thousand a second."""

    def log_message(self, *_):
        """No line."""

    def do_GET(self):  # noqa: N802
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        data = cv2.imencode(".jpg", Shapes(split="train", size=96).image(0))[1].tobytes()
        head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        with suppress(OSError):  # the reader goes away
            while True:
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stream_that_is_interrupted_leaves_whole_files(trained, tmp_path, number):
    with ThreadingHTTPServer(("127.0.0.1", 0), Webcam) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        process = start("predict.py", f"checkpoint={trained / 'checkpoints/last.pt'}",
                        f"source=http://me:word@127.0.0.1:{server.server_port}/cam.mjpg",
                        f"hydra.run.dir={tmp_path}/out", cwd=tmp_path)  # fmt: skip
        log = tmp_path / "out/predict.log"
        while not log.exists() or "cam.mjpg: " not in log.read_text():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        server.shutdown()
    assert process.returncode == 0, err
    count = int(re.findall(r"cam\.mjpg: stopped after (\d+) frames\n", out)[0])
    assert f"{count} images, " in out and "word" not in out
    film = cv2.VideoCapture(str(tmp_path / "out/images/cam.mp4"))
    assert int(film.get(cv2.CAP_PROP_FRAME_COUNT)) == count
    rows = json.loads((tmp_path / "out/predictions.json").read_text())
    assert {row["frame"] for row in rows} <= set(range(count))


def test_a_run_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    arguments = ["train.py", *TINY, *SHAPES, "image_size=64", "head.levels=2", "trainer.epochs=3",
                 "dataset.train=24"]  # fmt: skip
    assert_resumes_exactly(arguments, 3, tmp_path)


def test_a_classifier_through_the_same_loop(tmp_path):
    shapes = Shapes(split="train", size=48, train=60)
    for i in range(60):
        record = shapes.record(i)
        if len(record.labels):
            folder = tmp_path / "data/train" / shapes.classes[record.labels[0]]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{i}.png"), shapes.image(i))
    for loss in ("cross_entropy", "focal"):
        out = run("train.py", "model=resnet18", f"loss={loss}", *TINY, "image_size=32",
                  "dataset=image_folder", f"dataset.root={tmp_path}/data",
                  f"hydra.run.dir={tmp_path}/{loss}", cwd=tmp_path)  # fmt: skip
        assert "held out for validation" in out
        assert metrics(tmp_path / loss)["primary_name"] == "top1"


def test_a_sweep_returns_one_metric_a_job(tmp_path):
    out = run("train.py", "-m", "optimizer=sgd,adam", *TINY, *SHAPES,
              f"hydra.sweep.dir={tmp_path}/sweep", cwd=tmp_path)  # fmt: skip
    rows = table(tmp_path / "sweep/leaderboard.csv")
    assert {row["optimizer"] for row in rows} == {"sgd", "adam"}
    values = [float(row["mAP"]) for row in rows]
    assert values == sorted(values, reverse=True)
    assert "leaderboard.csv" in out


def test_a_broken_image_stops_the_run_or_is_left_out_and_listed(voc, tmp_path):
    root = tmp_path / "voc"
    shutil.copytree(voc, root)
    image = root / "JPEGImages/p1.jpg"
    image.write_bytes(image.read_bytes()[:500])
    arguments = ["train.py", *TINY, "loader.batch_size=5", "dataset=voc", f"dataset.root={root}"]
    process = start(*arguments, f"hydra.run.dir={tmp_path}/fail", cwd=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "p1.jpg" in err and "dataset.on_error=skip" in err
    out = run(*arguments, "dataset.on_error=skip", f"hydra.run.dir={tmp_path}/skip", cwd=tmp_path)
    report = json.loads((tmp_path / "skip/data_report.json").read_text())
    assert len(report["train"]) == 1 and "p1.jpg" in report["train"][0]["reason"]
    assert "p1.jpg" in out and image.stat().st_size == 500


def test_a_failed_job_does_not_end_a_sweep(tmp_path):
    process = start("train.py", "-m", "clip=none", "optimizer.lr=abc,0.001", *TINY, *SHAPES,
                    f"hydra.sweep.dir={tmp_path}/sweep", cwd=tmp_path)  # fmt: skip
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2 and "optimizer.lr=abc" in err
    rows = table(tmp_path / "sweep/leaderboard.csv")
    assert [(row["job"], row["state"], row["code"]) for row in rows] == [
        ("1", "done", "0"), ("0", "failed", "2")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_other_launchers_tell_which_job_failed(launcher, tmp_path):
    command = [sys.executable, f"{ROOT}/train.py", "-m", f"hydra/launcher={launcher}",
               "optimizer.lr=abc,0.001,-1", *TINY, *SHAPES,
               f"hydra.sweep.dir={tmp_path}/sweep"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    rows = table(tmp_path / "sweep/leaderboard.csv")
    assert [(row["job"], row["state"], row["code"]) for row in rows] == [
        ("1", "done", "0"), ("0", "failed", "2"), ("2", "failed", "2")]  # fmt: skip
    assert "expected a number from 0" in rows[1]["reason"]
    assert "1 done, 2 failed" in done.stdout


class Payload:
    def __reduce__(self):
        return os.system, ("touch canary",)


BAD = [
    ("trainer.epochs=abc", "trainer.epochs=abc: expected a whole number from 1 to 1,000,000"),
    ("trian.epochs=3", "did you mean trainer.epochs=3?"),
    ("optimizer.lr=abc", "optimizer.lr=abc: expected a number from 0 to 1,000"),
    ("loss=focl", "did you mean 'focal'"),
    ("head.zooms=[1.0]", "head.zooms: this key is called head.scales now"),
    ("head=extra", "head=extra: this is called head=stacked_linear now"),
    ("trainer=debug/fst", "trainer=debug/fst: no such trainer; did you mean 'debug/fast'"),
    ("head=linear loss=multibox", "Losses that do: bce, cross_entropy, focal"),
    ("dataset=voc dataset.root=nowhere", "dataset.root=nowhere: no such folder"),
    ("loader.batch_size=0", "loader.batch_size=0: expected a whole number from 1 to 65,536"),
    ("image_size=64", "set head.levels=4"),
    ("optimizer.lr=-1", "optimizer.lr=-1: expected a number from 0 to 1,000"),
    ("hydra.run.dir='a=b", "quote odd characters"),
    ("resume=nothing.pt", "nothing.pt: no such file"),
    ("resume=nothing.pt model=resnet18", "the checkpoint determines model"),
    ("resume=nothing.pt image_size=64", "the checkpoint determines image_size"),
    ("resume=text.pt", "text.pt: it is text"),
    ("resume=pickled.pt", "pickled.pt: it is a pickle of objects (posix.system)"),
    ("resume=state.pt", "state.pt: not written by train.py"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[a for a, _ in BAD])
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"model": Payload()}, tmp_path / "pickled.pt", pickle_protocol=2)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "state.pt")
    process = start("train.py", *arguments.split(), f"hydra.run.dir={tmp_path}/out", cwd=tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert len(err.strip().splitlines()) == 1 and message in err, err
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"], ["trian.epochs=3"]])
def test_torch_is_not_imported_before_the_configuration_is_checked(flags, tmp_path):
    code = (
        "import runpy, sys\n"
        f"sys.argv = {['train.py', *flags]}\n"
        f"try: runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
