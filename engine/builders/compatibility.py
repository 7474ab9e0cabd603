"""Checks that the parts of a configuration fit each other and their data, before training."""

import inspect
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from omegaconf import DictConfig, OmegaConf

from engine.builders.instantiate import part
from engine.builders.judged_parts import check_objects
from engine.config.schema import CONFIGS, Precision
from engine.distributed.processes import world
from engine.errors import UserError
from engine.network_protocols import ClipOptions, HeadOptions, Loss, LossOptions
from engine.protocols import Dataset, MetricOptions, OutputFields


def check_data(cfg: DictConfig, data: Dataset) -> None:
    """Check head, loss and metric against the labels and boxes of a split.

    A head without boxes predicts one class an image, or with a metric of many labels any number; a
    head with boxes needs boxes to learn from.

    Raises:
        UserError: naming the part and the first image that do not fit.
    """
    head = hydra.utils.get_class(cfg.head["_target_"])
    metric = hydra.utils.get_class(cfg.metric["_target_"])
    many = MetricOptions.many_labels.of(metric)
    if many and part(cfg.loss, "loss").activation == "softmax":
        raise UserError(
            f"the metric {metric.__name__} is for images of several classes, a softmax loss "
            "for one: set loss=bce, or metric=top_k"
        )
    check_objects(data)
    has_boxes = data.record(0).boxes is not None
    if "boxes" in outputs(cfg.head):
        if not has_boxes:
            raise UserError(
                f"head {head.__name__} predicts boxes, {type(data).__name__} has none: set "
                "model=resnet18, which classifies images, or a dataset with boxes (dataset=voc)"
            )
        return
    records = () if many else (data.record(i) for i in range(len(data)))
    for record in records:
        if len(record.labels) != 1:
            how = "loss=bce metric=multi_label"
            if has_boxes:
                how = f"model=ssd_resnet34, dataset.view=largest, or {how} dataset.view=multilabel"
            raise UserError(
                f"head {head.__name__} predicts one class an image, {record.path or record.id} "
                f"has {len(record.labels)}: set {how}"
            )


def check_parts(cfg: DictConfig) -> None:
    """Check that loss, metric and augmentation fit the head.

    Raises:
        UserError: naming the parts that do not fit.
    """
    criterion = part(cfg.loss, "loss")
    _check_loss(cfg.head, criterion)
    mixes = any(cfg.augment.get(key) for key in ("mixup", "cutmix"))
    if mixes and "boxes" not in outputs(cfg.head) and not LossOptions.takes_shares.of(criterion):
        raise UserError(
            f"augment.mixup and augment.cutmix make shares of classes, which the loss "
            f"{type(criterion).__name__} does not take: set loss=cross_entropy or loss=bce"
        )
    head = hydra.utils.get_class(cfg.head["_target_"])
    metric = hydra.utils.get_class(cfg.metric["_target_"])
    fields = outputs(cfg.head)
    if not metric.requires <= fields or "boxes" in metric.requires ^ fields:
        raise UserError(
            f"the metric {metric.__name__} scores {_list(metric.requires)}, the head "
            f"{head.__name__} outputs {_list(fields)}: pick another metric= or head="
        )


def learns_whole_images(cfg: DictConfig) -> bool:
    """Whether the configured head learns the labels of images, whatever boxes the dataset has."""
    return bool(cfg.head.get("_target_")) and "boxes" not in outputs(cfg.head)


def outputs(node: DictConfig) -> OutputFields:
    """The fields of `Output` that the configured head fills."""
    head = hydra.utils.get_class(node["_target_"])
    if not (output_fields := HeadOptions.output_fields.of(head)):
        return head.outputs
    return output_fields(
        **{str(k): node[k] for k in inspect.signature(output_fields).parameters if k in node}
    )


def check_shardable(cfg: DictConfig, precision: Precision) -> None:
    """Refuse settings that do not work with sharded weights, or are not tested with them.

    Raises:
        UserError: naming the keys.
    """
    if world() == 1:
        raise UserError("trainer.shard=true: expected several processes (torchrun), got one; set "
                        "trainer.shard=false")  # fmt: skip
    trainer = cfg.trainer
    clip, optimizer = (hydra.utils.get_class(cfg[k]["_target_"]) for k in ("clip", "optimizer"))
    refused = {
        "trainer.compile": trainer.compile,
        "trainer.sync_bn": trainer.sync_bn,
        "trainer.histograms": trainer.histograms,
        "trainer.l1": trainer.l1,
        "trainer.l2": trainer.l2,
        "trainer.precision=fp16": precision is Precision.fp16,
        "a clip by value": not ClipOptions.in_shards.of(clip),
        "optimizer.fused of SGD": optimizer is torch.optim.SGD and cfg.optimizer.get("fused"),
    }
    if wrong := [key for key, is_set in refused.items() if is_set]:
        raise UserError(f"trainer.shard=true does not work with {', '.join(wrong)}: change one")


def _fit(head: DictConfig, criterion: Loss) -> bool:
    single = HeadOptions.single.of(hydra.utils.get_class(head["_target_"]))
    fit = criterion.requires <= outputs(head) <= criterion.trains
    return fit and (single or not LossOptions.single.of(criterion))


def _check_loss(head: DictConfig, criterion: Loss) -> None:
    """Refuse a loss that needs fields which the head lacks, or leaves some of its untrained."""
    if _fit(head, criterion):
        return
    files = sorted((CONFIGS / "loss").glob("*.yaml"))
    fitting = [p.stem for p in files if _fit(head, part(_loss_of(p), "loss"))]
    slots = " in one slot" if LossOptions.single.of(criterion) else ""
    raise UserError(
        f"the loss {type(criterion).__name__} needs {_list(criterion.requires)}{slots} and trains "
        f"{_list(criterion.trains)}, the head {head['_target_'].rpartition('.')[2]} outputs "
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
