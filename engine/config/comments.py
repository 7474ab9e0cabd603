"""What the comments behind keys say: of fields in a dataclass, of keys in a group's YAML.

`--help` prints them, so that a key has one description, beside its value. No import of torch here.
"""

import ast
import inspect
import io
import re
import tokenize
from functools import cache

import yaml

from engine.config import keys
from engine.config.schema import CONFIGS


@cache
def of_schema(schema: type) -> dict[str, str]:
    """The comment behind each field of a dataclass, of what it inherits too."""
    found: dict[str, str] = {}
    for kind in reversed(schema.__mro__[:-1]):
        try:
            found |= _of_class(inspect.getsource(kind))
        except OSError:  # installed without its source
            found |= dict.fromkeys(inspect.get_annotations(kind), "")
    return found


def _of_class(source: str) -> dict[str, str]:
    """The comment of each annotated name in a class's source."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    body = ast.parse(source).body[0]
    fields = [node for node in ast.iter_child_nodes(body) if isinstance(node, ast.AnnAssign)]
    return {
        ast.unparse(node.target): " ".join(
            comments[line]
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
            if line in comments
        )
        for node in fields
    }


def of_option(group: str, option: str) -> dict[str, str]:
    """The line of each dotted key of an option; where it has none, another's of the same class.

    Keys of `loss/box` start with `loss.box.`.
    """
    if option not in keys.options(group):
        return {}  # of a folder in hydra.searchpath
    found: dict[str, str] = {}
    for other in (option, *keys.options(group)):
        if _target(group, other) == _target(group, option):
            for key, text in _of_file(group, other).items():
                found[key] = found.get(key) or text
    return found


@cache
def _target(group: str, option: str) -> str:
    """The class that an option names, or ""."""
    text = (CONFIGS / group / f"{option}.yaml").read_text(encoding="utf-8")
    found = re.search(rf"^(?:{group}:\n +)?_target_: *(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


@cache
def _of_file(group: str, option: str) -> dict[str, str]:
    """The comments of an option's YAML by dotted key, and of those that it includes."""
    text = (CONFIGS / group / f"{option}.yaml").read_text(encoding="utf-8")
    prefix, found = group.replace("/", "."), {}
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    place = "" if text.startswith("# @package _global_") else f"{prefix}."
    own = _of_node(root, text.splitlines(), place)
    for name in _included(root):
        base, _, inner = name.partition("@")
        inside = f"{prefix}.{inner}." if inner else f"{prefix}."
        found |= {
            inside + k.removeprefix(f"{prefix}."): t for k, t in _of_file(group, base).items()
        }
    return found | {key: text or found.get(key, "") for key, text in own.items()}


def _included(root: yaml.Node) -> list[str]:
    """The names in a YAML's defaults list that are files of its own group."""
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    items = next((value.value for key, value in pairs if key.value == "defaults"), [])
    names = [item.value for item in items if isinstance(item, yaml.ScalarNode)]
    return [name for name in names if name != "_self_"]


def _of_node(node: yaml.Node, lines: list[str], prefix: str) -> dict[str, str]:
    """The comment in the line where the value of each key ends; of a block, where it begins."""
    found: dict[str, str] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        is_below = is_block or value.start_mark.line > key.end_mark.line
        mark = key.end_mark if is_below else value.end_mark
        rest = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
        found[f"{prefix}{key.value}"] = rest.partition("#")[2].strip()
        found |= _of_node(value, lines, f"{prefix}{key.value}.")
    return found
