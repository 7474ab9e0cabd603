"""COCO's twelve metrics, computed by hotcoco (https://derekallman.github.io/hotcoco).

They equal pycocotools' bit for bit, as the tests check. hotcoco's StreamingEval can be evaluated
only once, so boxes are collected here and evaluated in `compute`.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from hotcoco import COCOeval

from classify.diagnosis.one_class import one_class
from detect.diagnosis.diagnose import diagnose, differences
from detect.metrics.coco_explain import explain
from detect.metrics.judge import judge, match_at_half
from detect.metrics.names import distinct
from engine.finding import Finding
from engine.protocols import OutputFields
from engine.record import Matched, Meta, ObjectTable, Ranked
from engine.report.diagnosis import Diagnosis, Difference

if TYPE_CHECKING:
    from engine.objects import Objects


class COCOMap:
    """COCO AP and AR. Ignored objects are crowds: any number of detections may match one.

    A metric of objects that the ground truth lacks (APl if no object is large) is NaN, since 0
    would look like a result; except AP, by which checkpoints are chosen, which is 0. Of a file's
    objects (`update_table`) it is NaN too: pycocotools' -1.

    Of equal scores the detection of the earlier image comes first, and in an image the one that
    stands first in the file or leaves the network first; as in pycocotools.
    """

    primary = "AP"
    requires: ClassVar[OutputFields] = frozenset({"logits", "boxes"})
    protocol = (
        "COCO AP, IoU 0.50:0.95, 101-point rule, at most 100 detections per image and class, "
        "equal scores in the order of images and rows"
    )

    def __init__(self, *, classes: list[str]) -> None:
        self.names = distinct(classes)
        self.reset()

    def reset(self) -> None:
        """Discard all images."""
        self.num_images, self.of_files = 0, False
        self.predicted = [np.zeros((0, 8))]  # image, x, y, w, h, score, category, area
        self.true = [np.zeros((0, 8))]  # image, x, y, w, h, category, area, crowd

    def update(self, predicted: "Objects", true: "Objects", meta: Sequence[Meta]) -> None:
        """Add a batch; boxes in pixels of the original images."""
        predicted.refuse_nan(meta)
        true.refuse_nan(meta)
        first = self.num_images + 1
        self.num_images += len(meta)
        columns, true_columns = _columns(predicted, first), _columns(true, first)
        area = columns[1][:, 2:].prod(1)
        rows = [*columns, predicted.scores, predicted.labels + 1, area]
        self.predicted.append(np.column_stack(rows))
        rows = [*true_columns, true.labels + 1, true.area, true.ignore]
        self.true.append(np.column_stack(rows))

    def update_table(self, predicted: ObjectTable, true: ObjectTable, images: int) -> None:
        """Add all images of a file, whose numbers are taken to the last bit."""
        first, self.of_files = self.num_images + 1, True
        self.num_images += images
        image, label, boxes, score, area, _ = predicted
        self.predicted.append(np.column_stack([image + first, boxes, score, label + 1, area]))
        image, label, boxes, _, area, crowd = true
        self.true.append(np.column_stack([image + first, boxes, label + 1, area, crowd]))

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl."""
        evaluator = self._evaluator()
        evaluator.evaluate()
        evaluator.accumulate()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.summarize()  # prints a table
        stats = zip(evaluator.metric_keys(), evaluator.stats, strict=True)
        # hotcoco gives -1 if the ground truth has no such object
        numbers = {key: float(x) if x >= 0 else float("nan") for key, x in stats}
        if self.of_files:
            return numbers
        return {**numbers, self.primary: float(np.nan_to_num(numbers[self.primary]))}

    def ranked(self) -> dict[str, Ranked]:
        """Detections of each class with objects, matched at IoU 0.50; those on crowds left out."""
        evaluator = match_at_half(self._evaluator())
        parts: dict[int, list[np.ndarray]] = {
            k: [np.zeros((2, 0))] for k in range(1, len(self.names) + 1)
        }
        for image in filter(None, evaluator.eval_imgs):
            columns = np.array([image["dtScores"], image["dtMatched"][0]])  # [2, M]
            parts[image["category_id"]].append(columns[:, ~np.array(image["dtIgnore"][0], bool)])
        *_, category, _, crowd = np.concatenate(self.true).T
        total = {k: int((category[crowd == 0] == k).sum()) for k in parts}
        detections = {k: np.hstack(part) for k, part in parts.items() if total[k]}
        return {
            self.names[k - 1]: Ranked(s, right > 0, total[k])
            for k, (s, right) in detections.items()
        }

    def explain(self) -> list[Matched]:
        """What became of each detection at IoU 0.50, class by class."""
        evaluator = match_at_half(self._evaluator())
        evaluator.accumulate()
        predicted, true = np.concatenate(self.predicted), np.concatenate(self.true)
        return explain(evaluator, predicted, true, self.names)

    def findings(self) -> list[Finding]:
        """Whether all detections are of one class."""
        predicted, true = np.concatenate(self.predicted), np.concatenate(self.true)
        labels = predicted[:, 6].astype(int) - 1, true[true[:, 7] == 0, 5].astype(int) - 1
        return one_class(self.names, *labels, "detections")

    def diagnose(
        self, predicted: ObjectTable, true: ObjectTable, images: int, numbers: dict[str, float]
    ) -> Diagnosis:
        """What is right and wrong, by hotcoco at IoU 0.50."""
        return diagnose(self.names, predicted, true, images, numbers)

    def differences(
        self, first: ObjectTable, second: ObjectTable, true: ObjectTable, images: int
    ) -> list[Difference]:
        """How much two runs differ, by hotcoco."""
        return differences(self.names, first, second, true, images)

    def _evaluator(self) -> COCOeval:
        return judge(
            np.concatenate(self.predicted),
            np.concatenate(self.true),
            self.names,
            self.num_images,
        )


def _columns(objects: "Objects", first: int) -> tuple[np.ndarray, np.ndarray]:
    """Image number [M] and xywh [M, 4], in float64 so that sides of float32 corners are exact."""
    boxes = objects.boxes.double().numpy()
    return objects.batch_index.numpy() + first, np.hstack(
        [boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]
    )
