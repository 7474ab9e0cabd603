"""What the columns of a table hold: by their names, and by the values of the first rows."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from detect.datasets.boxes import CORNERS
from detect.datasets.csv_boxes import CENTRE, KINDS, OTHERS, SIDES, TEXT, box_of
from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_names import ImageNames
from engine.data.index import Box
from engine.data.tree import SPLITS

LOOKED_UP = 12  # names of a column that are looked for among the images
WORDS = {  # of names without case and signs
    "filename": "filename file image imagename imageid imgid img imagefile imagepath imgpath path "
                "filepath filenames images fname id",
    "class": "class label classname labelname category categoryname cls object objectclass target "
             "tag classid categoryid labelid classes labels",
    "xmin": "xmin x1 left xtl minx startx xleft x", "ymin": "ymin y1 top ytl miny starty ytop y",
    "xmax": "xmax x2 right xbr maxx endx xright", "ymax": "ymax y2 bottom ybr maxy endy ybottom",
    "cx": "cx xc xcenter centerx xcentre centrex", "cy": "cy yc ycenter centery ycentre centrey",
    "box_width": "w width bw boxwidth", "box_height": "h height bh boxheight",
    "width": "width imagewidth imgwidth imgw imagew w",
    "height": "height imageheight imgheight imgh imageh h",
    "split": "split set subset partition dataset usage phase",
}  # fmt: skip
PREFIX = re.compile(r"^(?:bbox|box|bb|boundingbox)(?=.)")
SHAPES = (CORNERS, (*CENTRE, *SIDES), (*CORNERS[:2], *SIDES))
NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
SEPARATORS = "|;"  # of several labels in a cell
EMPTY = {"", "nan", "null", "none", "na"}  # cells that hold nothing
ONES = {"0", "1", "0.0", "1.0", ""}


class Table(NamedTuple):
    """The first rows of a table."""

    names: list[str]  # of the columns; of a file without a top row made up here
    rows: list[list[str]]
    has_top: bool

    def column(self, name: str) -> list[str]:
        """Its values that are not empty."""
        at = self.names.index(name)
        cells = (row[at] for row in self.rows if at < len(row))
        return [cell for cell in cells if cell.lower() not in EMPTY]


def table_of(rows: list[list[str]]) -> Table:
    """The table of a file's first rows, the top one too."""
    if any(cell.lower().endswith(IMAGE_SUFFIXES) for cell in rows[0]):
        return Table([f"column {i}" for i in range(1, len(rows[0]) + 1)], rows, has_top=False)
    return Table(rows[0], rows[1:], has_top=True)


def filename_column(table: Table, images: ImageNames, beside: str) -> str | None:
    """The column whose values are images; None where most of no column's are."""
    best, most = None, 0.0
    for name in table.names:
        values = list(dict.fromkeys(table.column(name)))[:LOOKED_UP]
        found = sum(_is_image(value, images, beside) for value in values)
        score = found + 0.5 * (plain(name) in WORDS["filename"].split())
        if values and 2 * found >= len(values) and score > most:
            best, most = name, score
    return best


def _is_image(value: str, images: ImageNames, beside: str) -> bool:
    try:
        return bool(images.find(value, beside))
    except ValueError:
        return False


def box_columns(table: Table, taken: Sequence[str]) -> dict[str, str]:
    """The columns of the box, and of the image's size, by key; empty without a box."""
    names = [name for name in table.names if name not in taken]
    numeric = [name for name in names if all(map(NUMBER.fullmatch, table.column(name)))]
    for shape in SHAPES:
        found: dict[str, str] = {}
        for key in shape:
            free = [name for name in numeric if name not in found.values()]
            words = WORDS[key].split()
            hit = [n for n in free if PREFIX.sub("", plain(n)) in words and PREFIX.search(plain(n))]
            hit = hit or [n for n in free if plain(n) in words]
            found |= {key: hit[0]} if hit else {}
        if len(found) == len(shape):
            return found | _size_columns(numeric, found)
    for name in names:
        values = table.column(name)
        if values and all(len(numbers_of(value)) == 4 for value in values):
            return {TEXT: name} | _size_columns(numeric, {TEXT: name})
    return {}


def _size_columns(names: Sequence[str], taken: dict[str, str]) -> dict[str, str]:
    free = [name for name in names if name not in taken.values()]
    sides = ("width", "height")
    hits = [next((n for n in free if plain(n) in WORDS[key].split()), "") for key in sides]
    return dict(zip(sides, hits, strict=True)) if all(hits) else {}


