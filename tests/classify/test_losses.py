import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from classify import focal
from classify.losses import BCE, MSE, CrossEntropy, Focal, one_hot
from engine.errors import UserError
from engine.structures import BACKGROUND, IGNORE, Assigned, Output


def value(loss, logits, labels):
    return loss(Output(logits), Assigned(torch.as_tensor(labels)))["class"]


def random_case(seed=0):
    """Logits [3, 8, 6], labels of every kind, and the same as targets, slot by slot."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 8, 6, generator=random) * 3
    labels = torch.randint(-2, 6, (3, 8), generator=random)
    targets = torch.zeros(3, 8, 6)
    for b in range(3):
        for a in range(8):
            if labels[b, a] >= 0:
                targets[b, a, labels[b, a]] = 1
    return logits, labels, targets


def at(p):
    """One slot, one class, which it has with probability p."""
    return torch.tensor([[[math.log(p / (1 - p))]]])


def test_cross_entropy_of_shares_is_the_shares_of_cross_entropies():
    logits = torch.tensor([[[1.0, 2.0, 0.5]], [[0.0, 1.0, 3.0]], [[1.0, 1.0, 1.0]]])
    shares = torch.tensor([[[0.7, 0.0, 0.3]], [[0.0, 1.0, 0.0]], [[-2.0, 0.0, 0.0]]])
    minus_log = -logits[:, 0].log_softmax(-1)
    first = 0.7 * minus_log[0, 0] + 0.3 * minus_log[0, 2]
    # The third image's object is ignored: an average over two.
    expected = (first + minus_log[1, 1]) / 2
    torch.testing.assert_close(value(CrossEntropy(), logits, shares), expected)
    same = value(CrossEntropy(smoothing=0.1), logits[1:2], shares[1:2])
    torch.testing.assert_close(same, value(CrossEntropy(smoothing=0.1), logits[1:2], [[1]]))


def test_one_hot():
    assert one_hot(torch.tensor([[1, 0, BACKGROUND, IGNORE]]), 2).tolist() == [
        [[0, 1], [1, 0], [0, 0], [0, 0]]
    ]


@pytest.mark.parametrize("classes, log", [(20, 2.9957), (21, 3.0445), (80, 4.3820), (1000, 6.9078)])
def test_cross_entropy_at_the_start_is_the_log_of_the_classes(classes, log):
    loss = value(CrossEntropy(), torch.zeros(4, 1, classes), [[0], [1], [2], [19]])
    assert loss.item() == pytest.approx(log, abs=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing):
    logits, labels, _ = random_case()
    labels = labels[:, :1].clamp(min=0)
    theirs = F.cross_entropy(logits[:, 0], labels[:, 0], label_smoothing=smoothing)
    ours = value(CrossEntropy(smoothing=smoothing), logits[:, :1], labels)
    torch.testing.assert_close(ours, theirs)


def test_smoothing_by_hand():
    # Two classes, p = (.9, .1), smoothing .2: target (.9, .1): -.9 ln .9 - .1 ln .1 = .3251
    logits = torch.tensor([[[0.9, 0.1]]]).log()
    assert value(CrossEntropy(smoothing=0.2), logits, [[0]]).item() == pytest.approx(
        0.3251, abs=1e-4
    )


@pytest.mark.parametrize(
    "p, alpha, loss",
    [
        (0.5, None, 0.693147 / 4),
        (0.9, None, 0.0010536),  # .1053605 / 100
        (0.968, None, 0.0325232 / 976.6),
        (0.9, 0.25, 2.634e-4),
    ],
)
def test_focal_by_hand(p, alpha, loss):
    assert value(Focal(alpha=alpha), at(p), [[0]]).item() == pytest.approx(loss, rel=2e-4)
    # The same miss on a negative weighs 1 - alpha = .75, three times as much.
    negative = value(Focal(alpha=alpha), at(1 - p), [[BACKGROUND]]).item()
    assert negative == pytest.approx(loss * (3 if alpha else 1), rel=2e-4)


@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (1.5, 0.6), (0.0, None), (2.0, None)])
def test_focal_is_torchvisions(gamma, alpha):
    logits, labels, targets = random_case()
    theirs = sigmoid_focal_loss(logits, targets, alpha=-1 if alpha is None else alpha, gamma=gamma)
    expected = theirs[labels != IGNORE].sum() / (labels >= 0).sum()
    ours = value(Focal(gamma=gamma, alpha=alpha), logits, labels)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("all_rows", [False, True])  # True: as on a GPU
@pytest.mark.parametrize("class_weights", [None, [1.0, 2.0, 0.0, 0.5]])
@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (0.5, 1.0), (3.0, 0.0), (0.0, None)])
def test_focal_in_one_pass_is_that_of_each_slot(gamma, alpha, class_weights, all_rows, monkeypatch):
    if all_rows:
        monkeypatch.setattr(focal, "_rows", lambda labels: torch.arange(len(labels)))
    monkeypatch.setattr(focal, "CACHED", 40)  # several parts, the last of them smaller
    torch.manual_seed(0)
    labels, weight = torch.randint(IGNORE, 4, (3, 41)), torch.rand(3, 41)
    logits = (10 * torch.randn(3, 41, 4)).requires_grad_()
    loss = Focal(gamma=gamma, alpha=alpha, class_weights=class_weights)
    total = loss.total(logits, labels, weight)
    (gradient,) = torch.autograd.grad(2 * total, logits)
    exact = logits.detach().double().requires_grad_()
    expected = BCE.total(loss, exact, labels, weight.double())
    torch.testing.assert_close(total.double(), expected, rtol=1e-6, atol=1e-7)
    (slope,) = torch.autograd.grad(2 * expected, exact)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=1e-7)
    assert gradient[labels == IGNORE].abs().max() == 0


def test_bce_is_torchs_and_focal_without_its_factors():
    logits, labels, targets = random_case()
    theirs = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    expected = theirs[labels != IGNORE].sum() / (labels >= 0).sum()
    torch.testing.assert_close(value(BCE(), logits, labels), expected)
    torch.testing.assert_close(value(Focal(gamma=0.0, alpha=None), logits, labels), expected)
    torch.testing.assert_close(value(BCE(weight=0.5), logits, labels), expected / 2)


@pytest.mark.parametrize("loss", [BCE(), Focal(), Focal(gamma=0.5)])
@pytest.mark.parametrize("label", [0, BACKGROUND])
@pytest.mark.parametrize("logit", [-200.0, -20.0, 0.0, 20.0, 200.0])
def test_gradient_is_finite_however_sure(loss, label, logit):
    logits = torch.full((1, 1, 1), logit, requires_grad=True)
    value(loss, logits, [[label]]).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [CrossEntropy(), BCE(), Focal()])
def test_least_at_the_perfect_output(loss):
    logits = torch.full((2, 1, 5), -20.0)
    logits[0, 0, 3] = logits[1, 0, 1] = 20.0
    assert value(loss, logits, [[3], [1]]) < 1e-6
    assert value(loss, logits, [[3], [2]]) > 1


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(smoothing=0.1), BCE(), Focal()])
def test_ignored_slots_contribute_nothing(loss):
    logits, labels, _ = random_case()
    other = torch.where((labels == IGNORE)[..., None], 30.0, logits)
    assert (labels == IGNORE).any()
    assert value(loss, other, labels) == value(loss, logits, labels)


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(smoothing=0.1), BCE(), Focal()])
@pytest.mark.parametrize("label", [BACKGROUND, IGNORE])
def test_no_positive_is_finite(loss, label):
    logits = random_case()[0].requires_grad_()
    total = value(loss, logits, torch.full((3, 8), label))
    total.backward()
    assert total.isfinite() and logits.grad.isfinite().all()
    if label == IGNORE or isinstance(loss, CrossEntropy):  # no class is not a class of a softmax
        assert total == 0 and not logits.grad.any()


def test_a_box_term_is_trained_where_the_head_says_boxes():
    def box(output, assigned):
        return output.boxes.sum()

    logits, boxes = torch.zeros(1, 1, 2), torch.ones(1, 1, 4)
    labels = Assigned(torch.tensor([[0]]))
    assert BCE().trains == {"logits"}
    assert BCE(box=box).trains == {"logits", "boxes"}
    assert BCE(box=box)(Output(logits, boxes), labels)["box"] == 4
    assert set(BCE(box=box)(Output(logits), labels)) == {"class"}
    assert set(BCE()(Output(logits, boxes), labels)) == {"class"}


def said(*logits):
    """One slot an image."""
    return Output(torch.tensor(logits)[:, None])


def test_cross_entropy_weighs_classes_slots_and_entropy():
    output, labels = said([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]), torch.tensor([[0], [1], [IGNORE]])
    # Two slots of ln 2, class 1 counts three times: (1 + 3) ln 2 / 2.
    terms = CrossEntropy(class_weights=[1.0, 3.0])(output, Assigned(labels))
    assert terms["class"].item() == pytest.approx(2 * math.log(2))
    # Weights of slots: (0.5 + 2) ln 2 / 2.
    weight = torch.tensor([[0.5], [2.0], [9.0]])
    terms = CrossEntropy()(output, Assigned(labels, weight=weight))
    assert terms["class"].item() == pytest.approx(1.25 * math.log(2)) and set(terms) == {"class"}
    # The entropy of (1/2, 1/2) is ln 2; the penalty is its negative.
    terms = CrossEntropy(entropy=0.1)(output, Assigned(labels))
    assert terms["entropy"].item() == pytest.approx(-0.1 * math.log(2))


def test_the_entropy_penalty_flattens():
    logits = torch.tensor([[[2.0, 0.0]]], requires_grad=True)
    CrossEntropy(entropy=1.0)(Output(logits), Assigned(torch.tensor([[0]])))["entropy"].backward()
    assert logits.grad[0, 0, 0] > 0 > logits.grad[0, 0, 1]  # a step down the gradient evens them


def test_class_weights_are_one_a_class():
    for loss in (CrossEntropy(class_weights=[1.0]), BCE(class_weights=[1.0])):
        with pytest.raises(UserError, match="got 1 numbers for 2 classes"):
            loss(said([0.0, 0.0]), Assigned(torch.tensor([[0]])))


def test_bce_of_several_labels():
    output = said([0.0, 2.0, -1.0], [1.0, 0.0, 3.0])
    labels = torch.tensor([[[1, 0, 0]], [[0, IGNORE, 1]]])
    p = output.logits.sigmoid()[:, 0]
    each = -torch.stack(
        [
            p[0, 0].log(),
            (1 - p[0, 1]).log(),
            (1 - p[0, 2]).log(),
            (1 - p[1, 0]).log(),
            p[1, 2].log(),
        ]
    )
    # Summed over the classes that count, averaged over the two images.
    assert BCE()(output, Assigned(labels))["class"].item() == pytest.approx(each.sum().item() / 2)
    plain = Focal(gamma=0.0, alpha=None)(output, Assigned(labels))["class"]
    assert plain.item() == pytest.approx(each.sum().item() / 2)
    twice = BCE(class_weights=[2.0, 1.0, 1.0])(output, Assigned(labels))["class"].item()
    assert twice == pytest.approx((each.sum() + each[0] + each[3]).item() / 2)


def test_bce_of_one_label_is_the_same_either_way():
    output = said([0.5, -1.0, 0.1], [1.0, 0.0, 3.0])
    hot = torch.tensor([[[0, 1, 0]], [[1, 0, 0]]])
    for loss in (BCE(), Focal()):
        one = loss(output, Assigned(torch.tensor([[1], [0]])))["class"]
        torch.testing.assert_close(loss(output, Assigned(hot))["class"], one)


def test_weights_of_slots_are_for_boxes_where_there_are_boxes():
    logits, labels = torch.zeros(1, 2, 3), torch.tensor([[0, 1]])
    weight = torch.tensor([[5.0, 1.0]])
    with_boxes = Output(logits, torch.zeros(1, 2, 4))
    plain = BCE()(with_boxes, Assigned(labels))["class"]
    assert BCE()(with_boxes, Assigned(labels, weight=weight))["class"] == plain
    # Three classes of ln 2 a slot, (5 + 1) / 2 slots.
    weighed = BCE()(Output(logits), Assigned(labels, weight=weight))["class"].item()
    assert weighed == pytest.approx(9 * math.log(2))


def test_squared_error_of_probabilities():
    output = said([math.log(3), 0.0], [0.0, 0.0])
    # Softmax (3/4, 1/4) and (1/2, 1/2): (1/16 + 1/16 + 1/4 + 1/4) / 2.
    loss = MSE()(output, Assigned(torch.tensor([[0], [1]])))["class"].item()
    assert loss == pytest.approx((2 / 16 + 2 / 4) / 2)
    # Sigmoid 3/4 and 1/2, 1/2 and 1/2; the second image's class 0 is ignored.
    loss = MSE(activation="sigmoid")(output, Assigned(torch.tensor([[[1, 1]], [[IGNORE, 0]]])))
    assert loss["class"].item() == pytest.approx((1 / 16 + 1 / 4 + 1 / 4) / 2)
    # An image without a label does not count under a softmax, whichever form the labels have:
    # (3/4 - 3/4) ** 2 + (1/4 - 1/4) ** 2 = 0, and of a label alone 2 / 16.
    shares = MSE()(output, Assigned(torch.tensor([[[0.75, 0.25]], [[0.0, 0.0]]])))["class"].item()
    labels = MSE()(output, Assigned(torch.tensor([[0], [BACKGROUND]])))["class"].item()
    assert (shares, labels) == pytest.approx((0, 2 / 16), abs=1e-6)
    nothing = MSE()(output, Assigned(torch.tensor([[IGNORE], [BACKGROUND]])))["class"]
    assert nothing.item() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(smoothing=1.0), "loss.smoothing=1.0: expected a share"),
        (lambda: Focal(alpha=5.0), "loss: gamma=2.0, alpha=5.0: expected"),
        (lambda: Focal(gamma=-1.0), "loss: gamma=-1.0"),
        (lambda: MSE(activation="tanh"), "loss.activation=tanh: expected softmax or sigmoid"),
    ],
)
def test_wrong_numbers_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_the_softplus_of_a_cpu_is_right_to_the_last_bits():
    x = torch.linspace(-80, 80, 100_001)
    torch.testing.assert_close(
        focal._softplus(x).double(), F.softplus(x.double()), rtol=3e-7, atol=0
    )
