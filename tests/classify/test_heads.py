"""Heads that say a class of the whole image."""

from itertools import product

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from classify.backbones.googlenet import GoogLeNet
from classify.heads.attention import Attention
from classify.heads.auxiliary import Auxiliary
from classify.heads.linear import Linear, both, stochastic
from classify.heads.mlp import MLP
from classify.heads.stacked_linear import StackedLinear
from classify.losses import BCE, MSE, CrossEntropy, Focal
from engine.errors import UserError
from engine.record import Meta, Record
from engine.structures import IGNORE, Objects, Output, Sample, collate

CLASSES, CHANNELS, SIZE = 5, (4, 6, 8), (96, 128)
HEADS = {
    "linear": (Linear, {}),
    "linear max": (Linear, {"pooling": "max"}),
    "linear both": (Linear, {"pooling": "both", "dropout": 0.1}),
    "linear stochastic": (Linear, {"pooling": "stochastic"}),
    "mlp": (MLP, {"grid": 2, "hidden": [7, 6]}),
    "mlp first": (MLP, {"grid": 1, "hidden": [7], "act": "hardswish", "dropout_first": True}),
    "attention soft": (Attention, {}),
    "attention local": (Attention, {"kind": "local"}),
    "attention hard": (Attention, {"kind": "hard"}),
    "auxiliary": (Auxiliary, {"maps": [0, 1]}),
    "extra": (StackedLinear, {"inner": 9}),
}
LOSSES = {
    "softmax": [CrossEntropy(), MSE()],
    "sigmoid": [BCE(), Focal(), MSE(activation="sigmoid")],
}


def make(name, activation="softmax", **options):
    torch.manual_seed(0)
    kind, settings = HEADS[name]
    settings = settings | options
    return kind(channels=CHANNELS, num_classes=CLASSES, activation=activation, **settings)


def features(batch=4):
    return [
        torch.randn(batch, c, 6 * 2**i, 8 * 2**i) for c, i in zip(CHANNELS, (2, 1, 0), strict=True)
    ]


def truth(*images):
    """Labels of each image; a negative one -k - 1 is class k, ignored."""
    rows = [(i, label) for i, labels in enumerate(images) for label in labels]
    image, labels = (torch.tensor(column) for column in zip(*rows, strict=True))
    boxes = torch.tensor([0.0, 0.0, SIZE[1], SIZE[0]]).expand(len(rows), 4)
    ignore = labels < 0
    return Objects(boxes, torch.where(ignore, -labels - 1, labels), image, ignore=ignore)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", HEADS)
def test_oracle(name, activation):
    """A network that says what it should is decoded to the truth."""
    several = activation == "sigmoid"
    true = truth([3], [0, 4], [], [1, 2]) if several else truth([3], [0], [4], [0])
    head = make(name, activation)
    output = head(features(), SIZE)
    labels = head.assign(output, true).labels
    hot = labels == 1 if several else nn.functional.one_hot(labels, CLASSES) > 0
    said = output._replace(logits=torch.where(hot, 20.0, -20.0))
    found = head.decode(said)
    found = found.select(found.scores > 0.5)
    assert found.batch_index.tolist() == true.batch_index.tolist()
    assert sorted(zip(found.batch_index.tolist(), found.labels.tolist(), strict=True)) == sorted(
        zip(true.batch_index.tolist(), true.labels.tolist(), strict=True)
    )
    assert torch.equal(found.boxes, true.boxes)


def test_labels_of_a_softmax():
    head = make("linear")
    labels = head.assign(head(features(3), SIZE), truth([2], [-4], [])).labels
    assert labels.tolist() == [[2], [IGNORE], [-1]]


