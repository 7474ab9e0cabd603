"""trainer=debug/...: short runs, and how their results are labelled."""

import hydra
import pytest
import torch
from command_line import SHAPES, metrics, run, start, table
from hydra.errors import ConfigCompositionException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from engine.builders import parts
from engine.config.schema import CONFIGS
from engine.training.timer import StepTimer

CPU = torch.device("cpu")
SMALL = ["backbone=mobilenet_v1_025", "head.levels=2", "image_size=64", "loader.batch_size=3",
         "loader.workers=0", "trainer.ema=null", "device=cpu", "report=false", *SHAPES]  # fmt: skip


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides))


def test_a_preset_wins_over_an_experiment_and_the_command_line_over_both():
    cfg = compose("experiment=bccd_pretrained", "trainer=debug/fast", "dataset.root=x")
    assert (cfg.trainer.epochs, cfg.trainer.limit, cfg.loader.workers) == (1, 1, 0)
    assert cfg.trainer.minutes == 10  # the experiment's, untouched
    assert compose("trainer=debug/fast", "trainer.epochs=4").trainer.epochs == 4
    assert compose("trainer.epochs=4", "trainer=debug/fast").trainer.epochs == 4
    assert compose().trainer.limit is None
    with pytest.raises(ConfigCompositionException):
        compose("trainer=debug/fast", "trainer.epoch=4")  # the schema holds


def loader(*overrides, shuffle=True):
    cfg = compose(*SMALL, *overrides)
    return parts.loader(cfg, parts.dataset(cfg, "train"), CPU, shuffle=shuffle)


def test_a_limit_cuts_epochs_and_later_ones_see_other_images():
    batches = loader("trainer.limit=2")
    seen = []
    for batches.sampler.epoch in range(3):
        seen.append([m.index for batch in batches for m in batch.meta])
    assert [len(s) for s in seen] == [6, 6, 6] and len(batches) == 2
    assert len({*map(tuple, seen)}) == 3
    assert len(loader("trainer.limit=50")) == 2  # 8 images are no more
    assert len(loader("trainer.limit=50", shuffle=False)) == 3


def test_overfit_means_the_first_images_as_they_are():
    batches = loader("trainer.overfit=4", shuffle=False)
    assert [[m.index for m in batch.meta] for batch in batches] == [[0, 1, 2], [3]]
    assert loader("trainer.overfit=99").images == 8


def test_fast_runs_everything_once_and_says_so(tmp_path):
    out = run("train.py", *SMALL, "trainer=debug/fast", "profile=true", f"hydra.run.dir={tmp_path}",
              cwd=tmp_path)  # fmt: skip
    (row,) = table(tmp_path / "metrics.csv")
    assert "val/mAP" in row
    assert metrics(tmp_path)["dataset"].endswith("val, trainer.limit=1")
    lines = out[out.index("time per part") :].splitlines()
    shares = {line.partition("%")[2].strip(): float(line.split()[0]) for line in lines[1:9]}
    assert list(shares) == ["start", "data", "forward", "losses", "backward", "optimizer",
                           "evaluation", "logs and checkpoints"]  # fmt: skip
    assert sum(shares.values()) == pytest.approx(100, abs=0.5)


@pytest.mark.slow
def test_the_rest_of_a_resumed_run_can_be_profiled_or_no_longer(tmp_path):
    last = tmp_path / "checkpoints/last.pt"
    run("train.py", *SMALL, "trainer=debug/fast", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    more = run("train.py", f"resume={last}", "trainer.epochs=2", "profile=true", cwd=tmp_path)
    assert "time per part" in more and "%  forward" in more and "%  evaluation" in more
    assert "time per part" not in run("train.py", f"resume={last}", "profile=false", cwd=tmp_path)
    refused = start("eval.py", f"checkpoint={last}", "profile=true", cwd=tmp_path)
    assert "profile: no such key" in refused.communicate()[1] and refused.returncode == 2


def test_overfit_validates_on_what_it_trains_on(tmp_path):
    run("train.py", *SMALL, "trainer=debug/overfit", "trainer.epochs=1", "trainer.overfit=2",
        f"hydra.run.dir={tmp_path}", cwd=tmp_path)  # fmt: skip
    found = metrics(tmp_path)
    assert found["dataset"].endswith("train's first 2 images, overfit")
    assert {p.name for p in (tmp_path / "images").glob("train_*")} == {
        "train_000000.jpg", "train_000001.jpg",
    }  # fmt: skip


def board(folder):
    return EventAccumulator(str(folder / "tensorboard")).Reload()


def test_tensorboard_has_curves_histograms_and_the_hyperparameters_of_a_sweep(tmp_path):
    run("train.py", "-m", *SMALL, "trainer=debug/fast", "trainer.histograms=1",
        "optimizer.lr=0.001,0.01", f"hydra.sweep.dir={tmp_path}", cwd=tmp_path)  # fmt: skip
    for job, rate in (("0", 0.001), ("1", 0.01)):
        seen = board(tmp_path / job)
        histograms = seen.Tags()["histograms"]
        assert {"val/mAP", "mAP"} <= {*seen.Tags()["scalars"]}
        names = {tag.partition("/")[2] for tag in histograms}
        assert {f"{kind}/{name}" for name in names for kind in ("weight", "gradient")} == {
            *histograms
        }
        assert len(names) > 50
        curves = {tag.removeprefix("val/") for tag in seen.PluginTagToContent("pr_curves")}
        assert curves and curves <= {"circle", "cross", "square", "star", "triangle"}
        choices = seen.PluginTagToContent("hparams")["_hparams_/session_start_info"]
        hyperparameters = HParamsPluginData.FromString(choices).session_start_info.hparams
        assert hyperparameters["optimizer.lr"].number_value == rate
        assert hyperparameters["trainer"].string_value == "debug/fast"


def test_the_step_timer_by_hand(monkeypatch):
    clock = iter([10.0, 11.0, 14.0, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    timer = StepTimer(CPU)
    for part in ("data", "forward", "data"):
        timer(part)
    assert timer.seconds == {"data": 2, "forward": 3}
    assert timer.summary_lines() == [
        "time per part, of 5.0 s:",
        " 40.0 %  data",
        " 60.0 %  forward",
    ]
