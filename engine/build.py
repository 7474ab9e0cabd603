"""From the configuration to the parts, checked to fit each other before anything heavy."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from engine import weights
from engine.config import CONFIGS, plain
from engine.data.loader import Loader
from engine.errors import UserError
from engine.logging import say
from engine.network import Network
from engine.protocols import Dataset, Loss, Metric, Says
from engine.ranges import check_ranges
from engine.signature import check, part
from engine.structures import Preprocessing

# What the engine gives to the constructors that ask for it.
GIVEN: dict[str, Sequence[str]] = {
    "backbone": (),
    "head": ("channels", "strides", "num_classes", "activation"),
    "loss": (),
    "optimizer": ("params",),
    "schedule": (),
    "clip": (),
    "finetune": (),
    "dataset": ("split",),
    "augment": (),
    "metric": ("classes",),
}
WITHOUT_WEIGHTS = 64  # what image_size=auto is then, pixels


def size_of(cfg: DictConfig) -> tuple[int, int]:
    """(height, width) from `image_size`, an int or [height, width]."""
    value = cfg.image_size
    if value == "auto":  # until `backbone` knows its weights
        return (WITHOUT_WEIGHTS, WITHOUT_WEIGHTS)
    sides = (value, value) if isinstance(value, int) else ()
    sides = tuple(value) if isinstance(value, ListConfig) else sides
    if len(sides) != 2 or not all(isinstance(s, int) and s >= 32 for s in sides):
        raise UserError(f"image_size={value}: expected pixels >= 32, [height, width] or auto")
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
        prefetch=cfg.loader.prefetch,
        cache_mb=cfg.loader.cache_mb if shuffle else 0,
        sizes=None if cfg.loader.sizes is None else list(cfg.loader.sizes),
        sizes_every=cfg.loader.sizes_every,
        pictures=cfg.trainer.overfit,
        limit=cfg.trainer.limit,
    )


def _check_slots(cfg: DictConfig, data: Dataset) -> None:
    """One slot answers for one object a picture; slots with boxes need boxes to learn."""
    head = hydra.utils.get_class(cfg.head["_target_"])
    metric = hydra.utils.get_class(cfg.metric["_target_"])
    many = getattr(metric, "many_labels", False)
    if many and part(cfg.loss, "loss").activation == "softmax":
        raise UserError(
            f"the metric {metric.__name__} is for pictures of several classes, a softmax knows "
            "one: say loss=bce, or metric=top_k"
        )
    if not any(len(data.record(i).labels) for i in range(len(data))):
        raise UserError(
            f"dataset: no object of the classes {', '.join(data.classes)} in {len(data)} "
            "pictures: say which there are, dataset.classes=[...]"
        )
    has_boxes = data.record(0).boxes is not None
    if "boxes" in says(cfg.head):
        if not has_boxes:
            raise UserError(
                f"head {head.__name__} finds boxes, {type(data).__name__} has none: say "
                "model=resnet18, or a dataset with boxes (dataset=voc)"
            )
        return
    records = () if many else (data.record(i) for i in range(len(data)))
    for record in records:
        if len(record.labels) != 1:
            how = "loss=bce metric=multi_label"
            if has_boxes:
                how = f"model=ssd_resnet34, dataset.view=largest, or {how} dataset.view=multilabel"
            raise UserError(
                f"head {head.__name__} says one class a picture, {record.path or record.id} has "
                f"{len(record.labels)}: say {how}"
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
    criterion = part(cfg.loss, "loss")
    _check_loss(cfg.head, criterion)
    mixes = any(cfg.augment.get(key) for key in ("mixup", "cutmix"))
    if mixes and "boxes" not in says(cfg.head) and not getattr(criterion, "takes_shares", False):
        raise UserError(
            f"augment.mixup and augment.cutmix ask for shares of classes, which the loss "
            f"{type(criterion).__name__} does not take: say loss=cross_entropy or loss=bce"
        )
    head = hydra.utils.get_class(cfg.head["_target_"])
    metric = hydra.utils.get_class(cfg.metric["_target_"])
    said = says(cfg.head)
    if not metric.requires <= said or "boxes" in metric.requires ^ said:
        raise UserError(
            f"the metric {metric.__name__} judges {_list(metric.requires)}, the head "
            f"{head.__name__} says {_list(said)}: pick another metric= or head="
        )


def says(node: DictConfig) -> Says:
    """What the configured head says: by its class, or where its arguments decide, by `saying`."""
    head = hydra.utils.get_class(node["_target_"])
    if not (saying := getattr(head, "saying", None)):
        return head.says
    return saying(**{str(k): node[k] for k in inspect.signature(saying).parameters if k in node})


def _fit(head: DictConfig, criterion: Loss) -> bool:
    single = getattr(hydra.utils.get_class(head["_target_"]), "single", False)
    fit = criterion.requires <= says(head) <= criterion.trains
    return fit and (single or not getattr(criterion, "single", False))


def _check_loss(head: DictConfig, criterion: Loss) -> None:
    """Refuse a loss that needs what the head does not say, or leaves some of it untrained."""
    if _fit(head, criterion):
        return
    files = sorted((CONFIGS / "loss").glob("*.yaml"))
    fitting = [p.stem for p in files if _fit(head, part(_loss_of(p), "loss"))]
    slots = " in one slot" if getattr(criterion, "single", False) else ""
    raise UserError(
        f"the loss {type(criterion).__name__} needs {_list(criterion.requires)}{slots} and trains "
        f"{_list(criterion.trains)}, the head {head['_target_'].rpartition('.')[2]} says "
        f"{_list(says(head))}: they do not fit. Losses that do: {', '.join(fitting)}"
    )


def _loss_of(path: Path) -> Any:
    """A loss's own YAML with the box term that its defaults name."""
    node: Any = OmegaConf.load(path)
    for default in node.pop("defaults", []):
        for key, option in default.items() if isinstance(default, DictConfig) else ():
            node[key] = OmegaConf.load(path.parent / str(key) / f"{option}.yaml")
    return node


