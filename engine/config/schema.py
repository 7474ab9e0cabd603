"""What the engine owns of the configuration. No torch here: see `engine.cli`.

`--help` prints the comment behind a field as its line (`engine.config.comments`).
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from engine.config.folder import CONFIGS as CONFIGS
from engine.config.folder import INSTALLED as INSTALLED
from engine.config.ranges import (
    Count,
    InnerShare,
    Length,
    NonNegative,
    Positive,
    Range,
    Seed,
    Share,
    Side,
    ZeroOrMore,
)

MAX_WORKERS = 64  # each is a process of a few hundred megabytes; one GPU needs no more
Three = Length(3, 3)  # a number a channel
Rate = Annotated[float, Range(0, 1000, "(]")]
Deviation = Annotated[float, Range(0.0001, 1000)]


class Precision(Enum):
    """Of the forward pass; losses and decoding are always float32."""

    auto = "auto"  # bf16 where the hardware multiplies it natively, else fp32 (CPU) or fp16 (CUDA)
    fp32 = "fp32"
    tf32 = "tf32"  # fp32 whose products a GPU may round to 10 bits; faster from Ampere on
    bf16 = "bf16"
    fp16 = "fp16"  # with a gradient scaler; not on the CPU


class Compression(Enum):
    """Of gradients, while several processes exchange them."""

    bf16 = "bf16"


@dataclass
class TrainerConfig:
    """How long and how a run trains."""

    epochs: Count | None = 40  # times through the training images; null: until the minutes are over
    minutes: Positive | None = None  # a budget: the schedule ends with it, whichever comes first
    precision: Precision = Precision.auto  # auto, fp32, tf32, bf16 or fp16, of the forward pass
    accumulate: Count = 1  # batches a step of the optimizer, whose losses are averaged
    eval_every: Count | None = 5  # epochs between evaluations, the last one always; null: ten a run
    save_every: Any = None  # steps (500) or minutes (10m) between two saves within an epoch
    patience: Count | None = None  # evaluations without a better one that end the run
    max_skipped: Count = 20  # steps in a row that are not finite that end the run
    ema: InnerShare | None = 0.998  # decay a step of the averaged weights; null for none
    l1: NonNegative = 0.0  # penalty on the sum of the trained weights' magnitudes
    l2: NonNegative = 0.0  # penalty on half the sum of their squares: weight decay in the loss
    overfit: Count | None = None  # so many training images, as they are, train and validate
    limit: Count | None = None  # batches of an epoch and of an evaluation, at most
    histograms: Count | None = None  # steps between two of weights and gradients, for TensorBoard
    channels_last: bool = True  # the layout of maps in memory that convolutions prefer
    compile: bool = False  # torch.compile: a slow first step, then faster ones
    sync_bn: bool = False  # batch statistics of all processes together; on GPUs
    compress_gradients: Compression | None = (
        None  # bf16: processes exchange half the bytes, rounded
    )
    shard: bool = False  # each process keeps a slice of weights and moments; for large networks
    benchmark: bool = False  # cuDNN tries its algorithms; a resumed run may differ in the last bits


@dataclass
class PreprocessingConfig:
    """What the network expects of its images; null is what its weights want, else ImageNet's."""

    mean: Annotated[list[Share], Three] | None = None  # of each channel in 0..1
    std: Annotated[list[Deviation], Three] | None = None  # of each channel, in the same unit
    colour: str | None = None  # RGB or BGR


@dataclass
class LoaderConfig:
    """How images reach the device."""

    batch_size: Annotated[int, Range(1, 65_536)] = 8  # images a batch, of all processes together
    workers: Annotated[int, Range(0, MAX_WORKERS)] = 2  # that read images, of each process
    prefetch: Annotated[int, Range(1, 64)] = 2  # batches that each worker prepares ahead
    cache_mb: ZeroOrMore = (
        0  # memory for training's decoded images, megabytes, shared by the workers
    )
    sizes: Annotated[list[Side], Length(1, 100)] | None = (
        None  # training's sides, pixels, drawn anew; null: image_size alone
    )
    sizes_every: Count = 10  # batches between two draws of a side


