"""Which tensors of a file are a network's, or whether the file is of another network.

A file fits if it has LEAST of the network's tensors in their shapes, the same number of layers in
every row, and no further layer of such a network: a ResNet-34's file fills a ResNet-18, but has
blocks left over in `layer1`. Other tensors may be left over: a classifier of other classes, a
detector's head. To predict, every tensor must be there (`engine.weights.pretrained`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from engine.errors import UserError

# Names in other programs' files -> in the classes here.
RENAMED = {
    ".mlp.linear_1.": ".mlp.0.",  # torchvision's ViTs
    ".mlp.linear_2.": ".mlp.3.",
    ".shortcut.": ".downsample.",  # CIFAR ResNets after kuangliu/pytorch-cifar
}
# Follow from a network's shape or are not read: older files lack them, others have them.
UNREAD = ("num_batches_tracked", "relative_position_index", "attn_mask")
DIGITS = "0123456789"
LEAST = 0.9  # the share of a network's tensors that a file must hold to train on from it


class Match(NamedTuple):
    """A file's tensors, sorted by what the network makes of them."""

    matched: dict[str, Tensor]  # the network's, by its names
    missing: list[str]  # its names that the file has not, or in another shape
    unused: dict[str, Tensor]  # the file's other tensors: the head, as a rule
    counts: str  # both in numbers and names, for a message
    fits: bool  # whether the file is of this network


def match(
    network: Mapping[str, Tensor], state: Mapping[str, Tensor], extra: Sequence[str] = ()
) -> Match:
    """The tensors of a file that a network takes, by name and shape.

    Args:
        network: its own tensors; their names are those of the file but for a common prefix.
        state: the file's tensors by name.
        extra: prefixes of the network's names that the file may lack; then their layers are no
            sign of another network either.
    """
    wanted = without_unread(network)
    held = without_unread({_renamed(key): tensor for key, tensor in state.items()})
    prefix = _prefix(held, wanted)
    inside = {k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)}
    matched = {k: inside[k] for k in wanted if k in inside and inside[k].shape == wanted[k].shape}
    missing = [k for k in wanted if k not in matched]
    others = {k: v for k, v in inside.items() if k not in matched}
    unused = others | {k: v for k, v in held.items() if not k.startswith(prefix)}
    body = [key for key in wanted if not key.startswith(tuple(extra))]
    own = _own(body)
    foreign = sorted(k for k in others if k not in wanted and own & _names(k))
    shown = [_with_shapes(k, wanted[k], inside.get(k)) for k in missing]
    counts = (
        f"{len(matched)} of the backbone's {len(wanted)} tensors matched{_named(shown)}, "
        f"{len(unused)} of the file left over{_named(foreign or sorted(unused))}"
    )
    enough = sum(key in matched for key in body) >= LEAST * len(body)
    fits = enough and not foreign and not _ends_early(_rows(body), _rows(inside))
    return Match(matched, missing, unused, counts, fits)


def require_fit(found: Match, path: str) -> None:
    """Refuse a file of another network.

    Raises:
        UserError: with how many tensors matched, and the first of those that did not.
    """
    if not found.fits:
        raise UserError(
            f"{path}: weights of another network: {found.counts}; at least {LEAST:.0%} must match, "
            "and all rows of layers be as long as here: set the backbone (name, depth, width) that "
            "the file was made for"
        )


def _rows(keys: Iterable[str]) -> dict[str, int]:
    """The last number in every row of layers: layer3.5.conv1.weight makes layer3 at least 5."""
    rows: dict[str, int] = {}
    for key in keys:
        parts = key.split(".")
        for i in (i for i, part in enumerate(parts) if part.isdecimal() and len(part) < 9):
            row = ".".join(parts[:i])
            rows[row] = max(rows.get(row, 0), int(parts[i]))
    return rows


def _ends_early(wanted: Mapping[str, int], held: Mapping[str, int]) -> bool:
    return any(row in held and held[row] < last for row, last in wanted.items())


def without_unread(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without batch counters and what else nothing reads from a file."""
    return {k: v for k, v in state.items() if not k.endswith(UNREAD)}


def _renamed(key: str) -> str:
    for old, new in RENAMED.items():
        key = key.replace(old, new)
    return key


def _prefix(state: Iterable[str], wanted: Mapping[str, Tensor]) -> str:
    """The prefix of most of the file's names before the backbone's: "", "module.", "backbone."."""
    count = Counter({"": 0})
    for key in state:
        starts = [0, *(i + 1 for i, letter in enumerate(key) if letter == ".")]
        count.update(key[:i] for i in starts if key[i:] in wanted)
    return count.most_common(1)[0][0]


def _own(keys: Iterable[str]) -> set[str]:
    """A network's first names of tensors; of a row such as layer1 to layer4 also `layer`."""
    firsts = {key.split(".")[0] for key in keys}
    rows = Counter(first.rstrip(DIGITS) for first in firsts)
    return firsts | {row for row, number in rows.items() if row and number > 1}


def _names(key: str) -> set[str]:
    first = key.split(".")[0]
    return {first, first.rstrip(DIGITS)}


def _with_shapes(key: str, wanted: Tensor, held: Tensor | None) -> str:
    return key if held is None else f"{key}: {list(wanted.shape)}, file {list(held.shape)}"


def _named(keys: Sequence[str]) -> str:
    more = ", ..." if len(keys) > 3 else ""
    return f" ({', '.join(keys[:3])}{more})" if keys else ""
