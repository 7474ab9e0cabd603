"""Statistics of the images and objects of a split."""

from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import numpy as np

from engine.check.scan import ScannedImage

SHARES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)  # the quantiles that are reported
MAX_PAIRS = 100_000  # of names that are compared, 30 microseconds each
NO_BOXES = np.zeros((0, 4), np.float32)


class Statistics:
    """Counts and sizes of one split, collected image by image; boxes in pixels, upright."""

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes
        self.labels, self.ignored, self.empty = np.zeros(len(classes), np.int64), 0, 0
        self.sizes: list[tuple[int, int]] = []  # (height, width)
        self.boxes: list[np.ndarray] = []  # [M, 3] width, height, share of the image's area
        self.kinds, self.colours, self.bits = Counter(), Counter(), Counter()
        self.alpha = self.turned = 0

    def add(self, scanned: ScannedImage) -> None:
        """Count one image and its objects."""
        truth, header = scanned.upright, scanned.header
        labels, boxes, ignore = truth.labels, truth.boxes, truth.ignore
        self.labels += np.bincount(labels, minlength=len(self.classes))
        self.ignored += 0 if ignore is None else int(ignore.sum())
        self.empty += not len(labels)
        self.sizes.append(scanned.size)
        if boxes is not None:
            sides = boxes[:, 2:] - boxes[:, :2]
            share = sides.prod(1, keepdims=True) / (scanned.size[0] * scanned.size[1])
            self.boxes.append(np.hstack([sides, share]).astype(np.float32))
        if header is not None:
            self.kinds[header.kind] += 1
            self.colours[header.colour] += 1
            self.bits[header.bits] += 1
            self.alpha += header.alpha
            self.turned += header.orientation != 1

    def facts(self) -> dict[str, Any]:
        """The statistics as plain values by name; a list has the quantiles at `SHARES`."""
        height, width = np.array(self.sizes, np.float64).reshape(-1, 2).T
        boxes = np.concatenate([np.zeros((0, 3), np.float32), *self.boxes]).astype(np.float64)
        flat = (boxes[:, :2] <= 0).any(1)
        wide, high = boxes[~flat, :2].T  # a box without area has no shape
        return {
            "images": len(self.sizes),
            "without objects": self.empty,
            "objects": int(self.labels.sum()),
            "ignored": self.ignored,
            "classes": dict(zip(self.classes, self.labels.tolist(), strict=True)),
            "image width": _quantiles(width),
            "image height": _quantiles(height),
            "image width / height": _quantiles(width / height),
            "objects an image": _quantiles(np.array([len(b) for b in self.boxes])),
            "box side": _quantiles(np.sqrt(wide * high)),  # of a square of the same area
            "box width / height": _quantiles(wide / high),
            "box share of image": _quantiles(boxes[~flat, 2]),
            "kinds": dict(self.kinds),
            "colours": dict(self.colours),
            "bits": {str(bits): count for bits, count in self.bits.items()},
            "transparent": self.alpha,
            "turned by EXIF": self.turned,
        }


def suspicious_class_names(splits: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A question for each class named almost like one with a hundred times as many objects."""
    counts: Counter[str] = Counter()
    for facts in splits.values():
        counts.update(facts["classes"])
    most = max(counts.values(), default=0)
    rare = [name for name, count in counts.items() if 100 * max(count, 1) <= most]
    common = [name for name, count in counts.items() if count >= 100]
    if len(rare) * len(common) > MAX_PAIRS:
        return
    for name in rare:
        count = counts[name]
        many = [other for other in common if counts[other] >= 100 * max(count, 1)]
        for match in get_close_matches(name, many, n=1, cutoff=0.6):
            yield f"'{name}' has {count} of the objects, '{match}' {counts[match]}: is it a typo?"


def _quantiles(values: np.ndarray) -> list[float]:
    return [round(float(x), 4) for x in np.quantile(values, SHARES)] if len(values) else []


def table(splits: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows to print, with a column for each split; quantiles as least, median and most."""
    rows = []
    for name, fact in next(iter(splits.values())).items():
        column = {split: facts[name] for split, facts in splits.items()}
        if isinstance(fact, dict):
            keys = dict.fromkeys(key for facts in column.values() for key in facts)
            many = f"{len(keys)} {name}, most of" if len(keys) > 20 else ""
            top = sorted(keys, key=lambda k: -sum(c.get(k, 0) for c in column.values()))
            rows += [
                {"": f"{many or name}: {key}", **{s: c.get(key, 0) for s, c in column.items()}}
                for key in (top[:20] if many else keys)
            ]
        elif any(value not in ([], 0) for value in column.values()):
            rows.append({"": name} | {split: _shown(value) for split, value in column.items()})
    return rows


def _shown(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return " ".join(f"{x:.3g}" if x < 100 else f"{x:.0f}" for x in value[::3]) or "-"
