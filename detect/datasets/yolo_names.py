"""What a set of YOLO's layout says of itself: data.yaml, Darknet's obj.data, lists of names."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import yaml

from engine.data.splits import list_rows
from engine.data.tree import find_below
from engine.errors import UserError
from engine.regular_file import read_regular

CLASSES = "classes.txt"
LARGEST_YAML = 2**19  # bytes; of ten thousand names
NAMES = "expected a list under names, as names: [cat, dog], or names by number from 0 on"
KEYS = ("train", "val", "valid", "validation", "test")
Pairs = list[tuple[yaml.Node, yaml.Node]]


class Description(NamedTuple):
    """What a file says of a set."""

    file: Path | None  # None: no file describes it
    names: list[str] | None
    splits: dict[str, list[Path]]  # of each the folders and lists that are there
    keypoints: int = 0  # numbers behind the box of a row


def describe(root: Path) -> Description:
    """What data.yaml, the only other YAML file with names, or Darknet's *.data says of a set.

    Args:
        root: its folder, or that YAML file.

    Raises:
        UserError: the file is damaged, or there are two.
    """
    if (file := _yaml_file(root)) is not None:
        pairs = _yaml_pairs(file)
        texts = {str(key.value): _texts(value) for key, value in pairs}
        path = (texts.get("path") or [""])[0]
        found = {k: _places(file.parent, path, texts[k]) for k in KEYS if k in texts}
        shape = [int(n) for n in texts.get("kpt_shape", []) if n.isdigit()]
        numbers = shape[0] * shape[1] if len(shape) == 2 else 0
        return Description(file, _yaml_names(file, pairs), found, numbers)
    base = root if root.is_dir() else root.parent
    files = [root] if root.is_file() else [*sorted(base.glob("*.data")), *base.glob("*/*.data")]
    if not files:
        return Description(None, _listed_names(base), {})
    rows = (row.partition("=") for _, row in list_rows(files[0]))
    values = {key.strip(): value.strip() for key, _, value in rows}
    found = {k: _places(base, "", [values[k]]) for k in KEYS if k in values}
    lists = _places(base, "", [values.get("names", "")])
    names = [name for _, name in list_rows(lists[0])] if lists else _listed_names(base)
    return Description(files[0], names, found)


def _places(base: Path, path: str, names: list[str]) -> list[Path]:
    """The folders and lists that are there, of those that a file names."""
    tops = [base / Path(path).expanduser(), base] if path else [base]
    found = []
    for name in filter(None, names):
        exact = (top / name for top in tops)
        there = next((p for p in exact if p.exists()), None) or find_below(base, name)
        found += [there] if there else []
    return found


def _yaml_file(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix in (".yaml", ".yml") else None
    if os.path.lexists(root / "data.yaml"):  # a dead link is not passed over
        return root / "data.yaml"
    files = [f for f in sorted(root.iterdir()) if f.suffix in (".yaml", ".yml") and f.is_file()]
    found = [f for f in files if f.stat().st_size < LARGEST_YAML and _has_names(f)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UserError(f"{root}: {names} have names: dataset.root=FILE names the one that counts")
    return found[0] if found else None


def _has_names(file: Path) -> bool:
    return bool(re.search(rb"^names\s*:", file.read_bytes(), re.MULTILINE))


def _listed_names(base: Path) -> list[str] | None:
    """The rows of a file of names; None without one. All that there are must agree."""
    patterns = ("{}", "labels/{}", "images/{}", "*/{}", "*/*/{}")
    kinds = (CLASSES, "*.names", "_darknet.labels")
    for kind in kinds:
        files = [f for p in patterns for f in sorted(base.glob(p.format(kind)))]
        if not files and os.path.lexists(base / kind):
            files = [base / kind]  # a dead link is not passed over
        found = {f: [name for _, name in list_rows(f)] for f in files}
        first = next(iter(found), None)
        for file, names in found.items():
            if names != found[first]:  # type: ignore[index]
                raise UserError(
                    f"{file}: other classes than {first}: leave one of them, or set "
                    "dataset.classes=[...]"
                )
        if first is not None:
            return found[first]
    return None


def _texts(node: yaml.Node) -> list[str]:
    """The texts of a scalar or a list of them."""
    if isinstance(node, yaml.ScalarNode):
        return [node.value]
    nodes = node.value if isinstance(node, yaml.SequenceNode) else []
    return [item.value for item in nodes if isinstance(item, yaml.ScalarNode)]


def _yaml_pairs(file: Path) -> Pairs:
    """Keys and values of a YAML file, each as it is written: `no` and 010 are names too.

    The text is only parsed to its nodes, so an alias is never copied.
    """
    try:
        root = yaml.compose(read_regular(file, LARGEST_YAML), yaml.BaseLoader)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; {NAMES}") from None
    except RecursionError:
        raise UserError(f"{file}: nested too deeply; {NAMES}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file}: no YAML ({' '.join(str(error).split())}); {NAMES}") from None
    return root.value if isinstance(root, yaml.MappingNode) else []


def _yaml_names(file: Path, pairs: Pairs) -> list[str]:
    """`names`, a list or a map from 0 on."""
    found = [value for key, value in pairs if key.value == "names"]
    if len(found) != 1:
        raise UserError(f"{file}: {len(found)} keys 'names'; {NAMES}")
    names = _by_number(file, found[0])
    if not names:
        raise UserError(f"{file}: names is empty; {NAMES}")
    for i, node in enumerate(names):
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            raise UserError(f"{file}: name {i} is no text; {NAMES}")
    _check_count(file, pairs, len(names))
    return [node.value for node in names]


def _check_count(file: Path, pairs: Pairs, count: int) -> None:
    """Refuse a data.yaml whose `nc` is another number than that of its names."""
    for key, value in pairs:
        if key.value == "nc" and value.value != str(count):
            raise UserError(
                f"{file}: nc is {str(value.value):.40}, names has {count}: make them agree; {NAMES}"
            )


def _by_number(file: Path, names: yaml.Node) -> list[yaml.Node]:
    """The nodes of a list, or of a map whose keys are 0, 1, 2 ... in any order."""
    if isinstance(names, yaml.SequenceNode):
        return names.value
    if not isinstance(names, yaml.MappingNode):
        raise UserError(f"{file}: names is '{names.value:.80}', a text; {NAMES}")
    keys = [str(key.value)[:40] for key, _ in names.value]
    wanted = [str(number) for number in range(len(keys))]
    if sorted(keys) != sorted(wanted):
        raise UserError(f"{file}: names has the keys {', '.join(keys[:20])}; {NAMES}")
    nodes = dict(zip(keys, (node for _, node in names.value), strict=True))
    return [nodes[number] for number in wanted]
