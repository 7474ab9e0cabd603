import pytest
import torch
from torch import nn

from engine.config.schema import Precision
from engine.errors import UserError
from engine.training.precision import autocast, resolve, widen

CPU = torch.device("cpu")


@pytest.mark.parametrize(("avx", "amx"), [(False, False), (True, False), (False, True)])
def test_auto_on_the_cpu_goes_by_its_own_products(monkeypatch, avx, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve(Precision.auto, CPU) is (Precision.bf16 if avx or amx else Precision.fp32)


@pytest.mark.parametrize(("native", "meant"), [(True, Precision.bf16), (False, Precision.fp16)])
def test_auto_on_cuda_goes_by_bf16(monkeypatch, native, meant):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: native)
    assert resolve(Precision.auto, torch.device("cuda")) is meant


def test_auto_elsewhere_is_fp32():
    assert resolve(Precision.auto, torch.device("mps")) is Precision.fp32


@pytest.mark.parametrize("wanted", [Precision.fp32, Precision.bf16])
def test_an_explicit_precision_is_kept(wanted):
    assert resolve(wanted, CPU) is wanted


def test_fp16_on_the_cpu_is_refused():
    with pytest.raises(UserError, match=r"^trainer.precision=fp16: not on the cpu; use bf16"):
        resolve(Precision.fp16, CPU)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_tf32_is_of_cuda_alone(device):
    with pytest.raises(UserError, match=f"^trainer.precision=tf32: not on {device}; use fp32"):
        resolve(Precision.tf32, torch.device(device))


@pytest.mark.parametrize(("wanted", "rounded"), [("tf32", True), ("fp32", False)])
def test_products_are_rounded_for_tf32_alone(wanted, rounded):
    cuda = torch.device("cuda")
    assert resolve(Precision[wanted], cuda) is Precision[wanted]
    assert torch.backends.cuda.matmul.allow_tf32 is rounded
    assert torch.backends.cudnn.allow_tf32 is rounded
    assert not autocast(Precision[wanted], CPU)._enabled


@pytest.mark.parametrize(
    ("precision", "dtype"), [(Precision.fp32, torch.float32), (Precision.bf16, torch.bfloat16)]
)
def test_autocast_changes_the_forward_pass_only(precision, dtype):
    layer = torch.nn.Linear(2, 2)
    with autocast(precision, CPU):
        assert layer(torch.ones(1, 2)).dtype is dtype
    assert layer.weight.dtype is layer(torch.ones(1, 2)).dtype is torch.float32


@pytest.mark.parametrize("size", [(1, 1), (4, 1)])
def test_gradients_over_a_map_one_cell_wide_are_right_in_bf16(size):
    torch.manual_seed(0)
    conv, images = nn.Conv2d(64, 64, 3, 2, 1), torch.randn(4, 64, *size)
    conv(images).square().mean().backward()
    exact, conv.weight.grad = conv.weight.grad, None
    before = conv(images)
    widen(conv)
    assert torch.equal(conv(images), before)
    for _ in range(20):  # what is wrong without depends on what was in memory before
        junk = [torch.full((1 << k,), 1e3) for k in range(8, 18)]
        del junk
        with torch.autocast("cpu", torch.bfloat16):
            output = conv(images)
        output.float().square().mean().backward()
        assert (conv.weight.grad - exact).norm() < 0.05 * exact.norm()
        conv.weight.grad = None
