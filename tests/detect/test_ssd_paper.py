"""SSD as published: compared with torchvision's; boxes and layers with the paper's numbers."""

import pytest
import torch
import torchvision
import torchvisions
from omegaconf import OmegaConf
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from detect.anchors import default_boxes, default_shapes
from engine.builders.instantiate import part
from engine.errors import UserError
from engine.structures import Objects, Output
from engine.weights import pretrained

CLASSES = 3
DETECTION = torchvision.models.detection
KINDS = {  # torchvision's maker; our backbone and head; side of the image; class logits' layers
    "ssd300": (DETECTION.ssd300_vgg16, "vgg16_ssd", "ssd_paper_300", 300),
    "lite": (DETECTION.ssdlite320_mobilenet_v3_large, "mobilenet_v3_ssd", "ssd_paper_lite", 320),
}


def make(group, name, **options):
    given = {k: options.pop(k) for k in list(options) if k in ("channels", "strides")}
    if group == "head":
        given |= {"num_classes": options.pop("classes", CLASSES), "activation": "softmax"}
    node = OmegaConf.merge(torchvisions.configured(group, name), options)
    return part(node, group, **given)


def head(name, backbone, **options):
    return make("head", name, channels=backbone.channels, strides=backbone.strides, **options)


def build_pair(kind, folder, images=None):
    """torchvision's detector and ours, which has read its file."""
    maker, backbone, name, side = KINDS[kind]
    net = maker(weights=None, weights_backbone=None, num_classes=CLASSES + 1)
    torchvisions.shaken(net)
    torch.nn.init.constant_(getattr(net.backbone, "scale_weight", torch.zeros(1)), 20)
    images = torchvisions.images(2, (side, side)) if images is None else images
    branches = (net.head.classification_head, net.head.regression_head)
    last = [[m[-1] if len(list(m.children())) else m for m in b.module_list] for b in branches]
    torchvisions.settled(net, images, *last)
    torch.save(net.state_dict(), folder / "net.pth")
    ours = make("backbone", backbone, weights=str(folder / "net.pth"))
    made = head(name, ours)
    assert pretrained.fill(made, ours.pretrained.unused_tensors)
    return net.eval(), torchvisions.network(ours, made, make("loss", "multibox")), side


@pytest.fixture(
    scope="module",
    params=[pytest.param(k, marks=pytest.mark.slow) if k == "ssd300" else k for k in KINDS],
)
def pair(request, tmp_path_factory):
    return build_pair(request.param, tmp_path_factory.mktemp("w"))


def test_everything_equals_torchvisions(pair):
    net, ours, side = pair
    images = torchvisions.images(2, (side, side))
    truth = torchvisions.objects(2, (side, side), CLASSES)
    with torch.no_grad():
        normal, _ = net.transform(list(images / 255))
        maps = list(net.backbone(normal.tensors).values())
        want, found = net.head(maps), net(list(images / 255))
        output = torchvisions.said(ours, net, images)
        got, costs = ours.losses(output, truth), torchvisions.losses(net, images, truth)
    net.eval()
    torch.testing.assert_close(output.boxes, want["bbox_regression"], atol=1e-5, rtol=1e-5)
    last_first = output.logits.roll(1, -1)
    torch.testing.assert_close(last_first, want["cls_logits"], atol=1e-5, rtol=1e-5)
    assert torch.equal(output.slots, net.anchor_generator(normal, maps)[0])
    assert got["class"].item() == pytest.approx(costs["classification"].item(), rel=1e-4)
    assert got["box"].item() == pytest.approx(costs["bbox_regression"].item(), rel=1e-4)
    torchvisions.assert_found_alike(ours.decode(output), found)


def test_detections_of_a_real_image_equal_torchvisions(shared_data, tmp_path):
    images = torchvisions.real(shared_data, (320, 320))
    net, ours, _ = build_pair("lite", tmp_path, images)
    with torch.no_grad():
        found = ours.decode(torchvisions.said(ours, net, images))
        torchvisions.assert_found_alike(found, net(list(images / 255)))


