"""The data report: scans every split, writes and prints its statistics and defects."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from engine.builders import judged_parts
from engine.builders.instantiate import check as check_node
from engine.builders.judged_parts import check_objects
from engine.builders.splits import SPLITS, open_split, open_splits
from engine.check.coco_writer import CocoWriter
from engine.check.scan import Digests, scan_images, unlisted_files
from engine.check.statistics import Statistics, suspicious_class_names, table
from engine.check.yolo_writer import YoloWriter
from engine.console import format_defect, format_table, info, warn
from engine.data import survey
from engine.data.categories import category_ids
from engine.doctor import labels
from engine.errors import UserError
from engine.finding import Finding
from engine.output.file_names import FileNames
from engine.protocols import Dataset
from engine.record import Row, defect
from engine.whole_file import write_whole

TRAINED = ("train", "val")  # the splits that training opens
SHOWN = 50  # defects of a split that are printed; all are in the file


def write_report(cfg: DictConfig, folder: Path) -> None:
    """Write data_report.json to the run folder and print its content.

    Raises:
        UserError: training would stop, and why; or there is no such dataset or split.
    """
    check_node(cfg.dataset, "dataset", judged_parts.GIVEN["dataset"])
    names = SPLITS if cfg.split is None else (cfg.split,)
    splits, failed = open_splits(cfg, names, "skip")
    facts, reports, digests, used = {}, {}, {}, set()
    for split, data in splits.items():
        reports[split] = list(data.report)
        writer = _writer(cfg, split, splits, folder)
        facts[split] = scan(split, data, digests, reports[split], used, writer)
    if cfg.split is None and not failed:
        reported = {Path(row["file"]).stem for rows in reports.values() for row in rows}
        reports["no split"] = list(unlisted_files(used, reported))
    for split, error in failed.items():
        reports[split] = [defect(None, str(error), "stops")]
    stops = stop_reason(cfg, splits, reports)
    reports = without_repeats(reports)
    content = {**reports, "statistics": facts, "stops": stops}
    path = folder / "data_report.json"
    write_whole(path, json.dumps(content, indent=1, default=str) + "\n")
    if cfg.samples:
        from engine.check import sample_page  # its batches need torch

        sample_page.write(cfg, next(iter(splits.values())), cfg.samples, folder / "images")
    print_report(splits, facts, reports, path, stops, _warnings(cfg, splits))
    if cfg.convert == "coco":
        info(f"COCO JSON: {folder / 'annotations'}")
    if cfg.convert == "yolo":
        info(f"YOLO: dataset=yolo dataset.root={folder / 'yolo'}")
    if cfg.samples:
        info(f"samples: {folder / 'images' / 'samples.jpg'}")
    if stops:
        raise UserError(f"training would stop: {stops}")


def _warnings(cfg: DictConfig, splits: dict[str, Dataset]) -> list[Finding]:
    """What training would warn of before its first epoch, as far as the labels alone show it."""
    if not {*TRAINED} <= splits.keys() or not all(len(splits[name]) for name in TRAINED):
        return []
    train, val = (splits[name] for name in TRAINED)
    if train.classes != val.classes:  # a defect of its own
        return []
    return labels.of_data(cfg.dataset, train, val, survey.seen(train, len(train)).records)


def _writer(cfg: DictConfig, split: str, splits: dict[str, Dataset], folder: Path) -> Any:
    """What writes the truth of a split in another format, as `convert` asks; None for none."""
    data = splits[split]
    if cfg.convert == "yolo":
        paths = [data.record(i).path for i in range(len(data))]
        names, place = list(splits), folder / "yolo"
        return YoloWriter(place, split, classes=data.classes, paths=paths, names=names)
    if cfg.convert == "coco":
        file = folder / "annotations" / FileNames(".json").of(split, f"instances_{split}")
        return CocoWriter(file, data.classes, category_ids(data))
    return None


def scan(
    split: str,
    data: Dataset,
    digests: Digests,
    report: list[Row],
    used: set[str],
    writer: Any = None,
) -> dict[str, Any]:
    """Read every image of a split, give each to the writer, and return the statistics.

    Adds to `digests`, to the defects in `report` and to the paths of images in `used`.
    """
    statistics = Statistics(data.classes)
    with ExitStack() as stack:
        if writer:
            stack.enter_context(writer)
        for scanned in scan_images(split, data, digests, report):
            statistics.add(scanned)
            if writer:
                writer.add(scanned)
    used.update(data.record(i).path for i in range(len(data)))
    return statistics.facts()


def stop_reason(
    cfg: DictConfig, splits: dict[str, Dataset], reports: dict[str, list[Row]]
) -> str | None:
    """The first defect at which training with this configuration would stop; None if none."""
    for split, rows in reports.items():
        for row in rows:
            if row["action"] == "stops":
                return row["reason"]
        if split in splits:
            data = splits[split]
            reason = _defect(cfg, split, data, rows) or _without_objects(split, data)
            if reason:
                return reason
    return None


def _defect(cfg: DictConfig, split: str, data: Dataset, rows: list[Row]) -> str | None:
    """The first row or image of a split that stops, unless on_error=skip leaves such out."""
    if cfg.dataset.get("on_error", "fail") != "fail":
        return None
    own = len(data.report)  # the dataset's own rows come first
    try:
        if own:  # not every one of them stops
            open_split(cfg, split, "fail")
    except UserError as error:
        return str(error)
    unread = [row["reason"] for row in rows[own:] if row["action"] == "left out"]
    return f"{unread[0]}; or leave such images out: dataset.on_error=skip" if unread else None


def _without_objects(split: str, data: Dataset) -> str | None:
    """What training would say of a split that it opens and that has no object."""
    try:
        if split in TRAINED:
            check_objects(data)
    except UserError as error:
        return str(error)
    return None


def without_repeats(reports: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The reports with each row of a file only in the first split that has it.

    A file whose images are divided by lists is read, and reported, for every split.
    """
    reported: set[tuple[Any, ...]] = set()
    kept = {}
    for split, rows in reports.items():
        kept[split] = [row for row in rows if tuple(row.values()) not in reported]
        reported.update(tuple(row.values()) for row in rows if row["row"] is not None)
    return kept


def print_report(
    splits: dict[str, Dataset],
    facts: dict[str, dict[str, Any]],
    reports: dict[str, list[Row]],
    path: Path,
    stops: str | None,
    warnings: list[Finding],
) -> None:
    """Print the table of statistics, the notes, the warnings and the defects."""
    info(*format_table(table(facts)), "(three numbers: the least, the median, the most)")
    for hint in suspicious_class_names(facts):
        info(hint)
    for split, rows in reports.items():
        notes = splits[split].notes if split in splits else []
        lines = [*notes, *map(format_defect, rows[:SHOWN])]
        for line in lines:
            info(f"{split}: {line}")
        if len(rows) > SHOWN:
            info(f"{split}: {len(rows) - SHOWN} more, all in {path}")
    warn(warnings)
    count = sum(map(len, reports.values()))
    if count or not stops:  # else the error says what is wrong
        clean = "nothing else is wrong" if warnings else "nothing is wrong"
        info(f"{count} row{'s' * (count != 1)} of defects" if count else clean)
    info(f"report: {path}")
