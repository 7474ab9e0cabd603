"""The data report: every split scanned, its numbers and defects written and printed."""

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from engine.builders import parts
from engine.builders.instantiate import check as check_node
from engine.builders.instantiate import part
from engine.check import sample_page
from engine.check.coco_writer import CocoWriter
from engine.check.scan import Digests, scan_images, unlisted_files
from engine.check.statistics import Statistics, suspicious_class_names, table
from engine.console import format_defect, format_table, info
from engine.errors import UserError
from engine.output.predictions import categories
from engine.protocols import Dataset
from engine.record import Row, defect

SPLITS = ("train", "val", "test")
SHOWN = 50  # rows of a split on the console; all are in the file


def check(cfg: DictConfig, folder: Path) -> None:
    """Write data_report.json to the run's folder and print what is in it.

    Raises:
        UserError: training would stop, and why; or there is no such dataset or split.
    """
    check_node(cfg.dataset, "dataset", parts.INJECTED_ARGUMENTS["dataset"])
    names = SPLITS if cfg.split is None else (cfg.split,)
    splits, failed = open_splits(cfg, names)
    facts, reports, seen, used = {}, {}, {}, set()
    for split, data in splits.items():
        reports[split] = list(data.report)
        facts[split] = scan(cfg, split, data, seen, reports[split], used, folder)
    if cfg.split is None and not failed:
        said = {Path(row["file"]).stem for rows in reports.values() for row in rows}
        reports["no split"] = list(unlisted_files(used, said))
    for split, error in failed.items():
        reports[split] = [defect(None, str(error), "stops")]
    stops = why_it_stops(cfg, splits, reports)
    reports = once(reports)
    content = {**reports, "statistics": facts, "stops": stops}
    path = folder / "data_report.json"
    path.write_text(json.dumps(content, indent=1, default=str) + "\n")
    if cfg.samples:
        sample_page.write(cfg, next(iter(splits.values())), cfg.samples, folder / "images")
    show(splits, facts, reports, path)
    if cfg.convert:
        info(f"COCO JSON: {folder / 'annotations'}")
    if cfg.samples:
        info(f"samples: {folder / 'images' / 'samples.jpg'}")
    if stops:
        raise UserError(f"training would stop: {stops}")


def open_splits(
    cfg: DictConfig, names: tuple[str, ...]
) -> tuple[dict[str, Dataset], dict[str, UserError]]:
    """The splits that there are, all their defects collected, and those that cannot be opened."""
    splits, failed, absent = {}, {}, []
    for name in names:
        try:
            splits[name] = open_split(cfg, name, "skip")
        except UserError as error:
            if str(error).startswith("no split"):
                absent.append(error)
            else:
                failed[name] = error
    if not splits:
        raise [*failed.values(), *absent][0]
    return splits, failed


def open_split(cfg: DictConfig, name: str, on_error: str) -> Dataset:
    """A split of the dataset; where it knows `on_error`, with this one."""
    node = cfg.dataset.copy()
    if "on_error" in node:
        node.on_error = on_error
    return part(node, "dataset", split=name)


def scan(
    cfg: DictConfig,
    split: str,
    data: Dataset,
    seen: Digests,
    report: list[Row],
    used: set[str],
    folder: Path,
) -> dict[str, Any]:
    """Read every image of a split: its facts; `seen`, `report` and `used` grow."""
    statistics = Statistics(data.classes)
    with ExitStack() as stack:
        writer = None
        if cfg.convert:
            file = folder / "annotations" / f"instances_{split}.json"
            writer = CocoWriter(file, data.classes, categories(data))
            stack.enter_context(closing(writer))
        for look in scan_images(split, data, seen, report):
            statistics.add(look)
            if writer:
                writer.add(look)
    used.update(data.record(i).path for i in range(len(data)))
    return statistics.facts()


def why_it_stops(
    cfg: DictConfig, splits: dict[str, Dataset], reports: dict[str, list[Row]]
) -> str | None:
    """The first thing at which training with this configuration would stop."""
    for split, rows in reports.items():
        for row in rows:
            if row["action"] == "stops":
                return row["reason"]
        if split not in splits or cfg.dataset.get("on_error", "fail") != "fail":
            continue
        format_defect = len(splits[split].report)  # the dataset's own rows stand first
        try:
            if format_defect:  # not every one of them stops
                open_split(cfg, split, "fail")
        except UserError as error:
            return str(error)
        unread = [row["reason"] for row in rows[format_defect:] if row["action"] == "left out"]
        if unread:
            return f"{unread[0]}; or leave such images out: dataset.on_error=skip"
    return None


def once(reports: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Each row in the first split that has it: a file that lists divide is read for each."""
    format_defect: set[tuple[Any, ...]] = set()
    kept = {}
    for split, rows in reports.items():
        kept[split] = [row for row in rows if tuple(row.values()) not in format_defect]
        format_defect.update(tuple(row.values()) for row in rows if row["row"] is not None)
    return kept


def show(
    splits: dict[str, Dataset],
    facts: dict[str, dict[str, Any]],
    reports: dict[str, list[Row]],
    path: Path,
) -> None:
    """The table, the notes and the defects on the console."""
    info(format_table(table(facts)) + "\n(three numbers: the least, the median, the most)")
    for hint in suspicious_class_names(facts):
        info(hint)
    for split, rows in reports.items():
        notes = splits[split].notes if split in splits else []
        lines = [*notes, *map(format_defect, rows[:SHOWN])]
        for line in lines:
            info(f"{split}: {line}")
        if len(rows) > SHOWN:
            info(f"{split}: {len(rows) - SHOWN} more, all in {path}")
    count = sum(map(len, reports.values()))
    info(f"{count} row{'s' * (count != 1)} of defects" if count else "nothing is wrong")
    info(f"report: {path}")
