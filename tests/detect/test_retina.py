"""RetinaNet: compared with torchvision's; the rest by hand."""

import pytest
import torch
import torchvision
import torchvisions
from omegaconf import OmegaConf
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from classify.backbones.resnet import ResNet
from classify.losses import per_image_weights
from detect.anchors import anchor_sizes, corner_anchors
from engine.builders.instantiate import part
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Objects
from engine.weights import pretrained

SIZE, CLASSES = (128, 160), 3


def blank(backbone, number=1, size=SIZE):
    """Feature maps of zeros."""
    maps = zip(backbone.channels, backbone.strides, strict=True)
    return [torch.zeros(number, c, -(-size[0] // s), -(-size[1] // s)) for c, s in maps]


def loss(name="focal_retina"):
    return part(torchvisions.configured("loss", name), "loss")


def retina(backbone, name="retina", classes=CLASSES, **options):
    node = OmegaConf.merge(torchvisions.configured("head", name), options)
    given = {"channels": backbone.channels, "strides": backbone.strides}
    return part(node, "head", **given, num_classes=classes, activation="sigmoid").eval()


def theirs(kind="retinanet_resnet50_fpn", size=SIZE, classes=CLASSES + 1):
    make = getattr(torchvision.models.detection, kind)
    net = make(weights=None, weights_backbone=None, num_classes=classes, min_size=size[0],
               max_size=size[1])  # fmt: skip
    return torchvisions.shaken(net)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return build_pair(tmp_path_factory.mktemp("w"), "retinanet_resnet50_fpn", "retina")


def build_pair(folder, kind, head, images=None):
    """torchvision's detector and ours, which has read its file; some scores are high."""
    net = theirs(kind)
    classes, boxes = net.head.classification_head.cls_logits, net.head.regression_head.bbox_reg
    images = torchvisions.images(2, SIZE) if images is None else images
    torchvisions.settled(net, images, [classes], [boxes])
    with torch.no_grad():
        classes.bias.sub_(2.0).view(9, -1)[:, 0] = -99  # torchvision's class 0 is nothing
    torch.save(net.state_dict(), folder / "net.pth")
    backbone = ResNet(name="resnet50", weights=str(folder / "net.pth"))
    made = retina(backbone, head)
    assert pretrained.fill(made, backbone.pretrained.unused_tensors)
    return net.eval(), torchvisions.network(backbone, made, loss())


def test_raw_outputs_equal_torchvisions(pair):
    net, ours = pair
    images = torchvisions.images(2, SIZE)
    with torch.no_grad():
        normal, _ = net.transform(list(images / 255))
        want = net.head(list(net.backbone(normal.tensors).values()))
        output = torchvisions.said(ours, net, images)
    torch.testing.assert_close(output.boxes, want["bbox_regression"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.logits, want["cls_logits"][..., 1:], atol=1e-5, rtol=1e-5)
    assert output.boxes.std() > 0.1 and output.logits.std() > 0.1


@pytest.mark.parametrize("size", [SIZE, (800, 1088), (96, 352)])
def test_anchors_equal_torchvisions_to_the_last_bit(size):
    backbone = ResNet(name="resnet18")
    head, maps = retina(backbone, pyramid_channels=8, towers=0), blank(backbone, size=size)
    with torch.no_grad():
        slots = head(maps, size).slots
        grids = head.pyramid([maps[i] for i in head.maps])
    sizes = tuple(
        (x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)
    )
    reference = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    (want,) = reference(ImageList(torch.zeros(1, 3, *size), [size]), grids)
    assert torch.equal(slots, want)


def test_corner_anchors_by_hand():
    # Side 4, ratio 4: 2 wide, 8 high; ratio 1: 4 x 4. Steps 17 // 2 = 8 and 9 // 1 = 9.
    boxes, cells = corner_anchors((1, 2), anchor_sizes([4], [4.0, 1.0]), (9, 17))
    assert boxes.tolist() == [[-1, -4, 1, 4], [-2, -2, 2, 2], [7, -4, 9, 4], [6, -2, 10, 2]]
    assert cells.tolist() == [[8.5, 9]] * 4
    assert anchor_sizes([2, 3], [1.0, 4.0]).tolist() == [[2, 2], [3, 3], [1, 4], [1.5, 6]]


def test_losses_equal_torchvisions(pair):
    net, ours = pair
    images = torchvisions.images(3, SIZE)
    truth = torchvisions.objects(3, SIZE, CLASSES)
    with torch.no_grad():
        want = torchvisions.losses(net, images, truth)
        got = ours.losses(torchvisions.said(ours, net, images), truth)
    net.eval()
    assert got["class"].item() == pytest.approx(want["classification"].item(), rel=1e-4)
    assert got["box"].item() == pytest.approx(want["bbox_regression"].item(), rel=1e-4)
    assert got["box"] > 0.01


def test_detections_equal_torchvisions(pair):
    net, ours = pair
    images = torchvisions.images(2, SIZE)
    with torch.no_grad():
        want = net(list(images / 255))
        found = ours.decode(torchvisions.said(ours, net, images))
    torchvisions.assert_found_alike(found, want)


def test_detections_of_a_real_image_equal_torchvisions(shared_data, tmp_path):
    images = torchvisions.real(shared_data, SIZE)
    net, ours = build_pair(tmp_path, "retinanet_resnet50_fpn", "retina", images)
    with torch.no_grad():
        want = net(list(images / 255))
        found = ours.decode(torchvisions.said(ours, net, images))
    torchvisions.assert_found_alike(found, want)


@pytest.mark.slow
def test_the_second_version_equals_torchvisions(tmp_path):
    net, ours = build_pair(tmp_path, "retinanet_resnet50_fpn_v2", "retina_v2")
    images = torchvisions.images(2, SIZE)
    with torch.no_grad():
        want = net(list(images / 255))
        found = ours.decode(torchvisions.said(ours, net, images))
    torchvisions.assert_found_alike(found, want)


def test_only_the_highest_scores_of_each_level_enter_nms():
    head = retina(ResNet(name="resnet18"), pyramid_channels=8, pre_nms_per_level=2)
    torch.manual_seed(0)
    scores = torch.rand(2, 7, 3)
    kept = head.keep_best(scores, head_output := type("Levels", (), {"levels": (5, 2)}))
    assert head_output.levels == (5, 2)
    for image, few in zip(scores, kept, strict=True):
        for a, b in ((0, 5), (5, 7)):
            best = sorted(image[a:b].flatten().tolist())[-2:]
            assert sorted(few[a:b][few[a:b] > 0].tolist()) == best


def test_number_of_parameters():
    # torchvision's first version keeps its 26,560 scales and shifts of normalisation frozen.
    with torch.device("meta"):
        backbone = ResNet(name="resnet50")
        frozen = [
            p for key, p in backbone.named_parameters() if "bn" in key or "downsample.1" in key
        ]
        parts = {name: retina(backbone, name, classes=91) for name in ("retina", "retina_v2")}
    held = {
        n: sum(p.numel() for m in (backbone, h) for p in m.parameters()) for n, h in parts.items()
    }
    assert held["retina"] - sum(p.numel() for p in frozen) == 34_014_999
    assert held["retina_v2"] == 38_198_935


def slow_labels(head, output, truth, batch):
    """By the paper and torchvision's rule for each object's best slots, one image at a time."""
    found = torch.full((batch, len(output.slots)), BACKGROUND)
    for i in range(batch):
        objects = truth.of(i)
        if not len(objects):
            continue
        overlap = torchvision.ops.box_iou(objects.boxes, output.slots)
        for slot in range(overlap.shape[1]):
            column = overlap[:, slot]
            best = int(column.argmax())
            rows = range(len(objects))
            is_best = any(column[o] > 0 and column[o] == overlap[o].max() for o in rows)
            if column[best] >= head.positive or is_best:
                found[i, slot] = objects.labels[best]
            elif column[best] >= head.negative:
                found[i, slot] = IGNORE
    return found


def test_assign_equals_the_slow_loop():
    backbone = ResNet(name="resnet18")
    head = retina(backbone, pyramid_channels=8, levels=3, first_stride=16)
    with torch.no_grad():
        output = head(blank(backbone, 3), SIZE)
    truth = torchvisions.objects(3, SIZE, CLASSES, each=8)
    assert torch.equal(head.assign(output, truth).labels, slow_labels(head, output, truth, 3))


def test_500_objects_an_image():
    backbone = ResNet(name="resnet18")
    head = retina(backbone, pyramid_channels=8, levels=3)
    with torch.no_grad():
        output = head(blank(backbone, 2), SIZE)
    truth = torchvisions.objects(2, SIZE, CLASSES, each=500)
    terms = loss()(output, head.assign(output, truth))
    assert all(term.isfinite() for term in terms.values())
    nothing = loss()(output, head.assign(output, Objects.empty()))
    assert nothing["box"] == 0 and nothing["class"].isfinite()


def test_even_weights_by_hand():
    labels = torch.tensor([[0, 1, BACKGROUND], [IGNORE, 2, BACKGROUND], [BACKGROUND] * 3])
    # 3 positives over 3 images with 2, 1 and (at least) 1: 3 / (3 * 2), 3 / (3 * 1), 3 / (3 * 1)
    assert per_image_weights(labels)[:, 0].tolist() == [0.5, 1, 1]


def test_loss_before_training():
    # Scores start at .01. A negative slot of C classes costs C * .75 * .01 ** 2 * -ln(.99), a
    # positive one of them .25 * .99 ** 2 * -ln(.01) instead: .00000226 * slots and 1.1284.
    backbone = ResNet(name="resnet18")
    head = retina(backbone, pyramid_channels=8, levels=3)
    for layer in (head.classes[1], head.boxes[1]):
        torch.nn.init.zeros_(layer.weight)
    with torch.no_grad():
        output = head(blank(backbone, 1), SIZE)
    truth = torchvisions.objects(1, SIZE, CLASSES)
    assigned = head.assign(output, truth)
    positive, counted = (assigned.labels >= 0).sum(), (assigned.labels != IGNORE).sum()
    want = 1.12836 + (counted * CLASSES - positive) * 7.5378e-7 / positive
    assert loss()(output, assigned)["class"].item() == pytest.approx(want.item(), rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "outputs"),
    [
        ({"extra_from": "c5"}, "head.extra_from=c5: expected p or c"),
        ({"first_stride": 64}, "needs a map of stride 64 or more"),
        ({"scales": []}, r"head\.scales=\[\]: expected a list of 1 to 100, each a number above 0"),
    ],
)
def test_refusals(wrong, outputs):
    with pytest.raises(UserError, match=outputs):
        retina(ResNet(name="resnet18"), **wrong)
