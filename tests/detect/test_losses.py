import math

import pytest
import torch
from torchvision.ops import box_iou

from classify.losses import BCE, Focal
from detect.bench.loss import peers
from detect.heads.yolo_v3 import YOLOv3 as YOLOv3Head
from detect.losses.box import SmoothL1
from detect.losses.multibox import Multibox, top_k_mask
from detect.losses.yolo_v3 import YOLOv3
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output

LOSSES = {
    "multibox": Multibox(),
    "bce": BCE(box=SmoothL1()),
    "focal": Focal(box=SmoothL1()),
    "yolo_v3": YOLOv3(),
}


def random_output(*shape, seed=0):
    """A random output of [B, A, C] that requires a gradient."""
    random = torch.Generator().manual_seed(seed)
    sizes = (shape, (*shape[:2], 4), shape[:2])
    return Output(*(torch.randn(s, generator=random).requires_grad_() for s in sizes))


def wanted(labels, seed=1):
    labels = torch.tensor(labels)
    random = torch.Generator().manual_seed(seed)
    boxes = torch.randn(*labels.shape, 4, generator=random)
    return Assigned(labels, boxes, torch.rand(labels.shape, generator=random) + 1)


def mixed(seed, shape=(3, 40), classes=4):
    """Labels with every sentinel; the last image has no positive."""
    random = torch.Generator().manual_seed(seed)
    draw = torch.rand(shape, generator=random)
    labels = torch.randint(0, classes, shape, generator=random)
    labels = torch.where(draw < 0.9, BACKGROUND, labels)
    labels = torch.where(draw < 0.2, IGNORE, labels)
    labels[-1] = labels[-1].clamp(max=BACKGROUND)
    return labels.tolist()


def bce(logit, target):
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def test_smooth_l1_by_hand():
    output = Output(None, torch.tensor([[[0.5, -2.0, 0.0, 1.0], [9.0, 9, 9, 9], [3.0, 0, 0, 0]]]))
    assigned = Assigned(torch.tensor([[2, BACKGROUND, 0]]), torch.zeros(1, 3, 4))
    # .5 ** 2 / 2 + (2 - .5) + 0 + .5 = 2.125 and 3 - .5 = 2.5, over two positives
    assert SmoothL1()(output, assigned).item() == pytest.approx(4.625 / 2)
    # beta .5: (.5 - .25) + (2 - .25) + 0 + (1 - .25) = 2.75 and 3 - .25 = 2.75
    assert SmoothL1(beta=0.5, weight=3.0)(output, assigned).item() == pytest.approx(3 * 5.5 / 2)


