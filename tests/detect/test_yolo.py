"""YOLO v1 to v3 against the papers, one image, one object and one slot at a time."""

import math

import hydra
import pytest
import torch
from epochs import epoch
from torch import nn
from torchvision.ops import box_iou

from classify.backbones.darknet_v1 import DarknetV1
from detect.coder import SqrtCoder
from detect.heads.yolo_slots import elementwise_iou
from detect.heads.yolo_v1 import YOLOv1
from detect.heads.yolo_v2 import YOLOv2, space_to_depth
from detect.heads.yolo_v3 import YOLOv3
from detect.losses.yolo_v1 import YOLOv1 as YOLOv1Loss
from detect.losses.yolo_v2 import YOLOv2 as YOLOv2Loss
from detect.losses.yolo_v3 import YOLOv3 as YOLOv3Loss
from engine.builders import parts
from engine.builders.run import prepare
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output
from engine.summary.layers import summarize

SIZE, K = 64, 3
LEVELS = [(32, [(40, 30), (30, 44)]), (16, [(14, 20), (21, 14)]), (8, [(7, 9), (12, 6)])]
INJECTED_ARGUMENTS = {"channels": [4, 4, 4], "strides": [8, 16, 32], "num_classes": K}


def v1(activation="linear", **options):
    options = {"grid": 4, "conv_channels": 8, "hidden": 16} | options
    return YOLOv1(**INJECTED_ARGUMENTS, activation=activation, **options).eval()


def v2():
    anchors = [[w / 32, h / 32] for w, h in LEVELS[0][1]]
    return YOLOv2(
        **INJECTED_ARGUMENTS, activation="softmax", anchors=anchors, conv_channels=8
    ).eval()


def v3():
    anchors = [pair for _, sides in reversed(LEVELS) for pair in sides]
    return YOLOv3(
        **INJECTED_ARGUMENTS, activation="sigmoid", anchors=anchors, anchors_at=SIZE
    ).eval()


def scene(seed, count=24, images=4):
    """Random boxes, crowded; one in five is ignored. Image 1 is empty, 2 holds ignored ones."""
    random = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=random) * SIZE
    half = (torch.rand(count, 2, generator=random) * 0.35 + 0.02) * SIZE
    boxes = torch.cat([centre - half, centre + half], 1).clamp(0, SIZE)
    image = torch.randint(0, images, (count,), generator=random)
    image = torch.where(image == 1, 0, image).sort()[0]
    ignore = (torch.rand(count, generator=random) < 0.2) | (image == 2)
    labels = torch.randint(0, K, (count,), generator=random)
    return Objects(boxes, labels, image, ignore=ignore)