def positions(table: Table, filename: str) -> dict[str, str]:
    """The columns of a file without a top row: RetinaNet's, MakeSense's; empty for others."""
    rest = [name for name in table.names if name != filename]
    numeric = [n for n in rest if table.column(n) and all(map(NUMBER.fullmatch, table.column(n)))]
    texts = [name for name in rest if name not in numeric]
    if len(numeric) == 5 and not texts:  # the class is a number: the first or the last
        texts = [numeric[0] if table.names.index(filename) == len(table.names) - 1 else numeric[-1]]
        numeric = [name for name in numeric if name not in texts]
    if len(numeric) not in (4, 6) or len(texts) != 1:
        return {}
    shape = CORNERS if len(numeric) == 4 else (*CORNERS[:2], *SIDES)
    keys = (*shape, "width", "height")[: len(numeric)]
    return {"filename": filename, "class": texts[0]} | dict(zip(keys, numeric, strict=True))


def class_columns(table: Table, taken: Sequence[str]) -> list[str]:
    """The columns that may name the class: by their names, else those of texts."""
    names = [name for name in table.names if name not in taken and name]
    by_name = [name for name in names if plain(name) in WORDS["class"].split()]
    texts = [n for n in names if not all(map(NUMBER.fullmatch, table.column(n)))]
    best = [name for name in by_name if name in texts] or by_name
    return best[:1] or texts


def split_column(table: Table, filename: str) -> dict[str, str]:
    """The column whose every cell is a split's name, train among them; empty without one."""
    names = [n for n in table.names if n != filename and plain(n) in WORDS["split"].split()]
    cells = {name: {SPLITS.get(cell.lower()) for cell in table.column(name)} for name in names}
    found = [name for name in names if "train" in cells[name] and None not in cells[name]]
    return {"split": found[0]} if found else {}


def separators(table: Table, label: str) -> list[str | None]:
    """What may stand between the labels of a cell; None for cells of one label.

    A label that is in several different cells shows that they are lists.
    """
    cells = set(table.column(label))
    for mark in SEPARATORS:
        parts = [part.strip() for cell in cells for part in cell.split(mark)]
        if len(parts) > len(cells):
            shared = len(set(parts)) < len(parts)
            return [mark] if shared and all(parts) else [None, mark]
    return [None]


def marks_of(table: Table, taken: Sequence[str]) -> bool:
    """Whether every other column has only 0 and 1."""
    rest = [name for name in table.names if name not in taken]
    values = [set(table.column(name)) for name in rest]
    marked = any(v & {"1", "1.0"} for v in values)
    return len(rest) > 1 and marked and all(v <= ONES for v in values)


def boxes_of(table: Table, columns: dict[str, str], kind: str) -> list[Box]:
    """The boxes of the first rows that have one.

    Raises:
        ValueError: one is none of this kind.
    """
    keys = [key for key in columns if key not in OTHERS]
    places = {key: table.names.index(columns[key]) for key in keys}
    rows = with_cells(table, [*places.values()])
    return [box_of({key: row[at] for key, at in places.items()}, keys, kind) for row in rows]


def with_cells(table: Table, places: Sequence[int]) -> list[list[str]]:
    """The rows that have something in all of these cells."""
    rows = (row for row in table.rows if max(places) < len(row))
    return [row for row in rows if all(row[at].lower() not in EMPTY for at in places)]


def text_kinds(table: Table, columns: dict[str, str], sizes: list[tuple[int, int]]) -> list[str]:
    """What the four numbers of a text may be, as all rows fit their images of (height, width)."""
    fits = []
    for kind in KINDS:
        try:
            boxes = boxes_of(table, columns, kind)
        except ValueError:
            continue
        pairs = zip(boxes, sizes, strict=False)
        if all(box[2] <= size[1] + 1 and box[3] <= size[0] + 1 for box, size in pairs):
            fits.append(kind)
    return fits


def numbers_of(text: str) -> list[str]:
    """The numbers of a text that holds nothing else but signs between them."""
    parts = [part for part in re.split(r"[\s,;|()\[\]{}]+", text) if part]
    return parts if all(map(NUMBER.fullmatch, parts)) else []


def plain(name: str) -> str:
    """A column's name in lower case, letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
