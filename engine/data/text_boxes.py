"""Text files of boxes, one an image, as other programs write them: the truth, or detections.

Rows of pixels are `class xmin ymin xmax ymax` or `class x y w h`, with the score of a detection
behind its class, and `difficult` behind an object that does not count, as
https://github.com/Cartucho/mAP and https://github.com/rafaelpadilla/Object-Detection-Metrics read
them. Shares of the image's sides are YOLO's `class cx cy w h`, with the score last, or behind the
class (`relative` of the second program).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.read_json import LARGEST
from engine.data.splits import list_rows
from engine.data.tree import is_visible
from engine.errors import UserError, did_you_mean

FORMS = {  # what the columns are; a detection has its score where the bracket is
    "corners": "class [score] xmin ymin xmax ymax",
    "xywh": "class [score] x y w h",
    "yolo": "class cx cy w h [score]",
    "relative": "class [score] cx cy w h",
}
SHARES = ("yolo", "relative")
CLASSES = "classes.txt"  # names by number, in the folder or beside it
DIFFICULT = "difficult"
LARGEST_SHARE = 2.0  # of an image's side; a larger number is one of pixels
# Of the side, that a box may reach over the border where its form is recognised: detections do.
MARGIN, SHARE_MARGIN = 0.2, 0.1
Sizes = Mapping[str, tuple[int, int]]  # (height, width) of an image by its file's stem


@dataclass(frozen=True)
class TextRows:
    """The rows of all files of a folder, in the order of the files' names."""

    folder: Path
    scored: bool  # whether they are detections
    stems: list[str]  # of the files, those without a row too
    file: np.ndarray  # [M] int64, row in `stems`
    row: np.ndarray  # [M] int64, in its file, from 1
    names: list[str]  # M names of classes, of YOLO's their numbers
    numbers: np.ndarray  # [M, 4 or 5] float64, behind the class
    ignore: np.ndarray  # [M] bool, of truth

    def fail(self, at: int, reason: str) -> UserError:
        """An error that names a row."""
        file = self.folder / f"{self.stems[self.file[at]]}.txt"
        return UserError(f"{file}, row {self.row[at]}: {reason}")


def read(folder: str | Path, scored: bool) -> TextRows:
    """The rows of every *.txt of a folder but classes.txt.

    Args:
        folder: that has the files; those in folders below are of others.
        scored: whether they are detections, which have a score.

    Raises:
        UserError: there is none, or a row is none of these, by file and row.
    """
    base = Path(folder).expanduser()
    files = sorted(f for f in base.glob("*.txt") if is_visible(f.name) and f.name != CLASSES)
    if not files:
        raise UserError(f"{folder}: no *.txt in it, expected a text file an image")
    file, row, names, numbers, ignore = [], [], [], [], []
    for place, path in enumerate(files):
        for number, text in list_rows(path):
            try:
                name, values, hard = _parse(text.split(), scored)
            except ValueError as error:
                raise UserError(f"{path}, row {number}: {error}") from None
            file.append(place)
            row.append(number)
            names.append(name)
            numbers.append(values)
            ignore.append(hard)
    table = np.array(numbers, np.float64).reshape(-1, 4 + scored)
    places = np.array(file, np.int64), np.array(row, np.int64)
    stems = [path.stem for path in files]
    return TextRows(base, scored, stems, *places, names, table, np.array(ignore, bool))


def form_of(rows: TextRows, box: str | None, sizes: Sizes) -> str:
    """The name of the rows' form: `box`, or the only one that all of them fit.

    Args:
        rows: of a folder.
        box: the form, if it is known.
        sizes: of the images, as far as they are known.

    Raises:
        UserError: more than one fits, or none does, or `box` is no form.
    """
    if box is not None and box not in FORMS:
        hint = did_you_mean(box, FORMS)
        raise UserError(f"box={box}: expected {', '.join(FORMS)}, or null: what fits{hint}")
    if box is not None or not len(rows.numbers):
        return box or "corners"
    is_shares = bool((np.abs(rows.numbers) <= LARGEST_SHARE).all())
    names = (SHARES if rows.scored else SHARES[:1]) if is_shares else ("corners", "xywh")
    wrong = {name: _misfit(rows, name, sizes) for name in names}
    fits = [name for name, reason in wrong.items() if reason is None]
    if len(fits) == 1:
        return fits[0]
    both = " or ".join(f"box={name} ({columns(name, rows.scored)})" for name in fits or wrong)
    if fits:
        more = "" if is_shares or sizes else "; images=FOLDER may tell, by their sizes"
        raise UserError(f"{rows.folder}: the rows fit more than one form: set {both}{more}")
    first = next(iter(wrong.values()))
    raise UserError(f"{first}; the rows fit neither form; to read them so all the same set {both}")


