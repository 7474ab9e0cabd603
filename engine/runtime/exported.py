"""Reads exported files with their description, and lets one stand in for a network.

`model.onnx` has `model.json` beside it: what it takes and gives, the classes, how images are
prepared, and the configuration of the checkpoint that it was made of.
"""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from engine.config.schema import plain
from engine.data.read_json import read_json
from engine.errors import UserError
from engine.regular_file import check_regular
from engine.runtime.session import Session, session
from engine.structures import Fixed, Objects
from engine.weights.checkpoint import upgrade

FORMAT = 1  # of the description
OF_CHECKPOINT = ("format", "epoch", "config", "preprocessing")  # entries that it keeps


def description_of(path: Path) -> Path:
    """The path of a file's description."""
    return path.with_suffix(".json")


def read(path: str) -> dict[str, Any]:
    """What is known of an exported file, as the entries of a checkpoint, without weights.

    Its entry `exported` is the whole description.

    Raises:
        UserError: no such file, none of ours, or changed since it was exported.
    """
    file, beside = Path(path), description_of(Path(path))
    if file.suffix == ".pt2":
        raise UserError(
            f"{path}: torch reads .pt2 files by unpickling, which can run any code; this program "
            "runs .onnx and .xml: python -m engine.export format=onnx"
        )
    try:
        for part in (*files_of(file), beside):
            check_regular(part)
    except OSError as error:
        missing = error.filename or path
        raise UserError(
            f"checkpoint={path}: {missing}: {error.strerror}; python -m engine.export writes both "
            f"{file.name} and {beside.name}"
        ) from None
    found = read_json(beside)
    kept = found.get("checkpoint") if isinstance(found, dict) else None
    if not isinstance(kept, dict) or found.get("format") != FORMAT or "outputs" not in found:
        raise UserError(f"{beside}: not the description of a file that engine.export wrote")
    if found.get("sha256") != sha256(file):
        raise UserError(
            f"{path}: not the file that {beside.name} describes (its sha256 is another): somebody "
            "changed it after it was compared with its checkpoint; export it anew"
        )
    entries = {key: kept.get(key) for key in OF_CHECKPOINT}
    entries |= {"classes": found.get("classes"), "categories": found.get("category_ids")}
    return upgrade({**entries, "model": {}, "ema": None}, str(beside)) | {"exported": found}


def files_of(path: Path) -> list[Path]:
    """The files that an exported file is made of: OpenVINO's weights are in one beside it."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def sha256(path: Path) -> str:
    """The checksum of an exported file, in hexadecimal."""
    digest = hashlib.sha256()
    for part in files_of(path):
        with open(part, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


class ExportedNetwork:
    """An exported file in the place of a `Network`: it predicts, and has no losses.

    Args:
        run: the opened file.
        batch: images that it takes at once; None: any number.
        outputs, protocol: of the head that it was made of.
    """

    def __init__(
        self,
        run: Session,
        *,
        batch: int | None,
        outputs: frozenset[str],
        protocol: str,
    ) -> None:
        self.run, self.batch = run, batch
        self.head = SimpleNamespace(outputs=outputs, protocol=protocol)

    def eval(self) -> "ExportedNetwork":
        """Return the network: it always predicts."""
        return self

    def tensors(self, images: Tensor) -> dict[str, Tensor]:
        """What the file gives for images [B, 3, H, W] uint8 RGB, by name."""
        pixels = np.ascontiguousarray(images.cpu().numpy())
        step = self.batch or len(pixels)
        parts = [self._run(pixels[i : i + step], step) for i in range(0, len(pixels), step)]
        return {
            name: torch.from_numpy(np.concatenate([p[name] for p in parts])) for name in parts[0]
        }

    def _run(self, pixels: np.ndarray, step: int) -> dict[str, np.ndarray]:
        """The outputs for at most `step` images; the last image fills up the batch."""
        filled = np.concatenate([pixels, *[pixels[-1:]] * (step - len(pixels))])
        return {name: values[: len(pixels)] for name, values in self.run(filled).items()}

    def __call__(self, images: Tensor) -> Fixed:
        """The objects of images [B, 3, H, W] uint8 RGB, in their pixels."""
        found = self.tensors(images)
        return Fixed(boxes_of(found, images), found["scores"], found["labels"])

    def decode(self, output: Fixed) -> Objects:
        """The objects as a batch."""
        return output.objects()

    def losses(self, output: Fixed, objects: Objects) -> dict[str, Tensor]:
        """None."""
        return {}


def boxes_of(found: dict[str, Tensor], images: Tensor) -> Tensor:
    """The boxes of a file's outputs; of one without boxes, the whole of its images."""
    whole = torch.tensor([0.0, 0.0, *images.shape[:1:-1]])
    return found.get("boxes", whole.expand(*found["scores"].shape[:2], 4))


def network(
    cfg: DictConfig, saved: dict[str, Any], path: str, device: torch.device
) -> ExportedNetwork:
    """The exported file as a network.

    Raises:
        UserError: it holds boxes before suppression, or the user changed what it has fixed.
    """
    found = saved["exported"]
    if not found.get("nms"):
        raise UserError(
            f"{path}: exported with nms=false, so it gives the boxes of all slots; to predict with "
            "it: python -m engine.export nms=true"
        )
    _refuse_changes(cfg, saved, path)
    return ExportedNetwork(
        session(Path(path), device),
        batch=found["batch"],
        outputs=frozenset(found["head"]),
        protocol=str(found["protocol"]),
    )


def _refuse_changes(cfg: DictConfig, saved: dict[str, Any], path: str) -> None:
    """Refuse keys that a file has fixed when it was exported."""
    before = OmegaConf.create(saved["config"])
    for key in ("head", "trainer.precision"):
        now, then = OmegaConf.select(cfg, key), OmegaConf.select(before, key)
        now, then = (
            plain(x) if OmegaConf.is_dict(x) else getattr(x, "name", x) for x in (now, then)
        )
        if now != then:
            raise UserError(
                f"{key}: {path} has this fixed since it was exported; change it there: python -m "
                f"engine.export checkpoint=... {key}..."
            )
