"""A GPU that is not there: what a program would wait for, and what it would copy to the device.

Tensors of the device `cuda` are fake (`FakeTensorMode`): they have shapes and a device and no
numbers. Operations of the CPU alone are run as they are. A read of a number on the device is noted
with the line of ours that makes it and answered with a stand-in, so that the program goes on.
"""

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch._subclasses import FakeTensor, FakeTensorMode
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorDeviceMismatchError,
)
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(str(ROOT / name) + "/" for name in ("engine", "detect", "classify"))
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
UPLOAD = ("structures.py in to", "objects.py in <lambda>")  # of a batch, which is none of ours
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
# What these have as many of as the data says is known when the device has come to them.
SIZED = {
    "aten::nonzero": lambda x: x.new_zeros((1, x.ndim), dtype=torch.int64),
    "aten::masked_select": lambda x, mask: x.new_zeros(1),
    "torchvision::nms": lambda boxes, *_: boxes.new_zeros(1, dtype=torch.int64),
    "aten::_unique2": lambda x, *_: (x[:1], x[:1], x[:1]),
}
# One that torch has no fake of, and one whose fake takes 20 ms.
KNOWN = {
    "aten::_fused_sgd_": lambda *_: None,
    "aten::cudnn_batch_norm": lambda x, weight, bias, mean, var, *_: (
        torch.empty_like(x),
        torch.empty_like(weight),
        torch.empty_like(weight),
        torch.empty_like(weight),
    ),
}


class Watch(TorchDispatchMode):
    """Notes, by line of ours, the `waits` for the device and the `uploads` to it."""

    def __init__(self):
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.on_cpu = True
        self.answer = 0  # for every number that is read
        self.clear()

    def clear(self):
        self.waits, self.uploads = Counter(), Counter()

    def noted(self):
        """Copies of what happened so far: waits and uploads."""
        return Counter(self.waits), Counter(self.uploads)

    def back_to(self, noted):
        """Forget what happened since."""
        self.waits, self.uploads = noted

    @contextmanager
    def all_fake(self):
        """Inside, tensors of the CPU are fake too: a large network is made in no time."""
        self.on_cpu = False
        yield
        self.on_cpu = True

    def placed(self, module):
        """The module with its parameters and buffers on the device; `to` exchanges no fake ones."""
        for part in module.modules():
            for name, value in part._parameters.items():
                if value is not None:
                    moved = self._placed(value)
                    part._parameters[name] = nn.Parameter(moved, value.requires_grad)
            for name, value in part._buffers.items():
                part._buffers[name] = None if value is None else self._placed(value)
        return module

    def _placed(self, value):
        with no_dispatch(), torch.no_grad():
            form = {"dtype": value.dtype, "device": "meta"}
            like = torch.empty_strided(value.shape, value.stride(), **form)
            return FakeTensor(self.fake, like, torch.device("cuda", 0))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
        if self.on_cpu and not any(map(_is_fake, leaves)):
            with no_dispatch():
                return func(*args, **kwargs)
        # under inference_mode alone these come whole
        if torch.is_inference_mode_enabled() and func.namespace == "aten" and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        on_cuda = [_is_cuda(x.device) for x in tensors]
        if func is aten._local_scalar_dense.default:
            return self._number(*args)
        if func in COPIES and self._copy(func, args, kwargs):
            with no_dispatch():
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        elif any(on_cuda) and func.namespace != "prim":
            done, found = self._sized(func, args, kwargs)
            if done:
                return found
            self._small(func, tensors)
            if all(on_cuda) and func.name().split(".")[0] in KNOWN:
                return KNOWN[func.name().split(".")[0]](*args)
        try:
            return func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise AssertionError(f"{line()}: {func} waits for the device") from error
        except FakeTensorDeviceMismatchError as error:
            raise AssertionError(f"{line()}: {func} of several devices: {error}") from error

    def _number(self, tensor):
        if _is_cuda(tensor.device):
            self.waits[f"{line()}: a number is read"] += 1
        with no_dispatch():
            return torch.full((), self.answer, dtype=tensor.dtype).item()

    def _copy(self, func, args, kwargs):
        """Note a copy between devices; whether it makes a tensor of the CPU, which has numbers."""
        source = args[-1] if func is aten._to_copy.default else args[1]
        target = kwargs.get("device") if func is aten._to_copy.default else args[0].device
        if target is None or _is_cuda(target) == _is_cuda(source.device):
            return False
        where = line()
        if not _is_cuda(target):
            self.waits[f"{where}: copied to the CPU"] += 1
        elif not where.endswith(UPLOAD):
            self.uploads[f"{where}: copied to the device"] += 1
        return func is aten._to_copy.default and not _is_cuda(target) and self.on_cpu

    def _sized(self, func, args, kwargs):
        """Whether the size of the result depends on the data, and a stand-in for it."""
        stand_in = SIZED.get(func.name().split(".")[0])
        if stand_in is not None:
            self.waits[f"{line()}: {func}"] += 1
            return True, stand_in(*args)
        if func in INDEXED:
            index = [x for x in args[1] if x is not None]
            if any(x.device.type == "cpu" and x.ndim for x in index):
                self.uploads[f"{line()}: an index is copied to the device"] += 1
            if any(x.dtype in (torch.bool, torch.uint8) for x in index):
                self.waits[f"{line()}: indexed by a mask"] += 1
                return True, func(args[0], self._rows(args), *args[2:], **kwargs)
        return False, None

    def _rows(self, args):
        """Rows instead of masks, of which one is set."""
        rows = []
        for x in args[1]:
            is_mask = x is not None and x.dtype in (torch.bool, torch.uint8)
            zero = args[0].new_zeros(1, dtype=torch.int64)
            rows += [zero] * x.ndim if is_mask else [x]
        return rows

    def _small(self, func, tensors):
        """`where` copies a number of the CPU; arithmetic takes it as an argument."""
        if func is aten.where.self and any(x.device.type == "cpu" for x in tensors):
            self.uploads[f"{line()}: a number is copied to the device"] += 1


def _is_fake(value):
    return isinstance(value, FakeTensor) or (isinstance(value, torch.device) and _is_cuda(value))


def _is_cuda(device):
    return device is not None and torch.device(device).type == "cuda"


def line():
    """The innermost line of ours that runs: LINE of FILE in FUNCTION."""
    frame = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    if frame is None:
        return "outside"
    name = Path(frame.f_code.co_filename).relative_to(ROOT)
    return f"line {frame.f_lineno} of {name} in {frame.f_code.co_name}"


@contextmanager
def fake_cuda():
    """Inside, `cuda` is there; gives the `Watch`."""
    watch = Watch()
    with (
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        mock.patch(
            "torch.amp.grad_scaler.amp_definitely_not_available", lambda: False, create=True
        ),
        mock.patch("torch.cuda.is_bf16_supported", lambda *_: True),
        mock.patch.object(FakeTensor, "__deepcopy__", _copied, create=True),
        mock.patch.object(nn.Module, "to", lambda self, *_, **__: watch.placed(self)),
        watch.fake,
        watch,
    ):
        yield watch


def _copied(tensor, memo):
    """`deepcopy` of a fake tensor: torch's own asks for its address."""
    copy = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        copy = nn.Parameter(copy, tensor.requires_grad)
    return memo.setdefault(id(tensor), copy)
