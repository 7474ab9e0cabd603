"""The floors of the code and every import that points up: python tests/layers.py.

A room is a package or a module of `engine/`. It imports only from rooms on the floors under it, and
no two rooms import each other in a circle.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("onelook", "detect", "classify", "engine")
ALLOWED = {"detect": ("classify", "engine"), "engine": ()}  # imports of packages; others engine
FLOORS = (  # of engine/, the top first
    ("commands",),
    (
        "train",
        "evaluate",
        "predict",
        "check",
        "summary",
        "lr_find",
        "bench",
        "explain",
        "export",
        "sweep",
        "shard",
    ),
    ("report", "doctor"),
    ("builders",),
    ("output", "training", "runtime"),
    ("passes",),
    ("data", "weights"),
    ("distributed",),
    ("network",),
    ("network_protocols", "cli"),
    ("structures", "protocols", "config", "whole_file"),
    ("objects",),
    ("record", "console", "errors", "regular_file", "option", "finding"),
)
FLOOR = {room: number for number, floor in enumerate(reversed(FLOORS), 1) for room in floor}


def sources(*packages: str) -> list[Path]:
    """Every Python file of the packages."""
    return [path for name in packages for path in sorted((ROOT / name).rglob("*.py"))]


def module(path: Path) -> str:
    """The dotted name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """The dotted name of everything imported in a file, wherever in it that stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name: str) -> str:
    """The room of a dotted name in engine/; "" for engine/ itself."""
    return [*name.split("."), ""][1]


def upward(path: Path) -> list[str]:
    """What a file imports from a package or a room that is not under its own."""
    own = module(path)
    package = own.split(".")[0]
    allowed = (package, *ALLOWED.get(package, ("engine",)))
    found = []
    for name in imports(path):
        other = name.split(".")[0]
        wrong = other in PACKAGES and other not in allowed
        if package == other == "engine" and room(name) != room(own):
            wrong = FLOOR[room(name)] >= FLOOR[room(own)]
        found += [f"{own} imports {name}"] if wrong else []
    return found


if __name__ == "__main__":
    for number, floor in enumerate(FLOORS):
        print(f"engine floor {len(FLOORS) - number}: {' '.join(floor)}")
    for package in reversed(PACKAGES):
        found = [line for path in sources(package) for line in upward(path)]
        print(f"{package}: {len(sources(package))} files, {len(found)} imports upward", *found)
