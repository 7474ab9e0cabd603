"""Builds trained networks: from a checkpoint, or with weights from elsewhere."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.builders import parts
from engine.builders.instantiate import check
from engine.builders.trust import fetch_nothing, refuse_foreign, refuse_interpolations
from engine.config.inherit import inherit
from engine.console import info
from engine.errors import UserError
from engine.network import Network, Predictor
from engine.network_protocols import BackboneOptions
from engine.output import predictions
from engine.runtime import exported
from engine.runtime.exported import ExportedNetwork
from engine.weights import checkpoint, entries
from engine.weights.checkpoint_path import is_exported
from engine.weights.pretrained import num_outputs

CROP = {"_target_": "engine.data.augment.Augment", "fit": "crop", "resize": None,
        "interpolation": None}  # fmt: skip


class Trained(NamedTuple):
    """What predicts."""

    network: Predictor
    cfg: DictConfig  # the whole configuration
    categories: list[predictions.Category]  # of each label


def predictor(
    cfg: DictConfig, device: torch.device, overrides: Iterable[str], score: float | None = None
) -> Trained:
    """The network of a checkpoint or exported file, or one with weights from elsewhere.

    Args:
        cfg: of predict.py.
        device: where it predicts.
        overrides: the command line that `cfg` was composed for.
        score: the head's threshold becomes this one where it is higher.

    Raises:
        UserError: as `load`, `network` and `pretrained`; an exported file has a higher threshold.
    """
    if "checkpoint" not in cfg:
        _lower_threshold(cfg, score)
        net, classes = pretrained(cfg, device, overrides)
        return Trained(net, cfg, predictions.named(classes, range(1, len(classes) + 1)))
    path = cfg.checkpoint
    saved, full = load(path, cfg, device)
    key, before = _lower_threshold(full, score)
    if key and "exported" in saved:
        raise UserError(
            f"score={score:g}: {path} leaves out what scores {before:g} or less, which was fixed "
            f"when it was exported; export it anew: python -m engine.export checkpoint=... "
            f"{key}={score:g}"
        )
    full.trainer.limit, full.trainer.overfit = cfg.trainer.get("limit"), None  # were training's
    return Trained(network(full, saved, path, device), full, _categories(saved, path))


def _lower_threshold(cfg: DictConfig, score: float | None) -> tuple[str, float]:
    """Set the head's threshold to a lower one; its key and what it was, or "" where it stays."""
    for key in ("head.postprocess.score", "head.score"):
        before = OmegaConf.select(cfg, key)
        if score is not None and before is not None and before > score:
            OmegaConf.update(cfg, key, score)
            return key, before
    return "", 0.0


def _categories(saved: dict[str, Any], path: str) -> list[predictions.Category]:
    """The categories that a checkpoint knows, or names with ids from 1 on, with a note."""
    classes, ids = saved["classes"], saved["categories"]
    if ids is None:
        info(
            f"{path}: of an older format, which does not keep the category ids of its data set: "
            f"predictions.json counts them from 1 to {len(classes)}; its category_name is right"
        )
    return predictions.named(classes, ids or range(1, len(classes) + 1))


def load(path: str, cfg: DictConfig, device: torch.device) -> tuple[dict[str, Any], DictConfig]:
    """A checkpoint, and its configuration with the user's overrides applied. Nothing is built.

    Raises:
        UserError: that configuration has interpolations, a part that is none, or calls code that
            neither this program's YAML files nor the user named; `trust` allows that. To
            resume, it holds only what predicts, or an entry that a run needs is missing or
            damaged.
    """
    saved = exported.read(path) if is_exported(path) else checkpoint.load(path, device)
    if cfg.resume:
        if not saved.keys() & entries.RESUMED.keys():
            raise _only_predicts(path)
        entries.check_resumed(saved, f"checkpoint {path}")
    _check_config(saved["config"], path)
    try:
        merged = inherit(saved["config"], cfg)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        reason = key + str(error).split("\n")[0][:300]
        raise UserError(f"checkpoint {path}: its configuration: {reason}") from error
    refuse_foreign(merged, cfg, cfg.trust, path)
    fetch_nothing(merged, cfg)
    return saved, merged


