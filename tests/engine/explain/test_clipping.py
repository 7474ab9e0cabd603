"""`topic=clipping`: by hand on 3-4-5 and 5-12-13, and as torch.nn.utils clips."""

import pytest
import torch
from command_line import ended, run
from torch import nn
from torch.nn import utils

from engine.errors import UserError
from engine.explain.clipping import clipped, explain, turned
from engine.training.clip import GlobalNorm, Norm, Value

GIVEN = [[3.0, 4.0], [0.0, 12.0]]  # norms 5 and 12, together 13


def test_each_way_by_hand():
    rows = {row["clip"]: row for row in explain(GIVEN, 2.6).rows}
    columns = [[row[key] for key in ("gradient 1", "gradient 2", "norms")] for row in rows.values()]
    assert columns == [
        ["3 4", "0 12", "5 12"],
        ["2.6 2.6", "0 2.6", "3.677 2.6"],  # 2.6 times the root of 2
        ["1.56 2.08", "0 2.6", "2.6 2.6"],  # 2.6 / 5 of the first
        ["0.6 0.8", "0 2.4", "1 2.4"],  # 2.6 / 13 of both
    ]
    norms = [row["global norm"] for row in rows.values()]
    assert norms == pytest.approx([13, 2.6 * 3**0.5, 2.6 * 2**0.5, 2.6], rel=1e-5)
    # cosines: (3 + 4 + 12) / (13 root 3), 17 / (13 root 2)
    angles = [row["turned by"] for row in rows.values()]
    assert angles == ["0.0 degrees", "32.5 degrees", "22.4 degrees", "0.0 degrees"]


def test_what_is_small_enough_stays():
    rows = explain(GIVEN, 100.0).rows
    assert all({**row, "clip": ""} == {**rows[0], "clip": ""} for row in rows)


@pytest.mark.parametrize("most", [0.5, 2.6, 6.5, 20.0])
def test_as_torch_clips(most):
    def by(clip):
        parameters = [nn.Parameter(torch.zeros(2).double()) for _ in GIVEN]
        for parameter, numbers in zip(parameters, GIVEN, strict=True):
            parameter.grad = torch.tensor(numbers).double()
        clip(parameters)
        return torch.stack([parameter.grad for parameter in parameters])

    pairs = [
        (Value(max=most), lambda ps: utils.clip_grad_value_(ps, most)),
        (Norm(max=most), lambda ps: [utils.clip_grad_norm_([p], most) for p in ps]),
        (GlobalNorm(max=most), lambda ps: utils.clip_grad_norm_(ps, most)),
    ]
    for ours, torchs in pairs:
        assert torch.equal(torch.stack(clipped(GIVEN, ours)), by(torchs))


def test_a_right_angle_and_none():
    x, y = [torch.tensor([1.0, 0.0])], [torch.tensor([0.0, 2.0])]
    assert turned(x, y) == pytest.approx(90) and turned(x, [3 * x[0]]) == 0


def test_the_command_takes_whole_numbers_and_refuses_words(tmp_path):
    command = ("-m", "engine.explain", "topic=clipping", "hydra.run.dir=out")
    text = run(*command, "gradients=[[3,4],[0,12]]", "max=2.6", cwd=tmp_path)
    assert "0.6 0.8" in text and (tmp_path / "out/clipping.png").exists()
    refused = ended(*command, "gradients=[[3,a]]", cwd=tmp_path)
    assert refused.returncode == 2 and "gradients=[[3, 'a']]: expected a list" in refused.stderr


def test_a_gradient_of_zeros_is_refused():
    with pytest.raises(UserError, match="expected a number other than 0 in each"):
        explain([[0.0, 0.0], [1.0]], 1.0)
