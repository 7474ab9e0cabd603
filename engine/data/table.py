"""CSV files with a row of names on top."""

import csv
import errno
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

from engine.data.tree import is_visible, split_named
from engine.errors import UserError, did_you_mean
from engine.regular_file import open_regular

MAX_LINE = 2**17  # characters
LONGEST = 2**24  # characters of a line that is passed over; a file with a longer one is no table


class TableRow(NamedTuple):
    """One row of a table."""

    number: int  # of its first line, from 1
    values: dict[str, str]  # by the keys of `columns`; "" where the row ends before
    defect: str | None = None  # why it cannot be used


def read_table(
    file: Path, columns: Mapping[str, str], header: Sequence[str] | None = None
) -> Iterator[TableRow]:
    """The rows below the top one; blank ones are skipped.

    Args:
        file: CSV of commas, or of semicolons or tabs where the top row has no comma; UTF-8.
        columns: the name that each key has in the top row.
        header: the names of the columns of a file without a top row.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    try:
        with io.TextIOWrapper(open_regular(file), encoding="utf-8-sig", newline="") as lines:
            rows = _parse(lines, _separator(lines))
            names, reason = list(header or ()), None
            if header is None:
                _, names, reason = next(rows, (1, [], None))
            names = [name.strip() for name in names]
            _check(file, columns, names, reason)
            places = {key: names.index(name) for key, name in columns.items()}
            yield from (_row(*row, names, places) for row in rows)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}; expected a CSV file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: no CSV in UTF-8 ({error}); save it as such") from None


def _parse(lines: TextIO, mark: str) -> Iterator[tuple[int, list[str], str | None]]:
    """Line number, cells and defect of each row; a row is one line.

    A row with line breaks in quotes is a defect: a quote that was left open looks the same, and
    would take the rows behind it along.
    """
    for number, line in enumerate(_lines(lines), 1):
        if len(line) == MAX_LINE:
            yield number, [line[:80]], f"a line of {MAX_LINE} characters or more"
        elif '"' not in line:  # nearly all
            if line.strip():
                yield number, line.rstrip("\r\n").split(mark), None
        else:
            yield number, *_quoted(line, mark)


def _lines(file: TextIO) -> Iterator[str]:
    """The lines; of a longer one the first `MAX_LINE` characters.

    Raises:
        OSError: one of more than `LONGEST`.
    """
    while line := file.readline(MAX_LINE):
        rest, length = line, MAX_LINE
        while len(rest) == MAX_LINE and not rest.endswith("\n"):
            rest = file.readline(MAX_LINE)
            length += MAX_LINE
            if length > LONGEST:
                raise OSError(errno.EFBIG, f"a line of more than {LONGEST} characters")
        yield line


def _quoted(line: str, mark: str) -> tuple[list[str], str | None]:
    """The cells of a line with quotes, and its defect."""
    try:
        return next(csv.reader([line], delimiter=mark, skipinitialspace=True, strict=True)), None
    except csv.Error as error:
        return [line], f"a quote is left open ({error}): expected a row in one line"


def _row(
    number: int, cells: list[str], defect: str | None, names: list[str], places: Mapping[str, int]
) -> TableRow:
    if not defect and any(cell.strip() for cell in cells[len(names) :]):
        defect = f"{len(cells)} cells, the top row has {len(names)}"
    padded = cells + [""] * (len(names) - len(cells))
    return TableRow(number, {key: padded[at].strip() for key, at in places.items()}, defect)


def _check(file: Path, columns: Mapping[str, str], names: list[str], reason: str | None) -> None:
    for key, name in columns.items():
        if name not in names:
            found = reason or f"the top row has {', '.join(names) or 'nothing'}"
            raise UserError(
                f"{file}: no column '{name}' for dataset.columns.{key}, {found[:200]}"
                f"{did_you_mean(name, names)}; dataset=auto finds columns by their names"
            )
        if names.count(name) > 1:
            raise UserError(f"{file}: {names.count(name)} columns '{name}', expected one")


def csv_files(
    root: Path, annotations: str | Mapping[str, str] | None
) -> tuple[dict[str, Path], Path | None]:
    """CSV files by split, of `annotations` or in `root`; or the one that holds all."""
    if isinstance(annotations, Mapping) and annotations:
        return {str(split): Path(file).expanduser() for split, file in annotations.items()}, None
    if isinstance(annotations, str):
        return {}, Path(annotations).expanduser()
    own = {file.stem: file for file in sorted(root.glob("*.csv")) if is_visible(file.name)}
    if not own:
        raise UserError(
            f"dataset.root={root}: expected <split>.csv in it, or set dataset.annotations=FILE"
        )
    return own, None


def split_by_column(
    own: Mapping[str, Path], one: Path | None, column: str, header: Sequence[str] | None = None
) -> tuple[dict[str, Path], Path]:
    """The splits that a column of a file in one piece names, each with that file; and the file.

    Args:
        own: files by split, as of `csv_files`; the only one is in one piece.
        one: the file that holds all.
        column: its name.
        header: as of `read_table`.

    Raises:
        UserError: there are several files, or the column names no split train.
    """
    file = next(iter(own.values())) if one is None and len(own) == 1 else one
    if file is None:
        raise UserError(
            f"dataset.columns.split={column}: there is a file a split ({', '.join(own)}); leave it "
            "out, or set dataset.annotations=FILE"
        )
    values = {row.values["split"] for row in read_table(file, {"split": column}, header)}
    found = {split_named(value) for value in values if value}
    if "train" not in found:
        names = ", ".join(sorted(values)[:5]) or "nothing"
        raise UserError(
            f"{file}: the column '{column}' of dataset.columns.split has {names}; expected train, "
            "val, test"
        )
    return dict.fromkeys(sorted(found), file), file


def top_row(file: Path) -> list[str]:
    """The names of the columns in a file's top row; raises as `read_table`."""
    return [cell for cells in first_rows(file, 1) for cell in cells]


def first_rows(file: Path, count: int) -> list[list[str]]:
    """The cells of the first good rows, the top one too; raises as `read_table`."""
    try:
        with io.TextIOWrapper(open_regular(file), encoding="utf-8-sig", newline="") as lines:
            rows = (cells for _, cells, defect in _parse(lines, _separator(lines)) if not defect)
            return [[cell.strip() for cell in cells] for cells in islice(rows, count)]
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}; expected a CSV file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: no CSV in UTF-8 ({error}); save it as such") from None


def _separator(lines: TextIO) -> str:
    """What stands between the cells of a file, by its first line."""
    top = lines.readline(MAX_LINE)
    lines.seek(0)
    return next((mark for mark in ",;\t" if mark in top), ",")


def column_values(files: Iterable[Path], columns: Mapping[str, str], key: str) -> list[str]:
    """The sorted values of a column of all files, empty ones and defective rows left out."""
    rows = (row for file in files for row in read_table(file, columns))
    return sorted({row.values[key] for row in rows if not row.defect} - {""})
