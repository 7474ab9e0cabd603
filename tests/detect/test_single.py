"""Head, loss and metric of one object an image."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from classify.losses import BCE, CrossEntropy, Focal
from detect.heads.single import Single, largest_object
from detect.losses.box import L1, MSE, CIoU, GIoU
from detect.losses.multibox import Multibox
from detect.losses.single import Single as SingleLoss
from detect.metrics.single import Single as SingleMetric
from detect.metrics.single_box import SingleBox
from engine.errors import UserError
from engine.record import Meta
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects

CLASSES, SIZE = 5, (96, 160)  # height, width
KINDS = {
    "both": {},
    "box": {"predict_classes": False},
    "class": {"predict_boxes": False, "grid": 1},
    "both, sigmoid": {"activation": "sigmoid"},
}
BOXES = ["both", "box", "both, sigmoid"]


def make(name="both", **options):
    torch.manual_seed(0)
    given = {"channels": [4, 8], "num_classes": CLASSES, "activation": "softmax", "hidden": 16}
    return Single(**given | KINDS[name] | options)


def features(batch=4, fill=torch.randn):
    return [fill(batch, 4, 6, 10), fill(batch, 8, 3, 5)]


def objects(*rows):
    """(image, label, ignore, box) each."""
    image, label, ignore, boxes = zip(*rows, strict=True)
    return Objects(
        torch.tensor(boxes).float(),
        torch.tensor(label),
        torch.tensor(image),
        ignore=torch.tensor(ignore),
    )


# Image 0: the second is the largest that counts; 1: none; 2: ignored only; 3: equals.
TRUE = objects(
    (3, 4, False, [0, 0, 20, 10]),
    (0, 1, False, [10, 10, 30, 20]),
    (2, 3, True, [5, 5, 50, 50]),
    (0, 2, False, [40, 20, 160, 96]),
    (0, 3, True, [0, 0, 160, 96]),
    (3, 0, False, [50, 50, 60, 70]),
)


def test_the_largest_by_hand():
    assert largest_object(TRUE, 4).tolist() == [3, -1, -1, 0]
    assert largest_object(Objects.empty(), 3).tolist() == [-1, -1, -1]
    point = objects((0, 1, False, [3, 3, 3, 3]))
    assert largest_object(point, 1).tolist() == [0]  # no area, but there


def test_the_largest_of_five_hundred_equals_the_slow_loop():
    random = torch.Generator().manual_seed(0)
    low = torch.rand(500, 2, generator=random) * 90
    boxes = torch.cat([low, low + torch.rand(500, 2, generator=random) * 60], 1)
    image = torch.randint(0, 7, (500,), generator=random)
    ignore = torch.rand(500, generator=random) < 0.3
    many = Objects(boxes, torch.zeros(500).long(), image, ignore=ignore)
    expected = [-1] * 8  # image 7 has none
    areas = many.area.tolist()
    for i in range(500):
        best = expected[image[i]]
        if not ignore[i] and (best < 0 or areas[i] > areas[best]):
            expected[image[i]] = i
    assert largest_object(many, 8).tolist() == expected


def test_the_outline_does_not_decide():
    two = objects((0, 1, False, [0, 0, 9, 9]), (0, 2, False, [0, 0, 20, 20]))
    two.area = torch.tensor([80.0, 1.0])  # COCO's areas are of outlines
    assert largest_object(two, 1).tolist() == [1]


@pytest.mark.parametrize("name", KINDS)
def test_assign_by_hand(name):
    head = make(name)
    assigned = head.assign(head(features(), SIZE), TRUE)
    assert assigned.labels.tolist() == [[2], [BACKGROUND], [IGNORE], [4]]
    if name in BOXES:
        # (40, 20, 160, 96) of 160 x 96: shares .25, .2083, 1, 1
        shares = assigned.boxes[0, 0].sigmoid()
        torch.testing.assert_close(shares, torch.tensor([0.25, 20 / 96, 1.0, 1.0]))
        assert assigned.boxes.isfinite().all()
    nothing = head.assign(head(features(), SIZE), Objects.empty())
    assert (nothing.labels == BACKGROUND).all()


@pytest.mark.parametrize("name", BOXES)
def test_oracle(name):
    head = make(name).eval()
    output = head(features(), SIZE)
    assigned = head.assign(output, TRUE)
    logits = None
    if output.logits is not None:
        logits = torch.full_like(output.logits, -20)
        logits.scatter_(2, assigned.labels.clamp(min=0)[..., None], 20)
    found = head.decode(output._replace(logits=logits, boxes=assigned.boxes))
    for image, row in ((0, 3), (3, 0)):
        objects_of_image = found.of(image)
        torch.testing.assert_close(objects_of_image.boxes[0], TRUE.boxes[row], atol=0.01, rtol=0)
        assert objects_of_image.labels[0] == (BACKGROUND if name == "box" else TRUE.labels[row])
        assert objects_of_image.scores[0] > 0.99
        assert len(objects_of_image) == (1 if name == "box" else CLASSES)


def test_the_best_few_classes():
    head = make("class", top=2).eval()
    found = head.decode(head(features(), SIZE))
    assert found.batch_index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (found.scores[::2] >= found.scores[1::2]).all()
    assert found.boxes.tolist() == [[0, 0, 160, 96]] * 8


@pytest.mark.parametrize("name", KINDS)
def test_a_head_fills_its_output_fields(name):
    head = make(name)
    output = head(features(), SIZE)
    predicted = {key for key in ("logits", "boxes") if getattr(output, key) is not None}
    assert predicted == head.outputs
    assert output.slots.tolist() == [[0, 0, 160, 96]] and output.cells.tolist() == [[160, 96]]


def test_before_training():
    head = make().eval()
    output = head(features(fill=torch.zeros), SIZE)
    found = head.decode(output)
    # The middle half of 160 x 96, every class 1 / 5
    middle = torch.tensor([40.0, 24, 120, 72]).expand(20, 4)
    torch.testing.assert_close(found.boxes, middle, atol=0.1, rtol=0)
    torch.testing.assert_close(found.scores, torch.full((20,), 0.2), atol=1e-3, rtol=0)
    terms = SingleLoss()(output, head.assign(output, TRUE))
    assert terms["class"].item() == pytest.approx(20 * math.log(5), rel=1e-3)


FITTING = [
    ("both", SingleLoss()),
    ("both", SingleLoss(box=CIoU())),
    ("box", SingleLoss()),
    ("box", SingleLoss(box=GIoU())),
    ("class", CrossEntropy()),
    ("both", Multibox(box=L1(space="box"))),
    ("both, sigmoid", BCE(box=L1(space="box"))),
    ("both, sigmoid", Focal(box=MSE(space="box"))),
]


@pytest.mark.parametrize(("name", "loss"), FITTING)
@pytest.mark.parametrize("grid", [1, 3])
def test_every_parameter_gets_a_gradient(name, loss, grid):
    head = make(name, grid=grid)
    assert loss.requires <= head.outputs <= loss.trains
    output = head(features(), SIZE)
    sum(loss(output, head.assign(output, TRUE)).values()).backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("box", [None, GIoU(weight=20.0)])
def test_four_images_by_heart(box):
    head, loss = make(dropout=0.0, grid=3), SingleLoss(box=box)
    seen, true = features(), TRUE.select(~TRUE.ignore)
    descent = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(200):
        output = head(seen, SIZE)
        descent.zero_grad()
        sum(loss(output, head.assign(output, true)).values()).backward()
        descent.step()
    found = head.decode(output)  # of the same batch statistics
    for image, row in ((0, 3), (3, 0)):
        objects_of_image = found.of(image)
        assert objects_of_image.labels[0] == TRUE.labels[row] and objects_of_image.scores[0] > 0.9
        assert box_iou(objects_of_image.boxes[:1], TRUE.boxes[[row]]).item() > 0.8


def test_the_loss_by_hand():
    output = make().eval()(features(2), SIZE)
    # Image 0: the truth is the first half of the middle half, corners (40, 24, 80, 72): of a 224
    # side 56, 56, 112, 168 where 56, 56, 168, 168 is predicted: 56 / 4 = 14 px. Image 1 has none.
    one = objects((0, 3, False, [40, 24, 80, 72]))
    predicted = torch.tensor([0.25, 0.25, 0.75, 0.75]).logit().expand(2, 1, 4)
    logits = torch.tensor([0.0, 0, 0, math.log(4), 0]).expand(2, 1, 5)  # ln(8 / 4)
    output = output._replace(boxes=predicted, logits=logits)
    terms = SingleLoss()(output, make().assign(output, one))
    assert terms["box"].item() == pytest.approx(14, rel=1e-4)
    assert terms["class"].item() == pytest.approx(20 * math.log(2))
    terms = SingleLoss(classes=3.0)(output._replace(logits=None), make().assign(output, one))
    assert list(terms) == ["box"]
    empty = SingleLoss()(output, Assigned(torch.tensor([[BACKGROUND], [IGNORE]]), predicted))
    assert {k: v.item() for k, v in empty.items()} == {"box": 0, "class": 0}


def test_says_nothing_is_refused():
    with pytest.raises(UserError, match="expected at least one true"):
        make("box", predict_boxes=False)


# An image of 100 x 200 to a network of 50 x 50: x / 4, y / 2.
META = Meta(0, "a", "a.jpg", (100, 200), np.array([[0.25, 0, 0], [0, 0.5, 0]]))


def scored(boxes, labels, image, scores):
    return Objects(
        torch.tensor(boxes).float(),
        torch.tensor(labels),
        torch.tensor(image),
        torch.tensor(scores),
    )


def test_the_metric_by_hand():
    true = objects(
        (0, 1, False, [0, 0, 80, 40]),
        (0, 2, False, [0, 0, 20, 20]),
        (0, 3, True, [0, 0, 200, 100]),
        (1, 4, False, [100, 0, 200, 100]),
        (2, 4, True, [100, 0, 200, 100]),
    )
    predicted = scored(
        [[0, 0, 20, 20], [0, 0, 40, 40], [100, 20, 200, 100], [0, 0, 1, 1]],
        [2, 1, 0, 0],
        [0, 0, 1, 2],
        [0.3, 0.9, 0.8, 0.9],
    )
    # Image 0: the best box is half of the truth, IoU .5, right; corner x2 off by 40: 10 px of the
    # input, of four corners 2.5. Image 1: .8, wrong, 20 / 2 / 4 = 2.5. Images 2 and 3 have
    # nothing that counts.
    metric = SingleMetric(classes=list("abcde"))
    metric.update(predicted, true, [META] * 4)
    numbers = {"iou": 0.65, "corner_error": 2.5, "accuracy": 0.5}
    assert metric.compute() == pytest.approx(numbers)
    # One more where nothing was found: the point in the corner, (25, 0, 50, 50) / 4 = 31.25 px.
    metric.update(Objects.empty(), true.of(1), [META])
    numbers = {"iou": 1.3 / 3, "corner_error": 36.25 / 3, "accuracy": 1 / 3}
    assert metric.compute() == pytest.approx(numbers)
    metric.reset()
    assert metric.compute() == {"iou": 0, "corner_error": 0, "accuracy": 0}
    metric.update(predicted, Objects.empty(), [META] * 4)
    metric.update(Objects.empty(), Objects.empty(), [META])
    assert metric.compute() == {"iou": 0, "corner_error": 0, "accuracy": 0}
    alone = SingleBox(classes=[])
    alone.update(predicted, true, [META] * 4)
    assert alone.compute() == pytest.approx({"iou": 0.65, "corner_error": 2.5})


def test_the_metric_equals_the_slow_loop():
    random = torch.Generator().manual_seed(0)
    low = torch.rand(60, 2, generator=random) * 90
    boxes = torch.cat([low, low + torch.rand(60, 2, generator=random) * 60 + 1], 1)
    image = torch.randint(0, 9, (60,), generator=random)
    labels = torch.randint(0, 3, (60,), generator=random)
    score = torch.rand(60, generator=random)
    true = Objects(boxes[:30], labels[:30], image[:30], ignore=score[:30] < 0.3)
    predicted = Objects(boxes[30:], labels[30:], image[30:], score[30:])
    metric = SingleMetric(classes=list("abc"))
    metric.update(predicted, true, [META] * 9)
    rows = []
    for i in range(9):
        objects_of_image, found = true.of(i), predicted.of(i)
        objects_of_image = objects_of_image.select(~objects_of_image.ignore)
        if len(objects_of_image):
            t = int(objects_of_image.area.argmax())
            p = int(found.scores.argmax()) if len(found) else None
            box = torch.zeros(4) if p is None else found.boxes[p]
            gap = (box - objects_of_image.boxes[t]).abs() / torch.tensor([4.0, 2, 4, 2])
            right = p is not None and found.labels[p] == objects_of_image.labels[t]
            overlap = box_iou(box[None], objects_of_image.boxes[[t]]).item()
            rows.append((overlap, gap.mean().item(), float(right)))
    expected = dict(zip(("iou", "corner_error", "accuracy"), np.mean(rows, 0), strict=True))
    assert metric.compute() == pytest.approx(expected, rel=1e-5)


def test_nan_is_refused_by_the_metric():
    bad = scored([[0, 0, math.nan, 1]], [0], [0], [0.5])
    with pytest.raises(UserError, match="a.jpg"):
        SingleMetric(classes=["a"]).update(bad, Objects.empty(), [META])


def test_crossed_corners_and_wild_codes_stay_in_the_image():
    head = make().eval()
    output = head(features(1), SIZE)
    for code in ([9.0, 9, -9, -9], [1e4, -1e4, -1e4, 1e4]):
        output = output._replace(boxes=torch.tensor([[code]]))
        box = head.decode(output).boxes[0]
        assert (box[2:] >= box[:2]).all() and (box >= 0).all()
        assert (box <= torch.tensor([160.0, 96, 160, 96])).all()
