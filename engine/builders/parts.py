"""Builds the parts of a configuration and its network, checked before data is read."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from engine.builders import compatibility, judged_parts
from engine.builders.instantiate import check, part
from engine.builders.passes import Several
from engine.config.check import check_ranges
from engine.config.image_size import WITHOUT_WEIGHTS, size_of
from engine.config.schema import plain
from engine.console import info
from engine.data.ahead import Kept
from engine.data.loader import Loader
from engine.errors import UserError
from engine.network import Network
from engine.network_protocols import BackboneOptions
from engine.passes.loader import PassLoader
from engine.protocols import Dataset
from engine.structures import Preprocessing, Pretrained
from engine.weights.pretrained import fill, require_complete

# Arguments that the engine passes to the constructors that name them.
INJECTED_ARGUMENTS: dict[str, Sequence[str]] = {
    "backbone": (),
    "head": ("channels", "strides", "num_classes", "activation"),
    "loss": (),
    "optimizer": ("params",),
    "schedule": (),
    "clip": (),
    "finetune": (),
    "dataset": judged_parts.GIVEN["dataset"],
    "augment": (),
    "metric": judged_parts.GIVEN["metric"],
    "tracker": (),
}


def dataset(cfg: DictConfig, split: str) -> Dataset:
    """A split of the configured dataset.

    Raises:
        UserError: it has no image, or the head, loss or metric does not fit it.
    """
    data = judged_parts.dataset(cfg, split)
    compatibility.check_data(cfg, data)
    return data


def loader(
    cfg: DictConfig,
    data: Any,
    device: torch.device,
    shuffle: bool = False,
    kept: Kept | None = None,
    several: Several | None = None,
) -> Loader:
    """Batches of a dataset, with `shuffle` shuffled and augmented, else neither.

    With `kept` they are made by threads, and the decoded images wait there to be drawn. With
    `several` each image makes several passes.
    """
    make: Any = Loader
    if several is not None:
        make = partial(PassLoader, passes=several.passes, merge=several.merge)
        kept = Kept(most=0) if kept is None else kept
    return make(
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
        images=cfg.trainer.overfit,
        limit=cfg.trainer.limit,
        whole_images=compatibility.learns_whole_images(cfg),
        kept=kept,
    )


def check_all(cfg: DictConfig) -> None:
    """Check ranges, the arguments and class of every part, and that the parts fit each other.

    Raises:
        UserError: naming the key, or the parts that do not fit.
    """
    check_ranges(cfg)
    for name, given in INJECTED_ARGUMENTS.items():
        check(cfg[name], name, given, fits=True)
    size_of(cfg)
    compatibility.check_parts(cfg)


def backbone(cfg: DictConfig, pretrained: bool = True, fits: bool = False) -> Any:
    """The configured backbone, on the CPU.

    Args:
        cfg: its keys of preprocessing that are null or auto are filled in as the weights need.
        pretrained: False ignores `backbone.weights`, where a checkpoint's weights are loaded next.
        fits: whether `image_size=auto` stays where the weights do not determine it, for
            `engine.builders.fit`.
    """
    node = cfg.backbone
    if not pretrained and "weights" in node:
        node = OmegaConf.merge(node, {"weights": None})
    made = part(node, "backbone")  # type: ignore[arg-type]
    loaded = BackboneOptions.pretrained.of(made)
    if pretrained and not loaded and cfg.finetune.get("last") is not None:
        info("finetune freezes layers with random weights: set backbone.weights=FILE")
    use = loaded.preprocessing if loaded else Preprocessing()
    _fill_in(cfg.augment, {"resize": use.resize / use.size, "interpolation": use.interpolation})
    _fill_in(cfg.preprocessing, {"mean": use.mean, "std": use.std, "colour": use.colour})
    if cfg.image_size == "auto" and not (fits and _is_open(cfg, loaded)):
        cfg.image_size = use.size if loaded else WITHOUT_WEIGHTS
    if loaded and cfg.image_size != "auto" and set(size_of(cfg)) != {use.size}:
        info(f"weights were trained at {use.size} px, image_size is {cfg.image_size}")
    return made


def _is_open(cfg: DictConfig, loaded: Pretrained | None) -> bool:
    """Whether weights, if there are any, leave the size of the input to the data.

    Those of a classifier do where a detector is trained, whose objects have sizes of their own.
    """
    return loaded is None or ("boxes" in compatibility.outputs(cfg.head) and not loaded.head)


def _fill_in(node: DictConfig, values: Mapping[str, Any]) -> list[str]:
    """Set the keys of these that the node has as null; returns them."""
    empty = [key for key in values if key in node and node[key] is None]
    for key in empty:
        node[key] = list(values[key]) if isinstance(values[key], tuple) else values[key]
    return empty


def _fill_in_head(node: DictConfig, pretrained: Pretrained, num_classes: int) -> None:
    """Set what the head's weights in a file need; of outputs only where these load too."""
    same = pretrained.classes is None or len(pretrained.classes) == num_classes
    filled = _fill_in(node, {**pretrained.head, **(pretrained.boxes if same else {})})
    if filled:
        info(f"weights: {', '.join(f'head.{key}={node[key]}' for key in filled)} as they need")


def network(cfg: DictConfig, num_classes: int, backbone: Any, complete: bool = False) -> Network:
    """The configured network on a backbone, on the CPU.

    Keys of the head that are null are filled in as the weights need. With `complete`, weights that
    leave a tensor of it random are refused.
    """
    criterion = part(cfg.loss, "loss")
    pretrained = BackboneOptions.pretrained.of(backbone)
    if pretrained:
        _fill_in_head(cfg.head, pretrained, num_classes)
    head = part(
        cfg.head,
        "head",
        channels=backbone.channels,
        strides=backbone.strides,
        num_classes=num_classes,
        activation=criterion.activation,
    )
    if pretrained:
        backbone.pretrained = None  # a large head left over would be copied with the network
        if complete:
            require_complete(head, pretrained)
        if fill(head, pretrained.unused_tensors, pretrained.path):
            info("the head starts from the weights of the same file")
    return Network(
        backbone=backbone,
        head=head,
        criterion=criterion,
        l1=cfg.trainer.l1,
        l2=cfg.trainer.l2,
        **plain(cfg.preprocessing),
    )


def device(name: str) -> torch.device:
    """The torch device that `device=` names; auto is cuda, else mps, else cpu."""
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