def boxes_of(rows: TextRows, form: str, sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [M, 4] float64 xywh in pixels, and scores [M], of truth 1.

    Raises:
        UserError: a row cannot be of this form, or the size of its image is not known.
    """
    found = _defect(rows, form)
    if found is not None:
        raise rows.fail(*found)
    scores, four = _columns(rows, form)
    low, far = four[:, :2], four[:, 2:]
    if form == "corners":
        return np.hstack([low, far - low]), scores
    if form == "xywh":
        return four, scores
    for at in np.flatnonzero([rows.stems[place] not in sizes for place in rows.file])[:1]:
        reason = f"{columns(form, rows.scored)} are shares, and the size of the image is not known"
        raise rows.fail(at, f"{reason}; set images=FOLDER")
    sides = _sides(rows, sizes)
    return np.hstack([(low - far / 2) * sides, far * sides]), scores


def recognised(rows: TextRows, form: str, box: str | None) -> list[str]:
    """The line that says which form was recognised; none where it was given."""
    if box is not None or not len(rows.numbers):
        return []
    return [f"rows {columns(form, rows.scored)}, the only form that fits: box={form}"]


def columns(form: str, scored: bool) -> str:
    """What the columns of a form are."""
    return FORMS[form].replace("[score]", "score" if scored else "").replace("  ", " ").strip()


def listed_names(rows: TextRows) -> list[str] | None:
    """The classes by number that a classes.txt in the folder, or beside it, lists."""
    for file in (rows.folder / CLASSES, rows.folder.parent / CLASSES):
        if file.is_file():
            return [name for _, name in list_rows(file)]
    return None


def named(rows: TextRows, listed: list[str]) -> list[str]:
    """The class of each row, numbers taken from the list.

    Raises:
        UserError: a number has no name in the list.
    """
    for at, name in enumerate(rows.names):
        if name.isdecimal() and int(name) >= len(listed):
            raise rows.fail(at, f"class {name}, expected 0 to {len(listed) - 1}")
    return [listed[int(name)] if name.isdecimal() else name for name in rows.names]


def _parse(texts: list[str], scored: bool) -> tuple[str, tuple[float, ...], bool]:
    """Class, numbers and whether the object is difficult; a class may have several words."""
    given, hard = len(texts), not scored and texts[-1].lower() == DIFFICULT
    texts = texts[:-1] if hard else texts
    count = 4 + scored
    name = texts[:-count]
    if not name or any(map(_is_number, name[1:])):
        what = "a score and four numbers" if scored else "four numbers"
        raise ValueError(f"{given} values, expected a class and {what} (box=NAME says which)")
    values = texts[-count:]
    for at, text in enumerate(values, given - hard - count + 1):
        if not _is_number(text):
            raise ValueError(f"value {at} is '{text[:40]}', expected a number")
    return " ".join(name), tuple(map(float, values)), hard


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= LARGEST
    except ValueError:
        return False


def _columns(rows: TextRows, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores [M], of truth 1, and the four numbers [M, 4] of the boxes."""
    if not rows.scored:
        return np.ones(len(rows.numbers)), rows.numbers
    if form == "yolo":
        return rows.numbers[:, 4], rows.numbers[:, :4]
    return rows.numbers[:, 0], rows.numbers[:, 1:]


def _sides(rows: TextRows, sizes: Sizes) -> np.ndarray:
    """[M, 2] width and height of each row's image; infinite where they are not known."""
    known = [sizes.get(stem, (np.inf, np.inf))[::-1] for stem in rows.stems]
    return np.array(known, np.float64).reshape(-1, 2)[rows.file]


def _defect(rows: TextRows, form: str) -> tuple[int, str] | None:
    """The first row that no file of this form has, and why."""
    scores, four = _columns(rows, form)
    sized = form != "corners"
    tests = [
        ((scores < 0) | (scores > 1), f"the score is no number from 0 to 1 as {form} has it"),
        ((four[:, 2:] < 0).any(1) & sized, f"a negative width or height as {form} has it"),
        ((four[:, 2:] < four[:, :2]).any(1) & (not sized), "corners are inverted"),
        ((np.abs(four) > LARGEST_SHARE).any(1) & (form in SHARES), "these are pixels, not shares"),
    ]
    for wrong, reason in tests:
        for at in np.flatnonzero(wrong)[:1]:
            shown = " ".join(f"{number:g}" for number in rows.numbers[at])
            expected = columns(form, rows.scored)
            return int(at), f"'{rows.names[at]} {shown}': {reason}, expected {expected}"
    return None


def _misfit(rows: TextRows, form: str, sizes: Sizes) -> UserError | None:
    """Why some row is not of this form; boxes far outside of their images are taken to show it."""
    found = _defect(rows, form)
    if found is not None:
        return rows.fail(*found)
    _, four = _columns(rows, form)
    low, far = four[:, :2], four[:, 2:]
    if form in SHARES:
        wrong = (np.abs(low - 0.5) + far / 2 > 0.5 + SHARE_MARGIN).any(1)
    else:
        end = far if form == "corners" else low + far
        wrong = (end > _sides(rows, sizes) * (1 + MARGIN)).any(1)
    for at in np.flatnonzero(wrong)[:1]:
        return rows.fail(int(at), f"as {columns(form, rows.scored)} the box leaves the image")
    return None
