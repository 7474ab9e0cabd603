"""Every preset exported and compared, a row each: python tests/export_table.py [PRESET ...].

The networks have their first weights and the batch statistics of the images, so that no number
overflows; what is compared are raw outputs and objects, on one thread, an image at a time.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import openvino
import torch
from command_line import ROOT
from hydra import compose, initialize_config_dir
from torch import nn

from engine.builders import judged_parts, parts
from engine.config.image_size import size_of
from engine.errors import UserError
from engine.export import compare, formats, int8
from engine.export.graph import Graph, program
from engine.export.parity import Bars, Parity
from engine.runtime.exported import ExportedNetwork, files_of

DATA = ROOT.parent / "shared/data"
IMAGES = 8
DETECTORS = ("ssd", "yolo", "retina", "faster")
COLUMNS = ("preset", "MB", "raw", "box px", "score", "unmatched", "objects", "eager ms",
           "onnxruntime", "OpenVINO", "INT8")  # fmt: skip


def composed(name: str) -> Any:
    """The configuration of a preset on real images."""
    boxes = name.startswith(DETECTORS)
    data = [f"dataset=voc dataset.root={DATA}/voc2012_sub"] if boxes else [
        f"dataset=image_folder dataset.root={DATA}/hymenoptera256"]  # fmt: skip
    keys = [*data[0].split(), "loader.batch_size=1", "loader.workers=0"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [f"model={name}", *keys])
    cfg.image_size = 224 if cfg.image_size == "auto" else cfg.image_size
    return cfg


@torch.no_grad()
def network(cfg: Any, loader: Any) -> Any:
    """The network, its batch statistics those of the images."""
    torch.manual_seed(0)
    made = parts.network(cfg, len(loader.dataset.classes), parts.backbone(cfg)).train()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all
    made(torch.cat([batch.images for batch in loader]))
    return made.eval()


def row(name: str, folder: Path) -> list[Any]:
    """The numbers of a preset."""
    cfg = composed(name)
    loader = compare.images_of(cfg, "val", IMAGES)
    graph = Graph(network(cfg, loader), nms=True).eval()
    onnx, xml, small = folder / "a.onnx", folder / "b.xml", folder / "c.xml"
    with formats.quiet():
        formats.write(program(graph, size_of(cfg), "none"), graph.names, onnx)
        for path in (xml, small):
            openvino.save_model(openvino.Core().read_model(onnx), path, compress_to_fp16=False)
        int8.quantize(small, loader)
    times, first = [], {}
    for path in (onnx, xml, small):
        parity = Parity((judged_parts.metric(cfg, loader.dataset.classes),) * 2)
        file = ExportedNetwork(compare.open_file(path), batch=1, outputs=frozenset(), protocol="")
        compare.compare(graph, file, loader, parity, 1)  # warm
        parity = Parity((judged_parts.metric(cfg, loader.dataset.classes),) * 2)
        times.append(compare.compare(graph, file, loader, parity))
        report = parity.report(Bars(), both_ways=True)
        first = first or report
        if path == xml and report["failed"]:
            print(f"{name}: OpenVINO: {report['differences']}", file=sys.stderr)
    apart = first["differences"]
    eager = min(each["checkpoint"] for each in times)
    speeds = [f"{each['checkpoint'] / each['file']:.1f} x" for each in times]
    size = files_of(onnx)[0].stat().st_size / 2**20
    return [name, f"{size:.1f}", *(f"{apart[k]:.1e}" for k in ("raw", "box", "score", "unmatched")),
            first["objects"], f"{eager:.1f}", *speeds]  # fmt: skip


def main() -> None:
    """Print the table, a preset at a time."""
    names = sys.argv[1:] or sorted(path.stem for path in (ROOT / "configs/model").glob("*.yaml"))
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                cells = row(name, Path(folder))
            except UserError as error:
                cells = [name, str(error)]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