def random_output(head, objects, seed):
    """A random output, in which half of the slots predict nearly their targets."""
    torch.manual_seed(seed)
    with torch.no_grad():
        output = head([torch.randn(4, 4, SIZE // s, SIZE // s) for s in (8, 16, 32)], (SIZE, SIZE))
    near = head.assign(output, objects).boxes + 0.2 * torch.randn_like(output.boxes)
    wild = torch.randn_like(output.boxes)
    chosen = torch.rand(output.boxes.shape[:2])[..., None] < 0.5
    objectness = torch.randn_like(output.objectness)
    return output._replace(boxes=torch.where(chosen, near, wild), objectness=objectness)


def iou(a, b):
    return box_iou(torch.tensor([a]), torch.tensor([b])).item()


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def bce(logit, target):
    return -target * math.log(sigmoid(logit)) - (1 - target) * math.log(1 - sigmoid(logit))


def rows(objects, image):
    """(box, label, ignored) of each object of an image."""
    x = objects.of(image)
    return list(zip(x.boxes.tolist(), x.labels.tolist(), x.ignore.tolist(), strict=True))


def v1_slowly(output, objects):
    """arXiv 1506.02640, equation 3, not divided; and the number of responsible boxes."""
    side = SIZE / 4
    box = objectness = classes = 0.0
    count = 0
    for image in range(len(output.logits)):
        logits, codes, sure = (x[image].tolist() for x in output[:3])
        boxes = []  # of each slot
        for slot, (x, y, root_w, root_h) in enumerate(codes):
            row, column = divmod(slot // 2, 4)
            cx, cy, w, h = (column + x) * side, (row + y) * side, root_w**2 * SIZE, root_h**2 * SIZE
            boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
        held, ignored = {}, set()  # by cell; a later object takes a cell over
        for (x1, y1, x2, y2), label, is_ignored in rows(objects, image):
            cell = int((y1 + y2) / 2 // side) * 4 + int((x1 + x2) / 2 // side)
            if is_ignored:
                ignored.add(cell)
            else:
                held[cell] = ([x1, y1, x2, y2], label)
        for cell in range(16):
            slots = [2 * cell, 2 * cell + 1]
            if cell not in held:
                if cell not in ignored:
                    objectness += sum(0.5 * sure[slot] ** 2 for slot in slots)
                continue
            truth, label = held[cell]
            overlaps = {slot: iou(boxes[slot], truth) for slot in slots}
            if max(overlaps.values()) > 0:
                best = max(slots, key=lambda slot: overlaps[slot])
            else:  # as Darknet: the nearest
                best = min(slots, key=lambda slot: math.dist(boxes[slot], truth))
            count += 1
            objectness += (sure[best] - overlaps[best]) ** 2
            objectness += sum(0.5 * sure[slot] ** 2 for slot in slots if slot != best)
            classes += sum((logits[best][k] - (k == label)) ** 2 for k in range(K))
            x, y, root_w, root_h = codes[best]
            box += 5 * (x - ((truth[0] + truth[2]) / 2 / side) % 1) ** 2
            box += 5 * (y - ((truth[1] + truth[3]) / 2 / side) % 1) ** 2
            box += 5 * (root_w - math.sqrt((truth[2] - truth[0]) / SIZE)) ** 2
            box += 5 * (root_h - math.sqrt((truth[3] - truth[1]) / SIZE)) ** 2
    return {"box": box, "objectness": objectness, "class": classes}, count


def grid_slots(levels):
    """Of each slot: stride, (column, row), (width, height); coarse to fine, as the heads say."""
    slots = []
    for stride, sides in levels:
        for cell in range((SIZE // stride) ** 2):
            row, column = divmod(cell, SIZE // stride)
            slots += [(stride, (column, row), shape) for shape in sides]
    return slots


def nearest_slot(box, slots):
    """The slot of the anchor most alike in shape, in the cell of the box's centre."""
    width, height = box[2] - box[0], box[3] - box[1]
    centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    best = (-1.0, -1)
    for slot, (stride, cell, (w, h)) in enumerate(slots):
        if (centre[0] // stride, centre[1] // stride) == cell:
            best = max(best, (iou([0, 0, w, h], [0, 0, width, height]), slot))
    return best[1]


def decoded(code, slot):
    """arXiv 1612.08242, 2: bx = sigmoid(tx) + cx, bw = pw exp(tw)."""
    stride, (column, row), (w, h) = slot
    cx, cy = (sigmoid(code[0]) + column) * stride, (sigmoid(code[1]) + row) * stride
    w, h = w * math.exp(code[2]), h * math.exp(code[3])
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def anchors_slowly(output, objects, levels, ignore, terms):
    """The loss of every slot by `terms`, not divided; and the number of slots with an object."""
    slots = grid_slots(levels)
    total = {"box": 0.0, "objectness": 0.0, "class": 0.0}
    count = 0
    for image in range(len(output.logits)):
        logits, codes, sure = (x[image].tolist() for x in output[:3])
        matched, ignored = {}, set()
        for box, label, is_ignored in rows(objects, image):
            if is_ignored:
                ignored.add(nearest_slot(box, slots))
            else:
                matched[nearest_slot(box, slots)] = (box, label)
        for number, slot in enumerate(slots):
            predicted = decoded(codes[number], slot)
            overlaps = [iou(predicted, box) for box, _, _ in rows(objects, image)]
            if number in matched:
                box, label = matched[number]
                stride, _, (w, h) = slot
                centre = [((box[i] + box[i + 2]) / 2 / stride) % 1 for i in (0, 1)]
                size = [math.log((box[2] - box[0]) / w), math.log((box[3] - box[1]) / h)]
                weight = 2 - (box[2] - box[0]) * (box[3] - box[1]) / SIZE**2
                count += 1
                box_term = weight * terms.box(codes[number], centre, size)
                total["box"] += box_term
                total["objectness"] += terms.found(sure[number], iou(predicted, box))
                total["class"] += terms.classes(logits[number], label)
            elif number not in ignored and max(overlaps, default=0) <= ignore:
                total["objectness"] += terms.empty(sure[number])
    return total, count


class TermsV2:
    """Darknet's region layer: half of the squared errors; a softmax over the classes."""

    def box(self, code, centre, size):
        errors = [sigmoid(t) - c for t, c in zip(code[:2], centre, strict=True)]
        errors += [t - s for t, s in zip(code[2:], size, strict=True)]
        return sum(e * e for e in errors) / 2

    def found(self, logit, overlap):
        return 5 * (sigmoid(logit) - overlap) ** 2 / 2

    def empty(self, logit):
        return sigmoid(logit) ** 2 / 2

    def classes(self, logits, label):
        return math.log(sum(map(math.exp, logits))) - logits[label]


class TermsV3:
    """arXiv 1804.02767, 2.1 and 2.2: logistic regression of objectness and of each class."""

    def box(self, code, centre, size):
        term = sum(bce(t, c) for t, c in zip(code[:2], centre, strict=True))
        return term + sum((t - s) ** 2 for t, s in zip(code[2:], size, strict=True)) / 2

    def found(self, logit, overlap):
        return bce(logit, 1)

    def empty(self, logit):
        return bce(logit, 0)

    def classes(self, logits, label):
        return sum(bce(logit, float(k == label)) for k, logit in enumerate(logits))


def slowly(name, output, objects):
    if name == "v1":
        return v1_slowly(output, objects)
    if name == "v2":
        return anchors_slowly(output, objects, LEVELS[:1], 0.6, TermsV2())
    return anchors_slowly(output, objects, LEVELS, 0.5, TermsV3())


PAIRS = {"v1": (v1, YOLOv1Loss()), "v2": (v2, YOLOv2Loss()), "v3": (v3, YOLOv3Loss())}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", PAIRS)
def test_the_loss_equals_the_paper_slot_by_slot(name, seed):
    make, loss = PAIRS[name]
    head, objects = make(), scene(seed)
    output = random_output(head, objects, seed)
    terms = loss(output, head.assign(output, objects))
    expected, count = slowly(name, output, objects)
    assert 3 < count <= (~objects.ignore).sum()
    for key, value in expected.items():
        assert terms[key].item() == pytest.approx(value / count, rel=1e-4), key


@pytest.mark.parametrize("name", PAIRS)
def test_every_kind_of_slot_was_in_that_test(name):
    make, _ = PAIRS[name]
    head = make()
    kinds = set()
    for seed in range(4):
        labels = head.assign(random_output(head, scene(seed), seed), scene(seed)).labels
        kinds |= set(labels.unique().tolist())
        assert (labels[1] < 0).all()
        assert (labels[2] < 0).all() and (labels[2] == IGNORE).any()
    assert kinds == {IGNORE, BACKGROUND, *range(K)}


@pytest.mark.parametrize("name", PAIRS)
def test_no_object_is_finite_and_only_objectness_learns(name):
    make, loss = PAIRS[name]
    head = make()
    output = random_output(head, scene(0), 0)
    assigned = head.assign(output, Objects.empty())
    assert (assigned.labels == BACKGROUND).all()
    terms = loss(output, assigned)
    assert terms["box"] == terms["class"] == 0 and 0 < terms["objectness"] < 1e3


@pytest.mark.parametrize("name", PAIRS)
def test_five_hundred_objects_in_an_image(name):
    make, loss = PAIRS[name]
    head, objects = make(), scene(5, count=500)
    objects.batch_index.fill_(3)
    output = random_output(head, objects, 5)
    assigned = head.assign(output, objects)
    assert (assigned.labels[3] >= 0).sum() >= 8 and (assigned.labels[:3] == BACKGROUND).all()
    assert all(term.isfinite() for term in loss(output, assigned).values())


def test_elementwise_iou_equals_torchvisions():
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 50, 2, 2, generator=random) * 20
    a, b = torch.cat([corners.amin(2), corners.amax(2)], -1)
    torch.testing.assert_close(elementwise_iou(a, b), box_iou(a, b).diagonal())
    torch.testing.assert_close(elementwise_iou(a[:, None], b), box_iou(a, b))
    assert elementwise_iou(torch.zeros(4), torch.zeros(4)) == 0  # no area at all: not NaN


def test_the_code_of_v1_by_hand():
    # Cells of 64 x 32 in a 448 x 224 image. The box's centre (224, 112) lies in cell (3, 3),
    # whose corner is (192, 96): half a cell in. Sizes 112 x 56: a quarter, roots .5.
    cell, size = torch.tensor([192.0, 96, 256, 128]), torch.tensor([64.0, 32])
    box, code = torch.tensor([168.0, 84, 280, 140]), torch.tensor([0.5, 0.5, 0.5, 0.5])
    coder = SqrtCoder(grid=7)
    assert coder.encode(box, cell, size).tolist() == code.tolist()
    assert coder.decode(code, cell, size).tolist() == box.tolist()
    assert coder.decode(-code + torch.tensor([1.0, 1, 0, 0]), cell, size).tolist() == box.tolist()


def test_v1_as_published():
    with torch.device("meta"):
        head = YOLOv1(channels=[1024], strides=[32], num_classes=20, activation="linear")
    layers = [m for m in head.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [m.weight.shape[0] for m in layers] == [1024] * 4 + [4096, 7 * 7 * 30]
    assert [m.stride[0] for m in layers[:4]] == [1, 2, 1, 1]
    assert layers[4].weight.shape[1] == 7 * 7 * 1024  # 448 pixels: 14 cells, then 7


def test_v1s_backbone_is_figure_3():
    with torch.device("meta"):
        backbone = DarknetV1().eval()
        maps = backbone(torch.empty(1, 3, 448, 448))
    layers = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) == 20 and maps[-1].shape == (1, 1024, 14, 14)
    # 9,408 + 110,592 + (24,576 + 294,912 + 65,536 + 1,179,648) + (4 * (131,072 + 1,179,648)
    # + 262,144 + 4,718,592) + 2 * (524,288 + 4,718,592), and 2 * 9,088 of normalisation
    assert sum(p.numel() for p in backbone.parameters()) == 22_394_048 + 18_176


@pytest.mark.parametrize(
    ("overrides", "parameters", "billions", "slots"),
    [  # operations, two a multiplication, as Darknet's page gives them for COCO
        (["model=yolo_v3"], 61_949_149, "65.86", 10647),
        (["model=yolo_v3", "image_size=608"], 61_949_149, "140.69", 22743),
        (["model=yolo_v2", "image_size=608"], None, "62.94", 19 * 19 * 5),
    ],
)
def test_the_presets_cost_what_was_published(overrides, parameters, billions, slots):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        found = summarize(hydra.compose("summary", overrides=[*overrides, "num_classes=80"]))
    assert parameters in (found.parameters, None)
    assert f"{2 * found.macs / 1e9:.2f}" == billions
    assert found.slots == slots


def test_v1s_better_box_is_responsible_for_one_object_per_cell():
    head = v1()
    # Two objects in the cell (16..32, 16..32): the last gets it.
    objects = Objects(torch.tensor([[10.0, 10, 34, 34], [18, 14, 30, 38]]), torch.tensor([0, 2]))
    output = random_output(head, objects, 0)
    output = output._replace(boxes=output.boxes[:1].clone(), logits=output.logits[:1])
    cell = 2 * (1 * 4 + 1)
    truth = SqrtCoder(grid=4).encode(objects.boxes[1], output.slots[cell], output.cells[cell])
    output.boxes[0, cell], output.boxes[0, cell + 1] = truth * 0.9, truth
    assigned = head.assign(output, objects)
    assert (assigned.labels[0] >= 0).nonzero().flatten().tolist() == [cell + 1]
    assert assigned.labels[0, cell + 1] == 2 and assigned.iou[0, cell + 1] == pytest.approx(1)
    torch.testing.assert_close(assigned.boxes[0, cell + 1], truth)
    assert assigned.labels[0, cell] == BACKGROUND
    # Neither overlaps: the nearer one. Centres 2 and 3 cells away, no size.
    output.boxes[0, cell], output.boxes[0, cell + 1] = (torch.tensor([x, 0, 0, 0]) for x in (2, 3))
    assert head.assign(output, objects).labels[0, cell] == 2


def test_v1_reads_linear_outputs_as_probabilities():
    logits, sure = torch.tensor([[[0.5, -0.2, 1.7]]]), torch.tensor([[0.8]])
    code = torch.tensor([[[0.5, 0.5, 1.0, 1.0]]])  # the whole image
    cell = torch.tensor([[0.0, 0, 64, 64]])
    output = Output(logits, code, sure, cell, cell[:, 2:], SqrtCoder(grid=1))
    found = v1(grid=1).decode(output)
    # 1.7 counts as 1: .8; .5 * .8 = .4; below 0 is nothing
    assert found.labels.tolist() == [2, 0] and found.scores.tolist() == pytest.approx([0.8, 0.4])
    assert found.boxes[0].tolist() == [0, 0, 64, 64]
    found = v1("sigmoid", grid=1).decode(output)
    assert found.scores[0].item() == pytest.approx(sigmoid(0.8) * sigmoid(1.7))


def test_v1_loss_by_hand():
    labels = torch.tensor([[1, BACKGROUND, IGNORE]])
    output = Output(torch.tensor([[[0.1, 0.7]] * 3]), torch.ones(1, 3, 4), torch.full((1, 3), 0.4))
    boxes, found = torch.tensor([0.5, 1.0, 1.0, 0.8]).repeat(1, 3, 1), torch.tensor([[0.9, 0.9, 0]])
    terms = YOLOv1Loss()(output, Assigned(labels, boxes, iou=found))
    assert terms["box"].item() == pytest.approx(5 * (0.5**2 + 0.2**2))
    assert terms["objectness"].item() == pytest.approx((0.4 - 0.9) ** 2 + 0.5 * 0.4**2)
    assert terms["class"].item() == pytest.approx(0.1**2 + 0.3**2)


def test_v2_loss_by_hand():
    labels = torch.tensor([[1, BACKGROUND, IGNORE]])
    output = Output(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4), torch.zeros(1, 3))
    boxes, found = torch.tensor([0.0, 20.0, 1, -2]).repeat(1, 3, 1), torch.tensor([[0.9, 0.7, 0]])
    terms = YOLOv2Loss()(output, Assigned(labels, boxes, torch.full((1, 3), 1.5), found))
    # Centre (.5 - .5) and (.5 - 1); sizes 1 and 4; half of it, weight 1.5
    assert terms["box"].item() == pytest.approx(1.5 * (0.25 + 1 + 4) / 2)
    # 5 (.5 - .9)^2 / 2 + .5^2 / 2
    assert terms["objectness"].item() == pytest.approx(5 * 0.16 / 2 + 0.125)
    assert terms["class"].item() == pytest.approx(math.log(4))


def test_v2_at_416_has_845_slots_and_its_layers():
    priors = [[1.3221, 1.73145], [3.19275, 4.00944], [5.05587, 8.09892], [9.47112, 4.84053],
              [11.2364, 10.0071]]  # fmt: skip
    head = YOLOv2(channels=[512, 1024], strides=[16, 32], num_classes=20, activation="softmax",
                  anchors=priors).eval()  # fmt: skip
    with torch.no_grad():
        output = head([torch.zeros(1, 512, 26, 26), torch.zeros(1, 1024, 13, 13)], (416, 416))
    assert output.logits.shape == (1, 845, 20)  # 13 * 13 * 5
    # 1024 + 64 * 4 channels into the last 3x3, 5 * (5 + 20) out, as in yolov2-voc.cfg
    assert head.joined[0].weight.shape == (1024, 1280, 3, 3)
    assert head.predictor.weight.shape == (125, 1024, 1, 1)
    # The first prior 1.3221 * 32 = 42.307 wide around (16, 16), the middle of cell (0, 0)
    x1, y1, x2, y2 = output.slots[0].tolist()
    assert (x2 - x1, y2 - y1) == pytest.approx((42.3072, 55.4064), abs=1e-3)
    assert (x1 + x2, y1 + y2) == pytest.approx((32, 32), abs=1e-4)


def test_the_pass_through_by_hand():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    # Each 2x2 cells: (0, 1, 4, 5), (2, 3, 6, 7), (8, 9, 12, 13), (10, 11, 14, 15)
    assert space_to_depth(x, (2, 2))[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert space_to_depth(x, (2, 2))[0, :, 1, 0].tolist() == [8, 9, 12, 13]
    assert space_to_depth(x[..., :3], (2, 2))[0, :, 0, 1].tolist() == [2, 0, 6, 0]  # filled up
    assert space_to_depth(x, (1, 2)).shape == (1, 4, 1, 2)  # cut


def test_v2_passes_a_cell_on_where_it_is():
    head = YOLOv2(
        **INJECTED_ARGUMENTS, activation="softmax", anchors=[[1, 1]], conv_channels=8
    ).eval()
    maps = [torch.zeros(1, 4, 256 // s, 256 // s) for s in (8, 16, 32)]
    with torch.no_grad():
        before = head(maps, (256, 256)).logits
        maps[1][0, :, 5, 11] = 1  # stride 16, so row 2, column 5 of stride 32
        changed = (head(maps, (256, 256)).logits - before).abs().sum(-1).view(8, 8) > 0
    rows, columns = changed.nonzero().T  # a 3x3 convolution follows
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 3, 4, 6)


def test_v2_and_v3_have_no_background_logit_under_a_softmax():
    for make in (
        v2(),
        YOLOv3(**INJECTED_ARGUMENTS, activation="softmax", anchors=LEVELS[0][1] * 3),
    ):
        maps = [torch.zeros(1, 4, SIZE // s, SIZE // s) for s in (8, 16, 32)]
        assert make.eval()(maps, (SIZE, SIZE)).logits.shape[-1] == K


def test_a_later_object_takes_the_slot_of_cell_and_anchor():
    head = v3()
    boxes = torch.tensor([[2.0, 2, 9, 11], [1.0, 1, 8, 10]])  # both in cell (0, 0), both 7 x 9
    output = random_output(head, scene(0), 0)
    for order in ([0, 1], [1, 0]):
        assigned = head.assign(output, Objects(boxes[order], torch.tensor([0, 1])))
        assert (assigned.labels[0] >= 0).sum() == 1 and (assigned.labels[0] == 1).sum() == 1


def test_losses_before_training():
    with torch.no_grad():
        head, objects = v2(), scene(0)
        maps = [torch.zeros(4, 4, SIZE // s, SIZE // s) for s in (8, 16, 32)]
        output = head(maps, (SIZE, SIZE))
        terms = YOLOv2Loss()(output, head.assign(output, objects))
    assert terms["class"].item() == pytest.approx(math.log(K))
    # Every prediction is sigmoid(0) = .5: at most 5 * .25 / 2 a positive, .125 a negative.
    labels = head.assign(output, objects).labels
    negative = (labels == BACKGROUND).sum() * 0.125 / (labels >= 0).sum()
    assert negative <= terms["objectness"] <= negative + 0.625


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_epoch_on_images_of_several_sizes(version):
    overrides = [f"head=yolo_v{version}", f"loss=yolo_v{version}", "backbone=resnet18",
                 "image_size=64", "loader.sizes=[64,96]", "loader.sizes_every=1",
                 "dataset.train=8", "dataset.size=64", "loader.batch_size=2", "loader.workers=0",
                 "trainer.epochs=1", "trainer.ema=null"]  # fmt: skip
    overrides += {
        1: ["head.conv_channels=8", "head.hidden=16"],
        2: ["head.conv_channels=8"],
        3: [],
    }[version]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=overrides)
    parts.check_all(cfg)
    device, data = torch.device("cpu"), parts.dataset(cfg, "train")
    loader = parts.loader(cfg, data, device, shuffle=True)
    assert {batch.images.shape[2:] for batch in loader} == {(64, 64), (96, 96)}
    network = parts.network(cfg, len(data.classes), parts.backbone(cfg))
    means = epoch(prepare(cfg, network, len(loader), device), loader)
    assert all(math.isfinite(value) for value in means.values())
    assert min(means[f"train/{term}"] for term in ("box", "objectness", "class")) > 0


def test_wrong_arguments_are_refused():
    with pytest.raises(UserError, match="stride 16 and 32"):
        YOLOv2(channels=[4], strides=[32], num_classes=K, activation="softmax", anchors=[[1, 1]])
    with pytest.raises(UserError, match="prior=1"):
        YOLOv2(**INJECTED_ARGUMENTS, activation="softmax", anchors=[[1, 1]], prior=1)
    with pytest.raises(UserError, match="anchors=.*in cells"):
        YOLOv2(**INJECTED_ARGUMENTS, activation="softmax", anchors=[[1, 0]])
    with pytest.raises(UserError, match="dropout=1"):
        v1(dropout=1)
    with pytest.raises(UserError, match="grid=0"):
        v1(grid=0)
    with pytest.raises(UserError, match="one cell"):
        YOLOv1(channels=[4], strides=[0], num_classes=K, activation="linear")
