"""The run folder: one run writes to it at a time, and nothing of an older one stays beside it.

The lock's file keeps what in the folder the run made, so that `overwrite=true` never removes what
others put there.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from engine.console import info
from engine.distributed import processes
from engine.errors import UserError
from engine.output import folder_lock
from engine.whole_file import remove_unfinished, write_whole

LOG = "train.log"
FILES = ("config.yaml", "metrics.csv", "metrics.json", "data_report.json",
         "predictions.json", "report.html", "label_errors.csv", "tracker.json",
         "card.md")  # fmt: skip
FOLDERS = {  # with the names of the files that runs write there
    "checkpoints": ("last.pt", "best.pt"),
    "tensorboard": ("events.out.tfevents.*",),
    "images": ("*",),
}


@dataclass
class RunFolder:
    """The folder of a training run, held by its rank 0.

    Args:
        path: the folder.
        resumed: whether the run goes on from a checkpoint in it.
        lock: the descriptor of its lock; None in other processes than rank 0.
        log_size: bytes of an older run's log.
    """

    path: Path
    resumed: bool
    lock: int | None = None
    log_size: int = 0

    @processes.rank_zero_only
    def prepare(self, cfg: DictConfig) -> None:
        """Remove what an older run left, or of a run that goes on what a kill left half written.

        Args:
            cfg: what the command line composed; it is kept in .hydra/.

        Raises:
            NotWritten: the folder takes no file.
        """
        assert self.lock is not None
        for name in (".", ".hydra", *FOLDERS):
            remove_unfinished(self.path / name)
        if self.resumed:
            overrides = OmegaConf.to_yaml(HydraConfig.get().overrides.task)
            write_whole(self.path / ".hydra/resumed.yaml", overrides)
            return
        record = folder_lock.read(self.lock)
        self._remove_old(record.get("made"))
        made = [name for name in (*FILES, *FOLDERS) if not (self.path / name).exists()]
        folder_lock.write(self.lock, record | {"made": made})
        write_hydra(self.path, cfg)

    def _remove_old(self, made: list[str] | None) -> None:
        """Remove the files of an older run; `made` is None where it kept no account of them."""
        for name in ("last.pt", "best.pt"):
            (self.path / "checkpoints" / name).unlink(missing_ok=True)
        images = self.path / "images"
        if (
            made is None and (self.path / ".hydra").is_dir()
        ):  # an older version's, or another tool's
            made = [*FILES, "tensorboard"]
            if images.is_dir() and any(images.iterdir()):
                info(f"{images}: its files are not known to be of a run, so they stay")
        for name in made or ():
            _remove(self.path / name)
        if made is not None and self.log_size:
            log = self.path / LOG
            ours = log.read_bytes()[self.log_size :]
            os.truncate(log, 0)
            with open(log, "ab") as file:  # it is open for the run's own lines already
                file.write(ours)


def _remove(path: Path) -> None:
    """Remove a file, or those of a folder that runs write there, but no folders in it."""
    if path.is_dir():
        for file in [f for pattern in FOLDERS.get(path.name, ()) for f in path.glob(pattern)]:
            if not file.is_dir():
                file.unlink()
    else:
        path.unlink(missing_ok=True)


def current() -> Path:
    """Return the folder that Hydra made for this command."""
    return Path(HydraConfig.get().runtime.output_dir)


def shared(cfg: DictConfig) -> Path:
    """Return the folder of a command that does not train, with its configuration in .hydra/.

    Raises:
        UserError: a training run's results are there.
    """
    folder = current()
    if _checkpoints(folder) or folder_lock.is_held(folder):
        raise UserError(
            f"{folder}: the folder of a training run, whose files would be overwritten; "
            "set another hydra.run.dir"
        )
    write_hydra(folder, cfg)
    return folder


def write_hydra(folder: Path, cfg: DictConfig) -> None:
    """Write .hydra/ as Hydra does by `hydra.output_subdir`, but whole, and after the checks."""
    hydra: Any = HydraConfig.instance().cfg
    write_whole(folder / ".hydra/config.yaml", OmegaConf.to_yaml(cfg))
    write_whole(
        folder / ".hydra/hydra.yaml", OmegaConf.to_yaml(OmegaConf.masked_copy(hydra, "hydra"))
    )
    write_whole(folder / ".hydra/overrides.yaml", OmegaConf.to_yaml(hydra.hydra.overrides.task))


@contextmanager
def claimed(resume: str | None, overwrite: bool) -> Iterator[RunFolder]:
    """Hold the folder of this run inside the `with` block, all processes together.

    Args:
        resume: the checkpoint that the run goes on from.
        overwrite: whether the checkpoints of another run may be lost.

    Raises:
        UserError: another run holds it, or has left checkpoints there.
    """
    path = processes.broadcast_from_rank_zero(current)  # others have no folder of their own
    resumed = (
        bool(resume) and Path(str(resume)).resolve().parent == (path / "checkpoints").resolve()
    )
    folder = RunFolder(path, resumed)
    with ExitStack() as stack:

        def claim() -> str:
            try:
                stack.enter_context(_claimed(folder, overwrite))
            except UserError as error:
                return str(error)
            return ""

        if refused := processes.broadcast_from_rank_zero(claim):
            raise UserError(refused)
        yield folder


@contextmanager
def _claimed(folder: RunFolder, overwrite: bool) -> Iterator[None]:
    if folder.resumed and overwrite:
        raise UserError("overwrite=true would remove the checkpoint of resume=; leave out one")
    is_free = folder.resumed or overwrite
    if not is_free and not (folder.path / folder_lock.LOCK).exists():
        _refuse_checkpoints(folder.path)  # before a lock is left there
    with folder_lock.locked(folder.path) as folder.lock:
        if not is_free:
            _refuse_checkpoints(folder.path)
        log = folder.path / LOG
        folder.log_size = log.stat().st_size if log.exists() else 0
        me = {"pid": os.getpid(), "host": socket.gethostname()}
        folder_lock.write(folder.lock, folder_lock.read(folder.lock) | me)
        yield


def _checkpoints(folder: Path) -> list[Path]:
    return [p for n in ("last.pt", "best.pt") if (p := folder / "checkpoints" / n).exists()]


def _refuse_checkpoints(folder: Path) -> None:
    if _checkpoints(folder):
        raise UserError(
            f"{folder}: has the checkpoints of a run; resume=auto goes on with it, overwrite=true "
            "removes its files and starts anew, another hydra.run.dir keeps both"
        )
