"""Weights from elsewhere: torchvision's by name, files of this and other programs.

Files are read as tensors only; no code in them is ever run.
"""

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from engine.console import info
from engine.errors import UserError, did_you_mean
from engine.protocols import BackboneOptions, Pretrained
from engine.structures import Preprocessing
from engine.weights import checkpoint, darknet, torchvision_detectors

# Names in torchvision's files of ViTs, and what its own class calls them since.
RENAMED = {".mlp.linear_1.": ".mlp.0.", ".mlp.linear_2.": ".mlp.3."}
LEAST = 0.9  # share of a backbone's tensors that a file must hold


@dataclass
class _File:
    path: Path
    state: dict[str, Tensor]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: list[str] | None = None


def load(backbone: nn.Module, weights: str | None, published: str | None) -> Pretrained | None:
    """Put weights into a backbone and report what matched.

    Args:
        backbone: its parameters are named as in the file, but for a common prefix. Those that
            start with a name in its `extra_prefixes` need not be there.
        weights: None leaves the backbone as it is; a file (state dict, checkpoint, legacy pickle or
            Darknet's .weights); DEFAULT or another name of torchvision's.
        published: torchvision's name of the network, None where it has none.

    Raises:
        UserError: no such file or name, not readable, or less than LEAST of the tensors match.
    """
    if weights is None:
        return None
    names = _published(published)
    if weights in names:
        file = _torchvision(names[weights])
    elif Path(weights).expanduser().is_file():
        file = _read(Path(weights).expanduser(), backbone)
    else:
        known = f", or {', '.join(names)}" if names else " (torchvision has none of this network)"
        raise UserError(
            f"backbone.weights={weights}: no such file; expected a file{known}"
            f"{did_you_mean(weights, names)}"
        )
    unused_tensors = _fit(backbone, file)
    classes = file.classes or _imagenet(unused_tensors)
    return Pretrained(file.preprocessing, unused_tensors, classes)


def _published(name: str | None) -> dict[str, Any]:
    """Torchvision's weights of a network by name, DEFAULT among them."""
    if name is None:
        return {}
    members = torchvision.models.get_model_weights(name).__members__
    detector = torchvision_detectors.PUBLISHED.get(name)
    more = torchvision.models.get_model_weights(detector).__members__ if detector else {}
    return {**more, "DEFAULT": members["DEFAULT"], **members}


def _torchvision(entry: Any) -> _File:
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
    if (file := _detector(path, state := _tensors(path))) is not None:
        return file
    recipe = entry.transforms()
    preprocessing = Preprocessing(
        size=recipe.crop_size[0],
        resize=recipe.resize_size[0],
        mean=tuple(recipe.mean),
        std=tuple(recipe.std),
        interpolation=recipe.interpolation.value,
    )
    return _File(path, state, preprocessing, entry.meta["categories"])


def _detector(path: Path, state: dict[str, Tensor]) -> _File | None:
    found = torchvision_detectors.translate(state, path)
    return found and _File(path, found.state, found.preprocessing, found.classes)


def _stated_hash(path: Path) -> str:
    """resnet18-f37072fd.pth says that its sha256 starts with f37072fd."""
    return path.stem.rpartition("-")[2]


def _read(path: Path, backbone: nn.Module) -> _File:
    if path.suffix == ".weights":
        return _File(path, darknet.read(path, backbone), darknet.PREPROCESSING)
    loaded = _unpickle(path)
    if not loaded.keys() >= checkpoint.NEEDED:
        state = _tensors(path)
        return _detector(path, state) or _File(path, state)
    ours = checkpoint.load(str(path), torch.device("cpu"))
    state = {k: v for k, v in (ours["ema"] or ours["model"]).items() if "." in k}
    said, default = ours["preprocessing"], Preprocessing()
    size = max(said["size"])
    preprocessing = Preprocessing(
        size=size,
        resize=round(size * (said["resize"] or default.resize / default.size)),
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
        interpolation=said["interpolation"] or default.interpolation,
        colour=said["colour"],
    )
    return _File(path, state, preprocessing, ours["classes"])


