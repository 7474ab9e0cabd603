"""From the configuration to the parts, checked to fit each other before anything heavy."""

from collections.abc import Sequence
from typing import Any

import hydra.utils
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from engine import checkpoint
from engine.config import CONFIGS, check_ranges, inherit
from engine.data.loader import Loader
from engine.errors import UserError
from engine.network import Network
from engine.protocols import Dataset, Head, Loss, Metric
from engine.signature import check, part

# What the engine gives to the constructors that ask for it.
GIVEN: dict[str, Sequence[str]] = {
    "backbone": (),
    "head": ("channels", "strides", "num_classes", "activation"),
    "loss": (),
    "optimizer": ("params",),
    "schedule": (),
    "clip": (),
    "dataset": ("split",),
    "augment": (),
    "metric": ("classes",),
}
OURS = ("engine.", "classify.", "detect.", "torch.optim.")  # what a checkpoint may name


def size_of(cfg: DictConfig) -> tuple[int, int]:
    """(height, width) from `image_size`, an int or [height, width]."""
    value = cfg.image_size
    sides = (value, value) if isinstance(value, int) else ()
    sides = tuple(value) if isinstance(value, ListConfig) else sides
    if len(sides) != 2 or not all(isinstance(s, int) and s >= 32 for s in sides):
        raise UserError(f"image_size={value}: expected pixels >= 32, or [height, width]")
    return sides


def dataset(cfg: DictConfig, split: str) -> Dataset:
    """The split of the configured dataset."""
    data = part(cfg.dataset, "dataset", split=split)
    if len(data) == 0:
        raise UserError(f"dataset: the split '{split}' has no picture")
    if "head" in cfg and "_target_" in cfg.head:
        _check_slots(cfg, data)
    return data


def load(cfg: DictConfig, data: Any, device: torch.device, shuffle: bool = False) -> Loader:
    """Batches of a dataset: augmented and shuffled for training, else whole and in order."""
    return Loader(
        dataset=data,
        augment=part(cfg.augment, "augment"),
        size=size_of(cfg),
        batch_size=cfg.loader.batch_size,
        workers=cfg.loader.workers,
        seed=cfg.seed,
        train=shuffle,
        pin_memory=device.type == "cuda",
    )


def _check_slots(cfg: DictConfig, data: Dataset) -> None:
    """One slot answers for one object a picture; slots with boxes need boxes to learn."""
    head = hydra.utils.get_class(cfg.head["_target_"])
    records = map(data.record, range(min(len(data), 1000)))
    if "boxes" in head.says:
        if next(records).boxes is None:
            raise UserError(
                f"head {head.__name__} finds boxes, {type(data).__name__} has none: say "
                "model=resnet18, or a dataset with boxes (dataset=voc)"
            )
        return
    for record in records:
        if len(record.labels) != 1:
            raise UserError(
                f"head {head.__name__} says one class a picture, {record.path or record.id} has "
                f"{len(record.labels)} objects: say model=ssd_resnet34, or a dataset of one label "
                "a picture (dataset=image_folder)"
            )


def metric(cfg: DictConfig, classes: list[str]) -> Metric:
    """The configured metric for these classes."""
    return part(cfg.metric, "metric", classes=classes)


def check_all(cfg: DictConfig) -> None:
    """Hold every part against its constructor, and the parts against each other.

    Raises:
        UserError: naming the key, or the parts that do not fit.
    """
    check_ranges(cfg)
    for name, given in GIVEN.items():
        check(cfg[name], name, given)
    size_of(cfg)
    head = hydra.utils.get_class(cfg.head["_target_"])
    _check_loss(head, part(cfg.loss, "loss"))
    metric = hydra.utils.get_class(cfg.metric["_target_"])
    if "boxes" in metric.requires ^ head.says:
        raise UserError(
            f"the metric {metric.__name__} judges {_list(metric.requires)}, the head "
            f"{head.__name__} says {_list(head.says)}: pick another metric= or head="
        )


def _fit(head: type[Head], criterion: Loss) -> bool:
    return criterion.requires <= head.says <= criterion.trains


def _check_loss(head: type[Head], criterion: Loss) -> None:
    """Refuse a loss that needs what the head does not say, or leaves some of it untrained."""
    if _fit(head, criterion):
        return
    nodes = {p.stem: OmegaConf.load(p) for p in sorted((CONFIGS / "loss").glob("*.yaml"))}
    fitting = [name for name, node in nodes.items() if _fit(head, part(node, "loss"))]  # type: ignore[arg-type]
    raise UserError(
        f"the loss {type(criterion).__name__} needs {_list(criterion.requires)} and trains "
        f"{_list(criterion.trains)}, the head {head.__name__} says {_list(head.says)}: they do not "
        f"fit. Losses that do: {', '.join(fitting)}"
    )


def _list(names: frozenset[str]) -> str:
    return " + ".join(sorted(names))


def network(cfg: DictConfig, num_classes: int) -> Network:
    """The configured network, on the CPU."""
    criterion = part(cfg.loss, "loss")
    backbone = part(cfg.backbone, "backbone")
    head = part(
        cfg.head,
        "head",
        channels=backbone.channels,
        strides=backbone.strides,
        num_classes=num_classes,
        activation=criterion.activation,
    )
    return Network(backbone=backbone, head=head, criterion=criterion)


def device(name: str) -> torch.device:
    """The device of `device=`; auto takes cuda, then mps, then the cpu."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        found = torch.device(name)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device={name}: not usable here; expected auto, cpu, mps, cuda or cuda:N "
            f"({torch.cuda.device_count()} CUDA devices are)"
        ) from error
    return found


def from_checkpoint(
    path: str, cfg: DictConfig, device: torch.device
) -> tuple[dict[str, Any], DictConfig]:
    """A checkpoint, and its configuration with what the user said on top.

    Raises:
        UserError: that configuration calls code outside this project; `trust=true` allows it.
    """
    saved = checkpoint.load(path, device)
    if not cfg.trust and (foreign := _foreign(saved["config"])):
        raise UserError(f"{path}: its configuration calls {foreign}; to allow that: trust=true")
    return saved, inherit(saved["config"], cfg)


def _foreign(node: Any) -> str | None:
    """The first `_target_` in a configuration that is not ours."""
    if isinstance(node, list | tuple):
        return next(filter(None, map(_foreign, node)), None)
    if not isinstance(node, dict):
        return None
    if "_target_" in node and not _is_ours(name := str(node["_target_"])):
        return name
    return _foreign(list(node.values()))


def _is_ours(name: str) -> bool:
    if not name.startswith(OURS):
        return False
    try:
        # engine.x.os.system starts with our name too: what counts is where the class is defined
        return hydra.utils.get_class(name).__module__.startswith(OURS)
    except Exception:  # no such module, no such name, not a class
        return False


def trained(cfg: DictConfig, saved: dict[str, Any], path: str, device: torch.device) -> Network:
    """The checkpoint's network with its averaged weights where it has them."""
    net = network(cfg, len(saved["classes"])).to(device)
    if cfg.trainer.channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint.load_weights(net, saved["ema"] or saved["model"], path)
    return net


def check_classes(trained: list[str], data: list[str], path: str) -> None:
    """Refuse to score a network on data whose labels mean something else."""
    if trained != data:
        raise UserError(f"{path} was trained on the classes {trained}, this data has {data}")