def _list(names: frozenset[str]) -> str:
    return " + ".join(sorted(names))


def backbone(cfg: DictConfig, pretrained: bool = True) -> Any:
    """The configured backbone, on the CPU; what its weights expect goes into the configuration.

    Args:
        cfg: keys that are set stay as they are, those that are null or auto are filled in.
        pretrained: False leaves `backbone.weights` unread, for weights from a checkpoint follow.
    """
    node = cfg.backbone
    if not pretrained and "weights" in node:
        node = OmegaConf.merge(node, {"weights": None})
    made = part(node, "backbone")  # type: ignore[arg-type]
    came = getattr(made, "pretrained", None)
    if pretrained and not came and cfg.finetune.get("last") is not None:
        say("what finetune freezes has random weights: backbone.weights=FILE gives learned ones")
    wanted = came.preprocessing if came else Preprocessing()
    own = {"resize": wanted.resize / wanted.size, "interpolation": wanted.interpolation}
    _fill_in(cfg.augment, own)
    _fill_in(cfg.preprocessing, {key: getattr(wanted, key) for key in ("mean", "std", "colour")})
    if cfg.image_size == "auto":
        cfg.image_size = wanted.size if came else WITHOUT_WEIGHTS
    if came and set(size_of(cfg)) != {wanted.size}:
        say(f"weights were trained at {wanted.size} px, image_size is {cfg.image_size}")
    return made


def _fill_in(node: DictConfig, values: dict[str, Any]) -> None:
    for key, value in values.items():
        if key in node and node[key] is None:
            node[key] = list(value) if isinstance(value, tuple) else value


def network(cfg: DictConfig, num_classes: int, backbone: Any, complete: bool = False) -> Network:
    """The network of the configuration on a backbone, on the CPU.

    With `complete`, a head that the backbone's weights do not fill is refused.
    """
    criterion = part(cfg.loss, "loss")
    head = part(
        cfg.head,
        "head",
        channels=backbone.channels,
        strides=backbone.strides,
        num_classes=num_classes,
        activation=criterion.activation,
    )
    if pretrained := getattr(backbone, "pretrained", None):
        backbone.pretrained = None  # a large head left over would be copied with the network
        if weights.fill(head, pretrained.rest):
            say("the head starts from the weights' own")
        elif complete:
            raise UserError(
                f"backbone.weights={cfg.backbone.weights}: what is left for a head, "
                f"{weights.shapes(pretrained.rest)}, does not fit {type(head).__name__}, "
                f"{weights.shapes(head.state_dict())}: pick another head="
            )
    return Network(
        backbone=backbone,
        head=head,
        criterion=criterion,
        l1=cfg.trainer.l1,
        l2=cfg.trainer.l2,
        **plain(cfg.preprocessing),
    )


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
