"""What a checkpoint's path says. No import of torch here: a wrong one is answered without it."""

from pathlib import Path

from engine.errors import UserError

EXPORTED = (".onnx", ".xml", ".pt2")


def require_checkpoint(path: str) -> None:
    """UserError that says where checkpoints are, unless there is a file."""
    if not Path(path).is_file():
        got = "a folder" if Path(path).is_dir() else "no such file"
        where = "RUN/checkpoints/last.pt, and after their first evaluation in best.pt beside it"
        raise UserError(f"checkpoint {path}: {got}; runs keep theirs in {where}")


def is_exported(path: str) -> bool:
    """Whether a path is that of an exported file, by its name."""
    return Path(path).suffix in EXPORTED
