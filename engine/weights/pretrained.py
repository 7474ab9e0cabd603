"""Load weights from elsewhere into a backbone, and the tensors it leaves over into a head."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from engine.console import info
from engine.errors import UserError, did_you_mean
from engine.network_protocols import BackboneOptions
from engine.structures import Pretrained
from engine.weights import weights_file
from engine.weights.darknet_detector import Detector
from engine.weights.match import match, require_fit, without_unread
from engine.weights.tensors import check_numbers
from engine.weights.translate import Family


def load(
    backbone: nn.Module,
    weights: str | None,
    published: str | None,
    detectors: Sequence[Family] = (),
    rename: Callable[[str], str] = str,
    darknets: Detector | None = None,
) -> Pretrained | None:
    """Put weights into a backbone and report what matched.

    Args:
        backbone: its parameters are named as in the file, but for a common prefix. Those that
            start with a name in its `extra_prefixes` need not be there.
        weights: None leaves the backbone as it is; a file (state dict, checkpoint, legacy pickle or
            Darknet's .weights); DEFAULT or another name of torchvision's.
        published: torchvision's name of the network, None where it has none.
        detectors: the families of detectors on this backbone, whose files are read too.
        rename: from a tensor's name here, or in a file of ours, to that in others' files.
        darknets: Darknet's detector on this backbone, whose files are read too.

    Raises:
        UserError: no such file or name, not readable, of another network, or not numbers.
    """
    if weights is None:
        return None
    file = _file(backbone, weights, published, detectors, darknets)
    extra = tuple(BackboneOptions.extra_prefixes.of(backbone))
    own = {rename(key): tensor for key, tensor in backbone.state_dict().items()}
    found = match(own, {rename(key): tensor for key, tensor in file.state.items()}, extra)
    name = str(file.path)
    require_fit(found, name)
    check_numbers(found.matched, name)
    with torch.no_grad():
        for key, tensor in found.matched.items():
            own[key].copy_(tensor)
    info(f"weights: {name}: {found.counts}; sha256 {file.digest}")
    classes = file.classes or _imagenet(found.unused)
    return Pretrained(
        file.preprocessing, found.unused, classes, found.missing, name, file.head, file.boxes
    )


def _file(
    backbone: nn.Module,
    weights: str,
    published: str | None,
    detectors: Sequence[Family],
    darknets: Detector | None,
) -> weights_file.WeightsFile:
    """The file that `weights` names, see `load`.

    Raises:
        UserError: there is none.
    """
    names = weights_file.published(published, detectors)
    if weights in names:
        return weights_file.read_published(names[weights], detectors)
    if os.path.isfile(path := os.path.expanduser(weights)):
        return weights_file.read(Path(path), backbone, detectors, darknets)
    known = f", or {', '.join(names)}" if names else " (torchvision has none of this network)"
    what = "a folder" if os.path.isdir(path) else "no such file"
    if weights == "FILE":  # of an experiment for own data
        what = "stands for one of yours; without any: experiment=..._scratch"
    raise UserError(
        f"backbone.weights={weights}: {what}; expected a file{known}{did_you_mean(weights, names)}"
    )


def num_outputs(unused_tensors: Mapping[str, Tensor]) -> int | None:
    """The number of outputs of a file's last layer, the classifier as a rule; None without one."""
    last = [tensor for tensor in unused_tensors.values() if tensor.ndim][-1:]
    return len(last[0]) if last else None


def _imagenet(unused_tensors: dict[str, Tensor]) -> list[str] | None:
    """ImageNet's class names where the last tensor has 1000 outputs, else None."""
    if num_outputs(unused_tensors) != 1000:
        return None
    return torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]


def fill(head: nn.Module, unused_tensors: Mapping[str, Tensor], path: str = "file") -> bool:
    """Load a file's unused tensors into a head; returns whether it starts from them.

    Raises:
        UserError: they hold NaN, or no floats.
    """
    wanted = without_unread(head.state_dict())
    sources = _sources(wanted, unused_tensors)
    tensors = {name: unused_tensors[key] for name, key in sources.items()}
    check_numbers(tensors, path)
    head.load_state_dict(tensors, strict=False)
    if _by_name(wanted, unused_tensors):
        info(f"weights: {len(sources)} of the head's {len(wanted)} tensors matched")
        return len(sources) == len(wanted)
    return bool(sources)


def require_complete(head: nn.Module, pretrained: Pretrained) -> None:
    """Refuse to predict where a tensor of backbone or head would stay random, or be passed over.

    Raises:
        UserError: with names and shapes of what does not fit.
    """
    if missing := pretrained.missing:
        raise UserError(
            f"{pretrained.path}: {', '.join(missing[:3])}: not in this file, so random; to "
            "predict, every tensor must be there: train first, or take weights of the whole network"
        )
    wanted, unused = without_unread(head.state_dict()), pretrained.unused_tensors
    sources = _sources(wanted, unused)
    like = _first if _by_name(wanted, unused) else _like
    used = {like(key) for key in sources.values()}
    passed_over = [k for k in unused if k not in sources.values() and like(k) in used]
    if len(sources) < len(wanted) or passed_over:
        raise UserError(
            f"{pretrained.path}: the tensors left for a head, {_shapes(unused)}, do not fit "
            f"{type(head).__name__}, {_shapes(wanted)}: pick another head="
        )


def _by_name(wanted: Mapping[str, Tensor], unused_tensors: Mapping[str, Tensor]) -> bool:
    return wanted.keys() <= unused_tensors.keys()


def _sources(wanted: Mapping[str, Tensor], unused_tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """A head's names of tensors -> the file's that fill them.

    A detector's tensors are matched by name and shape. Others are matched in order, and only where
    all shapes agree: the last ones of the file go to the first ones of the head, since a file may
    hold auxiliary classifiers that the head lacks, and a head a new layer that the file lacks.
    """
    if _by_name(wanted, unused_tensors):
        return {k: k for k, v in wanted.items() if unused_tensors[k].shape == v.shape}
    tail = list(unused_tensors)[-len(wanted) :]
    names = list(wanted)[: len(tail)]
    fit = [unused_tensors[key].shape for key in tail] == [wanted[name].shape for name in names]
    return dict(zip(names, tail, strict=True)) if fit else {}


def _first(key: str) -> str:
    return key.split(".")[0]


def _like(key: str) -> str:
    """What the names of layers in a row share: `classifier.` of classifier.6.weight."""
    return key.rpartition(".")[0].rstrip("0123456789")


def _shapes(state: Mapping[str, Tensor]) -> str:
    """Names and shapes of the last few tensors, for a message."""
    last = list(state.items())[-6:]
    return ", ".join(f"{k} {list(v.shape)}" for k, v in last) or "nothing"
