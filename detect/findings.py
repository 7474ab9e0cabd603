"""What the boxes of a data set show to be wrong, alone and against the slots of a head."""

import numpy as np

from detect.fit import image_size
from engine.finding import Finding, View
from engine.report.anchors import best_iou

SOME = 5  # objects below which no share of them is reported
CORNER = 1.0  # pixels of the original: a box that begins nearer to (0, 0) touches it
TOUCH = 0.9  # of the boxes that touch it; of BCCD, where cells are cut by the edge, 1 % do
VISIBLE = 0.3  # of a box that is in view, below which `augment.min_visible` ignores it
OFF = 0.05  # of the boxes that are off; of VOC, COCO and BCCD none is
CELLS = 2  # cells of the finest grid: an object within them has no pixel of a map of its own
SMALL = 2 / 3  # of the objects that are; COCO at 224 has 22 %, a grid of 4 x 4 on VOC 52 %
# A slot whose area is ten times an object's, or a tenth, is as good as none: the box has to be
# moved and scaled by factors of three.
REACHED = 0.1
UNREACHED = 0.25  # of the objects; RetinaNet on COCO at 320 has 12 %, a square a cell on VOC 18 %
PAIRS = 10_000_000  # of objects and slots that are compared: half a second
MOST = 500  # objects that are compared


class BoxFindings:
    """A base of heads whose objects have boxes."""

    score_key = "head.postprocess.score"
    anchor_key = ""  # the keys that choose the shapes of its slots; "": they have none
    fit_size = staticmethod(image_size)

    def findings(self, view: View) -> list[Finding]:
        """Return what is wrong with the boxes for this head."""
        found = of_boxes(view)
        return found + of_slots(view, self.anchor_key) if self.anchor_key else found


def of_boxes(view: View) -> list[Finding]:
    """Return what is wrong with boxes whatever learns them."""
    real = _areas(view.boxes) > 0
    if real.sum() < SOME:
        return []
    found = []
    touch = (np.abs(view.original[real, :2]) < CORNER).all(1).mean()
    if touch >= TOUCH:
        found.append(
            Finding(
                f"{touch:.0%} of the boxes touch the corner (0, 0) of their image: are a width and "
                "a height read as a corner?",
                "dataset.columns or dataset=FORMAT; python -m engine.check samples=16 draws them",
            )
        )
    off = _is_off(view.boxes[real], np.array(view.size))
    if off.mean() > OFF:
        found.append(_off(view, real, off))
    return found


def _off(view: View, real: np.ndarray, off: np.ndarray) -> Finding:
    """Name boxes that are out of view, whether of the image itself or of what is cut from it."""
    outside = _is_off(view.original[real], view.image_size[real])
    height, width = view.size
    what = f"{off.mean():.0%} of the boxes lie off the image"
    if outside[off].mean() > 0.5:
        return Finding(
            f"{what}: are they in pixels of another size than the files have, shifted, or are "
            "their numbers in another order?",
            "dataset.root: take the images that were annotated, or mend the boxes; "
            "python -m engine.check lists them, samples=16 draws them",
        )
    return Finding(f"{what} as it is cut to {height} x {width}", "set augment.fit=squeeze")


def of_slots(view: View, anchor_key: str) -> list[Finding]:
    """Return which objects are too small for a head's grids or too unlike its anchors."""
    boxes = view.boxes[~view.ignore & (_areas(view.boxes) > 0)]
    boxes = boxes[~_is_off(boxes, np.array(view.size))]
    if view.slots is None or view.cells is None or len(boxes) < SOME:
        return []
    found, (height, width) = [], view.size
    cell = view.cells[view.cells.prod(1).argmin()]  # [2], of the finest grid
    small = (boxes[:, 2:] - boxes[:, :2] < CELLS * cell).all(1).mean()
    if small > SMALL:
        found.append(
            Finding(
                f"{small:.0%} of the objects are smaller than {CELLS} cells of the finest grid, "
                f"{CELLS * cell[0]:.0f} x {CELLS * cell[1]:.0f} pixels of the {height} x {width} "
                "that the network sees",
                "raise image_size, or take a head with finer maps (head.first_stride)",
            )
        )
    most = int(np.clip(PAIRS // len(view.slots), 50, MOST))
    rows = np.unique(np.linspace(0, len(boxes) - 1, min(len(boxes), most)).round().astype(int))
    unreached = (best_iou(boxes[rows], view.slots) < REACHED).mean()
    if unreached > UNREACHED:
        found.append(
            Finding(
                f"{unreached:.0%} of the objects are reached by no anchor (IoU below {REACHED:g})",
                f"{anchor_key}: fit them to the data (python -m detect.kmeans), or image_size",
            )
        )
    return found


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)


def _is_off(boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return [M] whether little of boxes [M, 4] is in an image of (height, width) [2] or [M, 2]."""
    edge = np.broadcast_to(size[..., ::-1], (len(boxes), 2))
    seen = np.concatenate([boxes[:, :2].clip(0), np.minimum(boxes[:, 2:], edge)], 1)
    return _areas(seen) < VISIBLE * _areas(boxes)
