"""Wrong values for every key of every command, drawn with a fixed seed.

`attempts(count, seed)` gives command lines; `outcome` runs one in this process up to its first step
of training, and returns its exit code and what it wrote on standard error.
"""

import contextlib
import io
import random
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from engine.builders import from_checkpoint, parts
from engine.builders.run import prepare
from engine.cli import command
from engine.config import keys
from engine.config.check import check_ranges
from engine.training import loop
from engine.training.precision import resolve

VALUES = (
    "null", "text", "''", "-1", "0", "1", "2", "0.5", "-0.5", "1e308", "-1e308", "1e400", "nan", "inf",
    "-inf", "[]", "{}", "true", "false", "[1]", "[-1,2]", "[null]", "[[1,2],[3]]", "[nan]", "{a:1}",
    "{a:{b:[1]}}", "[{a:1}]", "999999999999999999999999", "2147483648", "\u65e5\u672c\u8a9e", "'a b'",
    "'\t'", "x" * 3000, "${nope}", "${seed}", "${oc.env:NOPE}", "'${now:}'", "${oc.create:{a:1}}",
    "../..", "/dev/null", "'~'", "a.b.c", "_target_", "builtins.dict", "engine.nothing", "os.system",
    "1,2", "range(3)", "[1,", "{", "=", "\\\\", "'", "$", "@", "None", "0x10", "1_000", "cpu", "???",
)  # fmt: skip
TINY = {
    "train": ["backbone=mobilenet_v1_025", "image_size=64", "head.levels=4", "device=cpu"],
    "lr_find": ["backbone=mobilenet_v1_025", "image_size=64", "head.levels=4", "device=cpu"],
}  # fmt: skip
MODELS = ("ssd_resnet34", "resnet18", "yolo_v2", "retinanet_resnet18")
COMMANDS = ("train", "train", "train", "eval", "predict", "check", "summary", "lr_find", "bench")
