"""The files below a folder: hidden ones are passed over, links to folders are followed."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

ARCHIVE_LEFTOVERS = "__MACOSX"  # the folder of notes that macOS puts into zip files
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip  # folders and files of these names, in any case, are splits


def is_visible(name: str) -> bool:
    """Whether a file or folder is one of the user's: not .git, ._a.jpg, .ipynb_checkpoints."""
    return not name.startswith(".") and name != ARCHIVE_LEFTOVERS


def walk(folder: str | Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder, the top one first, with the sorted names of its folders and files.

    A link that leads back to a folder above it is not followed.
    """
    for here, below, names in os.walk(folder, followlinks=True):
        below[:] = sorted(n for n in below if is_visible(n) and not _leads_up(here, n))
        yield Path(here), below, sorted(filter(is_visible, names))


def files_below(folder: str | Path, suffixes: Collection[str]) -> list[str]:
    """Paths from `folder` on, posix, sorted, of the files with these suffixes (lower case)."""
    ends, found = tuple(suffixes), []
    for here, _, names in walk(folder):
        above = "" if here == Path(folder) else f"{here.relative_to(folder).as_posix()}/"
        found += [above + name for name in names if name.lower().endswith(ends)]
    return sorted(found)


def find_below(base: Path, name: str) -> Path | None:
    """The file or folder that a path written elsewhere means: without what leads to `base`.

    data/obj_train_data/a.jpg of a list is obj_train_data/a.jpg of a folder.
    """
    parts = [p for p in PurePosixPath(name.replace("\\", "/")).parts if p not in ("..", "/")]
    try:
        found = (base.joinpath(*parts[start:]) for start in range(len(parts)))
        return next((path for path in found if path.exists()), None)
    except (OSError, ValueError):  # a name that no file can have
        return None


def split_of(name: str) -> str | None:
    """The split that a file or folder of this name has: the only split word in it, or None."""
    words = "".join(c if c.isalpha() else " " for c in name.lower()).split()
    found = {SPLITS[word] for word in words if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def split_of_file(path: str | Path) -> str | None:
    """The split of a file of annotations: by its own name, or by that of the folder it is in."""
    path = Path(path)
    return split_of(path.stem) or SPLITS.get(path.parent.name.lower())


def split_named(value: str) -> str:
    """The split that a text means: valid and Validation are val; another name is itself."""
    return SPLITS.get(value.lower(), value)


def _leads_up(here: str, name: str) -> bool:
    path = os.path.join(here, name)
    if not os.path.islink(path):
        return False
    target, start = os.path.realpath(path), os.path.realpath(here)
    return os.path.commonpath([target, start]) == target