def test_labels_of_a_sigmoid():
    head = make("linear", "sigmoid")
    # Image 1 shows class 3 for sure and again as ignored; image 2 nothing.
    labels = head.assign(head(features(3), SIZE), truth([2, -1], [-4, 3], [])).labels
    assert labels[:, 0].tolist() == [[IGNORE, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]


def test_mixed_images_get_shares_of_their_classes():
    objects = truth([1, 3], [2], [4, 4], [0, -2])
    objects.scores = torch.tensor([0.75, 0.25, 1.0, 0.5, 0.5, 0.25, 0.75])
    for activation in ("softmax", "sigmoid"):
        head = make("linear", activation)
        labels = head.assign(Output(torch.zeros(4, 1, CLASSES)), objects).labels
        assert labels[:, 0].tolist() == [
            [0, 0.75, 0, 0.25, 0],
            [0, 0, 1, 0, 0],
            [0, 0, 0, 0, 1],
            [0.25, IGNORE, 0, 0, 0],
        ]


def mixed_sample(*labels, scores=None):
    record = Record("x", "x.png", np.array(labels, np.int64))
    meta = Meta(0, "x", "x.png", SIZE, np.eye(3)[:2])
    scores = None if scores is None else np.array(scores, np.float32)
    return Sample(np.zeros((*SIZE, 3), np.uint8), record, meta, scores)


@pytest.mark.parametrize("device", ["cpu", "other"])
def test_shares_stay_where_as_many_images_have_no_label(device):
    # Two labels, none, one label mixed with an image without one, none: three of four.
    batch = collate([mixed_sample(1, 3, scores=[0.75, 0.25]), mixed_sample(),
                     mixed_sample(2, scores=[0.5]), mixed_sample()])  # fmt: skip
    objects = batch.objects
    if device == "other":  # without a value: reading one there would be a sync
        objects = objects.to("meta")
        assert objects.has_shares and not truth([0], [1]).to("meta").has_shares
        objects = type(objects)(**vars(batch.objects))
    for activation in ("softmax", "sigmoid"):
        head = make("linear", activation)
        labels = head.assign(Output(torch.zeros(4, 1, CLASSES)), objects).labels
        assert labels[:, 0].tolist() == [
            [0, 0.75, 0, 0.25, 0], [0, 0, 0, 0, 0], [0, 0, 0.5, 0, 0], [0, 0, 0, 0, 0]
        ]  # fmt: skip


def test_of_equal_scores_the_lower_class_comes_first():
    for activation, classes in product(("softmax", "sigmoid"), (5, 40)):
        head = Linear(channels=(4,), num_classes=classes, activation=activation, top=classes)
        found = head.decode(Output(torch.zeros(3, 1, classes), slots=torch.zeros(1, 4)))
        assert found.labels.view(3, classes).tolist() == [list(range(classes))] * 3
        logits = torch.zeros(1, 1, classes)
        logits[0, 0, 3] = 1
        few = Linear(channels=(4,), num_classes=classes, activation=activation, top=3)
        assert few.decode(Output(logits, slots=torch.zeros(1, 4))).labels.tolist() == [3, 0, 1]


def test_the_best_few_are_decoded_best_first():
    head = make("linear", top=2)
    logits = torch.tensor([0.1, 0.4, 0.3, 0.15, 0.05]).log().view(1, 1, 5)
    found = head.decode(head(features(1), SIZE)._replace(logits=logits))
    assert found.labels.tolist() == [1, 2]
    assert found.scores.tolist() == pytest.approx([0.4, 0.3])
    assert found.boxes.tolist() == [[0, 0, 128, 96]] * 2
    assert len(make("linear", top=9).decode(head(features(1), SIZE))) == CLASSES


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_gets_a_gradient_from_every_loss(name, activation):
    for loss in LOSSES[activation]:
        head = make(name, activation)
        assert loss.requires <= head.outputs <= loss.trains
        output = head(features(), SIZE)
        terms = loss(output, head.assign(output, truth([3], [0], [4], [0])))
        sum(terms.values()).backward()
        for key, parameter in head.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            assert parameter.grad.any(), key


def test_pooling_by_hand():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-1.0, 0.0], [0.0, 1.0]]]])
    assert both(x).tolist() == [[6, 1, 3, 0]]
    # Channel 0: (1 + 4 + 9 + 36) / 12; channel 1: the one positive cell.
    assert stochastic(x, training=False)[0].tolist() == pytest.approx([50 / 12, 1])
    assert stochastic(torch.zeros(1, 1, 2, 2), training=False).tolist() == [[0]]


def test_stochastic_pooling_draws_by_activation():
    torch.manual_seed(0)
    x = torch.tensor([1.0, 0.0, 3.0, 6.0]).view(1, 1, 2, 2).expand(20_000, 1, 2, 2)
    drawn = stochastic(x, training=True).flatten()
    assert set(drawn.tolist()) == {1.0, 3.0, 6.0}
    # Each with probability 1/10, 3/10, 6/10: mean 4.6, deviation of the mean 0.013.
    assert drawn.mean().item() == pytest.approx(4.6, abs=0.06)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vgg11", {}),
        ("alexnet", {"grid": 6, "dropout_first": True}),
        ("mobilenet_v3_small", {"grid": 1, "hidden": [1024], "act": "hardswish", "dropout": 0.2}),
    ],
)
def test_an_mlp_is_torchvisions_classifier(name, options):
    theirs = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    width = {"vgg11": 512, "alexnet": 256, "mobilenet_v3_small": 576}[name]
    head = MLP(channels=[width], num_classes=7, activation="softmax", **options).eval()
    state = dict(zip(head.state_dict(), theirs.classifier.state_dict().values(), strict=True))
    head.load_state_dict(state)
    x = torch.randn(2, width, 7, 7)
    with torch.no_grad():
        expected = theirs.classifier(theirs.avgpool(x).flatten(1))
        torch.testing.assert_close(head([x], (224, 224)).logits[:, 0], expected)


