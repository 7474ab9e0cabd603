"""report.html in a real browser, Debian's chromium; skipped where there is none."""

import json
import re
import shutil
import subprocess

import pytest
from command_line import SHAPES, TINY, run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]
TRY = """
const wait = new Promise((done) => setTimeout(done, 0)), seen = {errors: []};
window.addEventListener("error", (event) => seen.errors.push(event.message));
wait.then(() => {
  const slider = document.getElementById("score"), number = (id) =>
    Number(document.getElementById(id).textContent);
  const move = (at) => { slider.value = at; slider.dispatchEvent(new Event("input")); };
  move(0); seen.low = [number("right"), number("wrong"), number("missed")];
  move(slider.max); seen.high = [number("right"), number("wrong"), number("missed")];
  const head = [...document.querySelectorAll("th[data-sort]")].find(
    (th) => th.textContent === "objects");
  const column = () => [...head.closest("table").tBodies[0].rows].map(
    (row) => Number(row.children[[...head.parentNode.children].indexOf(head)].textContent));
  head.click(); seen.falling = column();
  head.click(); seen.rising = column();
  const kind = document.getElementById("kind");
  kind.value = "m4"; kind.dispatchEvent(new Event("change"));
  seen.shown = [...document.querySelectorAll(".shot")].filter((shot) => !shot.hidden)
    .map((shot) => shot.dataset.kinds);
  seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  document.title = JSON.stringify(seen);
});
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the page shows after its slider, a heading and a filter were used."""
    folder = tmp_path_factory.mktemp("browser")
    run("train.py", *TINY, *SHAPES, "report=true", f"hydra.run.dir={folder}", cwd=folder)
    page = folder / "tried.html"
    text = (folder / "report.html").read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", f"<script>{TRY}</script></body>"), encoding="utf-8")
    line = [str(CHROMIUM), "--headless", "--no-sandbox", "--virtual-time-budget=5000", "--dump-dom"]
    out = subprocess.run([*line, page.as_uri()], capture_output=True, text=True, timeout=120)
    return json.loads(re.search(r"<title>(.*?)</title>", out.stdout)[1])


def test_the_slider_the_sorting_and_the_filter_work(seen):
    assert seen["errors"] == []
    objects = seen["low"][0] + seen["low"][2]
    assert seen["high"] == [0, 0, objects] and seen["low"][1] > 0
    assert seen["falling"] == sorted(seen["falling"], reverse=True)
    assert seen["rising"] == sorted(seen["rising"])
    assert all("m4" in kinds.split() for kinds in seen["shown"])


def test_the_page_asks_for_nothing(seen):
    assert all(name.startswith("data:") for name in seen["requests"])
