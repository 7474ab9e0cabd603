import pytest
import torch

from engine.errors import UserError
from engine.training.clip import GlobalNorm, NoClip, Norm, Value


def parameters(*gradients):
    """One parameter a gradient; None for a parameter that got none."""
    made = []
    for gradient in gradients:
        parameter = torch.nn.Parameter(torch.zeros(len(gradient or (0,))))
        parameter.grad = None if gradient is None else torch.tensor(gradient)
        made.append(parameter)
    return made


# Norms 5 and 12, together sqrt(25 + 144) = 13.
@pytest.mark.parametrize(
    ("clip", "first", "second", "clipped"),
    [
        (NoClip(), [3, 4], [0, -12], False),
        (Value(max=3.5), [3, 3.5], [0, -3.5], True),
        (Norm(max=2.5), [1.5, 2], [0, -2.5], True),  # times 1/2 and 2.5/12
        (Norm(max=6.0), [3, 4], [0, -6], True),  # only the second is too long
        (GlobalNorm(max=6.5), [1.5, 2], [0, -6], True),  # both times 6.5/13
        (GlobalNorm(max=13.1), [3, 4], [0, -12], False),
        (Value(max=12.5), [3, 4], [0, -12], False),
        (Norm(max=12.5), [3, 4], [0, -12], False),
    ],
)
def test_clip_by_hand_and_the_norm_before(clip, first, second, clipped):
    params = parameters([3.0, 4.0], None, [0.0, -12.0])
    norm, flag = clip(params)
    assert bool(flag) is clipped
    assert isinstance(norm, torch.Tensor) and float(norm) == pytest.approx(13)
    assert params[0].grad.tolist() == pytest.approx(first, rel=1e-5)
    assert params[1].grad is None
    assert params[2].grad.tolist() == pytest.approx(second, rel=1e-5)


def test_global_norm_is_torchs():
    ours, theirs = (parameters([0.3, -2.0], [7.0], [1e-3, 4.0, 9.0]) for _ in range(2))
    assert GlobalNorm(max=2.0)(ours)[0] == torch.nn.utils.clip_grad_norm_(theirs, 2.0)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", [Value, Norm, GlobalNorm])
@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_a_limit_is_above_zero(kind, limit):
    with pytest.raises(UserError, match=f"^clip.max={limit}: expected more than 0"):
        kind(max=limit)
