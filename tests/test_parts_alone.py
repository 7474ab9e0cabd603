"""The parts in a program of one's own: without Hydra, OmegaConf and a configuration."""

import subprocess
import sys

from command_line import ROOT

SCRIPT = """
import importlib, pkgutil, sys

sys.modules.update(hydra=None, omegaconf=None)  # importing either is an error
found = ["classify.losses"]
for name in ("classify.backbones", "classify.heads", "detect.heads", "detect.losses"):
    path = importlib.import_module(name).__path__
    found += [module.name for module in pkgutil.iter_modules(path, f"{name}.")]
for name in found:
    importlib.import_module(name)

import torch
from classify.backbones.resnet import ResNet

maps = ResNet(name="resnet18")(torch.zeros(1, 3, 64, 64))
print(len(found), [tuple(x.shape[1:]) for x in maps])
"""


def test_backbones_heads_and_losses_need_no_hydra():
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, shapes = done.stdout.split(maxsplit=1)
    assert int(count) > 30
    # arXiv 1512.03385, table 1: 64 to 512 channels at strides 4, 8, 16 and 32
    assert shapes.strip() == "[(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]"
