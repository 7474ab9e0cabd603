"""COCO's twelve numbers, computed by hotcoco (https://derekallman.github.io/hotcoco).

The tests hold them equal to pycocotools', bit for bit. hotcoco's StreamingEval would give the same,
but it can be asked only once, so the columns are kept and evaluated in `compute`.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from hotcoco import COCO, COCOeval

from engine.protocols import OutputFields, Ranked
from engine.structures import Meta, Objects, refuse_nan


class COCOMap:
    """COCO AP and AR. Ignored objects count as crowds: any number of detections may fall on one.

    A number about objects that the truth has none of (APl where nothing is large) is NaN, since 0
    would look like a result; only AP, by which checkpoints are chosen, is then 0.
    """

    primary = "AP"
    requires: ClassVar[OutputFields] = frozenset({"logits", "boxes"})
    protocol = "COCO AP, IoU 0.50:0.95, 101-point rule, at most 100 detections an image and class"

    def __init__(self, *, classes: list[str]) -> None:
        self.categories = [{"id": k, "name": name} for k, name in enumerate(classes, 1)]
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.num_images = 0
        self.predicted = [np.zeros((0, 7))]  # image, x, y, w, h, score, category
        self.true = [np.zeros((0, 8))]  # image, x, y, w, h, category, area, crowd

    def update(self, predicted: Objects, true: Objects, meta: Sequence[Meta]) -> None:
        """Keep a batch; boxes in pixels of the originals."""
        refuse_nan(predicted, meta)
        refuse_nan(true, meta)
        first = self.num_images + 1
        self.num_images += len(meta)
        said, is_so = _columns(predicted, first), _columns(true, first)
        self.predicted.append(np.column_stack([*said, predicted.scores, predicted.labels + 1]))
        self.true.append(np.column_stack([*is_so, true.labels + 1, true.area, true.ignore]))

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl."""
        judge = self._judge()
        judge.evaluate()
        judge.accumulate()
        with contextlib.redirect_stdout(io.StringIO()):
            judge.summarize()  # prints a table
        stats = zip(judge.metric_keys(), judge.stats, strict=True)
        # hotcoco says -1 for "no such object in the truth"
        numbers = {key: float(x) if x >= 0 else float("nan") for key, x in stats}
        return {**numbers, self.primary: float(np.nan_to_num(numbers[self.primary]))}

    def ranked(self) -> dict[str, Ranked]:
        """The detections of each class with objects, judged at IoU 0.50; on crowds none counts."""
        judge = self._judge()
        rules = judge.params
        rules.iou_thrs, rules.area_rng, rules.area_rng_lbl = [0.5], rules.area_rng[:1], ["all"]
        judge.evaluate()
        parts: dict[int, list[np.ndarray]] = {k["id"]: [np.zeros((2, 0))] for k in self.categories}
        for image in filter(None, judge.eval_imgs):
            said = np.array([image["dtScores"], image["dtMatched"][0]])  # [2, M]
            parts[image["category_id"]].append(said[:, ~np.array(image["dtIgnore"][0], bool)])
        *_, category, _, crowd = np.concatenate(self.true).T
        total = {k: int((category[crowd == 0] == k).sum()) for k in parts}
        found = {k: np.hstack(columns) for k, columns in parts.items() if total[k]}
        names = {k["id"]: k["name"] for k in self.categories}
        return {names[k]: Ranked(s, right > 0, total[k]) for k, (s, right) in found.items()}

    def _judge(self) -> COCOeval:
        truth = self._truth()
        return COCOeval(truth, truth.load_res(np.concatenate(self.predicted)), "bbox")

    def _truth(self) -> COCO:
        """The truth as a COCO dataset; ids from 1, since pycocotools takes 0 for "no match"."""
        image, x, y, w, h, category, area, crowd = np.concatenate(self.true).T
        return COCO.from_arrays(
            [{"id": i + 1} for i in range(self.num_images)],
            self.categories,
            image.astype(np.int64),
            category.astype(np.int64),
            np.column_stack([x, y, w, h]),
            ids=np.arange(len(image)) + 1,
            area=area,
            iscrowd=crowd.astype(np.int64),
        )


def _columns(objects: Objects, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Image number [M] and xywh [M, 4]; float64 keeps the difference of float32 corners."""
    boxes = objects.boxes.double().numpy()
    return objects.batch_index.numpy() + first, np.hstack(
        [boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]
    )
