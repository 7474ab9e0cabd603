"""Finds the images of a split: the dataset's own split, a list's, or a random share of train."""

import codecs
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.errors import UserError, did_you_mean
from engine.regular_file import read_regular

LARGEST_LIST = 2**27  # bytes; of ten million images at most
LONGEST_ROW = 2**17  # characters
VAL = ("val", "valid", "validation")  # what the split is called, the first that is there


class SplitSource(NamedTuple):
    """Where the images of a split come from."""

    source: str  # the dataset's own split, or the list, that has them
    list: Path | None  # the file that lists them; None: all images of the source
    held_out_from_train: bool  # "train" and "val" are both parts of the source, "train"


def find_split(
    split: str, *, root: str | Path, own: Collection[str], lists: str | None, val_share: float
) -> SplitSource:
    """Where the images of a split of a dataset come from.

    Args:
        split: name of the split.
        root: the dataset's folder or file, for messages.
        own: names of the dataset's own splits; empty for a dataset without splits, all of which
            is then "train".
        lists: folder of <split>.txt that list the images of each split of such a dataset.
        val_share: share of train held out as "val" if there is no such split; 0 for none.

    Raises:
        UserError: there is no such split, or `lists` is given but the dataset has splits.
    """
    if not 0 <= val_share < 1:
        raise UserError(f"dataset.val_share is {val_share}, expected 0 <= val_share < 1")
    if lists is not None and own:
        raise UserError(
            f"dataset.splits={lists}: expected a dataset without splits, {root} has its own: "
            f"{', '.join(sorted(own))}"
        )
    names = list_names(lists) if lists is not None else sorted(own) or ["train"]
    val = next((name for name in VAL if name in names), None)
    held_out_from_train = (
        split in ("train", "val") and val is None and "train" in names and val_share > 0
    )
    source = "train" if held_out_from_train else val if split == "val" and val else split
    if source not in names:
        raise UserError(f"no split '{split}' in {lists or root}; {_there_are(split, names, own)}")
    file = None if lists is None else Path(lists).expanduser() / f"{source}.txt"
    return SplitSource(source, file, held_out_from_train)


def list_names(folder: str) -> list[str]:
    """Names of the splits that a folder of <split>.txt lists, sorted."""
    names = sorted(file.stem for file in Path(folder).expanduser().glob("*.txt"))
    if not names:
        raise UserError(f"dataset.splits={folder}: no *.txt in it, expected lists of images")
    return names


def _there_are(split: str, names: list[str], own: Collection[str]) -> str:
    plain = [name for name in names if "_" not in name] or names  # not VOC's lists of one class
    text = f"there are {', '.join(plain)}{did_you_mean(split, names)}"
    undivided = not own and names == ["train"]
    return f"{text}; name more in a folder of lists, dataset.splits=FOLDER" if undivided else text


def list_rows(file: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each row of a list; blank rows are skipped.

    Raises:
        UserError: it cannot be read.
    """
    try:
        data = read_regular(file, LARGEST_LIST)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; expected a list, a name a row") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # of Windows' PowerShell
        text = data.decode("utf-16", errors="replace")
    else:  # decoded as the file system decodes names, so that any name can match
        text = data.decode("utf-8-sig", errors="surrogateescape")
    rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # a name may hold others
    for number, row in enumerate(rows, 1):
        if len(row) > LONGEST_ROW:
            raise UserError(f"{file}, row {number}: {len(row)} characters; expected a name a row")
        if row.strip():
            yield number, row.strip()


def held_out(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """[N] bool: a random share of each group, at least one image of it but never all.

    `groups` [N] is the class of each image, so that every class is in both parts.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        rows = rng.permutation(np.flatnonzero(groups == group))
        held[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    return held
