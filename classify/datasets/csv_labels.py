"""Labels in CSV files, a row a label of an image; of several rows the image has each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.config.ranges import PartialShare, Seed
from engine.data.image_dataset import (
    ImageDataset,
    check_classes,
    label_of,
    require_dir,
)
from engine.data.image_names import ImageNames, folder_below
from engine.data.index import Index, file_names, unique_stems
from engine.data.splits import find_split
from engine.data.table import column_values, csv_files, read_table, split_by_column, top_row
from engine.data.tree import split_named

MARKS = {"0": False, "1": True, "0.0": False, "1.0": True, "": False}
COLUMNS = {"filename": "filename", "label": "label"}


class CSVLabels(ImageDataset):
    """Images and their classes, of one split; images stand in the order of their first rows.

    Args:
        root: the folder of the images, with <split>.csv.
        annotations: a file instead, of a set in one piece, or a file a split by its name.
        columns: the names in the top row of filename and label, and of the row's split (train,
            val, test) where a file in one piece has one.
        separator: what stands between the labels of a cell that has several; None: a cell is one.
        one_hot: each column but that of the filename is a class, 1 where the image has it, else 0.
        splits: a folder of <split>.txt that name images of `annotations`.
        val_share: of train, held out as "val" where there is no such split; of each class, where
            every image has one.
        seed: of that choice.
        classes: in the order of the labels; None: all in the files, sorted.
        on_error: see `ImageDataset`.
    """

    def __init__(
        self,
        *,
        root: str,
        split: str,
        annotations: str | dict[str, str] | None = None,
        columns: dict[str, str | None] | None = None,
        separator: str | None = None,
        one_hot: bool = False,
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        on_error: str = "fail",
    ) -> None:
        super().__init__(on_error=on_error)
        base = require_dir(root)
        self.folder, self._names = str(base), ImageNames(str(base))
        wanted = {k: name for k, name in (COLUMNS | (columns or {})).items() if name}
        own, one = csv_files(base, annotations)
        if column := wanted.get("split"):
            own, one = split_by_column(own, one, column)
        how = find_split(split, root=one or base, own=own, lists=splits, val_share=val_share)
        self._separator, self._part = separator, how.source if column else None
        files = [one] if one else list(own.values())
        if one_hot:
            names = [n for n in top_row(files[0]) if n not in (wanted["filename"], column)]
            classes = names if classes is None else classes
            kept = {key: wanted[key] for key in ("filename", "split") if key in wanted}
            wanted = kept | {f"class {name}": name for name in classes}
        elif classes is None:
            cells = column_values(files, wanted, "label")
            classes = sorted({name for cell in cells for name in self._several(cell)} - {""})
        self.classes, self._columns = check_classes(classes), wanted
        self._labels = {name: label for label, name in enumerate(self.classes)}
        self.index = self._read(one or own[how.source], self._marked if one_hot else self._named)
        self.select_split(how, split, val_share, seed)
        if several := int((np.diff(self.index.first) > 1).sum()):
            self.notes.append(
                f"{several} of {len(self)} images have several labels: train with loss=bce "
                "metric=multi_label"
            )

    def _read(self, file: Path, labels_of: Callable[[dict[str, str]], list[int]]) -> Index:
        labels: dict[str, list[int]] = {}
        unsplit = 0
        beside = folder_below(file.parent, self.folder)
        for number, row, defect in read_table(file, self._columns):
            try:
                if defect:
                    raise ValueError(defect)
                if self._part is not None and split_named(row["split"]) != self._part:
                    unsplit += not row["split"]
                    continue
                name, found = self._names.find(row["filename"], beside), labels_of(row)
                image_labels = labels.setdefault(name, [])
                if repeated := set(found) & set(image_labels):
                    known = self.classes[repeated.pop()]
                    raise ValueError(f"{row['filename']} is '{known}' in another row already")
                image_labels += found
            except ValueError as error:
                self.leave_out(file, number, str(error))
        if unsplit:
            self.notes.append(f"{unsplit} rows have no split: left out")
        first = np.cumsum([0, *map(len, labels.values())])
        each = np.array([label for several in labels.values() for label in several], np.int64)
        return Index(file_names(list(labels)), first, each, short=unique_stems(list(labels)))

    def _named(self, row: dict[str, str]) -> list[int]:
        """The labels that a row names."""
        return [label_of(name, self._labels) for name in self._several(row["label"])]

    def _several(self, cell: str) -> list[str]:
        """The labels of a cell, each once; a cell of several may have none."""
        if not self._separator:
            return [cell]
        return [*dict.fromkeys(filter(None, map(str.strip, cell.split(self._separator))))]

    def _marked(self, row: dict[str, str]) -> list[int]:
        """The labels whose columns have a 1."""
        for name in self.classes:
            if (value := row[f"class {name}"]) not in MARKS:
                raise ValueError(f"{name} is '{value[:40]}', expected 0 or 1")
        return [n for name, n in self._labels.items() if MARKS[row[f"class {name}"]]]
