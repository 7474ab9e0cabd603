"""A network layer by layer: sizes, strides, receptive fields, parameters and multiplications."""

from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from engine.builders import parts
from engine.builders.instantiate import part
from engine.config.image_size import size_of
from engine.structures import Output
from engine.summary.receptive_field import ReceptiveField, ReceptiveFields, tensors


class Layer(NamedTuple):
    """One call of one module."""

    name: str
    type: str
    output: list[int]  # [C, H, W] of a feature map, without the batch
    stride: float | None  # pixels; None unless the output is a map of several cells
    field: float | None  # receptive field, pixels a side; infinite: the whole image
    parameters: int  # of this module, 0 at a later call, so that they add up
    macs: int  # multiply-adds


class Level(NamedTuple):
    """The slots of one grid of a detector."""

    grid: list[int]  # (rows, columns)
    cell: list[float]  # (width, height), pixels
    anchors: int  # a cell
    slots: int


class Running(NamedTuple):
    """A module whose forward has started and not ended."""

    before: int  # flops counted when it started
    inside: list[int]  # flops of each module that ran inside it


class Recorder:
    """Records each layer as it runs, by forward hooks."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.fields, self.flops = ReceptiveFields(), FlopCounterMode(display=False)
        self._running: list[Running] = []
        self._counted: set[int] = set()

    def watch(self, module: nn.Module, prefix: str) -> None:
        """Record every module that runs no other inside, or also computes something itself."""
        for name, inner in module.named_modules():
            full = f"{prefix}.{name}" if name else prefix
            inner.register_forward_pre_hook(self._start)
            inner.register_forward_hook(partial(self._end, full))

    def _start(self, module: nn.Module, inputs: Any) -> None:
        self._running.append(Running(self.flops.get_total_flops(), []))

    def _end(self, name: str, module: nn.Module, inputs: Any, out: Any) -> None:
        running = self._running.pop()
        flops = self.flops.get_total_flops() - running.before
        if self._running:
            self._running[-1].inside.append(flops)
        own = module.parameters(recurse=not running.inside)
        fresh = {id(p): p.numel() for p in own if id(p) not in self._counted}
        self._counted |= fresh.keys()
        macs = (flops - sum(running.inside)) // 2
        first = next(iter(tensors([out])), None)
        if first is None or (running.inside and not fresh and not macs):
            return
        shape = list(first.shape[1:])
        receptive = self.fields.of(first)
        is_map = len(shape) == 3 and max(shape[1:]) > 1
        stride = receptive.jump if receptive and is_map else None
        field = receptive.size if receptive else None
        count = sum(fresh.values())
        self.layers.append(Layer(name, type(module).__name__, shape, stride, field, count, macs))


class Summary(NamedTuple):
    """A network's layers and totals at one image size."""

    backbone: str
    head: str
    image_size: tuple[int, int]  # (height, width)
    num_classes: int
    layers: list[Layer]
    parameters: int
    unlisted: int  # parameters in no layer: of modules that do not run in evaluation
    macs: int
    levels: list[Level]
    slots: int
    note: str = ""


def summarize(cfg: DictConfig) -> Summary:
    """The summary of the configured network, from one forward pass.

    The backbone runs on the meta device, without data, or if it cannot, on the CPU.
    """
    try:
        return _summarize(cfg, "meta")
    except RuntimeError as error:  # a backbone whose forward reads values of tensors
        reason = str(error).split("\n")[0]
        return _summarize(cfg, "cpu")._replace(note=f"computed with numbers, on the CPU: {reason}")


def _summarize(cfg: DictConfig, device: str) -> Summary:
    size = size_of(cfg)
    with torch.device(device):
        backbone = parts.backbone(cfg, pretrained=False)
    # The head runs on the CPU always, since anchors need values.
    head = part(
        cfg.head,
        "head",
        channels=backbone.channels,
        strides=backbone.strides,
        num_classes=cfg.num_classes,
        activation=part(cfg.loss, "loss").activation,
    )
    recorder = Recorder()
    output = _run(recorder, backbone.eval(), head.eval(), size, device)
    every = {id(p): p.numel() for part in (backbone, head) for p in part.parameters()}
    ran = sum(layer.parameters for layer in recorder.layers)
    return Summary(
        backbone=cfg.backbone.get("name") or type(backbone).__name__,
        head=type(head).__name__,
        image_size=size,
        num_classes=cfg.num_classes,
        layers=recorder.layers,
        parameters=sum(every.values()),
        unlisted=sum(every.values()) - ran,
        macs=recorder.flops.get_total_flops() // 2,
        levels=levels(output, size),
        slots=next(x.shape[1] for x in output[:3] if x is not None),
    )


@torch.no_grad()
def _run(
    recorder: Recorder, backbone: Any, head: Any, size: tuple[int, int], device: str
) -> Output:
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # no counter knows the fused kernel
    try:
        with recorder.flops, recorder.fields as fields:
            recorder.watch(backbone, "backbone")
            recorder.watch(head, "head")
            images = torch.zeros(1, 3, *size, device=device)
            fields.register(images, ReceptiveField())
            features = []
            for feature in backbone(images):
                features.append(torch.zeros(feature.shape))
                fields.register(features[-1], fields.of(feature) or ReceptiveField())
            output = head(features, size)
            head.decode(output)  # the second stage of a two-stage detector runs here
            return output
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def levels(output: Output, size: tuple[int, int]) -> list[Level]:
    """The grids of a detector, in the order of its slots; empty for a head without cells."""
    found = []
    for cell, run in groupby([] if output.cells is None else output.cells.tolist()):
        rows, columns = round(size[0] / cell[1]), round(size[1] / cell[0])
        slots = len(list(run))
        found.append(Level([rows, columns], cell, slots // (rows * columns), slots))
    return found
