"""The training step beside the bare network: `python -m engine.bench part=step`.

Each model of its preset, in float32, on drawn images:

bare: forward, backward and optimizer of the network, its loss the plain sum of its outputs.
step: `engine.training.loop.train_epoch` over batches that are ready: to weights that are updated,
with
    losses, clipping, average, guard, schedule and the sums of the progress.
loop: the same over the loader with one worker, whose images are drawn as they are needed.
losses: of the step, the assignment and the losses, with their gradient by the network's outputs.
torchvision: as its reference loop trains its own SSD300 or RetinaNet, beside ours on the same
    backbone.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from math import isfinite
from statistics import median
from typing import Any

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torchvision.models.detection import retinanet_resnet50_fpn, ssd300_vgg16

from engine.bench.alternate import alternate
from engine.builders import parts
from engine.builders.instantiate import part
from engine.builders.run import prepare
from engine.config.image_size import size_of
from engine.config.schema import CONFIGS
from engine.data.loader import Loader
from engine.output.run_log import Silent
from engine.structures import Batch, Output
from engine.training.loop import train_epoch
from engine.training.run import Run

CPU = torch.device("cpu")
THEIRS = {"ssd300_vgg16": ssd300_vgg16, "retinanet_resnet50": retinanet_resnet50_fpn}
SIDE = 224  # pixels, of models that leave image_size to their weights
BATCH = {"ssd300_vgg16": 1}  # images, of models whose images cost ten times as much


class Ready:
    """Batches that are there already, in place of a loader."""

    def __init__(self, loader: Loader) -> None:
        self.sampler, self.batches, self.position = loader.sampler, list(loader), 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for position, batch in enumerate(self.batches, 1):
            self.position = position
            yield batch


def measure(
    *, models: list[str], batch: int | None, steps: int, repeats: int, seed: int
) -> list[dict[str, Any]]:
    """One row for each model and what is timed of it.

    Args:
        models: options of model=, at their own side or `SIDE`.
        batch: images; None for 8, or the model's of `BATCH`.
        steps: that are timed at once; then it is the next one's turn.
        repeats: turns of each.
        seed: of the weights.

    Keys: `ms` is a step's median over the turns, `fastest` and `slowest` its spread; `of_bare` is
    the median of its share of the bare step in the same turn, and `cpu_of_bare` the same of the
    process's own CPU seconds, which other processes hardly change; a worker's are not among them.
    """
    torch.set_num_threads(1)
    rows = []
    for model in models:
        torch.manual_seed(seed)
        images = batch or BATCH.get(model, 8)
        wall, cpu = alternate(peers(model, images, steps), repeats)
        rows += [
            {
                "model": model,
                "batch": images,
                "timed": name,
                "ms": 1e3 * median(seconds) / steps,
                "fastest": 1e3 * min(seconds) / steps,
                "slowest": 1e3 * max(seconds) / steps,
                "of_bare": _ratio(seconds, wall["bare"]),
                "cpu_of_bare": _ratio(cpu[name], cpu["bare"]),
            }
            for name, seconds in wall.items()
        ]
    return rows


def _ratio(seconds: list[float], others: list[float]) -> float:
    return median(a / b for a, b in zip(seconds, others, strict=True))


def peers(model: str, batch: int, steps: int) -> dict[str, Callable[[], None]]:
    """What is timed of a model, by name; a call takes so many steps."""
    cfg = compose(model, batch, steps, "trainer.precision=fp32")
    data = part(cfg.dataset, "dataset", split="train")  # a classifier takes its last object's label
    loader = parts.loader(cfg, data, CPU, shuffle=True)
    ready = Ready(loader)

    def run() -> Run:
        made = parts.network(cfg, len(data.classes), parts.backbone(cfg))
        return prepare(cfg, made, steps, CPU)

    bare = run()
    compared = {
        "bare": partial(_bare, bare, ready),
        "step": partial(steps_of_ours, run(), ready),
        "loop": partial(steps_of_ours, run(), loader),
        "losses": partial(_losses, bare, ready, _outputs(bare, ready)),
    }
    if model in THEIRS:
        theirs = torchvisions(model, cfg, len(data.classes), CPU)
        compared["torchvision"] = partial(steps_of_torchvision, *theirs, ready)
    return compared


def torchvisions(
    model: str, cfg: DictConfig, classes: int, device: torch.device
) -> tuple[nn.Module, Optimizer]:
    """Torchvision's own network of that name, and an optimizer of ours; its own is SGD."""
    made = THEIRS[model](weights=None, weights_backbone=None, num_classes=classes + 1)
    made = made.to(device).train()
    return made, part(cfg.optimizer, "optimizer")(made.parameters())


def compose(model: str, batch: int, steps: int, *overrides: str) -> DictConfig:
    """A preset's configuration on so many batches of drawn images."""
    GlobalHydra.instance().clear()  # the command's own configuration is made by now
    all_overrides = [f"model={model}", "dataset=shapes", "augment=light", "trainer.epochs=100000",
                f"loader.batch_size={batch}", "loader.workers=1", *overrides]  # fmt: skip
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=all_overrides)
    cfg.image_size = SIDE if cfg.image_size == "auto" else cfg.image_size
    cfg.dataset.size, cfg.dataset.train = max(size_of(cfg)), batch * steps
    return cfg


def steps_of_ours(run: Run, loader: Any) -> None:
    """An epoch of ours that leaves nothing behind but weights."""
    for _ in train_epoch(run, loader, Silent()):
        pass
    run.end_epoch({}, None)


def _bare(run: Run, ready: Ready) -> None:
    for batch in ready:
        output = run.network(batch.images)
        torch.stack([x.sum() for x in _differentiable(output)]).sum().backward()
        run.optimizer.step()
        run.optimizer.zero_grad()


def _losses(run: Run, ready: Ready, outputs: list[Output]) -> None:
    for batch, output in zip(ready, outputs, strict=True):
        losses = run.network.losses(output, batch.objects)
        torch.autograd.grad(torch.stack(list(losses.values())).sum(), _differentiable(output))


def _differentiable(output: Output) -> list[Tensor]:
    """The network's logits, boxes and objectness, where it has them."""
    return [x for x in output[:3] if isinstance(x, Tensor)]


def _outputs(run: Run, ready: Ready) -> list[Output]:
    """The network's output for each batch, as inputs of the losses."""
    with torch.no_grad():
        found = [run.network(batch.images) for batch in ready]
    for output in found:
        for tensor in _differentiable(output):
            tensor.requires_grad_()
    return found


def steps_of_torchvision(
    model: nn.Module,
    optimizer: Optimizer,
    ready: Ready,
    device: torch.device = CPU,
    precision: AbstractContextManager[Any] = nullcontext(),  # noqa: B008, it keeps nothing
) -> None:
    """The steps of train_one_epoch in torchvision's references/detection/engine.py."""
    for batch in ready:
        batch = batch.to(device)
        per_image = [batch.objects.of(i) for i in range(len(batch.meta))]
        targets = [{"boxes": o.boxes, "labels": o.labels + 1} for o in per_image]  # 0: background
        with precision:
            losses = model(list(batch.images / 255), targets)
            loss = torch.stack(list(losses.values())).sum()
        if not isfinite(loss.item()):
            raise FloatingPointError(f"torchvision's loss is {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
