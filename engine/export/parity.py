"""How far an exported file is from its checkpoint, on real images and at three levels.

The raw output of every slot; the objects, as sets, since of two equal scores either may come first;
and the metric of the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.protocols import Metric
from engine.record import Meta
from engine.structures import Objects, to_original

SAME = 1.0  # pixels, between two boxes that are taken for the same object
RAW = 1e-4  # of the largest value of a raw output
UNMATCHED = 1e-3  # share of objects that rounding moves over a threshold of score or overlap


@dataclass
class Bars:
    """What a file may differ by; None is reported and bounded by nothing."""

    raw: float | None = RAW  # relative to the largest value
    box: float | None = 1e-3  # pixels of the network's input
    score: float | None = 1e-5
    unmatched: float | None = UNMATCHED  # share of the objects
    metric: float = 1e-4  # of the primary metric: how much less, of int8, or either way


@dataclass
class Parity:
    """The largest differences so far."""

    metrics: tuple[Metric, Metric]  # of the checkpoint and of the file
    raw: dict[str, float] = field(default_factory=dict)
    box: float = 0.0
    score: float = 0.0
    objects: int = 0
    unmatched: int = 0
    images: int = 0
    worst: tuple[float, str] = (0.0, "")  # how far the objects of an image are, and its name

    def add_raw(self, wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
        """Compare raw outputs by name, relative to the largest value of each."""
        for name, values in wanted.items():
            largest = values.abs().max().clamp(min=1e-12)
            apart = (values - found[name].float()).abs() / largest
            self.raw[name] = max(self.raw.get(name, 0.0), _largest(apart))

    def add(self, wanted: Objects, found: Objects, meta: Sequence[Meta], true: Objects) -> None:
        """Compare the objects of a batch, in pixels of the network's input."""
        for row, image in enumerate(meta):
            self._add_image(wanted.of(row), found.of(row), str(image.path or image.id))
        for metric, objects in zip(self.metrics, (wanted, found), strict=True):
            metric.update(to_original(objects, meta), true, meta)

    def _add_image(self, wanted: Objects, found: Objects, name: str) -> None:
        pairs = match(wanted, found)
        lost = len(wanted) + len(found) - 2 * len(pairs)
        a, b = wanted.select(pairs[:, 0]), found.select(pairs[:, 1])
        box, score = _largest((a.boxes - b.boxes).abs()), _largest((a.scores - b.scores).abs())
        self.box, self.score = max(self.box, box), max(self.score, score)
        self.objects, self.unmatched = self.objects + len(wanted), self.unmatched + lost
        self.images += 1
        self.worst = max(self.worst, (lost + box + score, name))

    def report(self, bars: Bars, both_ways: bool) -> dict[str, Any]:
        """The numbers, the bars, and which of them are passed over.

        Args:
            bars: what is allowed.
            both_ways: whether a better metric counts as a difference too.
        """
        before, after = (metric.compute() for metric in self.metrics)
        name = self.metrics[0].primary
        drop = before[name] - after[name]
        found = {
            "raw": max(self.raw.values(), default=0.0),
            "box": self.box,
            "score": self.score,
            "unmatched": self.unmatched / max(self.objects, 1),
            "metric": abs(drop) if both_ways else drop,
        }
        failed = [key for key, value in found.items() if _exceeds(value, getattr(bars, key))]
        return {
            "images": self.images,
            "objects": self.objects,
            "differences": found,
            "raw": self.raw,
            "bars": vars(bars),
            "failed": failed,
            "worst_image": self.worst[1],
            "primary": name,
            "checkpoint": before,
            "file": after,
        }


def _largest(values: Tensor) -> float:
    """The largest value, 0 of none; NaN counts as infinite."""
    return float(values.nan_to_num(torch.inf).max()) if values.numel() else 0.0


def _exceeds(value: float, bar: float | None) -> bool:
    return bar is not None and not value <= bar


def match(wanted: Objects, found: Objects) -> Tensor:
    """Rows [P, 2] of the same objects: of one class, less than `SAME` apart, the nearest first."""
    apart = (wanted.boxes[:, None] - found.boxes).abs().amax(-1)  # [M, N]
    apart = torch.where(wanted.labels[:, None] == found.labels, apart, torch.inf)
    apart = apart + (wanted.scores[:, None] - found.scores).abs()
    rows, columns = (apart < SAME + 1).nonzero(as_tuple=True)
    order = apart[rows, columns].argsort(stable=True)
    pairs, taken = [], (set[int](), set[int]())
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in taken[0] and column not in taken[1]:
            pairs.append((row, column))
            taken[0].add(row)
            taken[1].add(column)
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
