"""Files of weights: checkpoints of this program, state dicts, Darknet's and torchvision's.

Files are read as tensors only; no code in them is ever run. Each is read once.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from engine.console import info
from engine.errors import UserError
from engine.network_protocols import BackboneOptions
from engine.regular_file import open_regular, read_regular
from engine.structures import Preprocessing
from engine.weights import checkpoint, darknet, entries
from engine.weights.darknet_detector import Detector
from engine.weights.tensors import state_dict
from engine.weights.translate import Family, translate
from engine.weights.unpickle import foreign_start, no_weights, unpickle, what_it_is

DARKNET = re.compile(r"\.weights$|\.conv\.\d+$")  # the ends of its files' names
LARGEST_DARKNET = 2**29 + 2**28  # bytes; that of VGG-16, the largest known, has 553 million


@dataclass
class WeightsFile:
    """The tensors of a file by name, and what is known of them."""

    path: Path
    digest: str  # the sha256 of the file
    state: dict[str, Tensor]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: list[str] | None = None
    head: Mapping[str, Any] = field(default_factory=dict)  # arguments of its detector's head
    boxes: Mapping[str, Any] = field(default_factory=dict)  # and those that its outputs need


def published(name: str | None, detectors: Sequence[Family]) -> dict[str, Any]:
    """Torchvision's weights for a network by name, DEFAULT and its detectors' among them."""
    if name is None:
        return {}
    members = torchvision.models.get_model_weights(name).__members__
    more: dict[str, Any] = {}
    for family in (family for family in detectors if name in family.published):
        more |= torchvision.models.get_model_weights(family.published[name]).__members__
    return {**more, "DEFAULT": members["DEFAULT"], **members}


def read_published(entry: Any, detectors: Sequence[Family]) -> WeightsFile:
    """One of torchvision's weights from its cache, fetched where it is not there.

    Raises:
        UserError: it cannot be fetched.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", Path(entry.url).name)
    if not path.is_file():
        info(f"fetching {entry.url} to {path}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(entry.url, str(path), _stated_hash(path))
        except (OSError, URLError, RuntimeError) as error:
            raise UserError(
                f"backbone.weights: {path.name} is not in {path.parent} and cannot be fetched "
                f"({error}); without a network, put {entry.url} there by hand"
            ) from error
    loaded, digest = _unpickle(path)
    state = state_dict(loaded, str(path))
    if (file := _detector(path, digest, state, detectors)) is not None:
        return file
    recipe = entry.transforms()
    preprocessing = Preprocessing(
        size=recipe.crop_size[0],
        resize=recipe.resize_size[0],
        mean=tuple(recipe.mean),
        std=tuple(recipe.std),
        interpolation=recipe.interpolation.value,
    )
    return WeightsFile(path, digest, state, preprocessing, entry.meta["categories"])


def _detector(
    path: Path, digest: str, state: dict[str, Tensor], families: Sequence[Family]
) -> WeightsFile | None:
    found = translate(state, path, families)
    return found and WeightsFile(path, digest, found.state, found.preprocessing, found.classes)


def _stated_hash(path: Path) -> str:
    """The start of the sha256 in a name of torchvision's: f37072fd of resnet18-f37072fd.pth."""
    return path.stem.rpartition("-")[2]


def read(
    path: Path,
    backbone: nn.Module,
    detectors: Sequence[Family],
    darknets: Detector | None = None,
) -> WeightsFile:
    """The tensors of a file; the backbone gives the order in which Darknet's files have them.

    `detectors` and `darknets` are those of other programs, and Darknet's, on this backbone.

    Raises:
        UserError: the file is not readable, or holds no tensors by name.
    """
    default = BackboneOptions.default_preprocessing.of(backbone)
    if DARKNET.search(path.name):
        data = _read_bytes(path, LARGEST_DARKNET)
        found = darknet.parse(data, path, backbone, darknets)
        size = {"size": default.size, "resize": default.resize}
        use = found.preprocessing or replace(darknet.PREPROCESSING, **size)
        classes, head, boxes = found.classes, found.head, found.boxes
        return WeightsFile(path, _sha256(data), found.state, use, classes, head, boxes)
    loaded, digest = _unpickle(path)
    if loaded.keys() >= checkpoint.NEEDED:
        return _from_checkpoint(path, digest, loaded)
    state = state_dict(loaded, str(path))
    return _detector(path, digest, state, detectors) or WeightsFile(path, digest, state, default)


def _from_checkpoint(path: Path, digest: str, loaded: Mapping[str, Any]) -> WeightsFile:
    """The averaged weights of this program's checkpoint, its preprocessing and its classes.

    Raises:
        UserError: an entry is missing, or not what this program writes there.
    """
    saved = checkpoint.upgrade(loaded, str(path))
    entries.require(saved, ("ema", "preprocessing"), str(path))
    held, classes = saved["ema"] or saved["model"], list(saved["classes"])
    preprocessing = _preprocessing(saved["preprocessing"])
    state = {key: tensor for key, tensor in held.items() if "." in key}
    return WeightsFile(path, digest, state, preprocessing, classes)


def _preprocessing(trained: Mapping[str, Any]) -> Preprocessing:
    size, default = max(trained["size"]), Preprocessing()
    return Preprocessing(
        size=size,
        resize=round(size * (trained["resize"] or default.resize / default.size)),
        mean=tuple(trained["mean"]),
        std=tuple(trained["std"]),
        interpolation=trained["interpolation"] or default.interpolation,
        colour=trained["colour"],
    )


def _unpickle(path: Path) -> tuple[Mapping[str, Any], str]:
    """What a file holds by name, and its sha256; the file is read once."""
    try:
        with open_regular(path) as file:
            start = foreign_start(file)
            data = file.read() if start is None else b""
    except OSError as error:
        raise _unreadable(path, error) from error
    if start is not None:
        raise no_weights(str(path), what_it_is(start, ""))
    return unpickle(data, str(path)), _sha256(data)


def _read_bytes(path: Path, largest: int) -> bytes:
    try:
        return read_regular(path, largest)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read: {error.strerror}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
