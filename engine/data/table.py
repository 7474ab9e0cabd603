"""CSV files with a row of names on top."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from engine.data.image_dataset import escapes_root
from engine.errors import UserError, did_you_mean


def read_table(file: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of each row's line, and its values by the keys of `columns`; "" where one ends.

    Args:
        file: CSV of commas, or of semicolons or tabs where the top row has no comma; UTF-8.
        columns: the name that each key has in the top row.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            top = lines.readline()
            lines.seek(0)
            mark = next((mark for mark in ",;\t" if mark in top), ",")
            rows = csv.DictReader(lines, delimiter=mark, restval="", skipinitialspace=True)
            names = [name.strip() for name in rows.fieldnames or ()]
            rows.fieldnames = names
            _check(file, columns, names)
            for row in rows:
                yield rows.line_num, {key: row[name].strip() for key, name in columns.items()}
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}; expected a CSV file") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file}: no CSV in UTF-8 ({error}); save it as such") from None


def _check(file: Path, columns: Mapping[str, str], names: list[str]) -> None:
    for key, name in columns.items():
        if name not in names:
            raise UserError(
                f"{file}: no column '{name}' for dataset.columns.{key}, the top row has "
                f"{', '.join(names) or 'nothing'}{did_you_mean(name, names)}"
            )


def csv_files(root: Path, annotations: str | None) -> tuple[dict[str, Path], Path | None]:
    """CSV files in `root` by split, or the one that holds all."""
    if annotations is not None:
        return {}, Path(annotations).expanduser()
    own = {file.stem: file for file in sorted(root.glob("*.csv"))}
    if not own:
        raise UserError(
            f"dataset.root={root}: expected <split>.csv in it, or set dataset.annotations=FILE"
        )
    return own, None


def check_image(folder: str, name: str) -> None:
    """Refuse a row's file name that is no image in `folder`, by a ValueError."""
    if not name or escapes_root(name):
        raise ValueError(f"filename '{name}' is none below the folder of the images")
    if not Path(folder, name).is_file():
        raise ValueError(f"no image {name} in {folder}")


def column_values(files: Iterable[Path], columns: Mapping[str, str], key: str) -> list[str]:
    """The sorted values of a column of all files, empty ones left out."""
    return sorted({row[key] for file in files for _, row in read_table(file, columns)} - {""})
