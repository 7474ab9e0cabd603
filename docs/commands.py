"""Runs the commands of a page and captures what they print: python docs/commands.py PAGE.

The ```sh blocks of a page are run in their order, in one scratch folder that has the checkout's
commands. A ```text block right behind one is what it printed; `<!-- from NAME -->` in the line
before an image says which file of the run it shows. Both are written anew, or with --check
compared: all but the digits, since seconds and last places differ between machines. A word in
capitals stands for data of the reader's: a block with one is run where FOLDER=PATH behind the page
says what it is.
"""

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WIDEST = 1000  # pixels of an image in a page
TIMEOUT = 1800  # seconds of a block
CHECKOUT = ("train.py", "eval.py", "predict.py", "configs", "docs", "tests")
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n*^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
IMAGE = re.compile(r"^<!-- from (\S+) -->\n+!\[[^\]]*\]\((\S+?)\)", re.MULTILINE)
OURS = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:torchrun (?:-\S+ )*)?(?:(?:python )?(?:train|eval|predict)\.py"
    r"|python -m (?:engine|detect)\.\w+|onelook \w+)(?= |$)"
)
PLACEHOLDER = re.compile(r"(?<![\w.$-])[A-Z][A-Z0-9]+(?![\w=])")
NAMES = {"DEFAULT", "CIFAR10", "COCO"}  # in capitals, and meant as they are


@dataclass
class Block:
    """Commands of a page, what is shown of them, and where that stands in the text."""

    script: str
    shown: str | None
    images: dict[str, str]  # the link of each image: the file it shows
    span: tuple[int, int]  # of `shown`

    @property
    def commands(self) -> list[str]:
        """Each command in one line, without comments, pipes and what a here-document holds."""
        whole = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", self.script, flags=re.MULTILINE | re.DOTALL)
        whole = re.sub(r"\s*\\\n\s*", " ", whole)
        bare = (
            re.sub(r"(^|\s)#( .*)?$|\s+[12]?>>?\s*\S+", "", line) for line in whole.splitlines()
        )
        parts = (part.strip() for line in bare for part in re.split(r" (?:\|\|?|&&) |; ", line))
        return [part.removeprefix("do ") for part in parts if part and part != "done"]

    @property
    def placeholders(self) -> set[str]:
        """Words that stand for what only the reader has."""
        found = {word for line in self.commands for word in PLACEHOLDER.findall(line)}
        return found - NAMES


def pages() -> list[Path]:
    """The READMEs and every page of the site."""
    return [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> list[Block]:
    """The blocks of commands of a page, in their order."""
    found = list(BLOCK.finditer(text))
    ends = [each.start() for each in found[1:]] + [len(text)]
    behind = [text[each.end() : end] for each, end in zip(found, ends, strict=False)]
    return [
        Block(each[1], each[2], {link: name for name, link in IMAGE.findall(rest)}, each.span(2))
        for each, rest in zip(found, behind, strict=True)
    ]


def commands(text: str) -> list[str]:
    """The commands of a page's blocks, and those in its sentences and tables that have a key."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = (re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose))
    inline = (f"python {s}" if re.match(r"(train|eval|predict)\.py", s) else s for s in spans)
    in_blocks = [line for block in blocks(text) for line in block.commands]
    return in_blocks + [line for line in inline if ours(line) and "=" in line and "..." not in line]


def ours(command: str) -> bool:
    """Whether a line of a shell starts a command of this project."""
    return bool(OURS.match(command))


def capture(page: Path, given: dict[str, str], check: bool = False) -> list[str]:
    """Run a page's blocks; write what they print and draw, or return what differs from the page."""
    text, different = page.read_text(encoding="utf-8"), []
    replaced: list[tuple[tuple[int, int], str]] = []
    with scratch() as folder:
        for block in blocks(text):
            if not any(map(ours, block.commands)):
                continue
            if lacking := block.placeholders - set(given):
                if block.shown is not None and not check:
                    print(f"{page}: kept as it is, for want of {', '.join(sorted(lacking))}=PATH")
                continue
            printed = output(block.script, given, folder)
            if block.shown is not None:
                replaced.append((block.span, printed))
                different += _difference(page, block.shown, printed)
            for link, name in block.images.items():
                source = _newest(folder, name)
                if not check:
                    _copy(source, page.parent / link)
    if not check:
        for (start, end), printed in reversed(replaced):
            text = text[:start] + printed + text[end:]
        page.write_text(text, encoding="utf-8")
    return different if check else []


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one page, in which the commands are as in the checkout."""
    with tempfile.TemporaryDirectory() as folder:
        for name in CHECKOUT:
            (Path(folder) / name).symlink_to(ROOT / name)
        yield Path(folder)


def output(script: str, given: dict[str, str], folder: Path) -> str:
    """What a script prints to standard output, with the reader's words for the paths given.

    Raises:
        SystemExit: a command of it fails.
    """
    run = PLACEHOLDER.sub(lambda word: given.get(word[0], word[0]), script)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", run], cwd=folder, text=True, timeout=TIMEOUT,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{script}exit code {done.returncode}\n{done.stdout}{done.stderr}")
    printed = done.stdout.replace(f"{folder.resolve()}/", "").replace(f"{ROOT}/", "")
    for word, value in given.items():
        printed = printed.replace(value, word)
    return "\n".join(line.rstrip() for line in printed.splitlines()) + "\n"


def _difference(page: Path, shown: str, printed: str) -> list[str]:
    """The lines of a block that are no longer what the page shows, but for digits and spaces."""
    old, new = (re.sub(r"[\d.,]+", "0", re.sub(r"[ \t-]+", " ", s)) for s in (shown, printed))
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), page.name, "printed", n=0)
    return list(lines)


def _newest(folder: Path, name: str) -> Path:
    """The file of that name that was written last, below the folder."""
    found = [path for path in folder.glob(f"**/{name}") if path.is_file()]
    if not found:
        raise SystemExit(f"no command wrote {name}")
    return max(found, key=lambda path: path.stat().st_mtime)


def _copy(source: Path, target: Path) -> None:
    """Copy an image, made small enough for a page, in the format that the target's name says."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((WIDEST, WIDEST * 2))
    target.parent.mkdir(exist_ok=True)
    image.save(target, optimize=True, quality=85)


def main() -> None:
    """Capture the pages named, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", help="pages, and WORD=PATH for words in capitals")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    given = parser.parse_args()
    words = dict(item.split("=", 1) for item in given.pages if "=" in item)
    different = []
    for page in (Path(item) for item in given.pages if "=" not in item):
        different += capture(page, words, given.check)
    print(*different, sep="\n", end="\n" if different else "")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
