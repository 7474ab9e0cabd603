"""Faster R-CNN against torchvision's own, and by hand."""

from dataclasses import dataclass
from math import log

import hydra
import pytest
import torch
from epochs import epoch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import box_iou

from classify.backbones.resnet import ResNet
from detect.heads.faster_rcnn import FasterRCNN
from detect.losses.faster_rcnn import FasterRCNN as Loss
from detect.two_stage import Proposals, Regions, SampledRois, Sampling, ignore_overlapping
from engine.builders import parts
from engine.builders.run import prepare
from engine.config.schema import CONFIGS, Precision
from engine.errors import UserError
from engine.network import Network, groups
from engine.structures import BACKGROUND, IGNORE, Assigned, Objects, Output
from engine.training.checkpointer import Checkpointer
from engine.training.ema import Average
from engine.training.precision import autocast
from engine.training.seed import random_states
from engine.weights import checkpoint

CLASSES, CHANNELS, STRIDES = 5, (8, 8, 16, 16), (4, 8, 16, 32)
SIZE = (128, 160)  # height, width
ALL = 100_000  # more than there are anchors or regions: nothing is left to chance
EVERY = {
    "anchor_sampling": Sampling(positive=0.7, negative=0.3, count=2 * ALL, share=0.5),
    "region_sampling": Sampling(positive=0.5, negative=0.5, count=4 * ALL, share=0.25),
}


SMALL = {
    "pyramid_channels": 16,
    "hidden": 32,
    "proposals": Proposals(pre_nms_top_n=(300, 200), post_nms_top_n=(400, 200)),
}


def make(**options):
    torch.manual_seed(0)
    given = {"channels": CHANNELS, "strides": STRIDES, "num_classes": CLASSES}
    return FasterRCNN(**given | SMALL | options)


