"""Finds the images that the rows of a table name: exactly, or by the end of what is written."""

import os
from collections import defaultdict

from engine.data.image import IMAGE_SUFFIXES
from engine.data.image_dataset import escapes_root, plain_path
from engine.data.tree import files_below
from engine.regular_file import is_file_name

Found = list[str]


class ImageNames:
    """The images below a folder by the names that tables have for them.

    A name may lack its ending; may have folders in front that are not here (/data/set/a.jpg); and
    without any folder it may name an image in a folder below, if no other has that name.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._known: dict[tuple[str, str], str] = {}
        self._fronts: dict[str, str] = {}  # of images found by the end: what stood in front
        self._below: dict[str, Found] = {}  # paths by name, with and without ending

    def find(self, name: str, beside: str = "") -> str:
        """The path below the folder of the image that a row names.

        Args:
            name: as the row has it.
            beside: a folder below, that the table lies in.

        Raises:
            ValueError: there is no such image, or more than one.
        """
        key = (beside, name)
        if key not in self._known:
            self._known[key] = self._find(name, beside)
        return self._known[key]

    def _find(self, name: str, beside: str) -> str:
        path = plain_path(self.folder, name)
        if not is_file_name(path):
            raise self._none(name)
        if not escapes_root(path):
            found = (beside and self._files(os.path.join(beside, path))) or self._files(path)
            found = found or ([] if "/" in path else self._named(path))
            if found:
                return _one(name, found)
        return self._by_end(name, path)

    def _by_end(self, name: str, path: str) -> str:
        """The image of the longest end of a path that is here."""
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", "..")]
        for start in range(len(parts)):
            if found := self._files("/".join(parts[start:])):
                image, front = _one(name, found), "/".join(parts[:start])
                other = self._fronts.setdefault(image, front)
                if other != front:
                    raise ValueError(f"'{name}' is {image} here, as {other}/... is: one is not")
                return image
        raise self._none(name) if escapes_root(path) else self._absent(name)

    def _files(self, path: str) -> Found:
        """The image of a path below the folder, or those of it with an ending."""
        full = os.path.join(self.folder, path)
        if os.path.isfile(full):
            return [path]
        return [path + end for end in IMAGE_SUFFIXES if os.path.isfile(full + end)]

    def _named(self, name: str) -> Found:
        if not self._below:
            below = defaultdict(list)
            for path in files_below(self.folder, IMAGE_SUFFIXES):
                base = path.rpartition("/")[2]
                below[base].append(path)
                below[os.path.splitext(base)[0]].append(path)
            self._below = below or {"": []}
        return self._below.get(name, [])

    def _none(self, name: str) -> ValueError:
        return ValueError(
            f"filename '{name}' is none below the folder of the images, {self.folder}"
        )

    def _absent(self, name: str) -> ValueError:
        return ValueError(f"no image {name} in {self.folder}")


def folder_below(folder: str | os.PathLike[str], root: str) -> str:
    """The folder's path below `root`; "" where it is not below it."""
    path = os.path.relpath(folder, root)
    return "" if path.startswith("..") or path == "." else path


def _one(name: str, found: Found) -> str:
    if len(found) > 1:
        raise ValueError(
            f"'{name}' may be {' or '.join(found[:3])}: write its ending or its folder"
        )
    return found[0]
