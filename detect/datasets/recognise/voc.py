"""PASCAL VOC's XML."""

import re
from collections.abc import Iterator

from detect.datasets.recognise.look import Look, Reading

VOC_ROOT = re.compile(r"<annotation[\s>]")


def readings(look: Look) -> Iterator[Reading]:
    """VOC, where a sample of the XML files has its root element."""
    files = look.files(".xml")
    if not any(VOC_ROOT.search(text) for _, text in look.texts(files)):
        return
    lists = [place for place in look.folders if place.endswith("ImageSets/Main")]
    tops = [place.removesuffix("ImageSets/Main").rstrip("/") for place in lists]
    if len(tops) > 1:
        for top in tops:
            yield Reading("voc", f"PASCAL VOC in {top}", {"root": str(look.root / top)})
        return
    values = {"root": str(look.root)}
    if tops:
        values["root"] = str(look.root / tops[0])
        what = "lists in ImageSets/Main"
    elif any(name.endswith(".txt") for name in _of(look, "ImageSets")):
        values["splits"], what = str(look.root / "ImageSets"), "lists in ImageSets"
    else:
        what = "no ImageSets"
    has_splits = what != "no ImageSets"
    yield Reading("voc", f"PASCAL VOC ({len(files)} XML files, {what})", values, has_splits)


def _of(look: Look, place: str) -> list[str]:
    return look.folders[place].others if place in look.folders else []
