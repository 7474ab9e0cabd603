import json

import numpy as np
import pytest
from command_line import ended
from torchvision.ops import box_iou

from detect.kmeans import priors_text
from detect.priors import Priors, priors, size_iou
from engine.errors import UserError

TRUE = np.array([[12.0, 20], [60, 25], [45, 90], [200, 180]])


def groups(spread=0.03, each=50):
    random = np.random.default_rng(1)
    return np.concatenate([c * random.normal(1, spread, (each, 2)) for c in TRUE])


def command(*arguments, cwd):
    return ended("-m", "detect.kmeans", *arguments, cwd=cwd)


@pytest.mark.parametrize("seed", range(5))
def test_known_clusters_are_found_whatever_the_seed(seed):
    found = priors(groups(), 4, seed)
    order = TRUE[np.argsort(TRUE.prod(1))]
    np.testing.assert_allclose(found.pixels, order, rtol=0.02)
    np.testing.assert_allclose(found.cells, order / 32, rtol=0.02)
    assert found.boxes == 200 and found.mean_iou > 0.93
    assert found == priors(groups(), 4, seed)


def test_by_hand():
    # 4 x 4 and 4 x 6 go together: the mean 4 x 5 overlaps them by 16 / 20 and 20 / 24; 40 x 40 is
    # alone. (.8 + .8333 + 1) / 3 = .8778
    found = priors(np.array([[4, 4], [4, 6], [40, 40]]), 2)
    assert found.pixels == [[4, 5], [40, 40]] and found.cells == [[0.125, 0.1562], [1.25, 1.25]]
    assert found.mean_iou == pytest.approx(0.87778, abs=1e-5)


def test_small_boxes_count_as_much_as_large_ones():
    # In pixels 100 and 120 are further apart than 4 and 8, in overlap .69 is nearer than .25.
    sizes = np.repeat([[4.0, 4], [8, 8], [100, 100], [120, 120]], 5, 0)
    assert priors(sizes, 3).pixels == [[4, 4], [8, 8], [110, 110]]


def test_as_many_priors_as_sizes_fit_perfectly():
    assert priors(TRUE, 4).mean_iou == pytest.approx(1)


def test_size_iou_equals_torchvisions():
    import torch

    a, b = np.random.default_rng(0).uniform(1, 9, (2, 20, 2))
    boxes = [torch.cat([torch.zeros(20, 2), torch.tensor(x)], 1) for x in (a, b)]
    np.testing.assert_allclose(size_iou(a, b), box_iou(*boxes).numpy())


@pytest.mark.parametrize("k", [0, 5])
def test_more_priors_than_sizes_are_refused(k):
    with pytest.raises(UserError, match=f"k={k}: expected 1 to 4"):
        priors(np.repeat(TRUE, 3, 0), k)


def test_text_can_be_pasted_into_a_head():
    lines = priors_text(Priors(3, 0.87778, [[4, 5], [40, 40]], [[0.125, 0.1562], [1.25, 1.25]]))
    assert "2 priors of 3 boxes, mean IoU 0.8778" in lines and "[[4, 5], [40, 40]]" in lines


def test_the_command_takes_the_images_as_the_network_sees_them(tmp_path):
    shapes = ["dataset.size=64", "dataset.train=20", "loader.workers=0"]
    made = [command("k=3", f"image_size={size}", "format=json", *shapes, cwd=tmp_path)
            for size in ("64", "[64,128]")]  # fmt: skip
    square, wide = (json.loads(done.stdout) for done in made)
    assert square["boxes"] == wide["boxes"] > 30
    assert square["mean_iou"] == pytest.approx(wide["mean_iou"])
    np.testing.assert_allclose(np.array(wide["pixels"]) / square["pixels"], [[2, 1]] * 3, rtol=0.02)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("format=jsn", "format=jsn: expected text or json; did you mean 'json'?"),
        ("image_size=auto", "image_size=auto: set the size of the network's input: image_size=416"),
    ],
)
def test_a_wrong_value_is_one_line_and_2(wrong, line, tmp_path):
    done = command(wrong, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: {line}"
