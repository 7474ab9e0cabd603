"""What the checkpoints of a run hold, and when each is written."""

import hydra
import pytest
import torch
from command_line import equal

from engine.builders import from_checkpoint, parts
from engine.builders.run import prepare
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.output.run_log import Silent
from engine.training.checkpointer import Checkpointer
from engine.training.loop import train_epoch
from engine.weights import checkpoint
from engine.whole_file import NotWritten

CPU = torch.device("cpu")
SMALL = ["model=resnet_cifar", "backbone.depth=8", "backbone.base_channels=16", "image_size=32",
         "dataset=shapes", "dataset.view=largest", "dataset.size=32", "dataset.train=4",
         "dataset.val=2", "loader.batch_size=2", "loader.workers=0", "trainer.epochs=3",
         "trainer.precision=fp32", "device=cpu"]  # fmt: skip


def compose(name, *overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(name, overrides=list(overrides))


def start(folder, *overrides):
    """A run at its first step, a function that trains its next epoch, and what saves it."""
    cfg = compose("train", *SMALL, *overrides)
    torch.manual_seed(0)
    loader = parts.loader(cfg, parts.dataset(cfg, "train"), CPU, shuffle=True)
    net = parts.network(cfg, len(loader.dataset.classes), parts.backbone(cfg))
    run = prepare(cfg, net, len(loader), CPU)

    def epoch(value):
        for _ in train_epoch(run, loader, Silent()):
            pass
        return run.end_epoch({"epoch": run.epoch + 1, "val/top1": value}, value)

    return run, epoch, Checkpointer(run, cfg, loader.dataset, folder)


def test_best_holds_the_weights_that_predict_and_nothing_that_resumes(tmp_path):
    run, epoch, save = start(tmp_path, "trainer.ema=0.9")
    save(epoch(0.5))
    last, best = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("last", "best"))
    assert best.keys() == {"format", "config", "choices", "device", "classes", "categories",
                           "processes", "preprocessing", "model", "ema", "epoch"}  # fmt: skip
    assert best["ema"] is None and equal(best["model"], last["ema"])
    assert not equal(last["ema"], last["model"])
    nets = []
    for name in ("last", "best"):
        path = str(tmp_path / f"{name}.pt")
        saved, full = from_checkpoint.load(path, compose("eval", f"checkpoint='{path}'"), CPU)
        nets.append(from_checkpoint.network(full, saved, path, CPU).state_dict())
    assert equal(*nets)


def test_a_run_does_not_go_on_from_what_predicts(tmp_path):
    _, epoch, save = start(tmp_path)
    save(epoch(0.5))
    path = tmp_path / "best.pt"
    cfg = compose("resume", f"resume='{path}'")
    with pytest.raises(UserError, match=f"holds what predicts.*resume={tmp_path}/last.pt"):
        from_checkpoint.load(str(path), cfg, CPU)
    (tmp_path / "last.pt").unlink()
    with pytest.raises(UserError, match=f"not beside it.*backbone.weights={path}"):
        from_checkpoint.load(str(path), cfg, CPU)


def test_a_best_file_that_a_kill_prevented_is_written_when_the_run_goes_on(tmp_path):
    _, epoch, save = start(tmp_path / "whole", "trainer.ema=0.9")
    save(epoch(0.5))
    killed, _, again = start(tmp_path / "killed", "trainer.ema=0.9")
    killed.restore(checkpoint.load(str(tmp_path / "whole/last.pt"), CPU), "last.pt")
    again.write_best("top1")
    bests = [torch.load(tmp_path / f / "best.pt", weights_only=True) for f in ("whole", "killed")]
    assert equal(*bests)
    (tmp_path / "killed/best.pt").unlink()
    killed.end_epoch({"epoch": 2, "val/top1": 0.4}, 0.4)  # not the best
    again.write_best("top1")
    killed.end_epoch({"epoch": 3}, None)  # not evaluated
    again.write_best("top1")
    assert not list((tmp_path / "killed").iterdir())


def test_each_file_is_tried_and_what_is_refused_is_told(tmp_path, monkeypatch, caplog):
    _, epoch, save = start(tmp_path)
    whole, refused = checkpoint.save, ["last.pt"]

    def limited(path, state):
        if path.name in refused:
            raise NotWritten(path, "No space left on device")
        whole(path, state)

    monkeypatch.setattr(checkpoint, "save", limited)
    caplog.set_level("INFO", "onelook")
    save(epoch(0.5))
    assert save.missing == {"last.pt": "No space left on device"} and save.failed
    assert [path.name for path in tmp_path.iterdir()] == ["best.pt"]
    refused[:] = ["best.pt"]
    save(epoch(0.6))
    assert list(save.missing) == ["best.pt"] and not save.failed
    refused.clear()
    save(epoch(0.7))
    assert not save.missing
    said = [record.getMessage() for record in caplog.records if "written at" in record.getMessage()]
    assert len(said) == 2
    assert (
        "no checkpoint written at step 2" in said[0] and "no best.pt written at step 4" in said[1]
    )
