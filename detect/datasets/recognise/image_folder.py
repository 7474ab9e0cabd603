"""A folder a class."""

from collections.abc import Iterator

from detect.datasets.pairs import KINDS
from detect.datasets.recognise.look import Look, Reading
from engine.data.tree import SPLITS

ANNOTATIONS = (".xml", ".txt", ".json")


def readings(look: Look) -> Iterator[Reading]:
    """Two folders with images or more, in train/ or in `root`, that no annotation lies in."""
    top = look.folders[""]
    splits = [name for name in top.folders if name.lower() in SPLITS]
    places = splits or [""]
    classes = {name for place in places for name in _classes(look, place)}
    plain = not any(look.folders[place].images for place in places)
    if len(classes) < 2 or not plain:
        return
    names = ", ".join(sorted(classes)[:3]) + (", ..." if len(classes) > 3 else "")
    where = f"in {', '.join(splits)}" if splits else "no folder train"
    what = f"image folders, one a class ({len(classes)} classes, {names}; {where})"
    yield Reading("image_folder", what, {"root": str(look.root)})


def _classes(look: Look, place: str) -> list[str]:
    """The folders of `place` with images in or below them and nothing else; none if one differs."""
    start = f"{place}/" if place else ""
    found: dict[str, bool] = {}
    for at, folder in look.folders.items():
        name = at.removeprefix(start).partition("/")[0]
        if not at.startswith(start) or not name:
            continue
        if any(n.lower().endswith(ANNOTATIONS) for n in folder.others):
            return []
        found[name] = found.get(name, False) or bool(folder.images)
    names = [name for name, filled in found.items() if filled]
    kinds = {name for name in names if name.lower() in KINDS or name.lower() in SPLITS}
    return [] if kinds else names
