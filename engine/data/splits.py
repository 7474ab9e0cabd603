"""Which images are a split: a file's or a folder's, those of a list, or a seeded share."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.errors import UserError, did_you_mean


class SplitSource(NamedTuple):
    """How to get a split."""

    source: str  # which of the set's own splits, or of its lists, holds the images
    list: Path | None  # the file that lists them; None: all that there are
    held_out_from_train: bool  # "train" and "val" are shares of the source


def find_split(
    split: str, *, root: str | Path, own: Collection[str], lists: str | None, val_share: float
) -> SplitSource:
    """How to get a split of a data set.

    Args:
        split: the one that is asked for.
        root: the set's folder or file, for messages.
        own: the set's own splits; none where it is in one piece, which then counts as "train".
        lists: a folder of <split>.txt that name images of a set in one piece.
        val_share: of train, held out as "val" where there is no such split; 0 holds none out.

    Raises:
        UserError: there is no such split, or `lists` is not for this set.
    """
    if not 0 <= val_share < 1:
        raise UserError(f"dataset.val_share is {val_share}, expected 0 <= val_share < 1")
    if lists is not None and own:
        raise UserError(
            f"dataset.splits={lists}: expected a set in one piece, {root} has splits of its own: "
            f"{', '.join(sorted(own))}"
        )
    names = list_names(lists) if lists is not None else sorted(own) or ["train"]
    held_out_from_train = (
        split in ("train", "val") and "val" not in names and "train" in names and val_share > 0
    )
    source = "train" if held_out_from_train else split
    if source not in names:
        raise UserError(f"no split '{split}' in {lists or root}; {_there_are(split, names, own)}")
    return SplitSource(
        source, None if lists is None else Path(lists, f"{source}.txt"), held_out_from_train
    )


def list_names(folder: str) -> list[str]:
    """Names of the splits that a folder of <split>.txt lists, sorted."""
    names = sorted(file.stem for file in Path(folder).expanduser().glob("*.txt"))
    if not names:
        raise UserError(f"dataset.splits={folder}: no *.txt in it, expected lists of images")
    return names


def _there_are(split: str, names: list[str], own: Collection[str]) -> str:
    plain = [name for name in names if "_" not in name] or names  # not VOC's lists of one class
    said = f"there are {', '.join(plain)}{did_you_mean(split, names)}"
    one_piece = not own and names == ["train"]
    return f"{said}; name more in a folder of lists, dataset.splits=FOLDER" if one_piece else said


def list_rows(file: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each row of a list; blank ones are passed over."""
    # As the file system itself reads names, so that any name can match.
    text = file.read_text("utf-8-sig", errors="surrogateescape")
    for number, row in enumerate(text.splitlines(), 1):
        if row.strip():
            yield number, row.strip()


def held_out(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """[N] bool: a seeded share of each group, at least one image, never all."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        mine = rng.permutation(np.flatnonzero(groups == group))
        held[mine[: min(max(1, round(share * len(mine))), len(mine) - 1)]] = True
    return held