def test_auxiliary_slots_count_three_tenths():
    head = make("auxiliary")
    output = head(features(2), SIZE)
    assert output.logits.shape == (2, 3, CLASSES)
    total = CrossEntropy()(output, head.assign(output, truth([3], [1])))["class"]
    want = torch.tensor([3, 1])
    main, one, two = (nn.functional.cross_entropy(output.logits[:, s], want) for s in range(3))
    torch.testing.assert_close(total, main + 0.3 * (one + two))
    sure = head.assign(output, truth([3], [1]))
    assert head.decode(output).batch_index.tolist() == [0] * 5 + [1] * 5
    assert sure.labels.tolist() == [[3, 3, 3], [1, 1, 1]]


def test_auxiliary_slots_are_only_for_training():
    head, plain = make("auxiliary").eval(), make("linear").eval()
    plain.load_state_dict(head.linear.state_dict(prefix="linear."))
    head.auxiliary.forward = None  # would fail if it ran
    x = features(2)
    torch.testing.assert_close(head(x, SIZE).logits, plain(x, SIZE).logits)


def test_auxiliary_slots_change_what_the_backbone_learns():
    maps = [f.requires_grad_() for f in features(2)]
    head = make("auxiliary")
    output = head(maps, SIZE)
    CrossEntropy()(output, head.assign(output, truth([3], [1])))["class"].backward()
    assert maps[0].grad.any() and maps[1].grad.any()


def test_googlenet_with_its_auxiliary_classifiers():
    backbone = GoogLeNet()
    head = Auxiliary(channels=backbone.channels, num_classes=1000, activation="softmax")
    parts = [p.numel() for part in (backbone, head) for p in part.parameters()]
    assert sum(parts) == 13_004_888
    theirs = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    classifiers = [v for k, v in theirs.state_dict().items() if k.startswith(("aux", "fc."))]
    assert [v.shape for v in head.state_dict().values()] == [v.shape for v in classifiers]


@pytest.mark.parametrize("kind", ["soft", "local", "hard"])
def test_attention_weights_sum_to_one_and_pool(kind):
    head = make(f"attention {kind}").eval()
    x = features(3)
    logits = head(x, SIZE).logits[:, 0]
    weights = head.attention
    assert weights.shape == (3, 6, 8) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(3))
    pooled = (x[-1] * weights[:, None]).sum((2, 3))
    torch.testing.assert_close(head.linear(pooled), logits)
    assert (weights.amax((1, 2)) == 1).all() == (kind == "hard")


def test_local_attention_sees_only_its_window():
    head = make("attention local", window=0.25)
    nn.init.zeros_(head.centre.weight)
    nn.init.constant_(head.centre.bias, 0.0)  # sigmoid(0): the centre, between rows 2 and 3
    nn.init.zeros_(head.score.weight)
    head(features(1), SIZE)
    seen = head.attention[0] > 0
    # Rows are 1/6 apart, centres 1/12, 3/12, 5/12, ...: those within 1/4 of 1/2 are rows 1 to 4.
    assert seen.any(1).tolist() == [False, True, True, True, True, False]
    # Columns 1/16, 3/16, 5/16, ...: within 1/4 are 5/16 to 11/16.
    assert seen.any(0).tolist() == [False, False, True, True, True, True, False, False]
    # A Gaussian of deviation 1/8: from 1/12 off to 3/12 off, exp(-(9 - 1) / 144 / 2 * 64).
    column = head.attention[0, :, 3]
    assert (column[1] / column[2]).item() == pytest.approx(2.718281828 ** (-8 / 144 * 32), rel=1e-4)


def test_hard_attention_is_drawn_and_learns():
    head = make("attention hard")
    head(features(64), SIZE)
    weights = head.attention.flatten(1)
    assert ((weights - weights.round()).abs() < 1e-6).all()
    assert len(set(weights.argmax(1).tolist())) > 8  # of 48 cells


def test_extra_reads_the_pretrained_classifier():
    head = make("extra")
    x = features(2)
    inner = head.linear(x[-1].mean((2, 3)))
    torch.testing.assert_close(head(x, SIZE).logits[:, 0], head.extra(inner))
    assert head.groups() == [[head.linear], [head.extra]]


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (Linear, {"pooling": "agv"}, "head.pooling=agv: expected one of avg.*did you mean 'avg'"),
        (MLP, {"act": "swish"}, "head.act=swish: expected one of relu, hardswish"),
        (Attention, {"kind": "sof"}, "head.kind=sof: expected one of soft, local, hard"),
        (Attention, {"temperature": 0.0}, "expected above 0"),
        (Auxiliary, {"maps": [3]}, r"head.maps=\[3\]: this backbone has maps 0 to 2"),
    ],
)
def test_wrong_arguments(kind, wrong, message):
    with pytest.raises(UserError, match=message):
        kind(channels=CHANNELS, num_classes=2, activation="softmax", **wrong)


def test_output_is_a_slot_an_image():
    output = make("linear")(features(2), SIZE)
    assert isinstance(output, Output) and output.boxes is None
    assert output.slots.tolist() == [[0, 0, 128, 96]]
