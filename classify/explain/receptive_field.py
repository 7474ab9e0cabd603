"""Which pixels a cell sees: by the recurrence over layers, and by its gradient on an image.

A layer of kernel F, stride S and padding P makes N = (W - F + 2P) / S + 1 cells of W. Its field
grows by (F - 1) times the stride so far, which it multiplies by S (`engine.summary.receptive_field`
has the recurrence). The judge is the gradient of one cell: a pixel that it does not see has none.
"""

from functools import partial
from typing import Any, NamedTuple

import hydra
import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor, nn

from engine.builders import parts
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.explain.explanation import Explanation, new_figure
from engine.explain.images import read_or_draw
from engine.summary.receptive_field import ReceptiveField, ReceptiveFields

MOST = 0.9  # of the gradient, that the square of the column "90 %" holds
Span = tuple[int, int, int, int]  # left, top, right and bottom, pixels; the last two outside


class Map(NamedTuple):
    """What a layer makes of the image, and which pixels its middle cell sees."""

    name: str
    size: tuple[int, int]  # (rows, columns)
    field: ReceptiveField
    box: Span  # by the recurrence, as far as it is in the image
    heat: np.ndarray  # [H, W], the gradient of the middle cell
    centre: tuple[float, float]  # (x, y) of the box before the image cuts it


def explain(
    image: str | None, layers: list[list[int]], network: str | None, seed: int
) -> Explanation:
    """Output size, stride and field of each layer, or where a model's stride changes."""
    pixels = read_or_draw(image)
    torch.manual_seed(seed)
    made = stack(layers, pixels.shape[:2]) if network is None else backbone(network)
    maps = look(made, pixels, ends=network is not None)
    rows = [_row(each) for each in maps]
    return Explanation(rows, _figure(pixels, maps), _lines(network is None))


def cells(width: int, kernel: int, stride: int, padding: int) -> int:
    """The cells of an output, N = (W - F + 2P) / S + 1, rounded down."""
    return (width - kernel + 2 * padding) // stride + 1


def stack(layers: list[list[int]], size: tuple[int, int]) -> nn.Sequential:
    """Convolutions [kernel, stride, padding] with equal positive weights: no path is cut.

    Raises:
        UserError: a layer that leaves no cell, or whose cells see padding alone.
    """
    network, channels = nn.Sequential(), 3
    for number, (kernel, stride, padding) in enumerate(layers):
        if kernel < 1 or stride < 1 or padding >= kernel:
            raise UserError(f"layers[{number}]={layers[number]}: expected [kernel, stride, padding]"
                            ", the first two above 0 and padding below kernel")  # fmt: skip
        size = (cells(size[0], kernel, stride, padding), cells(size[1], kernel, stride, padding))
        if min(size) < 1:
            raise UserError(f"layers[{number}]={layers[number]}: no cell is left of its input; "
                            "leave it out, or give it a padding")  # fmt: skip
        layer = nn.Conv2d(channels, 1, kernel, stride, padding, bias=False)
        nn.init.constant_(layer.weight, 1 / layer.weight.numel())
        network.add_module(f"{number}: {kernel} x {kernel} / {stride}", layer)
        channels = 1
    return network


def backbone(model: str) -> nn.Module:
    """A model's backbone with random weights, in evaluation mode."""
    GlobalHydra.instance().clear()  # the command's own configuration is made by now
    if not (CONFIGS / "model" / f"{model}.yaml").is_file():
        raise UserError(
            f"network={model}: no such model; `python -m engine.summary --help` has them"
        )
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return parts.backbone(hydra.compose("train", [f"model={model}"]), pretrained=False).eval()


def look(network: nn.Module, pixels: np.ndarray, ends: bool) -> list[Map]:
    """The maps of a network's convolutions and poolings, or the last of each stride."""
    image = torch.tensor(pixels / 255).permute(2, 0, 1)[None].requires_grad_()  # [1, 3, H, W]
    made: list[tuple[str, Tensor]] = []
    hooks = [
        layer.register_forward_hook(partial(_record, made, name))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)
    ]
    with ReceptiveFields() as fields:
        fields.register(image, ReceptiveField())
        network.double()(image)
    for hook in hooks:
        hook.remove()
    found = [(name, out, field) for name, out in made if (field := fields.of(out))]
    if ends:
        found = list({field.jump: (name, out, field) for name, out, field in found}.values())
    return [_map(image, *each) for each in found]


def _record(made: list[tuple[str, Tensor]], name: str, _: Any, __: Any, out: Tensor) -> None:
    made.append((name, out))


def _map(image: Tensor, name: str, out: Tensor, field: ReceptiveField) -> Map:
    rows, columns = out.shape[2:]
    y, x = rows // 2, columns // 2
    (gradient,) = torch.autograd.grad(out[0, :, y, x].sum(), image, retain_graph=True)
    heat = gradient[0].abs().sum(0).numpy()  # [H, W]
    low, high = ([end + i * field.jump for i in (x, y)] for end in (field.low, field.high))
    limits = image.shape[3], image.shape[2]
    left, top = (int(max(0, end)) for end in low)
    right, bottom = (int(min(end, limit)) for end, limit in zip(high, limits, strict=True))
    centre = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)
    return Map(name, (rows, columns), field, (left, top, right, bottom), heat, centre)


def span(heat: np.ndarray) -> Span:
    """The smallest box that holds every pixel with a gradient."""
    y, x = np.nonzero(heat)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def side_of_most(each: Map) -> int:
    """The side of the square around the field's centre that holds `MOST` of the gradient."""
    y, x = np.indices(each.heat.shape) + 0.5
    away = np.maximum(abs(x - each.centre[0]), abs(y - each.centre[1])).ravel()  # [H * W]
    order = away.argsort()
    reached = each.heat.ravel()[order].cumsum()
    return round(2 * away[order][(reached >= MOST * reached[-1]).argmax()] + 1)


def _row(each: Map) -> dict[str, Any]:
    left, top, right, bottom = each.box
    own = span(each.heat)
    return {
        "layer": each.name,
        "cells": f"{each.size[1]} x {each.size[0]}",
        "stride": int(each.field.jump),
        "field": int(each.field.size),
        "in the image": f"{right - left} x {bottom - top}",
        "by gradient": f"{own[2] - own[0]} x {own[3] - own[1]}",
        "90 %": side_of_most(each),
    }


def _lines(equal: bool) -> list[str]:
    weights = "equal and positive" if equal else "random"
    return [
        "cells, sides: width x height; field: of the middle cell, pixels a side; 90 %: the side of",
        f"the square with 90 % of its gradient; weights: {weights}",
    ]


def _figure(pixels: np.ndarray, maps: list[Map]):
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    figure = new_figure(3.2 * columns, rows * 3.2 * pixels.shape[0] / pixels.shape[1] + 0.3 * rows)
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, each in zip(panels, maps, strict=False):
        grey = pixels.mean(2)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255, alpha=0.6)
        share = np.sqrt(each.heat / each.heat.max())  # [H, W]; weak ones can be seen
        axes.imshow(np.ones_like(share), cmap="autumn", vmin=1, vmax=2, alpha=share)
        left, top, right, bottom = each.box
        axes.add_patch(_rectangle((left - 0.5, top - 0.5), right - left, bottom - top))
        axes.set_title(f"{each.name}\nstride {each.field.jump:g}, field {each.field.size:g}",
                       fontsize=8)  # fmt: skip
    return figure


def _rectangle(corner: tuple[float, float], width: int, height: int):
    from matplotlib.patches import Rectangle  # only with a figure

    return Rectangle(corner, width, height, fill=False, color="blue", linewidth=1.5)
