import math

import pytest
import torch
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from detect.coder import CentreSize, YOLOCoder
from detect.losses import box
from detect.losses.box import L1, MSE, CIoU, DIoU, GIoU, SmoothL1
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Assigned, Output

TORCHVISION = {
    GIoU: generalized_box_iou_loss,
    DIoU: distance_box_iou_loss,
    CIoU: complete_box_iou_loss,
}
ON_BOXES = [*TORCHVISION, *(lambda kind=kind: kind(space="box") for kind in (L1, MSE, SmoothL1))]


class Plain:
    """A coder whose code is the box."""

    def decode(self, code, slots, cells):
        return code


def pair(pred, target, labels=None, weight=None):
    """Predicted and true boxes [A, 4] of one image of 160 x 80, whose slots are its two halves."""
    pred, target = (torch.as_tensor(x, dtype=torch.float32)[None] for x in (pred, target))
    labels = torch.zeros(pred.shape[:2], dtype=torch.int64) if labels is None else labels
    slots = torch.tensor([[0.0, 0, 80, 80], [80, 0, 160, 80]])
    output = Output(
        None, pred, slots=slots, cells=torch.full((2, 2), 80.0), coder=Plain(), size=(80, 160)
    )
    return output, Assigned(labels, target, weight)


def boxes(count, seed):
    random = torch.Generator().manual_seed(seed)
    low, size = (torch.rand(count, 2, generator=random) * 100 for _ in range(2))
    return torch.cat([low, low + size + 1], 1)


@pytest.mark.parametrize("kind", TORCHVISION)
def test_overlap_losses_equal_torchvisions(kind):
    pred, target = boxes(200, 0), boxes(200, 1)
    losses = kind().per_slot(*pair(pred, target))[0]
    torch.testing.assert_close(losses, TORCHVISION[kind](pred, target), atol=2e-6, rtol=2e-6)
    assert kind()(*pair(pred, target)).item() == pytest.approx(losses.mean().item())
    leaf = pred.clone().requires_grad_()
    output, assigned = pair(pred, target)
    kind()(output._replace(boxes=leaf[None]), assigned).backward()
    leaf_of_torchvision = pred.clone().requires_grad_()
    TORCHVISION[kind](leaf_of_torchvision, target, reduction="mean").backward()
    torch.testing.assert_close(leaf.grad, leaf_of_torchvision.grad, atol=1e-7, rtol=1e-4)


def test_overlap_losses_by_hand():
    # [0, 0, 2, 2] and [1, 0, 3, 2]: 2 of 6 shared, IoU 1/3; hull 3 x 2 = 6, all of it covered;
    # centres 1 apart, diagonal 9 + 4: 1/13; the ratios of the sides are equal.
    near = pair([[0, 0, 2, 2]], [[1, 0, 3, 2]])
    assert GIoU()(*near).item() == pytest.approx(2 / 3)
    assert DIoU()(*near).item() == pytest.approx(2 / 3 + 1 / 13)
    assert CIoU()(*near).item() == pytest.approx(2 / 3 + 1 / 13)
    # Two unit squares 9 apart: IoU 0, hull 10 of which 8 are uncovered; 81 of 101.
    far = pair([[0, 0, 1, 1]], [[9, 0, 10, 1]])
    assert GIoU()(*far).item() == pytest.approx(1.8)
    assert DIoU(weight=2.0)(*far).item() == pytest.approx(2 * (1 + 81 / 101))
    # 1 x 1 in 2 x 1 from the same corner: IoU 1/2; centres .5 apart, diagonal 5: .05;
    # v = 4 / pi^2 (pi/4 - atan 2)^2 = .041956; alpha = v / (1 - .5 + v) = .077416.
    wide = pair([[0, 0, 1, 1]], [[0, 0, 2, 1]])
    v = 4 / math.pi**2 * (math.pi / 4 - math.atan(2)) ** 2
    assert CIoU()(*wide).item() == pytest.approx(0.55 + v * v / (0.5 + v))
    assert v == pytest.approx(0.041956, abs=1e-6)


def test_distances_by_hand():
    # Gaps of (16, 8, -16, 0) pixels are (.1, .1, -.1, 0) of 160 x 80.
    pred = pair([[26, 18, 14, 50]], [[10, 10, 30, 50]])
    assert L1(space="box")(*pred).item() == pytest.approx(0.3)
    assert MSE(space="box")(*pred).item() == pytest.approx(0.03)
    # Pixels of a 224 side: 22.4 each of three; their mean over four.
    assert L1(space="box", side=224.0, weight=0.25)(*pred).item() == pytest.approx(16.8)
    assert SmoothL1(space="box", side=224.0, weight=0.25)(*pred).item() == pytest.approx(
        3 * 21.9 / 4
    )
    assert MSE(space="box", side=224.0, weight=0.25)(*pred).item() == pytest.approx(3 * 22.4**2 / 4)
    # On the code itself: 16 + 8 + 16, 256 + 64 + 256.
    assert L1()(*pred).item() == 40
    assert MSE(weight=0.5)(*pred).item() == 288