def features(size=SIZE, batch=1):
    height, width = size
    maps = zip(CHANNELS, STRIDES, strict=True)
    return [torch.randn(batch, c, -(-height // s), -(-width // s)) for c, s in maps]


def network(**options):
    torch.manual_seed(0)
    backbone = ResNet(name="resnet18")
    given = {"channels": backbone.channels, "strides": backbone.strides, "num_classes": CLASSES}
    head = FasterRCNN(**given | SMALL | options)
    mean, std = (0.0,) * 3, (1.0,) * 3
    return Network(backbone=backbone, head=head, criterion=Loss(), mean=mean, std=std)


def scene():
    """Three images of 128 x 160; the second is empty."""
    boxes = [[10, 20, 100, 120], [90, 10, 150, 70], [3, 3, 30, 30], [60, 64, 160, 128.0]]
    return Objects(torch.tensor(boxes), torch.tensor([0, 4, 2, 2]), torch.tensor([0, 0, 2, 2]))


def noise(batch=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (batch, 3, *SIZE), dtype=torch.uint8, generator=generator)


def one(*box, label=3, **fields):
    return Objects(torch.tensor([box]).float(), torch.tensor([label]), **fields)


def torchvisions(net, **options):
    """torchvision's Faster R-CNN with the weights of ours, its transform an identity."""
    layers = {f"layer{i + 1}": str(i) for i in range(4)}
    backbone = BackboneWithFPN(resnet18(), layers, [64, 128, 256, 512], 16)
    identity = {"min_size": SIZE[0], "max_size": SIZE[1], "image_mean": [0] * 3,
                "image_std": [1] * 3}  # fmt: skip
    second = {"box_head": TwoMLPHead(16 * 49, 32), "box_predictor": FastRCNNPredictor(32, 6)}
    numbers = {"rpn_pre_nms_top_n_train": 300, "rpn_pre_nms_top_n_test": 200,
               "rpn_post_nms_top_n_train": 400, "rpn_post_nms_top_n_test": 200}  # fmt: skip
    theirs = TorchvisionFasterRCNN(backbone, **identity, **second, **numbers, **options)
    state = {}
    for key, value in net.state_dict().items():
        for ours, name in (("backbone.", "backbone.body."), ("head.pyramid.", "backbone.fpn."),
                           ("head.rpn.", "rpn."), ("head.stage.", "roi_heads.")):  # fmt: skip
            if key.startswith(ours):
                state[name + key.removeprefix(ours)] = value
    theirs.load_state_dict(state)
    theirs.transform.torch_choice = lambda sizes: sizes[0]  # it would draw, of one size
    return theirs


def randomised(net):
    """Random weights, at which proposals differ in score and position."""
    torch.manual_seed(3)
    first, second = net.head.rpn.head, net.head.stage.box_predictor
    for layer, std in ((first.cls_logits, 0.2), (first.bbox_pred, 0.05), (second.cls_score, 0.5),
                       (second.bbox_pred, 0.5)):  # fmt: skip
        nn.init.normal_(layer.weight, std=std)
    return net


def targets(true, batch=3):
    return [{"boxes": o.boxes, "labels": o.labels + 1} for o in map(true.of, range(batch))]


@pytest.mark.parametrize("every", [True, False], ids=["all sampled", "the same draws"])
def test_losses_equal_torchvisions(every):
    net = randomised(network(**EVERY if every else {})).train()
    counts = {"rpn_batch_size_per_image": 2 * ALL, "box_batch_size_per_image": 4 * ALL}
    theirs = torchvisions(net, **counts if every else {}).train()
    images, true = noise(), scene()
    torch.manual_seed(7)
    wanted = theirs(list(images / 255), targets(true))
    torch.manual_seed(7)
    losses = net.losses(net(images), true)
    names = {"objectness": "loss_objectness", "proposal": "loss_rpn_box_reg",
             "class": "loss_classifier", "box": "loss_box_reg"}  # fmt: skip
    assert set(names) == set(losses)
    for ours, name in names.items():
        assert losses[ours] > 1e-4, ours
        torch.testing.assert_close(losses[ours], wanted[name], atol=1e-6, rtol=1e-4)


def test_gradients_equal_torchvisions():
    net = randomised(network()).train()
    theirs = torchvisions(net).train()
    torch.manual_seed(7)
    sum(theirs(list(noise() / 255), targets(scene())).values()).backward()
    torch.manual_seed(7)
    sum(net.losses(net(noise()), scene()).values()).backward()
    pairs = [
        (net.backbone.conv1, theirs.backbone.body.conv1),
        (net.head.pyramid.inner_blocks[0][0], theirs.backbone.fpn.inner_blocks[0][0]),
        (net.head.rpn.head.bbox_pred, theirs.rpn.head.bbox_pred),
        (net.head.stage.box_head.fc6, theirs.roi_heads.box_head.fc6),
    ]
    for ours, other in pairs:
        scale = other.weight.grad.abs().max()
        torch.testing.assert_close(ours.weight.grad / scale, other.weight.grad / scale,
                                   atol=1e-3, rtol=0)  # fmt: skip


def test_detections_equal_torchvisions():
    net = randomised(network()).eval()
    theirs = torchvisions(net).eval()
    with torch.no_grad():
        wanted = theirs(list(noise() / 255))
        found = net.decode(net(noise()))
    for i, want in enumerate(wanted):
        found_of_image = found.of(i)
        assert len(found_of_image) == 100
        assert torch.equal(found_of_image.labels, want["labels"] - 1)
        torch.testing.assert_close(found_of_image.scores, want["scores"], atol=1e-4, rtol=0)
        torch.testing.assert_close(found_of_image.boxes, want["boxes"], atol=1e-3, rtol=1e-4)


def test_anchors_by_hand():
    slots = make().eval()(features(), SIZE).slots
    # Level 1, stride 4: sides of 8 * 4 = 32. Height / width .5: 32 * sqrt(2) = 45.25 wide, 22.63
    # high, halves rounded to 23 and 11; 1: 16 and 16; 2: 11 and 23.
    assert slots[:3].tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    assert slots[4].tolist() == [4 - 16, -16, 4 + 16, 16]  # the next column
    assert slots[3 * 40 + 1].tolist() == [-16, 4 - 16, 16, 4 + 16]  # the next row, of 40 columns
    # The last of all: stride 64, 2 x 3 cells, 8 * 64 = 512: 362 wide and 724 high, at (128, 64).
    assert slots[-1].tolist() == [128 - 181, 64 - 362, 128 + 181, 64 + 362]


@pytest.mark.parametrize(
    "size, slots",
    [
        # Maps 32 x 40, 16 x 20, 8 x 10, 4 x 5, and 2 x 3: (1280 + 320 + 80 + 20 + 6) * 3
        (SIZE, 5118),
        # 25 x 33, 13 x 17, 7 x 9, 4 x 5, 2 x 3: (825 + 221 + 63 + 20 + 6) * 3
        ((97, 131), 3405),
    ],
)
def test_anchors_reach_over_the_whole_image(size, slots):
    output = make().eval()(features(size), size)
    assert output.slots.shape == output.cells.shape[:1] + (4,) == (slots, 4)
    assert output.logits.shape == (1, slots, 1) and output.boxes.shape == (1, slots, 4)
    centres = (output.slots[:, :2] + output.slots[:, 2:]) / 2
    last = torch.tensor(size[::-1]) - 1
    assert torch.equal(centres.amax(0), (last // 4 * 4).float().maximum(last // 64 * 64.0))


def test_the_pooler_has_the_strides_whatever_the_first_image():
    head = make().eval()
    head(features((33, 33)), (33, 33)).regions  # noqa: B018
    assert head.stage.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    # arXiv 1612.03144, equation 1: level 4 + log2(side / 224), of levels 2 to 5.
    sides = torch.tensor([10.0, 111, 113, 223, 225, 447, 449, 3000])
    boxes = torch.cat([torch.zeros(8, 2), sides[:, None].expand(8, 2)], 1)
    assert head.stage.box_roi_pool.map_levels([boxes]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@dataclass
class PerfectRegions(Regions):
    """A perfect second stage."""

    true: Objects = None

    def of(self, image):
        return PerfectRegions(self.boxes[image : image + 1], self.maps, self.size, self.stage,
                       self.true.of(image))  # fmt: skip

    def __call__(self, boxes):
        best, matched = box_iou(boxes[0], torch.cat([self.true.boxes, torch.zeros(1, 4)])).max(1)
        label = torch.cat([self.true.labels, torch.tensor([-1])])[matched] + 1
        label = label.where(best >= 0.5, 0)
        logits = torch.full((len(label), CLASSES + 1), -20.0).scatter(1, label[:, None], 20)
        want = torch.cat([self.true.boxes, torch.tensor([[0.0, 0, 1, 1]])])[matched]
        code = torch.zeros(len(label), CLASSES + 1, 4)  # the other classes' boxes stay
        code[torch.arange(len(label)), label] = self.stage.box_coder.encode_single(want, boxes[0])
        return logits, code


def oracle(head, output, true, levels, size=SIZE):
    """The output of a perfect first and second stage."""
    assigned = head.assign(output, true)
    logits = torch.where(assigned.labels >= 0, 20.0, -20.0)[..., None]
    perfect = output._replace(logits=logits, boxes=assigned.boxes)
    boxes = head.propose(perfect, levels, size)
    old = output.regions
    return perfect._replace(regions=PerfectRegions(boxes, old.maps, size, old.stage, true))


@pytest.mark.parametrize("shift", [0, 3], ids=["right", "broken"])
def test_oracle(shift, monkeypatch):
    head = make(
        anchor_sampling=EVERY["anchor_sampling"], proposals=Proposals(post_nms_top_n=(20, 20))
    ).eval()
    decode = head.rpn.box_coder.decode
    monkeypatch.setattr(head.rpn.box_coder, "decode", lambda *code: decode(*code) + shift)
    output, true = head(features(batch=3), SIZE), scene()
    perfect = oracle(head, output, true, [3840, 960, 240, 60, 18])
    proposals = [b[:2] for b in perfect.regions.boxes]
    first = torch.stack([b for i in (0, 2) for b in proposals[i]])  # best first: the objects
    near = box_iou(first, true.boxes).amax(0) > 0.99
    assert near.all() if shift == 0 else not near.any()
    found = head.decode(perfect)  # the second stage mends what the first has shifted
    assert len(found) == 4
    order = found.batch_index * 10 + found.labels
    want = true.batch_index * 10 + true.labels
    order, rows = order.sort(stable=True)
    want, true_rows = want.sort(stable=True)
    assert torch.equal(order, want)
    for label in want.unique():
        overlap = box_iou(found.boxes[rows[order == label]], true.boxes[true_rows[want == label]])
        assert overlap.amax(0).min() > 0.999


def test_a_batch_without_objects_trains():
    net = network().train()
    output = net(noise(2))
    assigned = net.head.assign(output.float(), Objects.empty())
    assert (assigned.labels < 0).all() and (assigned.labels == BACKGROUND).sum() == 2 * 256
    assert (assigned.regions.labels == BACKGROUND).all()
    assert len(assigned.regions.labels) == sum(map(len, output.regions.boxes)) > 500
    assert assigned.boxes.isfinite().all() and assigned.regions.code.isfinite().all()
    losses = net.losses(output, Objects.empty())
    assert losses["box"] == losses["proposal"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_five_hundred_objects_train():
    torch.manual_seed(0)
    low = torch.rand(500, 2) * 100
    boxes = torch.cat([low, low + 5 + torch.rand(500, 2) * 23], 1)
    true = Objects(boxes, torch.randint(CLASSES, (500,)))
    head = make().train()
    output = head(features(batch=2), SIZE)
    assigned = head.assign(output, true)
    assert (assigned.labels[0] >= 0).sum() == 128  # half of 256
    assert (assigned.regions.labels >= 0).sum() == 128  # a quarter of 512
    assert all(x.isfinite() for x in Loss()(output, assigned).values())


def test_every_parameter_gets_a_gradient():
    net = network().train()
    sum(net.losses(net(noise()), scene()).values()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_losses_of_zero_logits():
    net = network().train()
    for layer in (net.head.rpn.head.cls_logits, net.head.stage.box_predictor.cls_score):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    losses = net.losses(net(noise()), scene())
    assert losses["objectness"].item() == pytest.approx(log(2))
    assert losses["class"].item() == pytest.approx(log(CLASSES + 1))


def test_initial_losses():
    losses = network().eval().losses(network().eval()(noise()), scene())
    assert losses["objectness"].item() == pytest.approx(log(2), abs=0.05)
    assert losses["class"].item() == pytest.approx(log(CLASSES + 1), abs=0.3)


def test_loss_by_hand():
    # Two regions of class 1 and background, with logits for the background and two classes.
    logits = torch.tensor([[0.0, 0, log(2)], [log(6), 0, 0]])
    code = torch.zeros(2, 3, 4)
    code[0, 2] = torch.tensor([0.5, 0, 0, 0])  # the box of the region's own class
    code[0, 1] = 9.0  # of another class: not used
    output = Output(
        torch.tensor([[[0.0], [0.0], [5.0], [0.0]]]),
        torch.tensor([[[1.0, 0, 0, 0], [7.0] * 4, [7.0] * 4, [7.0] * 4]]),
        regions=lambda boxes: (logits, code),
    )
    regions = SampledRois([torch.zeros(2, 4)], torch.tensor([1, BACKGROUND]), torch.zeros(2, 4))
    labels = torch.tensor([[0, BACKGROUND, IGNORE, BACKGROUND]])
    assigned = Assigned(labels, torch.zeros(1, 4, 4), regions=regions)
    losses = Loss(classes=2.0, beta=0.5)(output, assigned)
    # Three anchors compared, each ln 2: their mean. Its box is off by 1: 1 - beta / 2, over three.
    assert losses["objectness"].item() == pytest.approx(log(2))
    assert losses["proposal"].item() == pytest.approx((1 - 0.25) / 3)
    # p = 2/4 and 6/8: twice the mean of ln 2 and ln (4/3). Off by .5: .25 / (2 * .5), over two.
    assert losses["class"].item() == pytest.approx(log(2) + log(4 / 3), rel=1e-5)
    assert losses["box"].item() == pytest.approx(0.25 / 2)


def test_an_ignored_object_is_neither_sought_nor_background():
    head = make(**EVERY).train()
    output = head(features(), SIZE)
    box = (40, 40, 104, 104)  # 64 pixels, on the grid of stride 8
    near = box_iou(torch.tensor([box]).float(), output.slots)[0] >= 0.3
    anchors = head.assign(output, one(*box)).labels[0]
    assert (anchors >= 0).any() and (near | (anchors == BACKGROUND)).all()
    assigned = head.assign(output, one(*box, ignore=torch.tensor([True])))
    assert (assigned.labels[0] == torch.where(near, IGNORE, BACKGROUND)).all()
    regions = assigned.regions
    assert len(regions.boxes[0]) < len(output.regions.boxes[0])  # none added, some left out
    assert (regions.labels == BACKGROUND).all()
    assert (box_iou(torch.tensor([box]).float(), regions.boxes[0]) < 0.5).all()


def test_ignore_overlapping_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10], [20, 20, 30, 30]])
    labels = torch.tensor([0, 0, 1, 0])
    ignored = torch.tensor([[0.0, 0, 10, 10]])  # overlaps 1, .5, 1, 0
    assert ignore_overlapping(labels, boxes, ignored, 0.5).tolist() == [-1, -1, 1, 0]
    assert ignore_overlapping(labels, boxes, ignored, 0.6).tolist() == [-1, 0, 1, 0]
    assert ignore_overlapping(labels, boxes, ignored[:0], 0.5).tolist() == [0, 0, 1, 0]


def test_training_draws_anew_evaluation_always_the_same():
    head = make(anchor_sampling=Sampling(positive=0.7, negative=0.3, count=32, share=0.5))
    output = head(features(batch=3), SIZE)

    def labels():
        return head.assign(output, scene()).labels

    head.train()
    torch.manual_seed(0)
    first, second = labels(), labels()
    torch.manual_seed(0)
    assert torch.equal(first, labels()) and not torch.equal(first, second)
    head.eval()
    state = torch.get_rng_state()
    assert torch.equal(labels(), labels())
    assert torch.equal(state, torch.get_rng_state())  # the next epoch's draws do not depend on it


def test_an_image_is_decoded_alike_alone_and_in_a_batch():
    head = make().eval()
    output = head(features(batch=3), SIZE)
    together = head.decode(output)
    for i in range(3):
        alone = head.decode(output._replace(regions=output.regions.of(i)))
        assert torch.equal(alone.boxes, together.of(i).boxes)
        assert torch.equal(alone.scores, together.of(i).scores)
    assert torch.equal(head.decode(output.first(2)).batch_index.unique(), torch.tensor([0, 1]))


@pytest.mark.parametrize("training", [True, False])
def test_losses_and_decoding_are_float32(training):
    net = network().train(training)
    with autocast(Precision.bf16, torch.device("cpu")):
        output = net(noise())
    assert output.regions.maps["0"].dtype is output.logits.dtype is torch.bfloat16
    assert output.regions.boxes[0].dtype is torch.float32
    assert {x.dtype for x in net.losses(output, scene()).values()} == {torch.float32}
    assert net.decode(output).scores.dtype is torch.float32


def test_it_compiles_to_the_same():
    head, maps = make().eval(), features()
    with torch.no_grad():
        plain = head(maps, SIZE)
        head.compile(backend="eager")
        traced = head(maps, SIZE)
    assert torch.equal(plain.logits, traced.logits)
    assert torch.equal(plain.regions.boxes[0], traced.regions.boxes[0])


def test_the_average_is_a_network_of_its_own():
    net = network().eval()
    with torch.no_grad():
        output = Average(net, 0.9).module(noise(1))
        assert output.regions.stage is not net.head.stage
        assert torch.equal(output.logits, net(noise(1)).logits)


def test_all_that_the_backbone_does_not_hold_is_the_last_group():
    net = network()
    held = sum(p.numel() for p in net.head.parameters())
    assert sum(p.numel() for member in groups(net)[-1] for p in member.parameters()) == held


@pytest.mark.parametrize("strides", [(0,), (2,), (4, 16)])
def test_a_backbone_without_such_maps_is_refused(strides):
    with pytest.raises(UserError, match="each twice the one before; the backbone's have"):
        make(strides=strides, channels=(8, 8)[: len(strides)])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Sampling(positive=0.3, negative=0.7, count=1, share=0.5),
        lambda: Sampling(positive=0.7, negative=0.3, count=0, share=0.5),
        lambda: Proposals(post_nms_top_n=(1,)),
        lambda: Proposals(pre_nms_top_n=(1, 0)),
        lambda: make(scales=()),
    ],
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(UserError, match="expected|must"):
        wrong()


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides))


@pytest.mark.parametrize(
    ("overrides", "outputs"),
    [
        (["loss=focal"], "the head FasterRCNN outputs boxes + logits + regions: they do not fit. "
         "Losses that do: faster_rcnn"),
        (["head=ssd"], "needs boxes + logits + regions"),
        (["metric=top_k"], "the metric TopK scores logits, the head FasterRCNN outputs"),
        (["head.anchor_sampling.cout=1"],
         "head.anchor_sampling.cout: Sampling takes no such argument; did you"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(overrides, outputs):
    overrides = [f"+{o}" if "cout" in o else o for o in overrides]
    with pytest.raises(UserError) as caught:
        parts.check_all(compose("model=faster_rcnn_resnet18", *overrides))
    assert outputs in str(caught.value)


@pytest.mark.parametrize(
    "backbone", ["mobilenet_v1_025", "vgg11", "googlenet", "vit_tiny", "resnet18_cifar"]
)
def test_other_backbones_are_one_override_away(backbone):
    cfg = compose("model=faster_rcnn_resnet18", f"backbone={backbone}", "image_size=64")
    parts.check_all(cfg)
    torch.manual_seed(0)
    net = parts.network(cfg, 3, parts.backbone(cfg)).train()
    losses = net.losses(net(noise(2)[..., :64, :64]), one(5, 5, 50, 40, label=1))
    sum(losses.values()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("restored", [True, False])
def test_a_resumed_run_draws_what_it_would_have_drawn(restored, tmp_path):
    device = torch.device("cpu")
    cfg = compose("model=faster_rcnn_resnet18", "backbone=mobilenet_v1_025", "image_size=64",
                  "dataset.train=4", "dataset.val=2", "loader.batch_size=2", "loader.workers=0",
                  "trainer.ema=null", "trainer.epochs=2", "device=cpu")  # fmt: skip

    def start():
        torch.manual_seed(0)
        data = parts.dataset(cfg, "train")
        loader = parts.loader(cfg, data, device, shuffle=True)
        net = parts.network(cfg, len(data.classes), parts.backbone(cfg))
        return prepare(cfg, net, len(loader), device), loader

    run, loader = start()
    epoch(run, loader)
    Checkpointer(run, cfg, loader.dataset, tmp_path)()
    whole = epoch(run, loader)
    saved = checkpoint.load(str(tmp_path / "last.pt"), device)
    again, loader = start()
    if not restored:
        saved["random"] = random_states()
    again.restore(saved, "last.pt")
    assert (epoch(again, loader) == whole) is restored