def test_multibox_by_hand():
    # One class and the background; slot 0 is positive, so of the five others three count. A slot
    # with logits (ln a, 0) has p = (a, 1) / (a + 1), so background costs ln(a + 1).
    odds = torch.tensor([3.0, 1.0, 2.0, 4.0, 0.5, 99.0])
    logits = torch.stack([odds.log(), torch.zeros(6)], -1)[None]
    assigned = Assigned(torch.tensor([[0, -1, -1, -1, -1, IGNORE]]), torch.zeros(1, 6, 4))
    terms = Multibox()(Output(logits, torch.zeros(1, 6, 4)), assigned)
    # Positive ln(4 / 3) = .2877; the worst three ln 5 + ln 3 + ln 2 = 3.4012
    assert terms["class"].item() == pytest.approx(3.6889, abs=1e-4)
    assert terms["box"].item() == 0
    terms = Multibox(negatives=1.0, weight=0.5)(Output(logits, torch.zeros(1, 6, 4)), assigned)
    assert terms["class"].item() == pytest.approx((0.2877 + 1.6094) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("negatives", "positives", "count"), [(2.5, 1, 3), (2.5, 2, 5), (2.1, 1, 3), (0.5, 1, 1)]
)
def test_a_fractional_number_of_negatives_is_rounded_up(negatives, positives, count):
    # 2.5 * 1 = 2.5, up to 3; 2.5 * 2 = 5; 2.1, up to 3; 0.5, up to 1. Zeros make p = 1/2 for both
    # logits, so every slot that counts costs ln 2 = 0.6931, over the number of positives.
    labels = torch.tensor([[0] * positives + [BACKGROUND] * 8])
    output = Output(torch.zeros(*labels.shape, 2), torch.zeros(*labels.shape, 4))
    assigned = Assigned(labels, torch.zeros(*labels.shape, 4))
    terms = Multibox(negatives=negatives)(output, assigned)
    wanted_class = (positives + count) * math.log(2) / positives
    assert terms["class"].item() == pytest.approx(wanted_class, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_multibox_equals_the_slow_loop(seed):
    labels = mixed(seed)
    output, assigned = random_output(3, 40, 5, seed=seed), wanted(labels)
    total, boxes, positives = 0.0, 0.0, 0
    for image, rows in zip(labels, output.logits.tolist(), strict=True):
        costs = [
            math.log(sum(map(math.exp, row))) - row[k] for k, row in zip(image, rows, strict=True)
        ]
        positive = [slot for slot, k in enumerate(image) if k >= 0]
        negatives = [cost for k, cost in zip(image, costs, strict=True) if k == BACKGROUND]
        total += sum(costs[slot] for slot in positive)
        total += sum(sorted(negatives, reverse=True)[: 3 * len(positive)])  # row[-1]: background
        positives += len(positive)
    for place, k in enumerate(sum(labels, [])):
        if k >= 0:
            gaps = (
                output.boxes.flatten(0, 1)[place] - assigned.boxes.flatten(0, 1)[place]
            ).tolist()
            term = sum(g * g / 2 if abs(g) < 1 else abs(g) - 0.5 for g in gaps)
            boxes += term * assigned.weight.flatten()[place].item()
    terms = Multibox()(output, assigned)
    assert positives > 0
    assert terms["class"].item() == pytest.approx(total / positives, rel=1e-5)
    assert terms["box"].item() == pytest.approx(boxes / positives, rel=1e-5)


def test_a_loss_per_image_is_the_mean_of_each_images_own():
    # A logit of 0 costs ln 2. Two positives of three slots: 3 ln 2 / 2; one of three: 3 ln 2; the
    # mean is 2.25 ln 2. The whole batch: 6 ln 2 over 3 positives.
    labels = torch.tensor([[0, 0, BACKGROUND], [0, BACKGROUND, BACKGROUND]])
    output = Output(torch.zeros(2, 3, 1), torch.zeros(2, 3, 4))
    weight = torch.tensor([[0.5, 1.0, 9.0], [2.0, 9.0, 9.0]])
    assigned = Assigned(labels, torch.ones(2, 3, 4), weight)
    terms = BCE(box=SmoothL1(), per_image=True)(output, assigned)
    assert terms["class"].item() == pytest.approx(2.25 * math.log(2))
    # A box off by 1 in all four costs 4 / 2 = 2, times its weight: (1 + 2) / 2 = 1.5 and 4.
    assert terms["box"].item() == pytest.approx((1.5 + 4) / 2)
    terms = BCE(box=SmoothL1())(output, assigned)
    assert terms["class"].item() == pytest.approx(2 * math.log(2))
    assert terms["box"].item() == pytest.approx((1 + 2 + 4) / 3)


def test_yolo_v3_by_hand():
    labels = torch.tensor([[1, BACKGROUND, IGNORE]])
    output = Output(torch.zeros(1, 3, 2), torch.zeros(1, 3, 4), torch.zeros(1, 3))
    boxes = torch.tensor([[[0.0, 0.0, 1.0, -2.0], [5.0] * 4, [5.0] * 4]])
    terms = YOLOv3()(output, Assigned(labels, boxes, torch.tensor([[1.5, 9.0, 9.0]])))
    # Centre: twice BCE(.5, .5) = 2 * .6931; sizes (1 + 4) / 2; weight 1.5: 1.5 * 3.8863
    assert terms["box"].item() == pytest.approx(5.8294, abs=1e-4)
    assert terms["objectness"].item() == pytest.approx(1.3863, abs=1e-4)  # two slots of ln 2
    assert terms["class"].item() == pytest.approx(1.3863, abs=1e-4)  # two classes of ln 2
    half = YOLOv3(box=0.5, objectness=0.5, classes=0.5)
    halves = half(output, Assigned(labels, boxes, torch.tensor([[1.5, 9.0, 9.0]])))
    assert sum(halves.values()).item() == pytest.approx(sum(terms.values()).item() / 2)


def yolo_v3_slowly(output, objects, anchors, size):
    """arXiv 1804.02767, 2.1 and 2.2, one object and one slot at a time.

    With the cell's corner c and the anchor's width p: bx = sigmoid(tx) + cx, bw = p exp(tw).
    """
    box = classes = objectness = 0.0
    for image in range(len(output.logits)):
        in_image = objects.of(image)
        assigned_slots = set()
        pairs = zip(in_image.boxes.tolist(), in_image.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), label in pairs:
            width, height = x2 - x1, y2 - y1
            best, start = (-1.0, 0, 0, (0, 0)), 0
            for stride, sides in ((32, anchors[2]), (16, anchors[1]), (8, anchors[0])):
                column, row = int((x1 + x2) / 2 // stride), int((y1 + y2) / 2 // stride)
                for n, (w, h) in enumerate(sides):
                    both = min(w, width) * min(h, height)
                    overlap = both / (w * h + width * height - both)
                    slot = start + (row * (size // stride) + column) * len(sides) + n
                    best = max(best, (overlap, slot, stride, (w, h)))
                start += (size // stride) ** 2 * len(sides)
            _, slot, stride, (w, h) = best
            assigned_slots.add(slot)
            tx, ty, tw, th = output.boxes[image, slot].tolist()
            term = bce(tx, (x1 + x2) / 2 / stride % 1) + bce(ty, (y1 + y2) / 2 / stride % 1)
            term += ((tw - math.log(width / w)) ** 2 + (th - math.log(height / h)) ** 2) / 2
            box += term * (2 - width * height / size**2)
            for k, logit in enumerate(output.logits[image, slot].tolist()):
                classes += bce(logit, float(k == label))
        predicted = decoded(output, image)
        for slot, logit in enumerate(output.objectness[image].tolist()):
            overlaps = box_iou(predicted[slot : slot + 1], in_image.boxes)
            if slot in assigned_slots:
                objectness += bce(logit, 1.0)
            elif not (overlaps > 0.5).any():
                objectness += bce(logit, 0.0)
    return {"box": box, "objectness": objectness, "class": classes}


def decoded(output, image):
    rows = zip(output.boxes[image], output.slots, output.cells, strict=True)
    boxes = []
    for (tx, ty, tw, th), slot, cell in rows:
        centre = (slot[:2] + slot[2:]) / 2 - cell / 2 + cell * torch.stack([tx, ty]).sigmoid()
        sides = (slot[2:] - slot[:2]) * torch.stack([tw, th]).exp()
        boxes.append(torch.cat([centre - sides / 2, centre + sides / 2]))
    return torch.stack(boxes)


def test_yolo_v3_equals_the_paper_object_by_object():
    anchors = [[[7, 9], [12, 6]], [[14, 20], [20, 14]], [[40, 30], [30, 44]]]
    torch.manual_seed(0)
    head = YOLOv3Head(
        channels=[4, 4, 4],
        strides=[8, 16, 32],
        num_classes=3,
        activation="sigmoid",
        anchors=[pair for level in anchors for pair in level],
        anchors_at=64,
    ).eval()
    with torch.no_grad():
        output = head([torch.randn(2, 4, s, s) for s in (8, 4, 2)], (64, 64))
        output = output._replace(boxes=0.3 * torch.randn_like(output.boxes))
        boxes = [[3, 3, 11, 14], [20, 5, 45, 33], [33, 34, 60, 63], [8, 41, 21, 47], [5, 5, 40, 58]]
        objects = Objects(
            torch.tensor(boxes).float(),
            torch.tensor([0, 1, 2, 1, 0]),
            torch.tensor([0, 0, 0, 0, 1]),
        )
        assigned = head.assign(output, objects)
        terms = YOLOv3()(output, assigned)
    assert (assigned.labels == IGNORE).any()
    for name, value in yolo_v3_slowly(output, objects, anchors, 64).items():
        assert terms[name].item() == pytest.approx(value / 5, rel=1e-4), name


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_slots_contribute_nothing(name):
    labels = mixed(0)
    output, assigned = random_output(3, 40, 5), wanted(labels)
    before = LOSSES[name](output, assigned)
    with torch.no_grad():
        for field in output[:3]:
            field[assigned.labels == IGNORE] = 30.0
    after = LOSSES[name](output, assigned)
    assert {k: v.item() for k, v in after.items()} == {k: v.item() for k, v in before.items()}
    sum(after.values()).backward()
    assert not output.logits.grad[assigned.labels == IGNORE].any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("label", [BACKGROUND, IGNORE])
def test_no_positive_is_finite(name, label):
    output = random_output(2, 6, 5)
    terms = LOSSES[name](output, wanted([[label] * 6] * 2))
    sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values())
    assert terms["box"] == 0
    for field in output[:3]:
        assert field.grad is None or field.grad.isfinite().all()
    if label == IGNORE:
        assert sum(terms.values()) == 0


@pytest.mark.parametrize("name", LOSSES)
def test_least_at_the_perfect_output(name):
    assigned = wanted(mixed(0))
    positive = assigned.labels >= 0
    logits = torch.full((3, 40, 5), -20.0)
    logits[positive, assigned.labels[positive]] = 20.0
    if name == "multibox":
        logits[~positive, -1] = 20.0
    boxes = assigned.boxes.clone().requires_grad_()
    perfect = Output(logits, boxes, torch.where(positive, 20.0, -20.0))
    terms = LOSSES[name](perfect, assigned)
    terms["box"].backward()
    assert terms["class"] < 1e-6
    assert terms.get("objectness", 0) < 1e-6
    assert boxes.grad.abs().max() < 1e-6
    for step in (-0.1, 0.1):
        moved = LOSSES[name](perfect._replace(boxes=boxes + step), assigned)
        assert moved["box"] > terms["box"]
    if name != "yolo_v3":  # there the centre's cross-entropy keeps the entropy of its target
        assert terms["box"] == 0


@pytest.mark.parametrize("count", [0, 1, 30])
def test_multibox_equals_torchvision(count):
    # Matching, hard negatives, both terms and their gradients. Torchvision's background is logit 0.
    torch.manual_seed(count)
    compared = peers(3, 500, count)
    ours, theirs = compared["multibox"], compared["torchvision"]
    terms, wanted = ours.losses(), theirs.losses()
    torch.testing.assert_close(terms["class"], wanted["classification"])
    torch.testing.assert_close(terms["box"], wanted["bbox_regression"])
    assert (terms["class"] > 0) == (count > 0)
    logits, boxes = theirs.gradients()
    torch.testing.assert_close(ours.gradients(), (logits.roll(-1, -1), boxes))


@pytest.mark.parametrize("count", [0, 1, 30])
def test_focal_equals_torchvisions_retinanet(count):
    # Matching with its ties, each image's own average, both terms and their gradients. The slots
    # reach over the image: an object that overlaps none has all of them in torchvision.
    torch.manual_seed(count)
    compared = peers(3, 8732, count)
    ours, theirs = compared["focal_retina"], compared["retinanet"]
    terms, wanted = ours.losses(), theirs.losses()
    torch.testing.assert_close(terms["class"], wanted["classification"])
    torch.testing.assert_close(terms["box"], wanted["bbox_regression"])
    for found, gradient in zip(ours.gradients(), theirs.gradients(), strict=True):
        torch.testing.assert_close(found, gradient)


@pytest.mark.parametrize("seed", range(10))
def test_the_largest_are_those_that_sorting_finds(seed):
    random = torch.Generator().manual_seed(seed)
    values = torch.rand(4, 50, generator=random) * 10 ** (torch.arange(4.0)[:, None] * 10 - 25)
    values = torch.where(torch.rand(4, 50, generator=random) < 0.3, -1.0, values)
    count = torch.randint(0, 20, (4, 1), generator=random)
    chosen = top_k_mask(values, count)
    for row, mask, n in zip(values, chosen, count[:, 0].tolist(), strict=True):
        assert sorted(row[mask].tolist()) == sorted(row.tolist())[50 - n :]


def test_the_largest_of_equals_are_the_first():
    values = torch.tensor([[2.0, 5, 2, 2, -1, 0, 2]])

    def chosen(count):
        return top_k_mask(values, torch.tensor([[count]]))[0].nonzero()[:, 0].tolist()

    assert chosen(0) == []
    assert chosen(1) == [1]
    assert chosen(3) == [0, 1, 2]
    assert chosen(6) == chosen(100) == [0, 1, 2, 3, 5, 6]  # -1 never
    near = torch.tensor([1.0, 1 + 2**-23, 1 + 2**-23])[None]  # to the last bit
    assert top_k_mask(near, torch.tensor([[1]])).tolist() == [[False, True, False]]
    assert top_k_mask(torch.full((1, 5), torch.inf), torch.tensor([[2]])).tolist() == [
        [True, True, False, False, False]
    ]


@pytest.mark.parametrize("name", LOSSES)
def test_no_value_is_read_from_the_device(name):
    # On the meta device there is none to read.
    output, assigned = random_output(3, 40, 5), wanted(mixed(0))
    output = output._replace(
        **{k: v.to("meta") for k, v in output._asdict().items() if v is not None}
    )
    terms = LOSSES[name](output, Assigned(*(x.to("meta") for x in assigned[:3])))
    assert all(term.shape == () for term in terms.values())