def _tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a file, wherever in it that stands."""
    loaded: Any = _unpickle(path)
    for key in ("state_dict", "model", "model_state_dict"):
        inner = loaded.get(key)
        loaded = inner if isinstance(inner, Mapping) else loaded
    state = {k: v for k, v in loaded.items() if isinstance(v, Tensor)}
    if not state:
        raise UserError(f"{path}: no tensors by name in it (it holds {sorted(loaded)[:5]})")
    return state


def _unpickle(path: Path) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():  # torch warns of pickle protocols before it refuses them
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers have no fixed set of errors
        reason = str(error).split("\n")[0][:200]
        raise UserError(
            f"{path}: cannot be read as weights ({reason}); expected a state dict or a checkpoint "
            "of plain tensors (nothing else is ever unpickled), or a Darknet file (.weights)"
        ) from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: expected tensors by name, got a {type(loaded).__name__}")
    return loaded


def _fit(backbone: nn.Module, file: _File) -> dict[str, Tensor]:
    """Load what matches by name and shape, say what does not, return what is left of the file."""
    wanted = _counted(backbone.state_dict())
    held = {_renamed(k): v for k, v in file.state.items()}
    prefix = _prefix(held, wanted)
    state = _counted({k.removeprefix(prefix): v for k, v in held.items()})
    matched = {k: state[k] for k in wanted if k in state and state[k].shape == wanted[k].shape}
    missing, unused_tensors = wanted.keys() - matched.keys(), state.keys() - matched.keys()
    digest = hashlib.sha256(file.path.read_bytes()).hexdigest()
    counts = (
        f"{len(matched)} of the backbone's {len(wanted)} tensors matched{_named(missing)}, "
        f"{len(unused_tensors)} of the file left over{_named(unused_tensors)}"
    )
    extra = tuple(BackboneOptions.extra_prefixes.of(backbone))
    if len(matched) < LEAST * sum(not key.startswith(extra) for key in wanted):
        raise UserError(
            f"{file.path}: weights of another network: {counts}; at least {LEAST:.0%} must match"
        )
    backbone.load_state_dict(matched, strict=False)
    info(f"weights: {file.path}: {counts}; sha256 {digest}")
    return {k: state[k] for k in state if k in unused_tensors}


def _renamed(key: str) -> str:
    for old, new in RENAMED.items():
        key = key.replace(old, new)
    return key


def _counted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the batch counters, which older files lack and nothing reads."""
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def _prefix(state: Iterable[str], wanted: Mapping[str, Tensor]) -> str:
    """What most of the file's names carry before the backbone's: "", "module.", "backbone."."""
    count = Counter({"": 0})
    for key in state:
        starts = [0, *(i + 1 for i, letter in enumerate(key) if letter == ".")]
        count.update(key[:i] for i in starts if key[i:] in wanted)
    return count.most_common(1)[0][0]


def _named(keys: Iterable[str]) -> str:
    every = sorted(keys)
    more = ", ..." if len(every) > 3 else ""
    return f" ({', '.join(every[:3])}{more})" if every else ""


def _imagenet(unused_tensors: dict[str, Tensor]) -> list[str] | None:
    """ImageNet's class names for a head of 1000 outputs."""
    if not unused_tensors or len(list(unused_tensors.values())[-1]) != 1000:
        return None
    return torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]


def shapes(state: Mapping[str, Tensor]) -> str:
    """Names and shapes for a message, the last few."""
    last = list(_counted(state).items())[-6:]
    return ", ".join(f"{k} {list(v.shape)}" for k, v in last) or "nothing"


def fill(head: nn.Module, unused_tensors: Mapping[str, Tensor]) -> bool:
    """Put a file's left-over tensors into a head where they have its shapes, in order.

    The last ones of the file go to the first ones of the head: a file may hold auxiliary
    classifiers that the head lacks, a head a new layer on top that the file lacks. A detector's go
    by name, those that fit.
    """
    wanted = _counted(head.state_dict())
    if wanted.keys() <= unused_tensors.keys():
        fitting = {
            k: unused_tensors[k] for k, v in wanted.items() if unused_tensors[k].shape == v.shape
        }
        info(f"weights: {len(fitting)} of the head's {len(wanted)} tensors matched")
        head.load_state_dict(fitting, strict=False)
        return len(fitting) == len(wanted)
    tail = list(unused_tensors.values())[-len(wanted) :]
    names = list(wanted)[: len(tail)]
    if not tail or [t.shape for t in tail] != [wanted[k].shape for k in names]:
        return False
    head.load_state_dict(dict(zip(names, tail, strict=True)), strict=False)
    return True
