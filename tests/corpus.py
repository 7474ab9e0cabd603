"""Bad inputs, made by a script: each has a name, the files it writes, and the verdict on it.

A case adds one image (or row, or file) to a small good set, so that all cases of a format fit
into one set too. To add a format, write its `Format` and rows of cases.
"""

import hashlib
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from detect.datasets.boxes import OUTSIDE

SIDE, HIGH = 48, 36  # of the images, pixels
CLASSES = ["cat", "dog"]
GOOD = ("a", "b", "c", "d")  # train; "v" validates


class Case(NamedTuple):
    """One thing that can be wrong."""

    name: str
    add: Callable[[Path], None]  # to the set in this folder
    message: str  # a regular expression: what the report, or the error, says of it
    action: str = "left out"  # what is done about it
    images: int = 0  # that it adds to the good ones of train
    objects: int = 0


def noise(name: str, size: tuple[int, int] = (SIDE, HIGH)) -> Image.Image:
    """An image of its own for each name."""
    seed = zlib.crc32(os.fsencode(name))
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (4, 6, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """The image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tree_hash(folder: Path) -> str:
    """Of every name and byte below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(os.fsencode(str(path)))
        if path.is_file():
            found.update(path.read_bytes() if path.stat().st_size < 1e7 else b"large")
    return found.hexdigest()


# --- images ------------------------------------------------------------------------------------


def png_of_bits(width: int, height: int) -> bytes:
    """A whole PNG of one bit a pixel, so that it is small however many pixels it has."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    packer, data, row = zlib.compressobj(1), b"", bytes(1 + (width + 7) // 8)
    for _ in range(height):
        data += packer.compress(row)
    data += packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    ends = chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(ends)


def patched(data: bytes, at: int, value: bytes) -> bytes:
    """The bytes with others in their place."""
    return data[:at] + value + data[at + len(value) :]


def jpeg_bomb() -> bytes:
    """65500 x 65500 pixels by the header of a small JPEG."""
    data = encoded(noise("bomb"), "JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", 65500, 65500))


def tiff_bomb() -> bytes:
    """30000 x 30000 pixels by the tags of a small TIFF."""
    data = encoded(noise("bomb"), "TIFF")
    for tag in (256, 257):
        entry = struct.pack("<HHI", tag, 4, 1)
        at = data.find(entry)
        entry = entry if at >= 0 else struct.pack("<HHI", tag, 3, 1)
        at = data.index(entry)
        data = patched(data, at, struct.pack("<HHII", tag, 4, 1, 30000))
    return data


def exif(turn: int) -> Image.Exif:
    """EXIF data that asks for a turn."""
    found = Image.Exif()
    found[274] = turn
    return found


JPEG, PNG = encoded(noise("x"), "JPEG"), encoded(noise("x"), "PNG")
WEBP, BMP = encoded(noise("x"), "WEBP", lossless=True), encoded(noise("x"), "BMP")
GIF, TIFF, PPM = encoded(noise("x"), "GIF"), encoded(noise("x"), "TIFF"), encoded(noise("x"), "PPM")
HALF = r"damaged|cut short"
HUGE = r"\d+ x \d+ pixels, more than (200|50) million"

# Name, suffix, bytes and what is said of an image that cannot be read.
BAD_IMAGES: list[tuple[str, str, bytes, str]] = [
    ("empty", ".jpg", b"", r"empty \(0 bytes\)"),
    ("text", ".jpg", b"hello world", r"no image \(11 bytes, first b'hell'\)"),
    ("zeros", ".png", bytes(500), r"no image \(500 bytes"),
    ("html", ".jpg", b"<!doctype html><title>404</title>", "no image"),
    ("svg", ".png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no image"),
    ("zip", ".png", b"PK\3\4" + bytes(60), "no image"),
    ("jpeg_start_alone", ".jpg", b"\xff\xd8\xff", "no image"),
    ("jpeg_cut_by_two", ".jpg", JPEG[:-2], "cut short"),
    ("jpeg_half", ".jpg", JPEG[: len(JPEG) // 2], "cut short"),
    ("jpeg_header_alone", ".jpg", JPEG[:160], "no image|cut short"),
    ("jpeg_without_scan", ".jpg", JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9", HALF),
    ("jpeg_noise", ".jpg", b"\xff\xd8\xff\xe0\0\x04ab" + bytes(range(256)) * 3, "no image"),
    ("png_half", ".png", PNG[: len(PNG) // 2], "damaged PNG"),
    ("png_without_pixels", ".png", PNG[:33] + PNG[-12:], "damaged PNG"),
    ("png_spoilt_pixels", ".png", patched(PNG, len(PNG) // 2, b"spoilt" * 4), "damaged PNG"),
    ("png_no_width", ".png", patched(PNG, 16, bytes(4)), "no image"),
    ("webp_half", ".webp", WEBP[: len(WEBP) // 2], "damaged"),
    ("bmp_half", ".bmp", BMP[: len(BMP) // 2], "damaged BMP"),
    ("gif_half", ".gif", GIF[: len(GIF) // 2], "damaged GIF"),
    ("tiff_half", ".tif", TIFF[: len(TIFF) // 2], "damaged TIFF|no image"),
    ("tiff_lost_directory", ".tif", patched(TIFF, 4, b"\xff\xff\xff\x7f"), "no image"),
    ("ppm_half", ".ppm", PPM[: len(PPM) // 2], "damaged PNM"),
    ("ppm_without_numbers", ".ppm", b"P6\nwide high\n255\n", "no image"),
    ("png_bomb", ".png", png_of_bits(20_000, 15_000), HUGE),
    ("jpeg_bomb", ".jpg", jpeg_bomb(), HUGE),
    ("gif_bomb", ".gif", patched(GIF, 6, b"\xff\xff\xff\xff"), HUGE),
    ("tiff_bomb", ".tif", tiff_bomb(), HUGE),
    ("bmp_bomb", ".bmp", patched(BMP, 18, struct.pack("<ii", 2**31 - 1, 2**31 - 1)), HUGE),
    ("ppm_bomb", ".ppm", b"P6 99999 99999 255\n" + bytes(99), HUGE),
    ("webp_bomb", ".webp", patched(WEBP, 21, b"\xff\xff\xff\x0f"), "no image"),  # by Pillow
]  # fmt: skip


# --- PASCAL VOC ----------------------------------------------------------------------------------

BOX = "<xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>25</ymax>"


def thing(name: str = "cat", box: str = BOX, more: str = "") -> str:
    """An `<object>`."""
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def corners(xmin: object, ymin: object, xmax: object, ymax: object) -> str:
    """The inside of a `<bndbox>`."""
    return f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"


def annotation(*things: str, size: str = f"<width>{SIDE}</width><height>{HIGH}</height>") -> str:
    """An XML file; without things it has two good ones."""
    inside = "".join(things or (thing(), thing("dog")))
    return f"<annotation><size>{size}<depth>3</depth></size>{inside}</annotation>"


def voc_image(
    root: Path,
    name: str,
    image: bytes | None = None,
    xml: str | bytes | None = None,
    suffix: str = ".jpg",
    split: str = "train",
) -> None:
    """An image, its annotation and its row in a split; "" writes no annotation."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    data = encoded(noise(name), "JPEG") if image is None else image
    (root / "JPEGImages" / f"{name}{suffix}").write_bytes(data)
    text = annotation() if xml is None else xml
    text = text.encode() if isinstance(text, str) else text
    if text:
        (root / "Annotations" / f"{name}.xml").write_bytes(text)
    voc_row(root, name, split)


def voc_row(root: Path, row: str, split: str = "train") -> None:
    """A row of a split's list."""
    with open(root / "ImageSets" / "Main" / f"{split}.txt", "ab") as file:
        file.write(os.fsencode(row) + b"\n")


def good_voc(root: Path) -> None:
    """Four images to train with two objects each, one to validate."""
    for name in GOOD:
        voc_image(root, name)
    voc_image(root, "v", split="val")


def _xml(
    name: str, xml: str | bytes, message: str, action: str = "left out", images: int = 0,
    objects: int = 0,
) -> Case:  # fmt: skip
    return Case(name, lambda root: voc_image(root, name, xml=xml), message, action, images, objects)


def _row(name: str, bad: str, message: str) -> Case:
    """A bad object beside a good one, which stays."""
    return _xml(name, annotation(thing(), bad), message, "left out", 1, 1)


def _said(name: str, bad: str, message: str, action: str) -> Case:
    """An odd object beside a good one: both stay."""
    return _xml(name, annotation(thing(), bad), message, action, 1, 2)


def _image(name: str, suffix: str, data: bytes, message: str) -> Case:
    def add(root: Path) -> None:
        voc_image(root, f"p_{name}", data, suffix=suffix)

    return Case(f"image_{name}", add, message)


def _odd(
    name: str, suffix: str, data: bytes, message: str = "", action: str = "", xml=None
) -> Case:
    """An image that looks odd and is read all the same."""

    def add(root: Path) -> None:
        voc_image(root, f"o_{name}", data, xml, suffix)

    return Case(f"odd_{name}", add, message, action, 1, 2)


def _instead(name: str, make: Callable[[Path], object], message: str) -> Case:
    """Something else in the place of an image, or nothing."""

    def add(root: Path) -> None:
        voc_image(root, name)
        path = root / "JPEGImages" / f"{name}.jpg"
        path.unlink()
        make(path)

    return Case(name, add, message)


def _stray_image(root: Path) -> None:
    (root / "JPEGImages" / "stray.jpg").write_bytes(encoded(noise("stray"), "JPEG"))


def _stray_annotation(root: Path) -> None:
    (root / "Annotations" / "stray_note.xml").write_text(annotation())


def _twin(root: Path) -> None:
    voc_image(root, "twin", encoded(noise("a"), "JPEG"), split="val")


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
XML_BOMB = f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><annotation>&l9;</annotation>'
OUTSIDER = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation>&f;</annotation>'
DEEP = "<annotation>" + "<a>" * 50_000 + "</a>" * 50_000 + "</annotation>"
WIDE = f"<width>{SIDE}</width><height>{HIGH}</height>"
TURNED = encoded(noise("turned"), "JPEG", exif=exif(6))
UPRIGHT_SIZE = f"<width>{HIGH}</width><height>{SIDE}</height>"
SMALL = thing("cat", corners(2, 2, 30, 30))

VOC = [
    *(_image(*row) for row in BAD_IMAGES),
    _instead("missing", lambda path: None, "no image JPEGImages/missing|No such file"),
    _instead("folder", Path.mkdir, "got a folder"),
    _instead("pipe", os.mkfifo, "got a pipe"),
    _instead("dead_link", lambda path: path.symlink_to("nowhere"), "No such file|no image"),
    _odd("grey", ".jpg", encoded(noise("grey").convert("L"), "JPEG")),
    _odd("ink", ".jpg", encoded(noise("ink").convert("CMYK"), "JPEG")),
    _odd("palette", ".png", encoded(noise("palette").convert("P"), "PNG")),
    _odd("alpha", ".png", encoded(noise("alpha").convert("RGBA"), "PNG")),
    _odd("bits", ".png", encoded(noise("bits").convert("1"), "PNG")),
    _odd("deep", ".png", encoded(Image.new("I;16", (SIDE, HIGH), 40_000), "PNG")),
    _odd("wrong_suffix", ".jpg", encoded(noise("wrong_suffix"), "PNG")),
    _odd("turned_stored", ".jpg", TURNED, "EXIF turns it .*stored image, turned too", "turned"),
    _odd(
        "turned_upright", ".jpg", encoded(noise("turned_upright"), "JPEG", exif=exif(8)),
        "EXIF turns it .*upright image, by its declared size", "turned",
        annotation(SMALL, SMALL, size=UPRIGHT_SIZE),
    ),
    _odd(
        "turned_by_half", ".jpg", encoded(noise("turned_by_half"), "JPEG", exif=exif(3)),
        "EXIF turns it .*as nothing shows otherwise", "turned",
    ),
    _odd("n\udcffme", ".jpg", encoded(noise("name"), "JPEG"), "its name is not UTF-8", "kept"),
    _xml("no_annotation", "", "No such file|no annotation"),
    _xml("xml_empty", " ", "not XML"),
    _xml("xml_cut", annotation()[:90], "not XML"),
    _xml("xml_is_json", '{"boxes": []}', "not XML"),
    _xml("xml_of_a_page", "<html><body/></html>", "expected <annotation> as the root, got <html>"),
    _xml("xml_bomb", XML_BOMB, "a DOCTYPE is refused"),
    _xml("xml_bomb_in_utf16", XML_BOMB.encode("utf-16"), "a DOCTYPE is refused"),
    _xml("xml_of_another_file", OUTSIDER, "a DOCTYPE is refused"),
    _xml("xml_deep", DEEP, "", "", 1, 0),
    _xml("xml_encoding", "<?xml version='1.0' encoding='klingon'?><annotation/>", "not XML"),
    _xml("xml_bytes", b"<annotation>\xff\xfe\x00</annotation>", "not XML"),
    _row("unknown_class", thing("cta"), "unknown class 'cta'.*did you mean 'cat'"),
    _row("no_class", thing(""), "unknown class ''"),
    _row("no_box", "<object><name>cat</name></object>", "no <bndbox>|xmin"),
    _row("no_corner", thing(box="<xmin>3</xmin><ymin>3</ymin>"), "xmax"),
    _row("inverted", thing(box=corners(30, 6, 5, 25)), "inverted"),
    _row("box_nan", thing(box=corners("nan", 6, 5, 25)), "xmin is 'nan', expected a number"),
    _row("box_infinite", thing(box=corners(1, 6, "inf", 25)), "xmax is 'inf', expected a number"),
    _row("box_too_large", thing(box=corners(1, 6, "1e999", 25)), "expected a number"),
    _row("box_text", thing(box=corners(1, "six", 5, 25)), "ymin is 'six', expected a number"),
    _row("box_comma", thing(box=corners("1,5", 2, 5, 25)), "xmin is '1,5', expected a number"),
    _said("no_area", thing(box=corners(5, 6, 5, 6)), "has no area", "ignored"),
    _said("no_width", thing(box=corners(5, 6, 5, 20)), "has no area", "ignored"),
    _said("outside", thing(box=corners(5, 6, 90, 20)), "leaves the image", "kept"),
    _said("negative", thing(box=corners(-9, 6, 20, 20)), "leaves the image", "kept"),
    _said("far_outside", thing(box=corners(1e6, 1e6, 2e6, 3e6)), "lies outside", OUTSIDE),
    _xml("size_wrong", annotation(size="<width>90</width><height>80</height>"),
         "declared 90 x 80, the image is 48 x 36", "kept", 1, 2),
    _xml("size_interchanged", annotation(size=UPRIGHT_SIZE),
         "declared 36 x 48, the image is 48 x 36", "kept", 1, 2),
    _xml("size_missing", annotation(thing(), thing(box=corners(5, 6, 90, 20)), size=""),
         "its box 2, 5, 6, 90, 20, leaves the image of 48 x 36", "kept", 1, 2),
    _xml("size_text", annotation(size="<width>wide</width><height>high</height>"), "", "", 1, 2),
    Case("row_unknown", lambda root: voc_row(root, "nobody"), "no image JPEGImages/nobody"),
    Case("row_twice", lambda root: voc_row(root, "a"), "a is in row 1 already"),
    Case("row_leaves", lambda root: voc_row(root, "../../../etc/passwd"),
         "leaves the folder|no image"),
    Case("row_with_ending", lambda root: voc_row(root, "a.jpg"),
         r"no image JPEGImages/a\.jpg\.jpg \(or \.png\); names stand without ending: a"),
    Case("row_absolute", lambda root: voc_row(root, "/etc/passwd"), "leaves the folder|no image"),
    Case("row_blank", lambda root: voc_row(root, "   "), "", ""),
    Case("stray_image", _stray_image, "no split has this image", "not used"),
    Case("stray_annotation", _stray_annotation, "an annotation without an image", "not used"),
    Case("leak", lambda root: voc_row(root, "a", "val"), "is in the split train too", "kept"),
    Case("twin", _twin, r"the same pixels as .*a\.jpg \(train\)", "kept"),
]  # fmt: skip
assert len({case.name for case in VOC}) == len(VOC)


# --- COCO -----------------------------------------------------------------------------------------


def coco(**changes: object) -> str:
    """A truth file of three images with an object each, with parts of it changed."""
    names = [{"id": i, "file_name": f"{i}.jpg", "width": SIDE, "height": HIGH} for i in (1, 2, 3)]
    rows = [
        {
            "id": i,
            "image_id": i,
            "category_id": 3,
            "bbox": [5, 6, 20, 15],
            "area": 300,
            "iscrowd": 0,
        }
        for i in (1, 2, 3)
    ]
    parts = {"images": names, "annotations": rows, "categories": [{"id": 3, "name": "cat"}]}
    return json.dumps(parts | changes)


def good_coco(root: Path) -> None:
    """The images of `coco`, and its file."""
    (root / "images").mkdir()
    for i in (1, 2, 3):
        (root / "images" / f"{i}.jpg").write_bytes(encoded(noise(f"coco{i}"), "JPEG"))
    (root / "truth.json").write_text(coco())


def _json(name: str, text: str | bytes, message: str, action: str = "left out") -> Case:
    data = text if isinstance(text, bytes) else text.encode()
    return Case(
        name, lambda root: (root / "truth.json").write_bytes(data) and None, message, action
    )


def _changed(name: str, part: str, change: dict, message: str, action: str = "left out") -> Case:
    """The second row of a part, changed; a value of ... takes the key away."""
    rows = json.loads(coco())[part]
    changed = {**rows[-1 if part == "categories" else 1], **change}
    rows[-1 if part == "categories" else 1] = {k: v for k, v in changed.items() if v is not ...}
    return _json(name, coco(**{part: rows}), message, action)


COCO = [
    _json("json_empty", "", "no JSON"),
    _json("json_cut", coco()[:100], "no JSON"),
    _json("json_bytes", b"\xff\xfe{}", "no JSON"),
    _json("json_deep", "[" * 100_000, "no JSON"),
    _json("json_of_predictions", "[]", "expected lists under images, annotations, categories"),
    _json("json_number", "7", "expected lists under images, annotations, categories"),
    _json("no_images", '{"annotations": [], "categories": []}', "expected lists under"),
    _json("images_no_list", coco(images={"1": 2}), "expected lists under"),
    _changed("image_id_text", "images", {"id": "two"}, "id 'two', expected a whole number"),
    _changed("image_id_twice", "images", {"id": 1}, "id 1, expected .*used once"),
    _changed("image_without_name", "images", {"file_name": ...}, "'?file_name'?"),
    _changed("image_leaves", "images", {"file_name": "../../../etc/passwd"}, "leaves the folder"),
    _changed("image_absolute", "images", {"file_name": "/etc/passwd"}, "leaves the folder"),
    _changed("image_missing", "images", {"file_name": "nothing.jpg"}, "nothing.jpg: No such file"),
    _changed("image_of_no_id", "annotations", {"image_id": 99}, "image_id 99"),
    _changed("class_of_no_id", "annotations", {"category_id": 99}, "category_id 99"),
    _changed("class_without_name", "categories", {"name": ...}, "'name'"),
    _changed("box_of_three", "annotations", {"bbox": [1, 2, 3]}, "bbox"),
    _changed("box_missing", "annotations", {"bbox": ...}, "bbox"),
    _changed("box_text", "annotations", {"bbox": "1 2 3 4"}, "bbox"),
    _changed("box_nan", "annotations", {"bbox": [1, 2, float("nan"), 4]}, "bbox|NaN"),
    _changed("box_too_large", "annotations", {"bbox": [1, 2, 1e300, 4]}, "bbox"),
    _changed("box_negative", "annotations", {"bbox": [30, 20, -9, 4]}, "bbox"),
    _changed("box_flat", "annotations", {"bbox": [5, 5, 0, 9]}, "has no area", "ignored"),
    _changed("box_outside", "annotations", {"bbox": [60, 5, 9, 9]}, "lies outside", OUTSIDE),
    _changed("area_nan", "annotations", {"area": float("nan")}, "area|NaN"),
]


# --- folders of classes --------------------------------------------------------------------------


def folder_image(root: Path, name: str, data: bytes | None = None, split: str = "train") -> None:
    """An image in the class cat."""
    path = root / split / "cat" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(noise(name), "JPEG") if data is None else data)