@dataclass
class TrainConfig:
    """The whole configuration of `train.py`; parts are checked against their constructors."""

    seed: Seed = 0  # of the first weights, of augmentation and of the order of images
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    image_size: Any = 224  # pixels, [height, width], or auto: the weights' own, 64 without weights
    resume: str | None = None  # a checkpoint, or auto: that of hydra.run.dir, if it has one
    overwrite: bool = False  # remove the files of the run that hydra.run.dir has
    report: bool = True  # write report.html at the end
    profile: bool = False  # say where the time went; on a GPU it waits after every part of a step
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    backbone: Any = MISSING
    head: Any = MISSING
    loss: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    clip: Any = MISSING
    finetune: Any = MISSING
    dataset: Any = MISSING
    augment: Any = MISSING
    metric: Any = MISSING
    tracker: Any = MISSING


def changes() -> Any:
    """A node that takes any key: what is set here changes the checkpoint's configuration."""
    return field(default_factory=lambda: DictConfig({}, flags={"struct": False}))


@dataclass
class PassesConfig:
    """Several passes of an image through the network, whose objects are merged."""

    tile: Annotated[int, Range(32, 100_000)] | None = None  # cut larger images into such windows
    overlap: Annotated[float, Range(0, 0.9)] = 0.2  # share of a window that its neighbour sees too
    tta: list[str] = field(default_factory=list)  # flip, scales: merge what such views find too


@dataclass
class SourceConfig(PassesConfig):
    """What `predict.py` reads and writes; `eval.py` knows some of it."""

    source: str | None = None  # file, folder, glob, video, rtsp:// or http://, a camera: 0
    save: list[str] = field(  # images, json, csv, yolo, or crops of what scores show
        default_factory=lambda: ["images", "json"]
    )
    show: Share = 0.4  # draw objects of at least this score
    frames: Count | None = None  # of a video, animation, camera or stream, at most


@dataclass
class PretrainedConfig(TrainConfig, SourceConfig):
    """`predict.py model=...`: a network with weights from elsewhere, head included."""

    on_error: str = "fail"  # a source that cannot be read: fail stops, skip leaves it out


@dataclass
class CheckpointConfig(SourceConfig):
    """`eval.py`, `predict.py` and `train.py resume=`: the checkpoint's configuration, changed."""

    checkpoint: str | None = None  # a file of a run: RUN/checkpoints/best.pt
    resume: str | None = None  # the checkpoint to go on from, or auto
    split: str | None = "val"  # train, val or test; null: all of the file that truth= names
    truth: str | None = None  # COCO JSON, or a folder of text files, to score `predictions` against
    predictions: str | None = None  # predictions.json, or such a folder, to score without a model
    report: bool = True  # write report.html at the end of an evaluation
    draw: ZeroOrMore = 16  # annotated images an evaluation writes
    on_error: str = "fail"  # a source that cannot be read: fail stops, skip leaves it out
    trust: Any = False  # packages whose classes the checkpoint may name: [my_parts]; true: any
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    trainer: Any = changes()  # changes the checkpoint's: precision=fp32, limit=10
    loader: Any = changes()  # changes the checkpoint's: batch_size=8, workers=0
    head: Any = changes()  # changes the checkpoint's: postprocess.score=0.05
    dataset: Any = changes()  # changes the checkpoint's: root=FOLDER
    metric: Any = changes()  # changes the checkpoint's: iou=0.75


@dataclass
class EvalConfig(CheckpointConfig):
    """`eval.py`: what the other readers of a checkpoint do not take."""

    explain: bool = False  # write why each detection counts, and the curve of each class
    box: str | None = None  # of text files: corners, xywh, yolo, relative; null: what fits
    images: str | None = None  # the folder of the images that `truth` names, for sizes and to see


@dataclass
class ResumeConfig(CheckpointConfig):
    """`train.py resume=`: what a run that goes on takes and other readers of it do not."""

    overwrite: bool = False  # remove the files of another run that hydra.run.dir has
    tracker: Any = changes()  # changes the checkpoint's: project=NAME
    unchanged: list[str] = field(default_factory=list)  # overrides that the checkpoint must equal
    report: bool | None = None  # type: ignore[assignment]  # write report.html; null: as the run had it
    profile: bool | None = None  # say where the rest of the time goes; null: as the run had it


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration resolved to dicts, lists, strings and numbers."""
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)  # type: ignore[return-value]


def plain_value(value: Any) -> Any:
    """A value of the configuration as a dict, list, string or number; nothing is resolved."""
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


_store = ConfigStore.instance()
_store.store(name="train_schema", node=TrainConfig)
_store.store(name="pretrained_schema", node=PretrainedConfig)
_store.store(name="checkpoint_schema", node=CheckpointConfig)
_store.store(name="eval_schema", node=EvalConfig)
_store.store(name="resume_schema", node=ResumeConfig)
