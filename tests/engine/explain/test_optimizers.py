"""`topic=optimizers`: each rule walks the path of torch.optim's, as `optimizer=` has it."""

import numpy as np
import pytest
import torch
from command_line import ROOT
from hydra.utils import instantiate
from omegaconf import OmegaConf

from engine.explain import optimizers
from engine.explain.surfaces import SURFACES, Surface


def torchs_path(name: str, surface: Surface, lr: float, steps: int) -> np.ndarray:
    """By the optimizer that `optimizer=NAME` trains with, and autograd's gradient."""
    node = OmegaConf.load(ROOT / f"configs/optimizer/{name}.yaml")
    node = {**node, "lr": lr, **({} if name == "adamw" else {"weight_decay": 0.0})}
    w = torch.tensor(surface.start, dtype=torch.float64, requires_grad=True)
    optimizer, points = instantiate(node)([w]), [surface.start]
    for _ in range(steps):
        optimizer.zero_grad()
        surface.height(*w).backward()
        optimizer.step()
        points.append(tuple(w.tolist()))
    return np.array(points)


@pytest.mark.parametrize("name", [*optimizers.RULES])
@pytest.mark.parametrize(("surface", "lr"), [("valley", 0.1), ("diagonal", 0.2), ("beale", 0.005)])
def test_each_rule_walks_as_torchs_optimizer_does(name, surface, lr):
    ground = SURFACES[surface]
    ours = optimizers.path(optimizers.RULES[name], ground, lr, 60)
    assert ours == pytest.approx(torchs_path(name, ground, lr, 60), rel=1e-6, abs=1e-9)


def test_the_first_steps_by_hand():
    """The valley at (-9, 2) has the gradient (-9/50, 4)."""
    first = {
        name: optimizers.path(rule, SURFACES["valley"], 0.1, 1)[1]
        for name, rule in optimizers.RULES.items()
    }
    assert first["sgd"] == pytest.approx([-9 + 0.018, 1.6])
    assert first["momentum"] == pytest.approx([-9 + 0.018, 1.6])
    assert first["nesterov"] == pytest.approx([-9 + 0.018 * 1.9, 2 - 0.4 * 1.9])
    assert first["rmsprop"] == pytest.approx([-8, 1])  # ten times lr: the average began at 0
    assert first["adam"] == pytest.approx([-8.9, 1.9])
    assert first["adamw"] == pytest.approx([-9 * 0.995 + 0.1, 2 * 0.995 - 0.1])


def test_the_table_has_the_arrival_of_the_best_rate():
    rows = {row["optimizer"]: row for row in optimizers.explain("valley", 150, None).rows}
    arrivals = {name: row["steps to 0.01"] for name, row in rows.items()}
    assert arrivals["sgd"] == "-" and arrivals["nesterov"] < arrivals["momentum"] < 150
    for name, row in rows.items():
        ways = {
            lr: SURFACES["valley"].height(
                *optimizers.path(optimizers.RULES[name], SURFACES["valley"], lr, 150).T
            )
            for lr in optimizers.RATES
        }
        first = {lr: np.flatnonzero(z > 0.01)[-1] + 1 for lr, z in ways.items()}
        assert first[row["lr"]] == min(first.values())
        assert row["height at the end"] == ways[row["lr"]][-1]


def test_a_rate_that_is_too_large_is_drawn_too(tmp_path):
    explanation = optimizers.explain("beale", 50, 1.0)
    explanation.write(tmp_path, "beale")
    assert explanation.rows[0]["steps to 0.01"] == "-"
    assert not np.isfinite(explanation.rows[0]["height at the end"])
