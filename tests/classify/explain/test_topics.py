import numpy as np
import pytest

from classify.explain import focal, receptive_field, softmax
from engine.errors import UserError


def test_the_focal_loss_is_as_much_less_as_the_paper_writes():
    # arXiv 1708.02002, 3.2: 100 times at .9, about 1000 times at .968
    assert focal.focal(0.9, 0) / focal.focal(0.9, 2) == pytest.approx(100)
    assert focal.focal(0.968, 0) / focal.focal(0.968, 2) == pytest.approx(1000, rel=0.03)


def test_the_box_by_gradient_is_that_by_recurrence():
    pixels = receptive_field.read_or_draw(None)
    layers = [[7, 2, 3], [3, 2, 1], [3, 1, 1]]
    maps = receptive_field.look(receptive_field.stack(layers, pixels.shape[:2]), pixels, False)
    assert [each.field.size for each in maps] == [7, 11, 19]
    assert all(receptive_field.span(each.heat) == each.box for each in maps)


def test_a_layer_that_leaves_no_cell_is_refused():
    with pytest.raises(UserError, match="no cell"):
        receptive_field.stack([[64, 1, 0]], (32, 32))


def test_the_likelihood_of_labels_by_hand():
    # outputs of ln 2 and 0: p = 2/3, 1/3; the labels 0, 0, 1 have 2/3 * 2/3 * 1/3
    p = softmax.softmax(np.log([2.0, 1.0]))
    assert softmax.likelihood(p, [0, 0, 1]) == pytest.approx(4 / 27)
    lines = softmax.explain([0.0, float(np.log(2))]).lines
    assert lines[1].endswith("and the labels 1, 1, 0:")
    assert lines[2] == "likelihood: 0.6667 x 0.6667 x 0.3333 = 0.148148"
    assert lines[3] == "exp(-(0.4055 + 0.4055 + 1.0986)) = exp(-1.9095) = 0.148148"
