"""Assignment and loss of detectors, beside torchvision's: `python -m engine.bench part=loss`.

Random outputs and objects, SSD300's own default boxes, 20 classes. Timed: which slot answers for
which object, the loss, and its gradient by the logits and the boxes. `multibox` stands beside
torchvision's SSD; `focal`, as head=ssd has it, and `focal_retina` with head=retina beside its
RetinaNet.
"""

import json
import tempfile
from collections.abc import Callable
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD as SSD300
from torchvision.ops import box_iou

from classify.losses import Focal
from detect.anchors import default_boxes, default_shapes
from detect.heads.retina import Retina
from detect.heads.ssd import SSD
from detect.losses.box import L1, SmoothL1
from detect.losses.multibox import Multibox
from engine.bench.alternate import alternate
from engine.structures import Objects, Output

CLASSES, SIDE = 20, 300  # classes; pixels of the input
# SSD300's default boxes, as in configs/head/ssd_paper_300.yaml: 8732 of them
GRIDS, STEPS = (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)
SCALES, RATIOS = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), ([2], *[[2, 3]] * 3, [2], [2])
BATCH = 32  # images
MEMORY, HELD = "[memory]", "Total Allocated"  # of the profiler's trace


class Peer(NamedTuple):
    """What is compared: named losses, and what their gradient is asked by."""

    losses: Callable[[], dict[str, Tensor]]
    inputs: tuple[Tensor, Tensor]  # logits [B, A, C] and box code [B, A, 4]

    def gradients(self) -> tuple[Tensor, ...]:
        """All of what is timed: assignment, loss, gradient of the sum."""
        return torch.autograd.grad(torch.stack(list(self.losses().values())).sum(), self.inputs)


def measure(
    *, batch: int | None, slots: int, objects: list[int], repeats: int, seed: int
) -> list[dict[str, Any]]:
    """One row for each number of objects an image and each peer.

    Keys: `ms` is the median, `fastest` and `slowest` its spread; `of_torchvision` is the median of
    its share of torchvision's own of its kind in the same turn, and `cpu_of_torchvision` the same
    of the process's own CPU seconds, which other processes hardly change; `peak_mb` the most memory
    held at a time, beyond outputs and objects.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rows = []
    for count in objects:
        compared = peers(batch or BATCH, slots, count)
        turns = {name: p.gradients for name, p in compared.items()}
        seconds, cpu = alternate(turns, repeats)
        rows += [
            {
                "objects": count,
                "loss": name,
                "ms": 1e3 * median(times),
                "fastest": 1e3 * min(times),
                "slowest": 1e3 * max(times),
                "of_torchvision": _share(times, seconds[theirs(name)]),
                "cpu_of_torchvision": _share(cpu[name], cpu[theirs(name)]),
                "peak_mb": peak(compared[name].gradients) / 1e6,
            }
            for name, times in seconds.items()
        ]
    return rows


def theirs(name: str) -> str:
    """The peer that is torchvision's of the same kind."""
    return "torchvision" if name in ("torchvision", "multibox") else "retinanet"


def _share(seconds: list[float], others: list[float]) -> float:
    return median(a / b for a, b in zip(seconds, others, strict=True))


def peak(run: Callable[[], Any]) -> int:
    """Bytes that a run holds at most, by the allocator's own count."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        seen.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    held = [e["args"] for e in sorted(events, key=lambda e: e.get("ts", 0)) if e["name"] == MEMORY]
    return max(h[HELD] for h in held) - (held[0][HELD] - held[0]["Bytes"])


def peers(batch: int, slots: int, count: int) -> dict[str, Peer]:
    """Five ways over the same slots, outputs and objects; a sigmoid leaves the last logit out."""
    anchors = ssd300(slots)
    objects = Objects(
        _boxes(batch * count),
        torch.randint(0, CLASSES, (batch * count,)),
        torch.arange(batch).repeat_interleave(count),
    )
    logits = torch.randn(batch, slots, CLASSES + 1, requires_grad=True)
    boxes = torch.randn(batch, slots, 4, requires_grad=True)
    output = Output(logits, boxes, slots=anchors, cells=torch.ones(slots, 2))
    sigmoid = output._replace(logits=logits.detach()[..., :-1].clone().requires_grad_())
    return {
        "torchvision": _torchvision(output, objects),
        "multibox": _ours(SSD, Multibox(), output, objects, positive=0.5, negative=0.5),
        "retinanet": _retinanet(sigmoid, objects),
        "focal": _ours(SSD, Focal(box=SmoothL1()), sigmoid, objects),
        "focal_retina": _ours(Retina, Focal(box=L1(), per_image=True), sigmoid, objects),
    }


def ssd300(number: int) -> Tensor:
    """The first of SSD300's default boxes [number, 4] in pixels; beyond 8732 all over again."""
    levels = zip(GRIDS, default_shapes(SCALES, RATIOS), STEPS, strict=True)
    boxes = torch.cat([default_boxes((g, g), s, (SIDE, SIDE), step)[0] for g, s, step in levels])
    return boxes.repeat(ceil(number / len(boxes)), 1)[:number]


def _boxes(number: int) -> Tensor:
    """Random boxes [number, 4] about the image, sides of 20 to 250 pixels."""
    centre = torch.rand(number, 2) * SIDE
    half = 20 * (250 / 20) ** torch.rand(number, 2) / 2
    return torch.cat([centre - half, centre + half], 1)


def _ours(kind: Any, loss: Any, output: Output, objects: Objects, **options: Any) -> Peer:
    given: dict[str, Any] = {"channels": [8], "strides": [8], "num_classes": CLASSES}
    head = kind(**given, activation=loss.activation, levels=1, **options)

    def losses() -> dict[str, Tensor]:
        with torch.no_grad():
            assigned = head.assign(output, objects)
        return loss(output, assigned)

    return Peer(losses, (output.logits, output.boxes))


def _torchvision(output: Output, objects: Objects) -> Peer:
    """The matching and loss of torchvision's SSD, called as its `forward` does."""
    none = nn.Identity()
    model = SSD300(none, DefaultBoxGenerator([[2]]), (SIDE, SIDE), CLASSES + 1, head=none)
    per_image = [objects.of(i) for i in range(len(output.logits))]
    targets = [{"boxes": o.boxes, "labels": o.labels + 1} for o in per_image]  # 0 is the background
    logits = output.logits.detach().roll(1, -1).requires_grad_()
    heads = {"bbox_regression": output.boxes, "cls_logits": logits}
    anchors = [output.slots] * len(per_image)
    nothing = torch.full((len(output.slots),), -1)

    def losses() -> dict[str, Tensor]:
        matched = [
            model.proposal_matcher(box_iou(t["boxes"], output.slots))
            if len(t["boxes"])
            else nothing
            for t in targets
        ]
        return model.compute_loss(targets, heads, anchors, matched)

    return Peer(losses, (logits, output.boxes))


def _retinanet(output: Output, objects: Objects) -> Peer:
    """The matching and loss of torchvision's RetinaNet, called as its `forward` does."""
    none = nn.Identity()
    none.out_channels = 8  # type: ignore[assignment]
    model = RetinaNet(none, CLASSES, anchor_generator=AnchorGenerator(((8,),), ((1.0,),)))
    per_image = [objects.of(i) for i in range(len(output.logits))]
    targets = [{"boxes": o.boxes, "labels": o.labels} for o in per_image]
    outputs = {"cls_logits": output.logits, "bbox_regression": output.boxes}
    anchors = [output.slots] * len(per_image)
    return Peer(
        lambda: model.compute_loss(targets, outputs, anchors), (output.logits, output.boxes)
    )
