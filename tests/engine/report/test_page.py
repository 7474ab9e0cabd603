"""report.html as the commands write it: its numbers, its content, and that it asks for nothing."""

import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from command_line import SHAPES, TINY, ended, metrics, run

from engine.errors import UserError
from engine.report import figures, sweep
from engine.report.diagnosis import Chart, Mark
from engine.report.pictures import CAP, figure

LARGEST = 5_000_000  # bytes


class Page(HTMLParser):
    """Headings, the cells of each table by its heading, and where the page links to."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.links, self.heading, self.cells, self.inside = {}, [], "", [], ""
        self.shots = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.links += [given[key] for key in ("href", "src", "action", "data") if given.get(key)]
        self.shots += tag == "figure"
        if tag in ("h1", "h2", "h3", "td", "th"):
            self.inside, self.text, self.value = tag, "", given.get("data-value")
        if tag == "table":
            self.cells = self.tables.setdefault(self.heading, [])
        if tag == "tr":
            self.cells.append([])

    def handle_data(self, data):
        if self.inside:
            self.text += data

    def handle_endtag(self, tag):
        if tag == self.inside and tag.startswith("h"):
            self.heading, self.inside = self.text, ""
        elif tag == self.inside:
            self.cells[-1].append(self.value if self.value is not None else self.text)
            self.inside = ""


def read(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(text) < LARGEST
    assert all(link.startswith(("data:image/jpeg", "#")) for link in page.links)
    assert not re.findall(r"(?:url\((?!#)|@import|fetch\(|XMLHttpRequest)", text)
    return text, page


def live(text):
    found = re.search(r"<script type=application/json id=data>(.*?)</script>", text, re.DOTALL)
    return json.loads(found[1])


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    run("train.py", *TINY, *SHAPES, "report=true", "trainer.epochs=2", "trainer.eval_every=1",
        f"hydra.run.dir={folder}", cwd=folder)  # fmt: skip
    return folder


def test_a_run_leaves_a_page_whose_numbers_are_those_of_metrics_json(detector):
    text, page = read(detector)
    found = metrics(detector)
    rows = {row[0]: row[1] for row in page.tables["metrics.json"][1:]}
    assert {key: float(value) if value else None for key, value in rows.items()} == found["metrics"]
    assert found["protocol"] in text and f"data-value='{found['primary_value']}'" in text
    classes = {row[0]: dict(zip(page.tables["Classes"][0], row, strict=True))
               for row in page.tables["Classes"][1:]}  # fmt: skip
    for name, row in classes.items():
        own = found["metrics"].get(f"AP/{name}")
        assert row["AP"] == ("" if own is None else repr(own))
    data = live(text)
    assert data["names"] == list(classes) and page.shots == 6  # all of val
    assert [int(row["objects"]) for row in classes.values()] == data["total"]
    matrix = data["confusion"][0]
    assert sum(n for i, _, n in matrix if i < len(data["names"])) == sum(data["total"])


def test_what_is_shown_is_of_the_best_epoch(detector):
    best = metrics(detector)["epoch"]
    folder = {path.name for path in detector.iterdir()}
    assert {"predictions.json", "report.html"} <= folder
    assert len([p for p in (detector / "images").glob("*.jpg") if "match" not in p.name]) == 6
    again = run("eval.py", f"checkpoint={detector}/checkpoints/best.pt", "draw=0",
                f"hydra.run.dir={detector}/eval", cwd=detector)  # fmt: skip
    text, _ = read(detector / "eval")
    assert f"python eval.py checkpoint={detector}/checkpoints/best.pt" in text
    assert "report.html" in again and f'"epoch": {best}' in (detector / "metrics.json").read_text()
    files = [
        json.loads((f / "predictions.json").read_text()) for f in (detector, detector / "eval")
    ]
    assert files[0] == files[1] != []


def test_a_page_is_written_anew_from_its_folder(detector):
    before, _ = read(detector)
    out = run("-m", "engine.report", f"run={detector}", cwd=detector)
    after, page = read(detector)
    assert f"report: {detector}/report.html" in out and page.shots == 6
    assert live(before) == live(after)


def test_runs_are_compared_and_others_refused(detector, tmp_path):
    run("eval.py", f"checkpoint={detector}/checkpoints/best.pt", "head.postprocess.score=0.3",
        "report=false", f"hydra.run.dir={tmp_path}/strict", cwd=tmp_path)  # fmt: skip
    assert not (tmp_path / "strict/report.html").exists()
    run("-m", "engine.report", f"runs=[{detector},{tmp_path}/strict]",
        f"hydra.run.dir={tmp_path}/both", cwd=tmp_path)  # fmt: skip
    text, page = read(tmp_path / "both")
    assert "The rules differ" in text  # scores above 0.01 and above 0.3
    row = next(row for row in page.tables["metrics.json of each"] if row[0] == "mAP")
    values = [metrics(folder)["primary_value"] for folder in (detector, tmp_path / "strict")]
    assert [float(cell) for cell in row[1:]] == values
    assert [row[0] for row in page.tables["Differences"][1:]][:2] == ["AP", "AP50"]
    for words, message in (
        ([f"runs=[{detector}]"], "at least two folders"),
        ([f"runs=[{detector},{tmp_path}]"], "no metrics.json"),
        ([f"run={detector}", f"sweep={tmp_path}"], "run= and sweep="),
        ([], "nothing to report"),
        (["truth=a.json"], "needs predictions="),
        ([f"sweep={tmp_path}"], "no leaderboard.csv"),
    ):
        process = ended("-m", "engine.report", *words, cwd=tmp_path)
        assert process.returncode == 2 and process.stderr.count("\n") == 1
        assert message in process.stderr


def test_a_folder_that_calls_foreign_code_is_not_read(detector, tmp_path):
    for name in ("metrics.json", "predictions.json"):
        (tmp_path / name).write_bytes((detector / name).read_bytes())
    config = (detector / "config.yaml").read_text()
    changed = config.replace("detect.datasets.shapes.Shapes", "os.system")
    assert changed != config
    (tmp_path / "config.yaml").write_text(changed)
    process = ended("-m", "engine.report", f"run={tmp_path}", cwd=tmp_path)
    assert process.returncode == 2 and "calls os.system at dataset" in process.stderr


def test_a_classifier_with_odd_names_and_a_wrong_label(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name, level in (("<b>&\"'", 40), ("two", 200)):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = rng.integers(level - 20, level + 20, (32, 32, 3), np.uint8)
                cv2.imwrite(str(folder / f"{name[0]}{i}.png"), image)
    run("train.py", "model=resnet18", *TINY, "report=true", "image_size=32",
        "dataset=image_folder", f"dataset.root={tmp_path}/data",
        f"hydra.run.dir={tmp_path}/run", cwd=tmp_path)  # fmt: skip
    text, page = read(tmp_path / "run")
    assert "<b>&\"'" not in text and "&lt;b&gt;" in text
    assert [row[0] for row in page.tables["Classes"][1:]] == ["<b>&\"'", "two"]
    assert page.shots == 8 and sum(live(text)["total"]) == 8
    right = sum(live(text)["right"][0])
    assert right / 8 == metrics(tmp_path / "run")["primary_value"]


def test_a_sweep_says_what_each_key_is_worth(tmp_path):
    (tmp_path / "leaderboard.csv").write_text(
        "job,state,mAP,epochs,seconds,code,reason,optimizer.lr,loss,seed\n"
        "2,done,0.6,3,9,0,,0.1,focal,7\n0,done,0.5,3,8,0,,0.01,focal,7\n"
        "1,done,0.2,3,7,0,,0.1,bce,7\n4,pruned,0.1,1,2,143,,0.001,bce,7\n"
        "3,failed,,,,2,no such loss,0.1,bad,7\n"
    )
    (tmp_path / "importance.csv").write_text("key,importance\nloss,0.75\noptimizer.lr,0.25\n")
    sweep.write(str(tmp_path))
    text, page = read(tmp_path)
    worth = {row[0]: row[1:] for row in page.tables["What each key is worth"][1:]}
    assert float(worth["loss"][0]) == pytest.approx(0.55 - 0.2) and worth["loss"][1] == "focal"
    assert float(worth["optimizer.lr"][0]) == pytest.approx(0.5 - 0.4)
    assert "seed" not in worth  # all jobs have the same
    assert "python train.py optimizer.lr=0.1 loss=focal seed=7" in text
    assert "best of 3 done, 1 pruned, 1 failed" in text
    for title in ("What each job reached", "The best until then", "Importance",
                  "mAP by optimizer.lr"):  # fmt: skip
        assert title in text
    assert page.tables["Jobs that failed"][1][:2] == ["3", "failed"]
    assert "no such loss" in page.tables["Jobs that failed"][1]


def test_a_table_that_no_sweep_wrote_is_refused(tmp_path):
    (tmp_path / "leaderboard.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column state or reason"):
        sweep.write(str(tmp_path))


def test_a_chart_takes_names_that_its_font_cannot_write():
    chart = Chart("t", "", "x", "y", {"猫": ([0, 1], [0, 1]), "犬": ([0, 1], [1, 0])})
    assert "猫" in figures.draw(chart)  # without a warning, which would be an error here


def test_marks_beyond_a_cap_are_counted():
    marks = [Mark("missed", "a", "a", "", (0, 0, 5, 5), truth=True)] * (CAP + 3)
    html = figure(np.zeros((20, 30, 3), np.uint8), marks, "x.png", "why", ["a"])
    assert html.count("<rect") == CAP and "(3 more marks are not drawn)" in html
    assert "no image at hand" in figure(None, marks, "x.png", "why", ["a"])
