"""Reports of what stands in folders: of a run or an evaluation, or of two COCO files."""

from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.builders import judged_parts
from engine.builders.trust import fetch_nothing, refuse_foreign, refuse_interpolations
from engine.console import info
from engine.errors import UserError
from engine.output import read_predictions
from engine.protocols import Dataset, Metric
from engine.report import stored
from engine.report import write as page

NEEDED = ("metrics.json", "predictions.json", "config.yaml")


class Folder(NamedTuple):
    """What train.py or eval.py left in a folder."""

    path: Path
    results: dict[str, Any]  # metrics.json
    data: Dataset
    metric: Metric


def read(path: str, trust: Any) -> Folder:
    """Open a folder's results, and the dataset that they are of.

    Raises:
        UserError: a file is missing, the configuration calls foreign code, the dataset is not here
            or has other images now.
    """
    folder = Path(path)
    if (folder / "leaderboard.csv").is_file():
        raise UserError(f"{folder}: the folder of a sweep; set sweep={folder}, or one of its jobs")
    for name in NEEDED:
        if not (folder / name).is_file():
            raise UserError(
                f"{folder}: no {name}; expected the folder of a run of train.py, or of eval.py "
                "checkpoint=..., that ended"
            )
    results = stored.results(folder)
    cfg = _parts(folder / "config.yaml", trust)
    if not results.get("split"):
        raise UserError(f"{folder}/metrics.json: got no split, which train.py and eval.py write")
    data = judged_parts.dataset(cfg, results["split"])
    if len(data) != results.get("images"):
        raise UserError(
            f"{folder}: its numbers are of {results.get('images', 'unknown')} images, "
            f"{results['dataset']} has {len(data)}; its own report.html, of when it ran, is right"
        )
    return Folder(folder, results, data, judged_parts.metric(cfg, data.classes))


def _parts(path: Path, trust: Any) -> DictConfig:
    """The dataset and the metric of a folder's configuration; nothing of it is built."""
    config = stored.config(path)
    refuse_interpolations(config, str(path))
    try:
        cfg = OmegaConf.create({key: config.get(key) for key in ("dataset", "metric")})
    except (OmegaConfBaseException, ValueError) as error:
        reason = str(error).split("\n")[0][:200]
        raise UserError(f"{path}: {reason}; expected it as a run wrote it") from None
    refuse_foreign(cfg, OmegaConf.create({}), trust, str(path))
    fetch_nothing(cfg, OmegaConf.create({}))
    return cfg


def write(path: str, trust: Any) -> None:
    """Write report.html of a folder anew."""
    found = read(path, trust)
    table = read_predictions.read_table(found.path / "predictions.json", found.data)
    info(f"report: {page.write(found.path, found.data, found.metric, table)}")
