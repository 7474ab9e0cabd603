"""What the tools `python -m engine.X` own of the configuration, as `engine.config.schema`."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from engine.config.ranges import (
    Classes,
    Count,
    Length,
    Positive,
    PositiveShare,
    Range,
    Seed,
    Share,
    Side,
    ZeroOrMore,
)
from engine.config.schema import CheckpointConfig, Rate, TrainConfig

Cells = Annotated[int, Range(0, 64)]  # of a kernel, a stride, a padding
Output = Annotated[float, Range(-1000, 1000)]  # of a network, for a class
Pixel = Annotated[float, Range(-10_000, 10_000)]  # a coordinate of a box, or its score


@dataclass
class SummaryConfig(TrainConfig):
    """`python -m engine.summary`: a network's layers and sizes, without data or weights."""

    num_classes: Classes = 20  # that the head tells apart
    format: str = "text"  # text or json


@dataclass
class CheckConfig(TrainConfig):
    """`python -m engine.check`: what there is in a dataset, and what is wrong with it."""

    split: str | None = None  # null: train, val and test, as far as there are such
    samples: ZeroOrMore = 0  # images drawn before and after augmentation
    convert: str | None = None  # coco or yolo: write the truth in this format too


@dataclass
class ShardConfig(TrainConfig):
    """`python -m engine.shard`: a dataset as tars that are read by range."""

    out: str | None = None  # the folder that gets the tars, their indices and shards.json
    split: str | None = None  # null: train, val and test, as far as there are such
    shard_size: Annotated[int, Range(1, 100_000)] = 256  # megabytes of a tar, about


@dataclass
class LRFindConfig(TrainConfig):
    """`python -m engine.lr_find`: the loss while the learning rate rises."""

    steps: Annotated[int, Range(1, 100_000)] = (
        200  # of the curve, at most; a loss that diverges ends it
    )
    least: Rate = 1e-6  # the first learning rate
    most: Rate = 10.0  # the last learning rate


@dataclass
class BenchConfig:
    """`python -m engine.bench`: how long a part takes beside its peers, and its memory."""

    part: str = (
        "loss"  # what is timed: data, index, keys, loss, predict, scaling, score, shards, step
    )
    parts: dict[str, str] = field(default_factory=dict)  # the module that measures each
    batch: Count | None = None  # images a batch; null: what suits the part
    models: list[str] = field(  # options of model=, of part=step and keys
        default_factory=lambda: ["resnet18", "ssd_resnet34", "ssd300_vgg16"]
    )
    steps: Count = 2  # of each in turn, of part=step, scaling and keys
    device: str = "auto"  # of part=keys: auto, cpu, cuda, cuda:1, mps
    slots: Count = 8732  # slots an image, of part=loss; SSD300's
    objects: Annotated[list[ZeroOrMore], Length(1, 100)] = field(
        default_factory=lambda: [1, 5, 20, 100, 500]
    )  # objects an image, of part=loss and predict, a row each
    root: list[str] = field(  # folders in VOC's layout, of part=data and predict
        default_factory=lambda: ["../shared/data/voc2012_sub", "../shared/data/bccd"]
    )
    images: Count = 100  # of each folder, of part=data, predict and shards
    side: Side = 300  # of the network's input, pixels, of part=data and predict
    latency: ZeroOrMore = 20  # milliseconds that a server waits, of part=shards
    repeats: Count = 7  # timed runs of each, in turn; the median counts
    seed: Seed = 0  # of the random inputs


