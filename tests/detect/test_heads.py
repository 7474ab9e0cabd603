"""The oracle: the targets of `assign`, written into `Output`, must `decode` to the ground truth."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from heads import (
    CHANNELS,
    CLASSES,
    HEADS,
    SIZE,
    STRIDES,
    make,
)
from torchvision.ops import box_iou

from classify.losses import BCE, Focal
from detect.losses.box import SmoothL1
from detect.losses.multibox import Multibox
from detect.losses.yolo_v1 import YOLOv1 as YOLOv1Loss
from detect.losses.yolo_v2 import YOLOv2 as YOLOv2Loss
from detect.losses.yolo_v3 import YOLOv3 as YOLOv3Loss
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Objects


def features(size=SIZE, batch=1, fill=torch.randn):
    """Feature maps of a backbone: one map per stride, its sides rounded up."""
    height, width = size
    maps = zip(CHANNELS, STRIDES, strict=True)
    return [fill(batch, c, -(-height // s), -(-width // s)) for c, s in maps]


def scene(images=4, size=SIZE):
    """Up to four objects an image, one a quarter so that none overlap; image 1 is empty."""
    half = torch.tensor([size[1] / 2, size[0] / 2])
    rows = []
    for image, x, y in product(range(images), (0, 1), (0, 1)):
        if image != 1 and torch.rand(()) < 0.8:
            sides = (torch.rand(2) * 0.6 + 0.3) * half
            low = torch.tensor([x, y]) * half + torch.rand(2) * (half - sides)
            rows.append((image, *low.tolist(), *(low + sides).tolist()))
    table = torch.tensor(rows)
    return Objects(table[:, 1:], torch.randint(0, CLASSES, (len(rows),)), table[:, 0].long())


def one(*box, label=3, **fields):
    return Objects(torch.tensor([box]).float(), torch.tensor([label]), **fields)


def oracle(head, output, objects):
    """The output of a perfect network."""
    assigned = head.assign(output, objects)
    positive = assigned.labels >= 0
    logits = torch.full_like(output.logits, -20)
    logits[positive, assigned.labels[positive]] = 20
    if logits.shape[-1] > CLASSES:
        logits[~positive, -1] = 20  # the background, last
    return output._replace(
        logits=logits,
        boxes=assigned.boxes,
        objectness=None if output.objectness is None else torch.where(positive, 20.0, -20.0),
    )


def assert_same(found, true):
    """One object found for each true one: its image, its label, its box within 0.05 pixels."""
    assert len(found) == len(true)
    far = 1e4  # another image or another label is never the nearest
    keys = [
        torch.cat([far * o.batch_index[:, None], far * o.labels[:, None], o.boxes], 1)
        for o in (found, true)
    ]
    nearest = torch.cdist(keys[1], keys[0], p=torch.inf).argmin(1)
    assert sorted(nearest.tolist()) == list(range(len(true)))
    assert torch.equal(found.batch_index[nearest], true.batch_index)
    assert torch.equal(found.labels[nearest], true.labels)
    torch.testing.assert_close(found.boxes[nearest], true.boxes, atol=0.05, rtol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [SIZE, (97, 131)])
@pytest.mark.parametrize("name", HEADS)
def test_oracle(name, size, seed):
    head = make(name).eval()
    torch.manual_seed(seed)
    true = scene(size=size)
    output = head(features(size, batch=4), size)
    assert_same(head.decode(oracle(head, output, true)), true)


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 30, 20),  # in a corner
        (130, 108, 160, 128),
        (0, 0, 160, 128),  # the whole image
        (158, 0, 160, 128),  # a sliver on the border
        (50, 40, 78, 88),  # centre (64, 64), where four cells meet on every grid
        (100, 60, 103, 63),  # tiny
    ],
)
@pytest.mark.parametrize("name", HEADS)
def test_oracle_of_a_special_box(name, box):
    head = make(name).eval()
    output = head(features(), SIZE)
    assert_same(head.decode(oracle(head, output, one(*box))), one(*box))


def shifted(boxes):
    return boxes + 3


def sides_swapped(boxes):
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    return torch.cat([centre - half.flip(-1), centre + half.flip(-1)], -1)


@pytest.mark.parametrize("fault", [shifted, sides_swapped])
@pytest.mark.parametrize("name", HEADS)
def test_the_oracle_notices_a_broken_decode(name, fault, monkeypatch):
    head = make(name).eval()
    true = scene()
    output = oracle(head, head(features(batch=4), SIZE), true)
    decode = head.coder.decode
    monkeypatch.setattr(head.coder, "decode", lambda *args: fault(decode(*args)))
    with pytest.raises(AssertionError):
        assert_same(head.decode(output), true)


@pytest.mark.parametrize("name", HEADS)
def test_the_oracle_notices_a_wrong_class(name):
    head = make(name).eval()
    true = scene()
    output = oracle(head, head(features(batch=4), SIZE), true)
    with pytest.raises(AssertionError):
        assert_same(head.decode(output._replace(logits=output.logits.roll(1, -1))), true)


@pytest.mark.parametrize("name", HEADS)
def test_a_batch_without_objects_has_no_positive(name):
    head = make(name).eval()
    output = head(features(batch=2), SIZE)
    labels = head.assign(output, Objects.empty()).labels
    assert labels.shape == output.logits.shape[:2]
    assert (labels < 0).all()


@pytest.mark.parametrize("name", HEADS)
def test_an_image_is_assigned_alike_alone_and_in_a_batch(name):
    head = make(name).eval()
    true = scene()
    output = head(features(batch=4), SIZE)
    together = head.assign(output, true)
    for i in range(4):
        image = output._replace(
            **{k: getattr(output, k)[i : i + 1] for k in head.outputs}  # slots and cells are shared
        )
        alone = head.assign(image, true.of(i))
        assert torch.equal(alone.labels[0], together.labels[i])
        positive = alone.labels[0] >= 0
        assert torch.equal(alone.boxes[0, positive], together.boxes[i, positive])


@pytest.mark.parametrize("name", HEADS)
def test_slots_of_an_ignored_object_are_left_out(name):
    head = make(name).eval()
    output = head(features(), SIZE)
    output = output._replace(boxes=torch.zeros_like(output.boxes))  # which decode to the anchors
    box = output.slots[len(output.slots) // 2].tolist()
    positive = head.assign(output, one(*box)).labels >= 0
    labels = head.assign(output, one(*box, ignore=torch.tensor([True]))).labels
    assert positive.any()
    assert (labels[positive] == IGNORE).all()
    assert (labels < 0).all()
    assert (labels == BACKGROUND).any()


@pytest.mark.parametrize(
    "name, size, slots",
    [
        # Maps 38, 19 and 10 of strides 8, 16, 32, then halved to 5 and 3; 3 scales x 3 ratios:
        # (1444 + 361 + 100 + 25 + 9) * 9
        ("ssd, softmax", (300, 300), 17451),
        # Maps 13 x 17, 7 x 9, 4 x 5, then 2 x 3 and 1 x 2: (221 + 63 + 20 + 6 + 2) * 9
        ("ssd, sigmoid", (97, 131), 2808),
        ("retina", (300, 300), 17451),  # the same maps
        ("retina, light, softmax", (97, 131), 2736),  # (221 + 63 + 20) * 9
        # 16 x 20, 8 x 10, 4 x 5 and 2 x 3 cells of 4, 6, 6 and 4: 1280 + 480 + 120 + 24
        ("ssd_paper, light, sigmoid", (128, 160), 1904),
        ("yolo_v3", (416, 416), 10647),  # (52 * 52 + 26 * 26 + 13 * 13) * 3, the published count
        ("yolo_v3", (608, 608), 22743),
        ("yolo_v3", (97, 131), 912),  # (221 + 63 + 20) * 3
        ("yolo_v3_tiny", (416, 416), 2535),  # (26 * 26 + 13 * 13) * 3
        ("yolo_v3_tiny", (97, 131), 249),  # (63 + 20) * 3
        ("yolo_v1, linear", (448, 448), 98),  # 7 * 7 * 2
        ("yolo_v1, linear", (97, 131), 98),
        ("yolo_v2", (416, 416), 676),  # 13 * 13 * 4; with the paper's fifth prior 845
        ("yolo_v2", (97, 131), 80),  # 4 * 5 * 4
    ],
)
def test_number_of_slots(name, size, slots):
    head = make(name).eval()
    with torch.no_grad():
        output = head(features(size), size)
    assert output.logits.shape == (1, slots, CLASSES + name.endswith("softmax"))
    assert output.slots.shape == (slots, 4)
    if name in HEADS:
        assert output.boxes.shape == (1, slots, 4)
        centres = (output.slots[:, :2] + output.slots[:, 2:]) / 2
        assert (centres >= 0).all()
        assert (centres < torch.tensor(size[::-1])).all()


def test_lesson_nine_has_189_slots():
    head = make("ssd, softmax", channels=[8], strides=[32], first_stride=32, levels=3)
    output = head.eval()([torch.randn(1, 8, 4, 4)], (128, 128))
    assert len(output.slots) == 189  # (4 * 4 + 2 * 2 + 1) * 9


def test_ssd_makes_coarser_maps_than_the_backbone_has():
    head = make("ssd, sigmoid", levels=2, first_stride=64).eval()
    output = head(features((224, 224)), (224, 224))
    # Stride 32 gives 7 x 7, halved to 4 x 4, where the first slots are, and to 2 x 2.
    assert output.levels == (16 * 9, 4 * 9)
    assert output.cells[[0, -1]].tolist() == [[56, 56], [112, 112]]


def test_ssd_anchors_by_hand():
    head = make("ssd, sigmoid", levels=1, scales=[2.0], ratios=[4.0]).eval()
    slots = head(features(), SIZE).slots
    # Cells of 8 x 8; two cells squared as 1 wide and 4 high: 8 x 32. Centres (4, 4), (156, 124).
    assert slots[[0, -1]].tolist() == [[0, -12, 8, 20], [152, 108, 160, 140]]
    slots = head(features((128, 161)), (128, 161)).slots  # 21 columns of 161 / 21 = 7.667 pixels
    torch.testing.assert_close(slots[0], torch.tensor([0.0, -12.0, 161 / 21, 20.0]))


# A pyramid's slots look further; YOLO's first two and the tiny one read no map of stride 8.
@pytest.mark.parametrize("name", ["ssd, softmax", "ssd, sigmoid", "yolo_v3", "yolo_v3, softmax"])
def test_a_slot_depends_on_its_own_cell(name):
    head = make(name).eval()
    quiet, loud = features(fill=torch.zeros), features(fill=torch.zeros)
    loud[1][0, :, 5, 9] = 1  # stride 8, row 5, column 9: pixels (9.5 * 8, 5.5 * 8)
    with torch.no_grad():
        before, after = head(quiet, SIZE), head(loud, SIZE)
    fine = (before.cells == 8).all(1)
    changed = ((after.logits - before.logits).abs()[0].sum(-1) > 0) & fine
    centres = (before.slots[changed, :2] + before.slots[changed, 2:]) / 2
    assert 0 < changed.sum() < fine.sum()
    torch.testing.assert_close(centres.mean(0), torch.tensor([76.0, 44.0]))


def test_yolo_v3_anchors_scale_with_the_input():
    head = make("yolo_v3").eval()
    slots = head(features((416, 832)), (416, 832)).slots  # coarse to fine
    # Stride 32's first anchor, 116 x 90 at 416: 232 wide at 832; cell (0, 0) has centre (16, 16).
    torch.testing.assert_close(slots[0], torch.tensor([16.0 - 116, 16 - 45, 16 + 116, 16 + 45]))
    # Stride 8's last, 33 x 23: 66 wide, centre (828, 412).
    torch.testing.assert_close(slots[-1], torch.tensor([795.0, 400.5, 861.0, 423.5]))


def test_yolo_v3_needs_its_strides():
    with pytest.raises(UserError, match="stride"):
        make("yolo_v3", strides=(2, 4, 8, 16))


def test_yolo_v3_weighs_small_boxes_most():
    head = make("yolo_v3").eval()
    output = head(features((208, 416)), (208, 416))
    assigned = head.assign(output, one(100, 50, 204, 102))
    # 104 x 52 is a quarter of each side: 2 - 1/16
    assert assigned.weight[assigned.labels >= 0].tolist() == pytest.approx([1.9375], abs=1e-4)


def test_yolo_v3_ignores_predictions_that_overlap_an_object():
    head = make("yolo_v3", ignore=0.3).eval()
    true = scene(images=3)
    true = replace(true, area=true.area / 3)  # of an outline, as in COCO: overlap is of boxes
    output = head(features(batch=3), SIZE)
    assigned = head.assign(output, true)
    boxes = head.coder.decode(output.boxes, output.slots, output.cells)
    for i in range(3):
        boxes_i = true.of(i).boxes
        best = box_iou(boxes[i], boxes_i).amax(1) if len(boxes_i) else torch.zeros(len(boxes[i]))
        torch.testing.assert_close(assigned.iou[i], best)
        free = assigned.labels[i] < 0
        assert torch.equal(assigned.labels[i][free] == IGNORE, best[free] > 0.3)
        assert (assigned.labels[i] >= 0).sum() == len(boxes_i)  # one slot an object
    assert (assigned.labels == IGNORE).any()


FITTING = [
    ("ssd, softmax", Multibox(negatives=1e6)),  # every slot counts, so every level is reached
    ("ssd, sigmoid", Focal(box=SmoothL1())),
    ("ssd, sigmoid", BCE(box=SmoothL1())),
    ("yolo_v1, linear", YOLOv1Loss()),
    ("yolo_v2", YOLOv2Loss()),
    ("retina", Focal(per_image=True, box=SmoothL1(beta=0))),
    ("retina, v2", Focal(box=SmoothL1())),
    ("retina, light, softmax", Multibox(negatives=1e6)),
    ("yolo_v3", YOLOv3Loss()),
    ("yolo_v3_tiny", YOLOv3Loss()),
    ("yolo_v1, softmax", YOLOv2Loss()),  # any with any
    ("yolo_v2, linear", YOLOv1Loss()),
    ("yolo_v3, softmax", YOLOv2Loss()),
]


@pytest.mark.parametrize("name, loss", FITTING)
def test_every_parameter_gets_a_gradient(name, loss):
    head = make(name)
    assert loss.requires <= head.outputs <= loss.trains
    true = scene()
    output = head(features(batch=4), SIZE)
    with torch.no_grad():
        assigned = head.assign(output, true)
    sum(loss(output, assigned).values()).backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


def test_scores_before_training():
    # sigmoid(-4.59512) = .01, arXiv 1708.02002, 4.1
    ssd = make("ssd, sigmoid").eval()(features(fill=torch.zeros), SIZE)
    torch.testing.assert_close(ssd.logits, torch.full_like(ssd.logits, -4.59512))
    assert not ssd.boxes.any()
    yolo = make("yolo_v3").eval()(features(fill=torch.zeros), SIZE)
    torch.testing.assert_close(yolo.objectness, torch.full_like(yolo.objectness, -4.59512))
    assert not yolo.boxes.any() and not yolo.logits.any()
    softmax = make("ssd, softmax").eval()(features(fill=torch.zeros), SIZE)
    assert not softmax.logits.any()
    scores = make("ssd, sigmoid").eval()(features(), SIZE).logits.detach().sigmoid()
    assert scores.mean().item() == pytest.approx(0.01, rel=0.1)


# SSD's published weights before training are large.
@pytest.mark.parametrize("name", [name for name in HEADS if name != "ssd_paper"])
def test_nothing_found_before_training(name):
    head = make(name, postprocess=None).eval()
    head.postprocess.score = 0.5
    assert len(head.decode(head(features(batch=2), SIZE))) == 0
