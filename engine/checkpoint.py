"""Checkpoints: plain tensors, numbers, strings, lists and dicts, written whole or not at all."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from engine.distributed import first_only
from engine.errors import UserError
from engine.logging import say
from engine.shard import weights_like

FORMAT = 4
MOVED = {
    "classify.heads.Linear": "classify.heads.linear.Linear",
    "classify.metrics.TopK": "classify.metrics.top_k.TopK",
}
# Until format 4 a checkpoint stood between two epochs, and nothing was counted of what is here.
BETWEEN_EPOCHS = {"progress": {}, "guard": {"row": 0}, "stale": 0}
CODER = "detect.coder.CentreSize"
NEEDED = {"format", "config", "classes", "model", "epoch"}


@first_only
def save(path: Path, state: dict[str, Any]) -> None:
    """Write beside the target, flush, then replace: the old file lives until the new is whole.

    Raises:
        OSError: the file system refuses; the old file is as it was.
    """
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's writer has no kind of its own
        temporary.unlink(missing_ok=True)
        raise error if isinstance(error, OSError) else OSError(str(error)) from error
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def load(path: str, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint onto `device`; no code in the file is ever run.

    Raises:
        UserError: no such file, not a checkpoint, not ours, from a newer format, or it holds
            pickled objects (named).
    """
    if not Path(path).is_file():
        got = "a folder" if Path(path).is_dir() else "no such file"
        where = "RUN/checkpoints/last.pt, and after their first evaluation in best.pt beside it"
        raise UserError(f"checkpoint {path}: {got}; runs keep theirs in {where}")
    try:
        with warnings.catch_warnings():  # torch warns of pickle protocols before it refuses them
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch's readers have no fixed set of errors
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it holds a pickled object, {named[1]}" if named else "not one, or a broken one"
        raise UserError(
            f"checkpoint {path}: {what}; expected a file that train.py wrote (plain tensors, "
            "numbers and strings; nothing else is ever unpickled)"
        ) from error
    if not isinstance(state, dict) or not state.keys() >= NEEDED:
        got = sorted(map(str, state))[:5] if isinstance(state, dict) else type(state).__name__
        raise UserError(f"checkpoint {path}: not written by train.py (it holds {got})")
    if state["format"] > FORMAT:
        raise UserError(
            f"checkpoint {path}: format {state['format']}, this version reads {FORMAT}: update it"
        )
    return _migrated(state) if state["format"] < FORMAT else state


def _migrated(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of an older format as this version would have written it."""
    say(f"checkpoint of format {state['format']}, read as {FORMAT}")
    state = _from_first(state) if state["format"] == 1 else state
    if state["format"] < 3:
        state = {**state, "config": _with_coder(state["config"])}
    return {**state, **BETWEEN_EPOCHS, "format": FORMAT}


def _with_coder(config: dict[str, Any]) -> dict[str, Any]:
    """Until format 3 SSD's head had the variances of its coder."""
    head = dict(config["head"])
    if "variances" in head:
        head["coder"] = {"_target_": CODER, "variances": head.pop("variances")}
    return {**config, "head": head}


def _from_first(state: dict[str, Any]) -> dict[str, Any]:
    """Format 1 knew no fine-tuning, and called the layers of a ResNet by names of its own."""
    stages = {f"backbone.stages.{i}.": f"backbone.layer{i + 1}." for i in range(4)}
    names = {"backbone.stem.0.": "backbone.conv1.", "backbone.stem.1.": "backbone.bn1."} | stages

    def renamed(weights: dict[str, Any] | None) -> dict[str, Any] | None:
        if weights is None:
            return None
        found = {key: next((old for old in names if key.startswith(old)), "") for key in weights}
        return {names.get(old, "") + key[len(old) :]: weights[key] for key, old in found.items()}

    for node in (state["config"]["head"], state["config"]["metric"]):
        node["_target_"] = MOVED.get(node["_target_"], node["_target_"])
    finetune = {"_target_": "engine.finetune.Finetune"}
    config = {**state["config"], "finetune": finetune}
    weights = {key: renamed(state[key]) for key in ("model", "ema")}
    said = {**state["preprocessing"], "resize": None, "interpolation": None, "colour": "RGB"}
    said |= {key: [value / 255 for value in said[key]] for key in ("mean", "std")}
    new = {"config": config, "preprocessing": said}
    return {**state, **weights, **new}


def load_weights(network: torch.nn.Module, weights: dict[str, Any], path: str) -> None:
    """Put a checkpoint's weights into the network its configuration built.

    Raises:
        UserError: keys or shapes differ.
    """
    try:
        network.load_state_dict(weights_like(weights, network))
    except RuntimeError as error:
        first = str(error).split("\n")[1].strip()[:200]
        raise UserError(
            f"checkpoint {path}: its weights are of another network: {first}"
        ) from error