@dataclass
class ExplainConfig:
    """`python -m engine.explain`: an idea of the course in numbers and an image."""

    topic: str = "softmax"  # what is explained: one of `topics`
    topics: dict[str, str] = field(default_factory=dict)  # the module that explains each
    logits: Annotated[list[Output], Length(2, 20)] = field(
        default_factory=lambda: [2.0, 1.0, 0.1]
    )  # of topic=softmax, the network's outputs for one image
    image: str | None = None  # a file that is shown; null: shapes are drawn
    layers: Annotated[list[Annotated[list[Cells], Length(3, 3)]], Length(1, 12)] = field(
        default_factory=lambda: [[7, 2, 3], [3, 2, 1], [3, 1, 1], [3, 2, 1], [3, 1, 1], [3, 2, 1]]
    )  # of topic=receptive_field, [kernel, stride, padding] of each convolution
    network: str | None = None  # of topic=receptive_field, an option of model=; null: `layers`
    gammas: Annotated[list[Annotated[float, Range(0, 100)]], Length(1, 8)] = field(
        default_factory=lambda: [0.0, 0.5, 1.0, 2.0, 5.0]
    )  # of topic=focal, the exponents
    noise: Share = 0.1  # of topic=filters, pixels that become white or black
    surface: str = "valley"  # of topic=optimizers: valley, diagonal or beale
    steps: Annotated[int, Range(1, 2000)] = 150  # of topic=optimizers
    lr: Rate | None = None  # of topic=optimizers; null: for each the one that arrives first
    depth: Annotated[int, Range(2, 200)] = 20  # of topic=gradients, layers
    gradients: Annotated[list[Any], Length(1, 4)] = field(
        default_factory=lambda: [[3.0, 4.0], [0.0, 12.0]]
    )  # of topic=clipping, the numbers of each tensor
    max: Positive = 2.6  # of topic=clipping, what clip.max is
    verdicts: Annotated[list[str], Length(1, 100)] = field(
        default_factory=lambda: ["TP", "FP", "TP", "FP", "FP", "TP", "FP"]
    )  # of topic=ap, TP or FP of each detection
    scores: Annotated[list[Share], Length(1, 100)] = field(
        default_factory=lambda: [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    )  # of topic=ap, of the same detections
    objects: Annotated[int, Range(1, 1000)] = 4  # of topic=ap, in truth; those without a TP are FN
    boxes: Annotated[list[Annotated[list[Pixel], Length(5, 5)]], Length(1, 50)] = field(
        default_factory=lambda: [
            [20, 40, 100, 120, 0.9],
            [26, 34, 106, 114, 0.8],
            [10, 30, 90, 110, 0.7],
            [30, 60, 90, 120, 0.6],
            [2, 16, 78, 96, 0.4],
            [120, 40, 180, 106, 0.85],
            [116, 44, 176, 112, 0.75],
            [150, 53, 228, 133, 0.95],
            [156, 58, 232, 138, 0.5],
        ]
    )  # of topic=nms, [x1, y1, x2, y2, score] of each detection, in pixels of the image shown
    iou: PositiveShare = 0.5  # of topic=nms, boxes that overlap a better one by more are removed
    seed: Seed = 0  # of what is drawn at random


@dataclass
class ReportConfig:
    """`python -m engine.report`: a page that explains results."""

    run: str | None = None  # a folder that train.py or eval.py wrote
    runs: list[str] = field(default_factory=list)  # such folders to compare with the first
    sweep: str | None = None  # the folder of a sweep
    truth: str | None = None  # COCO JSON to score `predictions` against
    predictions: str | None = None  # predictions.json
    images: str | None = None  # the folder of the images that `truth` names, to see them
    trust: Any = False  # packages whose classes a run's config.yaml may name: [my_parts]; true: any
    dataset: Any = MISSING
    metric: Any = MISSING


@dataclass
class ParityConfig:
    """How an exported file is compared with its checkpoint."""

    images: Count = 200  # of the split, at most
    drop: Share = 0.01  # of the metric, that precision=int8 may cost


@dataclass
class ExportConfig(CheckpointConfig):
    """`python -m engine.export`: a checkpoint as one file for other programs."""

    format: str = "onnx"  # onnx, openvino or pt2
    nms: bool = True  # the file chooses among boxes; false: it gives all of them, of every slot
    dynamic: str = "none"  # images it takes: none: one; batch: any number; size: also of any size
    precision: str = "fp32"  # fp32, or int8 but for the last layers
    verify: str | None = None  # an exported file to compare; none is written
    parity: ParityConfig = field(default_factory=ParityConfig)


_store = ConfigStore.instance()
_store.store(name="summary_schema", node=SummaryConfig)
_store.store(name="check_schema", node=CheckConfig)
_store.store(name="shard_schema", node=ShardConfig)
_store.store(name="lr_find_schema", node=LRFindConfig)
_store.store(name="bench_schema", node=BenchConfig)
_store.store(name="explain_schema", node=ExplainConfig)
_store.store(name="report_schema", node=ReportConfig)
_store.store(name="export_schema", node=ExportConfig)
