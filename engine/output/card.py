"""card.md: what a run's checkpoint is, on what it was measured and how to get it again."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from engine.config.image_size import size_of
from engine.data.loader import Loader
from engine.distributed.processes import rank_zero_only
from engine.network import Network
from engine.output.run_log import RunLog
from engine.whole_file import write_whole


@rank_zero_only
def write(
    log: RunLog,
    cfg: DictConfig,
    network: Network,
    loaders: tuple[Loader, Loader],
    choices: Mapping[str, str | None],
    precision: str,
) -> None:
    """Write card.md of the best epoch into the run folder; none without its metrics.json.

    Args:
        log: of the run that ended.
        cfg: its configuration.
        network: whose parameters are counted.
        loaders: of training and validation.
        choices: the options of groups.
        precision: that the run computed in.
    """
    if "metrics.json" in log.missing:
        log.missing["card.md"] = log.missing["metrics.json"]
        return
    numbers = json.loads((log.folder / "metrics.json").read_text("utf-8"))
    blocks = [
        f"# Model card of {log.folder.absolute().name}",
        _network(log.folder, cfg, network, choices),
        _data(cfg, loaders, choices),
        _number(numbers),
        _limits(cfg, numbers, loaders, precision),
        f"## Weights it began from\n\n{_origin(cfg.backbone.get('weights'))}",
        _commands(log.folder, numbers),
    ]
    with log.tolerate("card.md"):
        write_whole(log.folder / "card.md", "\n\n".join(blocks) + "\n")


def _network(
    folder: Path, cfg: DictConfig, network: Network, choices: Mapping[str, str | None]
) -> str:
    count = sum(parameter.numel() for parameter in network.parameters())
    best = folder / "checkpoints/best.pt"
    megabytes = f"{best.stat().st_size / 1e6:.1f} MB" if best.exists() else "not written"
    named = {g: choices.get(g) or cfg[g]["_target_"] for g in ("backbone", "head", "loss")}
    parts = ", ".join(f"{group} {name}" for group, name in named.items())
    height, width = size_of(cfg)
    return (
        f"- Network: model {choices.get('model') or 'not named'}, {parts}\n"
        f"- Input: {height} x {width} pixels\n"
        f"- Parameters: {count:,}; checkpoints/best.pt: {megabytes}"
    )


def _data(
    cfg: DictConfig, loaders: tuple[Loader, Loader], choices: Mapping[str, str | None]
) -> str:
    train, val = loaders
    root = cfg.dataset.get("root")
    where = f", folder {Path(str(root)).name}" if root else ""
    names = train.dataset.classes
    return (
        f"## Data\n\n- dataset={choices.get('dataset') or cfg.dataset['_target_']}{where}\n"
        f"- {train.images} images trained on, {val.images} validated on\n"
        f"- {len(names)} classes: {', '.join(map(str, names))}"
    )


def _number(numbers: dict[str, Any]) -> str:
    return (
        f"## Number\n\n{numbers['primary_name']} {numbers['primary_value']} on "
        f"{numbers.get('split')}, epoch {numbers.get('epoch')}: {numbers['protocol']}"
    )


def _limits(
    cfg: DictConfig, numbers: dict[str, Any], loaders: tuple[Loader, Loader], precision: str
) -> str:
    defects = [len(loader.dataset.report) for loader in loaders]
    return (
        f"## Limits\n\n- The number is of the {numbers.get('split')} images of this data alone, "
        "which also chose the epoch; other images may read otherwise.\n"
        f"- One run, seed {cfg.seed}, computed in {precision}.\n"
        f"- Defects of the data: {defects[0]} in training, {defects[1]} in validation "
        "(data_report.json)."
    )


def _origin(weights: str | None) -> str:
    if weights is None:
        return "Random weights."
    name = Path(str(weights)).name
    return f"`{name}`. Their licence is that of this file or name; it is not known here."


def _commands(folder: Path, numbers: dict[str, Any]) -> str:
    path = folder / ".hydra/overrides.yaml"
    given: Any = OmegaConf.load(path) if path.exists() else None
    kept = [without_folders(str(t)) for t in given or () if not str(t).startswith("overwrite=")]
    line = shlex.join(["python", "train.py", *kept])
    line = "# how it was trained is not known: no .hydra/overrides.yaml" if given is None else line
    return (
        "## Commands\n\nFolders of the machine are left out of paths; "
        "RUN is the folder of this file.\n\n"
        f"```sh\n{line}\npython eval.py checkpoint=RUN/checkpoints/best.pt\n```\n\n"
        f"onelook at commit {numbers['commit'] or 'not known'}, torch {torch.__version__}, "
        f"{numbers['machine']}"
    )


def without_folders(text: str) -> str:
    """An override with the last name alone of each absolute path in it."""
    return re.sub(r"(?<![\w.:/])[/~][^\s,'\"\]}]*/([^/\s,'\"\]}]+)/?", r"\1", text)
