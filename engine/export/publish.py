"""The command `engine.export`: write a file, compare it, and publish it where it holds."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from engine.builders import from_checkpoint, judged_parts, parts
from engine.config.image_size import size_of
from engine.config.schema import plain
from engine.console import info
from engine.data.loader import Loader
from engine.data.read_json import read_json
from engine.errors import UserError
from engine.export import compare, formats, int8
from engine.export.graph import Graph, program
from engine.export.parity import Bars, Parity
from engine.network_protocols import HeadOptions
from engine.output import run_folder
from engine.output.metrics_file import commit
from engine.runtime import exported
from engine.runtime.exported import ExportedNetwork
from engine.weights.checkpoint_path import is_exported
from engine.whole_file import write_whole

CPU = torch.device("cpu")
FAILED = "model.failed"


def export(cfg: DictConfig) -> bool:
    """Return whether the file is as close to its checkpoint as asked; only then it is published."""
    if is_exported(cfg.checkpoint):
        raise UserError(f"checkpoint={cfg.checkpoint}: exported already; set the one of a run")
    saved, full = from_checkpoint.load(cfg.checkpoint, cfg, CPU)
    parts.check_all(full)
    full.trainer.limit = full.trainer.overfit = None  # were training's
    graph = Graph(from_checkpoint.trained(full, saved, cfg.checkpoint, CPU), nms=cfg.nms).eval()
    folder = run_folder.shared(cfg)
    loader = compare.images_of(full, cfg.split, cfg.parity.images)
    path = Path(cfg.verify) if cfg.verify else _write(cfg, full, graph, folder)
    if cfg.verify and exported.description_of(path).exists():
        about = read_json(exported.description_of(path))
        cfg.dynamic, cfg.precision = about.get("dynamic"), about.get("precision")
    found = _compared(cfg, full, graph, path, loader)
    write_whole(folder / "parity.json", json.dumps(found, indent=1) + "\n")
    _print(found)
    holds = not found["failed"] and not found.get("other_size", found)["failed"]
    if cfg.verify:
        return _is_described(path) and holds
    if holds:
        path = _publish(path)
    content = describe(cfg, full, saved, graph, path)
    write_whole(exported.description_of(path), json.dumps(content, indent=1) + "\n")
    size = sum(part.stat().st_size for part in exported.files_of(path)) / 2**20
    info(f"{size:.1f} MB, parity.json and {exported.description_of(path).name}: {path}")
    return holds


def _is_described(path: Path) -> bool:
    """Whether a file is the one that its description is of, if it has one; else print that."""
    beside = exported.description_of(path)
    same = not beside.exists() or read_json(beside).get("sha256") == exported.sha256(path)
    if not same:
        info(f"does not hold: it is not the file that {beside.name} describes (another sha256)")
    return same


def _write(cfg: DictConfig, full: DictConfig, graph: Graph, folder: Path) -> Path:
    """Write the file under the name of one that failed."""
    path = folder / (FAILED + formats.SUFFIXES[cfg.format])
    path.parent.mkdir(parents=True, exist_ok=True)
    with formats.quiet():
        formats.write(program(graph, size_of(full), cfg.dynamic), graph.names, path)
    if cfg.precision == "int8":
        with formats.quiet():
            int8.quantize(path, compare.images_of(full, "train", cfg.parity.images))
    return path


def _publish(path: Path) -> Path:
    """Rename the files of one that holds; the one that others open comes last."""
    for part in reversed(exported.files_of(path)):
        os.replace(part, part.with_name("model" + part.suffix))
    return path.with_name("model" + path.suffix)


def _compared(
    cfg: DictConfig, full: DictConfig, graph: Graph, path: Path, loader: Loader
) -> dict[str, Any]:
    """What the comparison found, at the size of the run and, if the file takes others, at one."""
    batch = 1 if cfg.dynamic == "none" else None
    file = ExportedNetwork(
        compare.open_file(path), batch=batch, outputs=graph.network.head.outputs, protocol=""
    )
    exact = cfg.precision == "fp32"
    bars = Bars() if exact else Bars(None, None, None, None, cfg.parity.drop)
    parity = _parity(full, loader)
    took = compare.compare(graph, file, loader, parity)
    found = parity.report(bars, both_ways=exact) | {"milliseconds_an_image": took}
    if cfg.dynamic == "size":
        loader, parity = compare.other_size(full, loader, size_of(full)), _parity(full, loader)
        compare.compare(graph, file, loader, parity, compare.TRIED)
        found["other_size"] = parity.report(bars, both_ways=exact)
    return found


def _parity(cfg: DictConfig, loader: Loader) -> Parity:
    classes = loader.dataset.classes
    return Parity((judged_parts.metric(cfg, classes), judged_parts.metric(cfg, classes)))


def describe(
    cfg: DictConfig, full: DictConfig, saved: dict[str, Any], graph: Graph, path: Path
) -> dict[str, Any]:
    """What another program needs to know of the file, and this one to predict with it."""
    head, preparation = graph.network.head, saved["preprocessing"]
    sides = ["height", "width"] if cfg.dynamic == "size" else list(size_of(full))
    return {
        "format": exported.FORMAT,
        "file": path.name,
        "sha256": exported.sha256(path),
        "input": {
            "name": "images",
            "type": "uint8",
            "colour": "RGB, 0..255; normalisation is in the file",
            "shape": [1 if cfg.dynamic == "none" else "batch", 3, *sides],
        },
        "outputs": graph.names,
        "nms": bool(cfg.nms),
        "batch": 1 if cfg.dynamic == "none" else None,
        "dynamic": cfg.dynamic,
        "precision": cfg.precision,
        "size": list(size_of(full)),
        **{key: preparation.get(key) for key in ("fit", "resize", "interpolation")},
        "classes": saved["classes"],
        "category_ids": saved["categories"],
        "protocol": HeadOptions.protocol.of(head),
        "thresholds": vars(head.postprocess),
        "head": sorted(head.outputs),
        "commit": commit(),
        "checkpoint": {key: saved[key] for key in exported.OF_CHECKPOINT} | {"config": plain(full)},
    }


def _print(found: dict[str, Any]) -> None:
    """Print what was compared, and what is too far apart."""
    apart, took = found["differences"], found["milliseconds_an_image"]
    name = found["primary"]
    info(
        f"compared on {found['images']} images with {found['objects']} objects: boxes differ by "
        f"{apart['box']:.1e} px, scores by {apart['score']:.1e}, raw outputs {apart['raw']:.1e}; "
        f"a share of {apart['unmatched']:.1e} of the objects is in one of the two alone",
        f"{name}: {found['checkpoint'][name]:.6f} of the checkpoint, {found['file'][name]:.6f} of "
        "the file",
        f"processor time an image: {took['checkpoint']:.1f} ms of the checkpoint, "
        f"{took['file']:.1f} ms of the file",
    )
    other = found.get("other_size", {"failed": []})
    for where, report in (("", found), (" at another size", other)):
        for key in report["failed"]:
            info(
                f"does not hold: {key} differs by {report['differences'][key]:.2e}{where}, "
                f"expected at most {report['bars'][key]:.0e}; the worst image: "
                f"{report['worst_image']}"
            )
