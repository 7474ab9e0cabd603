"""Load weights from elsewhere into a backbone, and the tensors it leaves over into a head."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torchvision
from torch import Tensor, nn

from engine.console import info
from engine.errors import UserError, did_you_mean
from engine.protocols import BackboneOptions, Pretrained
from engine.weights import weights_file
from engine.weights.translate import Family
from engine.weights.weights_file import WeightsFile

# Names in torchvision's files of ViTs -> names in its class today.
RENAMED = {".mlp.linear_1.": ".mlp.0.", ".mlp.linear_2.": ".mlp.3."}
LEAST = 0.9  # the share of a backbone's tensors that a file must hold


def load(
    backbone: nn.Module,
    weights: str | None,
    published: str | None,
    detectors: Sequence[Family] = (),
) -> Pretrained | None:
    """Put weights into a backbone and report what matched.

    Args:
        backbone: its parameters are named as in the file, but for a common prefix. Those that
            start with a name in its `extra_prefixes` need not be there.
        weights: None leaves the backbone as it is; a file (state dict, checkpoint, legacy pickle or
            Darknet's .weights); DEFAULT or another name of torchvision's.
        published: torchvision's name of the network, None where it has none.
        detectors: the families of detectors on this backbone, whose files are read too.

    Raises:
        UserError: no such file or name, not readable, or less than LEAST of the tensors match.
    """
    if weights is None:
        return None
    names = weights_file.published(published, detectors)
    if weights in names:
        file = weights_file.read_published(names[weights], detectors)
    elif Path(weights).expanduser().is_file():
        file = weights_file.read(Path(weights).expanduser(), backbone, detectors)
    else:
        known = f", or {', '.join(names)}" if names else " (torchvision has none of this network)"
        raise UserError(
            f"backbone.weights={weights}: no such file; expected a file{known}"
            f"{did_you_mean(weights, names)}"
        )
    unused_tensors = _fit(backbone, file)
    classes = file.classes or _imagenet(unused_tensors)
    return Pretrained(file.preprocessing, unused_tensors, classes)


def _fit(backbone: nn.Module, file: WeightsFile) -> dict[str, Tensor]:
    """Load the tensors that match by name and shape; returns the file's other tensors."""
    wanted = _without_counters(backbone.state_dict())
    held = {_renamed(k): v for k, v in file.state.items()}
    prefix = _prefix(held, wanted)
    state = _without_counters({k.removeprefix(prefix): v for k, v in held.items()})
    matched = {k: state[k] for k in wanted if k in state and state[k].shape == wanted[k].shape}
    missing, unused_tensors = wanted.keys() - matched.keys(), state.keys() - matched.keys()
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
    info(f"weights: {file.path}: {counts}; sha256 {file.digest}")
    return {k: state[k] for k in state if k in unused_tensors}


def _renamed(key: str) -> str:
    for old, new in RENAMED.items():
        key = key.replace(old, new)
    return key


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without batch counters, which older files lack and nothing reads."""
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def _prefix(state: Iterable[str], wanted: Mapping[str, Tensor]) -> str:
    """The prefix of most of the file's names before the backbone's: "", "module.", "backbone."."""
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
    """ImageNet's class names where the last tensor has 1000 outputs, else None."""
    if not unused_tensors or len(list(unused_tensors.values())[-1]) != 1000:
        return None
    return torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]


def shapes(state: Mapping[str, Tensor]) -> str:
    """Names and shapes of the last few tensors, for a message."""
    last = list(_without_counters(state).items())[-6:]
    return ", ".join(f"{k} {list(v.shape)}" for k, v in last) or "nothing"


def fill(head: nn.Module, unused_tensors: Mapping[str, Tensor]) -> bool:
    """Load a file's unused tensors into a head; returns whether that filled it.

    A detector's tensors are matched by name and shape. Others are matched in order, and only where
    all shapes agree: the last ones of the file go to the first ones of the head, since a file may
    hold auxiliary classifiers that the head lacks, and a head a new layer that the file lacks.
    """
    wanted = _without_counters(head.state_dict())
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