def _only_predicts(path: str) -> UserError:
    last = Path(path).with_name("last.pt")
    here = f"resume={last}" if last.is_file() else "the last.pt of its run, which is not beside it"
    return UserError(
        f"checkpoint {path}: holds what predicts, not what a run goes on from: that is {here}; "
        f"another run starts from its weights by backbone.weights={path}"
    )


def device(path: str) -> torch.device:
    """The device that the run of a checkpoint trained on.

    Raises:
        UserError: it is not here.
    """
    saved = checkpoint.read(path, torch.device("meta"))  # reads no weights
    config = saved.get("config")
    name = config.get("device", "auto") if isinstance(config, dict) else "auto"
    name = saved.get("device", "auto") if name == "auto" else name
    if not isinstance(name, str):
        return parts.device("cpu")  # it is refused when it is read
    try:
        return parts.device(name)
    except UserError:
        raise UserError(
            f"{path}: its run trained on {name[:80]}, which is not usable here; "
            "to go on elsewhere set device=cpu, cuda or mps"
        ) from None


def _check_config(config: dict[str, Any], path: str) -> None:
    """Refuse a saved configuration that is not resolved, or lacks a part."""
    refuse_interpolations(config, path)
    for group in parts.INJECTED_ARGUMENTS:
        node = config.get(group)
        if not isinstance(node, dict) or "_target_" not in node:
            raise entries.wrong(f"checkpoint {path}", f"config.{group}", node, "a part")


def network(
    cfg: DictConfig, saved: dict[str, Any], path: str, device: torch.device
) -> Network | ExportedNetwork:
    """The checkpoint's network, as `trained`, or the exported file in its place."""
    if "exported" in saved:
        return exported.network(cfg, saved, path, device)
    return trained(cfg, saved, path, device)


def trained(cfg: DictConfig, saved: dict[str, Any], path: str, device: torch.device) -> Network:
    """The checkpoint's network, with the averaged weights if it has some."""
    entries.require(saved, ("model", "ema", "categories"), f"checkpoint {path}")
    made = parts.backbone(cfg, pretrained=False)
    net = parts.network(cfg, len(saved["classes"]), made).to(device)
    if cfg.trainer.channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint.load_weights(net, saved["ema"] or saved["model"], path)
    return net


def pretrained(
    cfg: DictConfig, device: torch.device, overrides: Iterable[str] = ()
) -> tuple[Network, list[str]]:
    """A network whose weights, head included, come from `backbone.weights`, and its class names.

    How images were prepared for these weights replaces what the configuration has.

    Args:
        cfg: of predict.py with `model=`.
        device: where it predicts.
        overrides: the command line that `cfg` was composed for.

    Raises:
        UserError: no weights are set, or the head is not filled by them.
    """
    for name in ("backbone", "head", "loss"):
        check(cfg[name], name, parts.INJECTED_ARGUMENTS[name])
    asked = {override.lstrip("+~").partition("=")[0] for override in overrides}
    if augment := sorted(key for key in asked if key.split(".")[0] == "augment"):
        raise UserError(
            f"{augment[0]}: predict.py prepares images as the weights want it; image_size= and "
            "preprocessing.* may be set"
        )
    cfg.image_size = cfg.image_size if "image_size" in asked else "auto"
    cfg.augment = OmegaConf.create(CROP)
    made = parts.backbone(cfg)
    loaded = BackboneOptions.pretrained.of(made)
    if loaded is None:
        raise UserError(
            "set backbone.weights=DEFAULT, a torchvision name or a file; or checkpoint="
        )
    cfg.augment.fit = loaded.preprocessing.fit
    outputs = num_outputs(loaded.unused_tensors) or 1
    classes = loaded.classes or [f"class {i}" for i in range(outputs)]
    return parts.network(cfg, len(classes), made, complete=True).to(device), classes


def check_classes(trained: list[str], data: list[str], path: str) -> None:
    """Refuse to score a network on a dataset whose classes are not those it was trained on."""
    if trained != data:
        raise UserError(f"{path} was trained on the classes {trained}, this data has {data}")
