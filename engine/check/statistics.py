"""What there is in a split, in numbers."""

from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import numpy as np

from engine.check.scan import ScannedImage

SHARES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)  # of the images or boxes: least, median, most
NO_BOXES = np.zeros((0, 4), np.float32)


class Statistics:
    """Counts and sizes of one split, image by image; boxes as they are upright, in pixels."""

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes
        self.labels, self.ignored, self.empty = np.zeros(len(classes), np.int64), 0, 0
        self.sizes: list[tuple[int, int]] = []  # (height, width)
        self.boxes: list[np.ndarray] = []  # [M, 3] width, height, share of the image's area
        self.kinds, self.colours, self.bits = Counter(), Counter(), Counter()
        self.alpha = self.turned = 0

    def add(self, look: ScannedImage) -> None:
        """One image."""
        labels, boxes, ignore = look.seen.labels, look.seen.boxes, look.seen.ignore
        self.labels += np.bincount(labels, minlength=len(self.classes))
        self.ignored += 0 if ignore is None else int(ignore.sum())
        self.empty += not len(labels)
        self.sizes.append(look.size)
        if boxes is not None:
            sides = boxes[:, 2:] - boxes[:, :2]
            share = sides.prod(1, keepdims=True) / (look.size[0] * look.size[1])
            self.boxes.append(np.hstack([sides, share]).astype(np.float32))
        if look.header is not None:
            self.kinds[look.header.kind] += 1
            self.colours[look.header.colour] += 1
            self.bits[look.header.bits] += 1
            self.alpha += look.header.alpha
            self.turned += look.header.orientation != 1

    def facts(self) -> dict[str, Any]:
        """All of it as plain values; each list has the quantiles at `SHARES`."""
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
            "box side": _quantiles(np.sqrt(wide * high)),  # of the square of its area
            "box width / height": _quantiles(wide / high),
            "box share of image": _quantiles(boxes[~flat, 2]),
            "kinds": dict(self.kinds),
            "colours": dict(self.colours),
            "bits": {str(bits): count for bits, count in self.bits.items()},
            "transparent": self.alpha,
            "turned by EXIF": self.turned,
        }


def suspicious_class_names(splits: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What to say of a class whose name is nearly that of one with a hundred times its objects."""
    counts: Counter[str] = Counter()
    for facts in splits.values():
        counts.update(facts["classes"])
    for name, count in counts.items():
        many = [other for other in counts if counts[other] >= 100 * max(count, 1)]
        for near in get_close_matches(name, many, n=1, cutoff=0.6):
            yield f"'{name}' has {count} of the objects, '{near}' {counts[near]}: is it a typo?"


def _quantiles(values: np.ndarray) -> list[float]:
    return [round(float(x), 4) for x in np.quantile(values, SHARES)] if len(values) else []


def table(splits: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Facts of each split as rows to print, a column a split; quantiles as least, median, most."""
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
