"""Files of weights: checkpoints of this program, state dicts, Darknet's and torchvision's.

Files are read as tensors only; no code in them is ever run. Each is read once.
"""

import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from engine.console import info
from engine.errors import UserError
from engine.structures import Preprocessing
from engine.weights import checkpoint, darknet
from engine.weights.translate import Family, translate


@dataclass
class WeightsFile:
    """The tensors of a file by name, and what is known of them."""

    path: Path
    digest: str  # the sha256 of the file
    state: dict[str, Tensor]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: list[str] | None = None


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
    state = _tensors(path, loaded)
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


def read(path: Path, backbone: nn.Module, detectors: Sequence[Family]) -> WeightsFile:
    """The tensors of a file; the backbone gives the order in which Darknet's files have them.

    Raises:
        UserError: the file is not readable, or holds no tensors by name.
    """
    if path.suffix == ".weights":
        data = path.read_bytes()
        state = darknet.parse(data, path, backbone)
        return WeightsFile(path, _sha256(data), state, darknet.PREPROCESSING)
    loaded, digest = _unpickle(path)
    if not loaded.keys() >= checkpoint.NEEDED:
        state = _tensors(path, loaded)
        return _detector(path, digest, state, detectors) or WeightsFile(path, digest, state)
    saved = checkpoint.upgrade(loaded, str(path))
    state = {k: v for k, v in (saved["ema"] or saved["model"]).items() if "." in k}
    trained, default = saved["preprocessing"], Preprocessing()
    size = max(trained["size"])
    preprocessing = Preprocessing(
        size=size,
        resize=round(size * (trained["resize"] or default.resize / default.size)),
        mean=tuple(trained["mean"]),
        std=tuple(trained["std"]),
        interpolation=trained["interpolation"] or default.interpolation,
        colour=trained["colour"],
    )
    return WeightsFile(path, digest, state, preprocessing, saved["classes"])


def _tensors(path: Path, loaded: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict that a file holds, at its top level or under one of the usual keys."""
    for key in ("state_dict", "model", "model_state_dict"):
        inner = loaded.get(key)
        loaded = inner if isinstance(inner, Mapping) else loaded
    state = {k: v for k, v in loaded.items() if isinstance(v, Tensor)}
    if not state:
        raise UserError(f"{path}: no tensors by name in it (it holds {sorted(loaded)[:5]})")
    return state


def _unpickle(path: Path) -> tuple[Mapping[str, Any], str]:
    """What a file holds by name, and its sha256; the file is read once."""
    try:
        data = path.read_bytes()
        with warnings.catch_warnings():  # torch warns of pickle protocols before it refuses them
            warnings.simplefilter("ignore")
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers have no fixed set of errors
        reason = str(error).split("\n")[0][:200]
        raise UserError(
            f"{path}: cannot be read as weights ({reason}); expected a state dict or a checkpoint "
            "of plain tensors (nothing else is ever unpickled), or a Darknet file (.weights)"
        ) from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: expected tensors by name, got a {type(loaded).__name__}")
    return loaded, _sha256(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