@pytest.mark.slow
def test_ssd300_of_a_real_image_equals_torchvisions(shared_data, tmp_path):
    images = torchvisions.real(shared_data, (300, 300))
    net, ours, _ = build_pair("ssd300", tmp_path, images)
    with torch.no_grad():
        found = ours.decode(torchvisions.said(ours, net, images))
        torchvisions.assert_found_alike(found, net(list(images / 255)))


@pytest.mark.parametrize(
    ("backbone", "name", "classes", "parameters"),
    [
        ("vgg16_ssd", "ssd_paper_300", 20, 26_285_486),
        ("vgg16_ssd", "ssd_paper_300", 90, 35_641_826),
        ("mobilenet_v3_ssd", "ssd_paper_lite", 90, 3_440_060),
    ],
)
def test_number_of_parameters(backbone, name, classes, parameters):
    with torch.device("meta"):
        below = make("backbone", backbone)
        made = head(name, below, classes=classes)
    assert sum(p.numel() for m in (below, made) for p in m.parameters()) == parameters


@pytest.mark.parametrize(
    ("backbone", "name", "side", "counts"),
    [
        ("vgg16_ssd", "ssd_paper_300", 300, (5776, 2166, 600, 150, 36, 4)),  # 38 * 38 * 4, ...
        ("vgg16_ssd", "ssd_paper_512", 512, (16384, 6144, 1536, 384, 96, 16, 4)),  # 64 * 64 * 4
        ("mobilenet_v3_ssd", "ssd_paper_lite", 320, (2400, 600, 150, 54, 24, 6)),  # 20 * 20 * 6
    ],
)
def test_number_of_boxes(backbone, name, side, counts):
    below = make("backbone", backbone)
    maps = [torch.zeros(1, c, -(-side // s), -(-side // s))
            for c, s in zip(below.channels, below.strides, strict=True)]  # fmt: skip
    with torch.no_grad():
        output = head(name, below).eval()(maps, (side, side))
    assert output.levels == counts and len(output.slots) == sum(counts) == output.logits.shape[1]
    assert sum(counts) in (8732, 24564, 3234)
    centres = (output.slots[:, :2] + output.slots[:, 2:]) / 2
    assert (centres > 0).all() and (centres < side + 8).all()


@pytest.mark.parametrize("steps", [None, [8, 16, 32, 64, 100, 300]])
@pytest.mark.parametrize("size", [(300, 300), (320, 416)])
def test_default_boxes_equal_torchvisions_to_the_last_bit(steps, size):
    scales, ratios = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05], [[2], [2, 3], [3]] * 2
    grids = [(38, 38), (19, 21), (10, 10), (5, 6), (3, 3), (1, 1)]
    reference = DefaultBoxGenerator(ratios, scales=scales, steps=steps)
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    (want,) = reference(ImageList(torch.zeros(1, 3, *size), [size]), maps)
    shapes = default_shapes(scales, ratios)
    every = zip(grids, shapes, steps or [None] * 6, strict=True)
    assert torch.equal(torch.cat([default_boxes(g, s, size, p)[0] for g, s, p in every]), want)


def test_default_boxes_by_hand():
    # Scale .2 and the next .8: squares of .2 and sqrt(.2 * .8) = .4; ratio 4: .4 x .1, upright
    # .1 x .4. Scale 2 is cut to the image.
    shapes, large = default_shapes([0.2, 0.8, 2.0], [[4], []])
    expected = [[0.2, 0.2], [0.4, 0.4], [0.4, 0.1], [0.1, 0.4]]
    torch.testing.assert_close(shapes, torch.tensor(expected))
    torch.testing.assert_close(large, torch.tensor([[0.8, 0.8], [1.0, 1.0]]))
    boxes, cells = default_boxes((1, 2), torch.tensor([[0.5, 0.25]]), (40, 80), 32)
    # Centres (16, 16) and (48, 16), sides .5 * 80 = 40 and .25 * 40 = 10
    expected = [[-4.0, 11, 36, 21], [28, 11, 68, 21]]
    torch.testing.assert_close(boxes, torch.tensor(expected))
    assert cells.tolist() == [[40, 40]] * 2  # which divide the image, whatever the step
    boxes, cells = default_boxes((1, 2), torch.tensor([[0.5, 0.25]]), (40, 80))
    assert boxes.tolist() == [[0, 15, 40, 25], [40, 15, 80, 25]]
    assert cells.tolist() == [[40, 40]] * 2


def test_loss_before_training_and_many_objects():
    below = make("backbone", "mobilenet_v3_ssd")
    made = head("ssd_paper_lite", below).eval()
    with torch.no_grad():
        output = made([torch.zeros(2, 672, 20, 20), torch.zeros(2, 480, 10, 10)], (320, 320))
    loss = make("loss", "multibox")
    truth = torchvisions.objects(2, (320, 320), CLASSES)
    terms = loss(output, made.assign(output, truth))
    # ln 4 = 1.3863 of one positive and three negatives each
    assert terms["class"].item() == pytest.approx(4 * 1.38629, rel=1e-4)
    many = torchvisions.objects(2, (320, 320), CLASSES, each=500)
    for objects in (many, Objects.empty()):
        terms = loss(output, made.assign(output, objects))
        assert all(term.isfinite() for term in terms.values())


@pytest.mark.parametrize("name", ["ssd_paper_300", "ssd_paper_lite"])
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    below = make("backbone", "vgg16_ssd" if name == "ssd_paper_300" else "mobilenet_v3_ssd")
    side = 300
    made = head(name, below).train()
    maps = [torch.randn(2, c, -(-side // s), -(-side // s))
            for c, s in zip(below.channels, below.strides, strict=True)]  # fmt: skip
    output = made(maps, (side, side))
    firsts = [level[:1] for level in output.slots.split(output.levels)]
    slots = torch.cat(firsts)  # a box of each level
    truth = Objects(slots, torch.arange(len(slots)) % CLASSES)
    loss = make("loss", "multibox", negatives=1e6)
    sum(loss(output, made.assign(output, truth)).values()).backward()
    for key, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


def test_the_best_slots_of_each_class_enter_nms():
    with torch.device("meta"):
        made = head("ssd_paper_lite", make("backbone", "mobilenet_v3_ssd"), per_class=2)
    # A row is a slot, a column a class. Of each column the two highest stay, so a slot keeps all
    # of its classes (the first) or none (the last).
    scores = torch.tensor([[[0.9, 0.8, 0.7], [0.1, 0.6, 0.2], [0.3, 0.4, 0.5], [0.2, 0.1, 0.1]]])
    best = [[[0.9, 0.8, 0.7], [0.0, 0.6, 0.0], [0.3, 0.0, 0.5], [0.0, 0.0, 0.0]]]
    output = Output(torch.zeros(1, 4, 3))
    torch.testing.assert_close(made.keep_best(scores, output), torch.tensor(best))


def test_conv4_3_has_length_20_in_every_cell():
    below = make("backbone", "vgg16_ssd")
    torch.manual_seed(0)
    length = below.scale(torch.randn(1, 512, 3, 3)).norm(dim=1)
    torch.testing.assert_close(length, torch.full((1, 3, 3), 20.0))


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        ({"scales": [0.1, 0.2]}, "6 maps of the backbone and extras, 6 ratios, 2 scales, 6 steps"),
        ({"steps": [8]}, "1 steps; expected one of each per map"),
        ({"first_stride": 64}, "needs a map of stride 64 or more"),
    ],
)
def test_refusals(options, outputs):
    with torch.device("meta"):
        below = make("backbone", "vgg16_ssd")
    with pytest.raises(UserError, match=outputs):
        head("ssd_paper_300", below, **options)


def test_an_image_too_small_for_the_last_level():
    below = make("backbone", "vgg16_ssd")
    made = head("ssd_paper_300", below)
    with pytest.raises(UserError, match="leaves no map for level 5 of 6.*set a larger size"):
        made([torch.zeros(1, 512, 8, 8), torch.zeros(1, 1024, 4, 4)], (64, 64))
