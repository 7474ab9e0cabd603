"""Where the files of a set of COCO's layout lie, and its images."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from detect.datasets.recognise.look import ends
from engine.data.tree import SPLITS, find_below, is_visible, split_of
from engine.errors import UserError

FILES, BESIDE = "annotations/instances_*.json", "*/_annotations.coco.json"
NAME = re.compile(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
LISTS = [re.compile(rf'"{name}"\s*:') for name in ("images", "annotations", "categories")]
SHOWN = 20  # file names that are looked for in each folder that may have the images


def is_coco(text: str, whole: bool = False) -> bool:
    """Whether a file with this beginning and end has COCO's lists; a large one may hide one."""
    found = sum(bool(pattern.search(text)) for pattern in LISTS)
    return found == len(LISTS) or (found == 2 and not whole and len(text) > 2**16)


def own_files(root: Path) -> dict[str, Path]:
    """The files below a folder by their split; {"": file} of a set in one piece.

    A file has its split in its name (instances_val2017.json, test.json) or is in a folder of its
    name (valid/_annotations.coco.json); the year that ends a name may be left out.

    Raises:
        UserError: there is none, or several in which no name is a split's.
    """
    files = sorted(root.glob(FILES)) or sorted([*root.glob(BESIDE), *root.glob(BESIDE[2:])])
    files = files or [f for p in ("*", "annotations/*", "*/*") for f in _coco(root.glob(p))]
    if not files:
        raise UserError(
            f"dataset.root={root}: expected {FILES} or {BESIDE} in it, or any JSON of COCO's; or "
            "set dataset.annotations=FILE dataset.images=FOLDER"
        )
    names = {_name(file): file for file in dict.fromkeys(files)}
    if len(names) == 1 and not split_of(next(iter(names))):
        return {"": files[0]}
    short = [_short(name) for name in names]
    once = {s: f for s, f in zip(short, names.values(), strict=True) if short.count(s) == 1}
    if not any(map(split_of, names)):
        raise UserError(
            f"dataset.root={root}: {', '.join(f.name for f in files[:5])} are COCO's, whose names "
            "are no splits: set dataset.annotations={train: FILE, val: FILE}"
        )
    return once | names


def images_of(file: Path, root: Path) -> str:
    """The folder that the images of a file lie in, by its first names and by the usual places."""
    name = _name(file)
    usual = [root / "images" / name, root / name]
    places = [
        *usual, file.parent, file.parent / "images", file.parent.parent / "images", root / "images",
        root / "images" / _short(name), root / _short(name), root / "data", root,
    ]  # fmt: skip
    names = first_names(file)
    there = {place: sum(has_image(place, n) for n in names) for place in places if place.is_dir()}
    best = max(there, key=lambda place: there[place], default=usual[1])
    if there.get(best):
        return str(best)
    if file.name == Path(BESIDE).name:
        return str(file.parent)
    return str(usual[0] if usual[0].is_dir() else usual[1])


def has_image(folder: Path, name: str) -> bool:
    """Whether a name, as it is or without folders in front, is a file below the folder."""
    found = find_below(folder, name)
    return found is not None and found.is_file()


def first_names(file: Path) -> list[str]:
    """The file names of some images of a COCO file."""
    names = NAME.findall(ends(file))[:SHOWN]
    return [json.loads(name) for name in names]


def by_split(key: str, files: str | Mapping[str, str] | None) -> dict[str, str]:
    """One path a split, of a key that also takes one path alone: {"": path}."""
    if files is None:
        return {}
    if isinstance(files, str):
        return {"": str(Path(files).expanduser())}
    if not files:
        raise UserError(f"dataset.{key}: got no split, expected {{train: PATH, val: PATH}}")
    return {str(k): str(Path(path).expanduser()) for k, path in files.items()}


def _coco(paths: Iterable[Path]) -> list[Path]:
    files = sorted(p for p in paths if p.suffix.lower() == ".json" and is_visible(p.name))
    return [file for file in files[:SHOWN] if is_coco(ends(file))]


def _name(file: Path) -> str:
    stem = file.stem.removeprefix("instances_")
    in_folder = file.parent.name.lower() in SPLITS and not split_of(stem)
    return file.parent.name if in_folder or file.name == Path(BESIDE).name else stem


def _short(name: str) -> str:
    """The split in a name, or the name without the year that ends it."""
    if name.lower() in SPLITS:
        return name.lower()
    return split_of(name) or re.sub(r"_?\d{4}$", "", name)