@pytest.mark.parametrize("make", [*TORCHVISION, L1, MSE, SmoothL1])
def test_only_positives_count_each_by_its_weight(make):
    pred, target = boxes(4, 2), boxes(4, 3)
    labels = torch.tensor([[2, BACKGROUND, IGNORE, 0]])
    loss = make()
    each = loss.per_slot(*pair(pred, target))[0]
    assert loss(*pair(pred, target, labels)).item() == pytest.approx((each[0] + each[3]).item() / 2)
    weight = torch.tensor([[0.5, 9, 9, 2]])
    wanted = (0.5 * each[0] + 2 * each[3]).item() / 2
    assert loss(*pair(pred, target, labels, weight)).item() == pytest.approx(wanted)
    output, assigned = pair(pred, target, torch.full((1, 4), BACKGROUND))
    leaf = output.boxes.clone().requires_grad_()
    nothing = loss(output._replace(boxes=leaf), assigned)
    nothing.backward()
    assert nothing.item() == 0 and not leaf.grad.any()


@pytest.mark.parametrize("all_rows", [False, True])
@pytest.mark.parametrize("make", [*ON_BOXES, SmoothL1])
def test_the_loss_of_the_positives_equals_that_of_all_slots_masked(make, all_rows, monkeypatch):
    if all_rows:  # as where a GPU would have to wait
        monkeypatch.setattr(box, "box_loss_rows", lambda labels: torch.arange(labels.numel()))
    random = torch.Generator().manual_seed(5)
    pred, target = torch.randn(2, 3, 5, 4, generator=random)  # three images of five slots
    weight = torch.rand(3, 5, generator=random)
    labels = torch.tensor([[0, -1, -2, 3, -1], [-1] * 5, [-2, 1, 1, -1, 0]])  # 5 positives
    slots, cells = boxes(5, 6), torch.full((5, 2), 8.0)
    leaf = pred.requires_grad_()
    output = Output(None, leaf, slots=slots, cells=cells, coder=CentreSize(), size=(80, 160))
    assigned, term = Assigned(labels, target, weight), make()
    masked = (term.per_slot(output, assigned) * weight * (labels >= 0)).sum() / 5
    found, wanted = ((x, *torch.autograd.grad(x, leaf)) for x in (term(output, assigned), masked))
    torch.testing.assert_close(found, wanted)
    assert torch.equal(found[1].any(-1), labels >= 0)


@pytest.mark.parametrize("make", ON_BOXES)
def test_the_perfect_box_costs_nothing(make):
    assert make()(*pair(boxes(9, 4), boxes(9, 4))).item() == pytest.approx(0, abs=1e-6)


POINT = [20] * 4
WILD = [
    ([50, 50, 50, 50], [10, 10, 30, 40]),  # a point outside
    (POINT, [10, 10, 30, 40]),  # a point inside
    ([10, 10, 10, 40], [10, 10, 30, 40]),  # a line on the side
    ([10, 10, 30, 40], POINT),  # the truth a point
    ([1e5, 1e5, 2e5, 3e5], [10, 10, 11, 11]),  # far off, huge
    ([-1e5, 5, -1e5, 6], [0, 0, 160, 80]),
]


@pytest.mark.parametrize(("pred", "target"), WILD)
@pytest.mark.parametrize("make", ON_BOXES)
def test_degenerate_and_far_boxes_are_finite_and_pull(make, pred, target):
    output, assigned = pair([pred], [target])
    leaf = output.boxes.clone().requires_grad_()
    loss = make()(output._replace(boxes=leaf), assigned)
    loss.backward()
    assert loss.isfinite() and leaf.grad.isfinite().all()
    inside = POINT in (pred, target) and make is GIoU  # 1 wherever a point inside a box lies
    assert leaf.grad.any() != inside


@pytest.mark.parametrize("make", ON_BOXES)
@pytest.mark.parametrize("point", [[20.0] * 4, [20.0, 20, 60, 20]])
def test_two_equal_boxes_without_area_are_finite(make, point):
    output, assigned = pair([point], [point])
    leaf = output.boxes.clone().requires_grad_()
    loss = make()(output._replace(boxes=leaf), assigned)
    loss.backward()
    assert loss.isfinite() and leaf.grad.isfinite().all()


@pytest.mark.parametrize("make", ON_BOXES)
@pytest.mark.parametrize("coder", [CentreSize(), YOLOCoder()])
def test_the_gradient_reaches_the_code_and_moves_towards_the_box(make, coder):
    slots = torch.tensor([[20.0, 20, 60, 60], [100, 20, 140, 60]])
    truth = torch.tensor([[[30.0, 25, 65, 70], [95, 10, 130, 50]]])
    code = torch.zeros(1, 2, 4, requires_grad=True)
    output = Output(
        None, code, slots=slots, cells=torch.full((2, 2), 80.0), coder=coder, size=(80, 160)
    )
    assigned = Assigned(torch.tensor([[0, 1]]), coder.encode(truth, slots, output.cells))
    loss, losses = make(), []
    descent = torch.optim.Adam([code], lr=0.05)
    for _ in range(150):
        losses.append(loss(output, assigned))
        descent.zero_grad()
        losses[-1].backward()
        descent.step()
    assert code.grad.isfinite().all()
    assert losses[-1] < 0.2 * losses[0]


def test_five_hundred_objects():
    for make in ON_BOXES:
        labels = torch.zeros(1, 500, dtype=torch.int64)
        assert make()(*pair(boxes(500, 5), boxes(500, 6), labels)).isfinite()


def test_an_unknown_space_is_refused():
    with pytest.raises(UserError, match="loss.box.space=pixels: expected one of code, box"):
        L1(space="pixels")