def good_folder(root: Path) -> None:
    """Four images of two classes to train, two to validate."""
    for name in ("a.jpg", "b.jpg"):
        folder_image(root, name)
    for name in ("train/dog/c.jpg", "train/dog/d.jpg", "val/cat/v.jpg", "val/dog/w.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(noise(name), "JPEG"))


def _in_folder(name: str, suffix: str, data: bytes, message: str) -> Case:
    return Case(name, lambda root: folder_image(root, f"{name}{suffix}", data), message)


FOLDER = [
    *(_in_folder(*row) for row in BAD_IMAGES),
    Case("not_a_image", lambda root: folder_image(root, "notes.txt", b"x"), "no image"),
    Case("beside_the_classes", lambda root: (root / "train" / "list.csv").touch(),
         "lies beside the class folders"),
    Case("dead_link", lambda root: (root / "train/cat/link.jpg").symlink_to("nowhere.jpg"),
         "cannot be read"),
    Case("twin", lambda root: folder_image(root, "t.jpg", encoded(noise("a.jpg"), "JPEG"), "val"),
         r"the same pixels as .*a\.jpg \(train\)", "kept"),
    Case("turned", lambda root: folder_image(root, "turned.jpg", TURNED),
         "EXIF turns it", "turned", 1, 1),
    Case("unknown_class", lambda root: (root / "val/bird").mkdir(), "'bird' is unknown", "stops"),
    Case("empty_class", lambda root: (root / "val/dog/w.jpg").unlink(), "no image in it",
         "stops"),
]  # fmt: skip


# --- YOLO ----------------------------------------------------------------------------------------

SHARES = "0 0.5 0.5 0.4 0.4"


def yolo_image(
    root: Path,
    name: str,
    rows: str | bytes | None = f"{SHARES}\n1 0.4 0.4 0.2 0.3\n",
    image: bytes | None = None,
    suffix: str = ".jpg",
    split: str = "train",
) -> None:
    """An image and its rows; None writes no file of them."""
    for folder in ("images", "labels"):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    data = encoded(noise(name), "JPEG") if image is None else image
    (root / "images" / split / f"{name}{suffix}").write_bytes(data)
    if rows is not None:
        text = rows.encode() if isinstance(rows, str) else rows
        (root / "labels" / split / f"{name}.txt").write_bytes(text)


def good_yolo(root: Path) -> None:
    """Four images to train with two objects each, one to validate."""
    for name in GOOD:
        yolo_image(root, name)
    yolo_image(root, "v", split="val")
    (root / "classes.txt").write_text("\n".join(CLASSES))


def _shares(name: str, bad: str, message: str, action: str = "left out", objects: int = 1) -> Case:
    """A bad row behind a good one."""
    text = f"{SHARES}\n{bad}\n"
    return Case(name, lambda root: yolo_image(root, name, text), message, action, 1, objects)


def _in_yolo(name: str, suffix: str, data: bytes, message: str) -> Case:
    return Case(name, lambda root: yolo_image(root, name, image=data, suffix=suffix), message)


YOLO = [
    *(_in_yolo(*row) for row in BAD_IMAGES),
    _shares("four_values", "0 0.5 0.5 0.4", "4 values, expected class cx cy w h"),
    _shares("polygon", "0 0.1 0.1 0.5 0.1 0.5 0.5", "", "", 2),
    _shares("polygon_odd", "0 0.1 0.1 0.5 0.1 0.5 0.5 0.7", "8 values, .*polygon"),
    _shares("class_text", "cat 0.5 0.5 0.4 0.4", "class is 'cat', expected a number"),
    _shares("class_unknown", "7 0.5 0.5 0.4 0.4", "class 7, expected 0 to 1"),
    _shares("class_negative", "-1 0.5 0.5 0.4 0.4", "class -1, expected 0 to 1"),
    _shares("class_fraction", "0.5 0.5 0.5 0.4 0.4", "class 0.5, expected 0 to 1"),
    _shares("share_nan", "0 nan 0.5 0.4 0.4", "cx is 'nan', expected a number"),
    _shares("share_infinite", "0 0.5 0.5 inf 0.4", "w is 'inf', expected a number"),
    _shares("share_negative", "0 0.5 0.5 -0.4 0.4", "expected sizes from 0 on"),
    _shares("pixels", "0 24 18 10 12", "expected shares of the image, not pixels"),
    _shares("flat", "0 0.5 0.5 0 0.4", "has no area", "ignored", 2),
    _shares("outside", "0 0.9 0.5 0.9 0.4", "leaves the image", "kept", 2),
    _shares("far_outside", "0 1.3 0.5 0.4 0.4", "lies outside", OUTSIDE, 2),
    Case("bytes", lambda root: yolo_image(root, "bytes", b"\xff\xfe\n"), "1 values, expected",
         "left out", 1),
    Case("no_rows", lambda root: yolo_image(root, "no_rows", ""), "", "", 1),
    Case("no_file_of_rows", lambda root: yolo_image(root, "bare", None), "", "", 1),
    Case("rows_without_image",
         lambda root: (root / "labels/train/lost.txt").write_text(SHARES) and None,
         "no image of this name"),
]  # fmt: skip


# --- CSV -----------------------------------------------------------------------------------------


def csv_rows(root: Path, *rows: str, split: str = "train") -> None:
    """Rows at the end of a split's file."""
    with open(root / f"{split}.csv", "a") as file:
        file.writelines(f"{row}\n" for row in rows)


def csv_image(root: Path, name: str, *rows: str, split: str = "train") -> None:
    """An image and its rows, or two good ones."""
    (root / f"{name}.jpg").write_bytes(encoded(noise(f"csv_{name}"), "JPEG"))
    good = "cat,5,6,30,25", "dog,5,6,30,25"
    csv_rows(root, *(f"{name}.jpg,{row}" for row in rows or good), split=split)


def good_csv(root: Path) -> None:
    """Four images to train with two objects each, one to validate."""
    for split in ("train", "val"):
        csv_rows(root, "filename,class,xmin,ymin,xmax,ymax", split=split)
    for name in GOOD:
        csv_image(root, name)
    csv_image(root, "v", split="val")


def _cells(name: str, bad: str, message: str, action: str = "left out", objects: int = 1) -> Case:
    """A bad row behind a good one of the same image."""

    def add(root: Path) -> None:
        csv_image(root, name, "cat,5,6,30,25", bad)

    return Case(name, add, message, action, 1, objects)


def _line(name: str, row: str, message: str) -> Case:
    return Case(name, lambda root: csv_rows(root, row), message)


CSV = [
    _cells("class_unknown", "cta,5,6,30,25", "unknown class 'cta'.*did you mean 'cat'"),
    _cells("class_missing", ",5,6,30,25", "unknown class ''"),
    _cells("cell_missing", "cat,5,6", "xmax is ''"),
    _cells("cell_text", "cat,5,six,30,25", "ymin is 'six', expected a number"),
    _cells("cell_nan", "cat,5,6,nan,25", "xmax is 'nan', expected a number"),
    _cells("inverted", "cat,30,6,5,25", "inverted"),
    _cells("flat", "cat,5,6,5,25", "has no area", "ignored", 2),
    _cells("outside", "cat,5,6,90,25", "leaves the image", "kept", 2),
    _cells("far_outside", "cat,50,6,90,25", "lies outside", "ignored", 2),
    _line("image_missing", "lost.jpg,cat,5,6,30,25", "no image lost.jpg"),
    _line("image_leaves", "../../etc/passwd,cat,5,6,30,25", "none below the folder"),
    _line("image_absolute", "/etc/passwd,cat,5,6,30,25", "none below the folder"),
    _line("image_without_name", ",cat,5,6,30,25", "none below the folder"),
    _line("quote_left_open", '"a.jpg,cat,5,6,30,25', "a quote is left open"),
]  # fmt: skip
