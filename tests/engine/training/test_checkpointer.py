"""What the checkpoints of a run hold and take, and when each is written."""

import shutil
from collections import namedtuple

import hydra
import pytest
import torch
from command_line import equal

from engine.builders import from_checkpoint, parts
from engine.builders.run import prepare
from engine.config.schema import CONFIGS
from engine.errors import UserError
from engine.output.run_log import Silent
from engine.training import checkpoint_size
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


@pytest.mark.parametrize("ema", ["0.9", "null"])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd", "rmsprop"])
def test_the_sizes_said_before_are_those_of_the_files(optimizer, ema, tmp_path):
    run, epoch, save = start(tmp_path, f"optimizer={optimizer}", f"trainer.ema={ema}")
    said = checkpoint_size.sizes(run)
    assert said.whole and not run.optimizer.state
    save(epoch(0.5))
    for size, name in zip(said, ("last.pt", "best.pt"), strict=False):
        assert size == pytest.approx((tmp_path / name).stat().st_size, rel=0.05), name
    again = checkpoint_size.sizes(run)  # as of a run that is resumed
    assert again == said


def kept(optimizer, *shapes):
    """Numbers that an optimizer is said to keep of each parameter."""
    sizes = []
    for shape in shapes:
        parameter = torch.nn.Parameter(torch.zeros(shape))
        made = optimizer([parameter])
        size = checkpoint_size._moments(made, made.param_groups[0], parameter)
        sizes.append(None if size is None else size % checkpoint_size.A_TENSOR / 4)
    return sizes


def test_moments_of_other_shapes_than_their_parameter_are_counted():
    # by hand: Adafactor keeps a step, and a number a row and a number a column
    assert kept(torch.optim.Adafactor, (5, 6), (4,), (1, 7)) == [1 + 5 + 6, 1 + 4, 1 + 1 + 7]
    assert kept(torch.optim.Adam, (2, 3, 3), ()) == [1 + 2 * 18, 1 + 2]
    assert kept(torch.optim.LBFGS, (5, 6)) == [None]  # its step wants the loss


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


def test_a_disk_without_room_is_told_before_the_first_epoch(tmp_path, monkeypatch, caplog):
    run, _, _ = start(tmp_path, "optimizer=adam", "trainer.ema=0.9")
    last, best, _ = checkpoint_size.sizes(run)
    caplog.set_level("INFO", "onelook")

    def said(free):
        usage = namedtuple("usage", "total used free")(0, 0, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        caplog.clear()
        checkpoint_size.announce(run, tmp_path / "not/yet/there")
        return caplog.text

    enough = 2 * last + best  # both files, and the new last.pt beside the old one
    assert "last.pt 1.3 MB" in said(enough) and "best.pt 0.3 MB" in said(enough)
    assert "warning:" not in said(enough)
    assert f"has {checkpoint_size.amount(enough)} left" in said(enough - 1)
    there = tmp_path / "not/yet/there"
    there.mkdir(parents=True)
    (there / "last.pt").write_bytes(bytes(last))  # it is replaced
    assert "warning:" not in said(last + best)
    assert "warning:" in said(last + best - 1)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0 MB"), (4_560_000, "4.6 MB"), (999_940_000, "999.9 MB"), (3_812_000_000, "3.8 GB")],
)
def test_amounts(size, text):
    assert checkpoint_size.amount(size) == text
