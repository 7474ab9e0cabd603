"""`topic=gradients`: the gradient of a deep stack vanishes, explodes or stays."""

import pytest
import torch

from engine.explain.gradients import KINDS, WIDTH, Layer, explain, gradient_norms


@pytest.fixture(scope="module", params=[0, 1])
def ratios(request):
    """First layer's over last layer's, of 20 layers."""
    return {row["stack"]: row["ratio"] for row in explain(20, request.param).rows}


def test_the_ratios_are_those_of_theory(ratios):
    assert 0.2**19 < ratios["sigmoid"] < 0.25**19
    assert 0.2 < ratios["ReLU"] < 5
    assert 2**17 < ratios["ReLU, weights x 2"] < 2**21
    assert 1.4**17 < ratios["ReLU + shortcut"] < 1.5**21  # sqrt(2) a layer, and a little
    assert 1.15**19 < ratios["ReLU + BatchNorm"] < 1.28**19  # 1.21 a layer
    assert 1 < ratios["ReLU + BatchNorm + shortcut"] < 10


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_gradient_is_the_slope_of_the_loss(kind):
    """A layer's backward pass against a difference, for what the stacks are made of."""
    torch.manual_seed(0)
    layer = Layer(kind).double()
    x = torch.randn(4, WIDTH, dtype=torch.float64, requires_grad=True)
    layer(x).square().sum().backward()
    step = 1e-6 * torch.randn_like(x)
    with torch.no_grad():
        slope = (layer(x + step).square().sum() - layer(x - step).square().sum()) / 2
    assert float((x.grad * step).sum()) == pytest.approx(float(slope), rel=1e-4)


def test_the_same_seed_has_the_same_numbers_and_leaves_torchs_alone():
    torch.manual_seed(5)
    first = gradient_norms(KINDS[0], 3, 1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    assert gradient_norms(KINDS[0], 3, 1) == first != gradient_norms(KINDS[0], 3, 2)
    assert [len(norms) for norms in first] == [3, 3]
