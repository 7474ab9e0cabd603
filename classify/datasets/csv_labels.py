"""Labels in CSV files, a row a label of an image; of several rows the image has each."""

from pathlib import Path

import numpy as np

from engine.config.ranges import PartialShare, Seed
from engine.data.image_dataset import (
    ImageDataset,
    check_classes,
    label_of,
    require_dir,
)
from engine.data.index import Index, file_names, unique_stems
from engine.data.splits import find_split
from engine.data.table import column_values, csv_files, image_name, read_table

COLUMNS = {"filename": "filename", "label": "label"}


class CSVLabels(ImageDataset):
    """Images and their classes, of one split; images stand in the order of their first rows.

    Args:
        root: the folder of the images, with <split>.csv.
        annotations: a file instead, of a set in one piece.
        columns: the names in the top row of filename and label.
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
        annotations: str | None = None,
        columns: dict[str, str] | None = None,
        splits: str | None = None,
        val_share: PartialShare = 0.1,
        seed: Seed = 0,
        classes: list[str] | None = None,
        on_error: str = "fail",
    ) -> None:
        super().__init__(on_error=on_error)
        base = require_dir(root)
        self.folder = str(base)
        self._columns = COLUMNS | (columns or {})
        own, one = csv_files(base, annotations)
        how = find_split(split, root=one or base, own=own, lists=splits, val_share=val_share)
        if classes is None:
            files = [one] if one else own.values()
            classes = column_values(files, self._columns, "label")
        self.classes = check_classes(classes)
        self.index = self._read(one or own[how.source])
        self.select_split(how, split, val_share, seed)
        if several := int((np.diff(self.index.first) > 1).sum()):
            self.notes.append(
                f"{several} of {len(self)} images have several labels: train with loss=bce "
                "metric=multi_label"
            )

    def _read(self, file: Path) -> Index:
        labels: dict[str, list[int]] = {}
        known = {name: label for label, name in enumerate(self.classes)}
        for number, row, defect in read_table(file, self._columns):
            try:
                if defect:
                    raise ValueError(defect)
                name = image_name(self.folder, row["filename"])
                label = label_of(row["label"], known)
                if label in (image_labels := labels.setdefault(name, [])):
                    raise ValueError(
                        f"{row['filename']} is '{row['label']}' in another row already"
                    )
                image_labels.append(label)
            except ValueError as error:
                self.leave_out(file, number, str(error))
        first = np.cumsum([0, *map(len, labels.values())])
        each = np.array([label for several in labels.values() for label in several], np.int64)
        return Index(file_names(list(labels)), first, each, short=unique_stems(list(labels)))
