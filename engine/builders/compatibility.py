"""Whether the parts of a configuration fit each other and their data, before anything heavy."""

import inspect
from pathlib import Path
from typing import Any

import hydra.utils
from omegaconf import DictConfig, OmegaConf

from engine.config.instantiate import part
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.protocols import Dataset, Loss, OutputFields


def check_data(cfg: DictConfig, data: Dataset) -> None:
    """One slot answers for one object an image; slots with boxes need boxes to learn."""
    head = hydra.utils.get_class(cfg.head["_target_"])
    metric = hydra.utils.get_class(cfg.metric["_target_"])
    many = getattr(metric, "many_labels", False)
    if many and part(cfg.loss, "loss").activation == "softmax":
        raise UserError(
            f"the metric {metric.__name__} is for images of several classes, a softmax knows "
            "one: set loss=bce, or metric=top_k"
        )
    if not any(len(data.record(i).labels) for i in range(len(data))):
        raise UserError(
            f"dataset: no object of the classes {', '.join(data.classes)} in {len(data)} "
            "images: say which there are, dataset.classes=[...]"
        )
    has_boxes = data.record(0).boxes is not None
    if "boxes" in outputs(cfg.head):
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
                f"head {head.__name__} says one class an image, {record.path or record.id} has "
                f"{len(record.labels)}: say {how}"
            )


def check_parts(cfg: DictConfig) -> None:
    """Hold loss, metric and augmentation against the head.

    Raises:
        UserError: naming the parts that do not fit.
    """
    criterion = part(cfg.loss, "loss")
    _check_loss(cfg.head, criterion)
    mixes = any(cfg.augment.get(key) for key in ("mixup", "cutmix"))
    if mixes and "boxes" not in outputs(cfg.head) and not getattr(criterion, "takes_shares", False):
        raise UserError(
            f"augment.mixup and augment.cutmix ask for shares of classes, which the loss "
            f"{type(criterion).__name__} does not take: set loss=cross_entropy or loss=bce"
        )
    head = hydra.utils.get_class(cfg.head["_target_"])
    metric = hydra.utils.get_class(cfg.metric["_target_"])
    said = outputs(cfg.head)
    if not metric.requires <= said or "boxes" in metric.requires ^ said:
        raise UserError(
            f"the metric {metric.__name__} judges {_list(metric.requires)}, the head "
            f"{head.__name__} says {_list(said)}: pick another metric= or head="
        )


def outputs(node: DictConfig) -> OutputFields:
    """The fields of `Output` that the configured head fills."""
    head = hydra.utils.get_class(node["_target_"])
    if not (output_fields := getattr(head, "output_fields", None)):
        return head.outputs
    return output_fields(
        **{str(k): node[k] for k in inspect.signature(output_fields).parameters if k in node}
    )


def _fit(head: DictConfig, criterion: Loss) -> bool:
    single = getattr(hydra.utils.get_class(head["_target_"]), "single", False)
    fit = criterion.requires <= outputs(head) <= criterion.trains
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
        f"{_list(outputs(head))}: they do not fit. Losses that do: {', '.join(fitting)}"
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
