"""Wrong values for every key of every command, drawn with a fixed seed.

`attempts` gives command lines; `Frame.run` runs one in this process, through the frame of every
command, up to the first step of training. What Hydra composes is composed once for each command and
set of parts; a value is then merged into a copy of that by Hydra's own code.
"""

import contextlib
import copy
import io
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import hydra
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from engine.bench import __main__ as bench
from engine.builders import judged_parts, parts
from engine.builders.run import prepare
from engine.check.report import write_report
from engine.cli import command
from engine.config import keys
from engine.config.schema import CONFIGS
from engine.evaluate import evaluate
from engine.lr_find import curve
from engine.predict import predict
from engine.summary.layers import summarize
from engine.training.loop import train_epoch
from engine.training.precision import resolve
from engine.training.seed import seed_everything

VALUES = (
    "null", "text", "''", "-1", "0", "1", "2", "0.5", "-0.5", "1e308", "-1e308", "1e400", "nan",
    "inf", "-inf", "[]", "{}", "true", "false", "[1]", "[-1,2]", "[null]", "[[1,2],[3]]", "[nan]",
    "{a:1}", "{a:{b:[1]}}", "[{a:1}]", "999999999999999999999999", "2147483648", "日本語", "'a b'",
    "'\t'", "x" * 3000, "${nope}", "${seed}", "${oc.env:NOPE}", "'${now:}'", "${oc.create:{a:1}}",
    "../..", "/dev/null", "'~'", "a.b.c", "builtins.dict", "engine.nothing", "os.system", "1,2",
    "range(3)", "[1,", "{", "=", "\\\\", "'", "$", "@", "None", "0x10", "1_000", "cpu", "???",
)  # fmt: skip
SMALL = ("image_size=64", "device=cpu", "loader.workers=0", "loader.batch_size=2",
         "dataset.size=64", "dataset.train=4", "dataset.val=2", "dataset.test=2")  # fmt: skip
LIGHT = "backbone=mobilenet_v1_025"
PARTS = (
    (LIGHT, "head.levels=4"),
    ("model=resnet18", LIGHT, "metric=top_k", "dataset.view=largest"),
    ("head=retina_light", LIGHT, "loss=bce", "augment=yolo", "optimizer=momentum"),
    ("head=yolo_v2", LIGHT, "loss=yolo_v2", "augment=ssd", "schedule=one_cycle"),
)
COMMANDS = {"train": 5, "lr_find": 1, "check": 1, "summary": 1, "bench": 1, "eval": 2, "predict": 2}
PREFIXES = ("", "", "", "", "", "", "+", "++", "~")
SLOW = {"trainer.compile", "trainer.shard"}  # minutes of a compiler; processes


def attempts(count: int, seed: int) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Commands, the settings that make them small, and the wrong one."""
    rng = random.Random(seed)
    names = [name for name, share in COMMANDS.items() for _ in range(share)]
    for _ in range(count):
        name = rng.choice(names)
        chosen = rng.choice(PARTS) if name in ("train", "lr_find", "check", "summary") else ()
        settings = (*chosen, *SMALL) if chosen else ()
        found = [*keys.known(name, chosen), *keys.groups()[:1], "hydra.run.dir", "hydra.verbose"]
        key = rng.choice([k for k in found if k not in SLOW])
        if name in ("eval", "predict") and rng.random() < 0.5:
            key = rng.choice(["trainer", "loader", "head", "dataset"]) + "." + key
        if rng.random() < 0.05:
            key = rng.choice([key + "x", "@" + key, key + ".x", key.upper(), key + "@x", ""])
        value = rng.choice(VALUES)
        yield name, settings, f"{rng.choice(PREFIXES)}{key}={value}"


def first_step(cfg: DictConfig) -> None:
    """What `train.py` does up to its first step."""
    device = parts.device(cfg.device)
    parts.check_all(cfg)
    seed_everything(cfg.seed)
    backbone = parts.backbone(cfg)
    precision = resolve(cfg.trainer.precision, device)
    train = parts.loader(cfg, parts.dataset(cfg, "train"), device, shuffle=True)
    parts.loader(cfg, parts.dataset(cfg, "val"), device)
    judged_parts.metric(cfg, train.dataset.classes)
    network = parts.network(cfg, len(train.dataset.classes), backbone)
    run = prepare(cfg, network, len(train), device, precision)
    next(iter(train_epoch(run, train, mock.Mock())))


TASKS: dict[str, Callable[[DictConfig], Any]] = {
    "train": first_step,
    "lr_find": lambda cfg: next(iter(curve._steps(*curve.start(cfg)))),
    "check": lambda cfg: write_report(cfg, Path(HydraConfig.get().runtime.output_dir)),
    "summary": summarize,
    "bench": bench.prepare,
    "eval": evaluate,
    "predict": predict,
}


@cache
def _base(name: str, settings: tuple[str, ...]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(name, overrides=list(settings), return_hydra_config=True)


class Frame:
    """Runs commands in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, ()

    def _hydra_main(self, _: str, config_name: str, version_base: str) -> Callable:
        """In place of `hydra.main`: composes from what is composed already."""

        def decorate(job: Callable[[DictConfig], Any]) -> Callable[[], None]:
            def run() -> None:
                changes = [a for a in sys.argv[1:] if a not in self.settings]
                overrides = OverridesParser.create().parse_overrides(changes)
                if any(o.key_or_group in (*keys.groups(), "hydra") for o in overrides):
                    cfg = _base.__wrapped__(config_name, (*self.settings, *changes))
                else:
                    cfg = copy.deepcopy(_base(config_name, self.settings))
                    ConfigLoaderImpl._apply_overrides_to_config(overrides, cfg)
                OmegaConf.set_readonly(cfg.hydra, False)
                cfg.hydra.runtime.output_dir = str(self.folder)
                HydraConfig.instance().set_config(cfg)
                OmegaConf.set_struct(cfg, False)
                cfg.pop("hydra")
                OmegaConf.set_struct(cfg, True)
                job(cfg)

            return run

        return decorate

    def run(self, name: str, settings: tuple[str, ...], wrong: str) -> tuple[int, str]:
        """The exit code and standard error of a command."""
        self.settings = settings
        err = io.StringIO()
        with (
            mock.patch.object(hydra, "main", self._hydra_main),
            mock.patch.object(sys, "argv", [f"{name}.py", *settings, wrong]),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(record=True) as warned,
        ):
            try:
                command(name)(TASKS[name])()
                code: Any = 0
            except SystemExit as end:
                code = end.code
        torch.set_deterministic_debug_mode("default")
        return code, err.getvalue() + "".join(f"{w.message}\n" for w in warned if code)
