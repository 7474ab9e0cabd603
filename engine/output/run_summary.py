"""What a run is, in a few lines before its first epoch, and what each epoch came to, in one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from engine.config.image_size import size_of
from engine.config.schema import CONFIGS
from engine.console import duration, info, short
from engine.data.loader import Loader
from engine.distributed.processes import rank_zero_only, world
from engine.network import Network
from engine.network_protocols import HeadOptions
from engine.protocols import DatasetOptions

STEP_MEANS = ("train/grad_norm", "train/clipped", "train/skipped")  # of a row, that are no losses
PARTS = {"model", "head", "loss", "experiment"}  # each brings a head or its loss


@rank_zero_only
def begin(
    cfg: DictConfig,
    network: Network,
    loaders: tuple[Loader, Loader],
    choices: Mapping[str, str | None],
    overrides: Sequence[str],
    place: str,
    folder: Path,
) -> None:
    """Print what trains on what, how, and where its files go.

    Args:
        cfg: the whole configuration.
        network: as built.
        loaders: of training and validation.
        choices: the options of groups; of a group that is not among them its class is named.
        overrides: the command line's.
        place: the device and its precision.
        folder: of the run.
    """
    lines = [
        *network_lines(cfg, network, choices, overrides),
        data_line(cfg, loaders, choices),
        training_line(cfg, len(loaders[0]), choices, place),
        average_line(cfg.trainer.ema),
        f"run folder: {folder}",
    ]
    info(*lines, strong=[line[: line.index(":") + 1] for line in lines])


def network_lines(
    cfg: DictConfig, network: Network, choices: Mapping[str, str | None], overrides: Sequence[str]
) -> list[str]:
    """Return what the network and its loss are; and what a backbone alone left as it was."""
    boxes = "boxes" in network.head.outputs
    kind = "a detector" if boxes else "a classifier"
    only = " of one object an image" if boxes and HeadOptions.single.of(network.head) else ""
    names = {group: _name(cfg, choices, group) for group in ("head", "backbone", "loss")}
    box = cfg.loss.get("box") if boxes else None
    has_part = isinstance(box, DictConfig)  # Faster R-CNN has a weight there
    box_term = f" + {choices.get('loss/box') or _class(box)}" if has_part else ""
    size = sum(parameter.numel() for parameter in network.parameters())
    weights = cfg.backbone.get("weights")
    lines = [
        f"network: {kind}{only}, head {names['head']} on backbone {names['backbone']}, "
        f"{_count(size)} parameters, {f'from {weights}' if weights else 'random at first'}; "
        f"loss {names['loss']}{box_term}"
    ]
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    if "backbone" in given and not given & PARTS and choices.get("model"):
        whole = (CONFIGS / "model" / f"{choices['backbone']}.yaml").exists()
        hint = f"; a whole network of it: model={choices['backbone']}" if whole else ""
        lines.append(
            f"note: backbone= alone keeps head and loss of model={choices['model']}, the default"
            f"{hint}"
        )
    return lines


def data_line(
    cfg: DictConfig, loaders: tuple[Loader, Loader], choices: Mapping[str, str | None]
) -> str:
    """Return how many images of how many classes there are, and where they come from."""
    train, val = loaders
    data = train.dataset
    drawn, root = DatasetOptions.drawn.of(data), cfg.dataset.get("root")
    name = f"(dataset={_name(cfg, choices, 'dataset')})"
    source = f"{drawn} {name}" if drawn else f"from {root} {name}" if root else name
    return (
        f"data: {train.images} images train, {val.images} validate "
        f"({validation_split(cfg)}), {len(data.classes)} classes, {source}"
        f"{'; your own: dataset=NAME dataset.root=FOLDER' if drawn else ''}"
    )


def training_line(
    cfg: DictConfig, batches: int, choices: Mapping[str, str | None], place: str
) -> str:
    """Return with what, for how long and where a run trains; an epoch has so many batches."""
    trainer, rate = cfg.trainer, cfg.optimizer.get("lr")
    height, width = size_of(cfg)
    steps = -(-batches // trainer.accumulate)
    together = f", {trainer.accumulate} batches a step" if trainer.accumulate > 1 else ""
    finetune = _name(cfg, choices, "finetune")
    what = [
        f"training: {_name(cfg, choices, 'optimizer')}",
        *([] if rate is None else [f"rate {rate:g}"]),
        f"schedule {_name(cfg, choices, 'schedule')}",
        *([] if finetune == "all" else [f"finetune {finetune}"]),
    ]
    return (
        f"{', '.join(what)}; {height} x {width} pixels, {cfg.loader.batch_size} images a batch"
        f"{together}; {_length(trainer, steps)}, evaluated {_often(trainer.eval_every)}; on {place}"
    )


def _length(trainer: DictConfig, steps: int) -> str:
    """How long a run is whose epochs have so many steps."""
    if trainer.epochs is None:
        return f"{trainer.minutes:g} minutes, epochs of {steps} steps"
    budget = f", at most {trainer.minutes:g} minutes" if trainer.minutes else ""
    return f"{trainer.epochs} epochs of {steps} steps{budget}"


def _often(every: int | None) -> str:
    if every is None:
        return "about ten times"
    return "after each" if every == 1 else f"every {every} epochs and at the end"


def average_line(decay: float | None) -> str:
    """Return which weights are evaluated."""
    if decay is None:
        return "weights: the newest are evaluated and kept (trainer.ema=null: no average)"
    return (
        f"weights: averaged over about the last {1 / (1 - decay):.0f} steps, fewer at first; the "
        f"average is evaluated and predicts (trainer.ema={decay:g}; null for none)"
    )


def validation_split(cfg: DictConfig) -> str:
    """Describe the validation images, so that numbers of `trainer=debug/...` are not misread."""
    overfit, limit = cfg.trainer.overfit, cfg.trainer.limit
    split = "val" if overfit is None else f"train's first {overfit} images, overfit"
    return split if limit is None else f"{split}, trainer.limit={limit}"


def place(device: object, precision: str) -> str:
    """Describe where a run computes, and in which precision."""
    return f"{device} in {precision}{f', {world()} processes' if world() > 1 else ''}"


def epoch(
    row: Mapping[str, float], epochs: int | None, primary: str, best: float, left: float | None
) -> None:
    """Print an epoch in one line; a metric that is the best stands out.

    Args:
        row: its numbers, as metrics.csv has them.
        epochs: of the whole run; None where the minutes alone end it.
        primary: the metric that decides.
        best: its best value, this epoch included.
        left: seconds until the run ends.
    """
    value = row.get(f"val/{primary}")
    found = [] if value is None else [f"{primary} {value:.4f} (best {best:.4f})"]
    parts = [
        _losses("train", {k: v for k, v in row.items() if k not in STEP_MEANS}, "train/"),
        _losses("val", row, "val/loss/"),
        *found,
        f"after {duration(row['seconds'])}",
        f"about {duration(left)} left" if left else "",
    ]
    line = f"epoch {row['epoch']}{of_epochs(epochs)}: {', '.join(part for part in parts if part)}"
    info(line, strong=found if value == best else ())


def of_epochs(epochs: int | None) -> str:
    """Return " of 40", or nothing where the minutes alone end a run."""
    return "" if epochs is None else f" of {epochs}"


def _losses(split: str, row: Mapping[str, float], prefix: str) -> str:
    """The terms of a split's loss: train class 0.51 box 0.22; "" where there is none."""
    terms = {k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)}
    named = " ".join(f"{name} {short(float(value))}" for name, value in terms.items())
    return f"{split} {named}" if named else ""


def _name(cfg: DictConfig, choices: Mapping[str, str | None], group: str) -> str:
    return choices.get(group) or _class(cfg[group])


def _class(node: DictConfig) -> str:
    return str(node.get("_target_", "?")).rsplit(".", 1)[-1]


def _count(number: int) -> str:
    return f"{number:,}" if number < 1_000_000 else f"{number / 1e6:.1f} million"
