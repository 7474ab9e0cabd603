"""What `trainer.accumulate` says where a step is not that of the larger batch."""

import hydra
import pytest
import torch

from engine.builders import parts, run
from engine.config.schema import CONFIGS


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["backbone=vit_tiny", "head=linear", "loss=cross_entropy", "metric=top_k"], None),
        (["model=resnet18"], "its own batch statistics"),
        (["model=retinanet_resnet18"], "the number of its objects and its own batch statistics"),
        (["model=ssd300_vgg16"], "the number of its objects, so"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_one_line_says_how_a_step_differs_from_a_larger_batch(count, overrides, said, monkeypatch):
    lines = []
    monkeypatch.setattr(run, "info", lines.append)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=[
            *overrides, f"trainer.accumulate={count}", "loader.batch_size=4", "device=cpu",
        ])  # fmt: skip
    with torch.device("meta"):
        network = parts.network(cfg, 3, parts.backbone(cfg))
    run._note_accumulation(cfg, network)
    expected = count > 1 and said is not None
    assert len(lines) == expected
    if expected:
        assert said in lines[0] and "loader.batch_size=12" in lines[0]
