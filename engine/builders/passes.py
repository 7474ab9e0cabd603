"""From the keys `tile`, `overlap` and `tta` to the passes of images and how they are merged."""

from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from engine.config.image_size import size_of
from engine.errors import UserError, did_you_mean
from engine.network import Network, Predictor
from engine.passes.merge import Merge, SuppressAcross, mean_scores
from engine.passes.windows import Passes, Size

VIEWS = ("flip", "scales")  # of `tta`
SCALES = (0.83, 1.2)
STEP = 32  # pixels, of the sides that an exported file is tried at


class Several(NamedTuple):
    """Several passes of an image, and how their objects become one result."""

    passes: Passes
    merge: Merge


def several(
    cfg: DictConfig, full: DictConfig, network: Predictor, device: torch.device
) -> Several | None:
    """What the user asks for, or None where an image passes once.

    Args:
        cfg: the command's configuration, with `tile`, `overlap` and `tta`.
        full: the network's.
        network: is run once at each further size.
        device: of the network.

    Raises:
        UserError: a name in `tta` that there is not; the network has one slot an image, or does not
            take a size.
    """
    if wrong := [name for name in cfg.tta if name not in VIEWS]:
        hint = did_you_mean(wrong[0], VIEWS)
        raise UserError(f"tta=[{wrong[0]}]: expected some of {', '.join(VIEWS)}{hint}")
    if cfg.tile is None and not cfg.tta:
        return None
    sizes = [size_of(full)]
    if "scales" in cfg.tta:
        sizes += _scaled(sizes[0], network)
    merge = _merge(cfg, full, network)
    for size in sizes[1:]:
        _try(network, size, device)
    passes = Passes(sizes=sizes, tile=cfg.tile, overlap=cfg.overlap, flip="flip" in cfg.tta)
    return Several(passes, merge)


def _merge(cfg: DictConfig, full: DictConfig, network: Predictor) -> Merge:
    """NMS as the head has it, else the mean of scores."""
    has_boxes = "boxes" in network.head.outputs
    head: Any = full.head.get("postprocess", full.head)
    if has_boxes and OmegaConf.select(head, "iou") is not None:
        by_class = head.get("nms") != "agnostic"
        return SuppressAcross(iou=head.iou, max_detections=head.max_detections, by_class=by_class)
    what = "predicts one box an image" if has_boxes else "labels whole images"
    if cfg.tile is not None:
        raise UserError(f"tile={cfg.tile}: cuts images for detectors of many objects, but this "
                        f"network {what}; leave it out")  # fmt: skip
    if has_boxes:
        raise UserError(f"tta=[{','.join(cfg.tta)}]: this network {what}, whose boxes are not "
                        "merged; leave it out")  # fmt: skip
    return mean_scores


def _scaled(size: Size, network: Predictor) -> list[Size]:
    """The sizes at `SCALES`, of whole cells of the network's coarsest map."""
    step = max(network.backbone.strides) if isinstance(network, Network) else STEP
    return [tuple(_side(side, scale, step or STEP) for side in size) for scale in SCALES]  # type: ignore[misc]


def _side(side: int, scale: float, step: int) -> int:
    """The nearest whole number of cells, at least one off the side itself."""
    found = round(side * scale / step) * step
    if found == side:
        found += step if scale > 1 else -step
    return max(found, step)


@torch.inference_mode()
def _try(network: Predictor, size: Size, device: torch.device) -> None:
    height, width = size
    images = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=device)
    try:
        network.decode(network.eval()(images))
    except Exception as error:  # of torch's or an exported file's own kinds
        reason = str(error).split("\n")[0][:200]
        raise UserError(
            f"tta=[scales]: this network takes no images of {width} x {height} pixels ({reason}); "
            "leave scales out, or export the file anew with dynamic=size"
        ) from None
