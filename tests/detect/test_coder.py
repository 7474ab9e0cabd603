import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.coder import Cell, CentreSize

CODERS = [CentreSize(), CentreSize(variances=(1.0, 1.0)), Cell()]
ANCHOR = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # centre (20, 40), 20 wide, 40 high
CELL = torch.tensor([[16.0, 8.0]])
share = st.floats(0.02, 0.98)
side = st.floats(2, 400)


def box(x, y, width, height):
    """By centre and sides."""
    return torch.tensor([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])


@settings(deadline=None, max_examples=60)
@given(right=share, down=share, width=side, height=side, wide=side, high=side)
@pytest.mark.parametrize("coder", CODERS)
def test_decode_inverts_encode(coder, right, down, width, height, wide, high):
    anchor = box(200.0, 100.0, min(max(wide, width / 50), 400), min(max(high, height / 50), 400))
    truth = box(200 + (right - 0.5) * 16, 100 + (down - 0.5) * 8, width, height)
    code = coder.encode(truth, anchor, CELL)
    torch.testing.assert_close(coder.decode(code, anchor, CELL), truth, atol=0.02, rtol=0)


@pytest.mark.parametrize("coder", CODERS)
def test_code_zero_is_the_anchor(coder):
    assert coder.decode(torch.zeros(1, 4), ANCHOR, CELL).tolist() == ANCHOR.tolist()
    assert coder.encode(ANCHOR, ANCHOR, CELL).tolist() == [[0, 0, 0, 0]]


def test_centre_size_by_hand():
    # Centre (24, 36): (4 / 20, -4 / 40) = (.2, -.1); sides (40, 20): (ln 2, ln 1/2) = (.6931, ..).
    truth = box(24.0, 36.0, 40.0, 20.0)
    code = CentreSize(variances=(1.0, 1.0)).encode(truth, ANCHOR, CELL)
    torch.testing.assert_close(code, torch.tensor([[0.2, -0.1, 0.693147, -0.693147]]))
    # SSD's variances: .2 / .1, -.1 / .1, .6931 / .2
    code = CentreSize().encode(truth, ANCHOR, CELL)
    torch.testing.assert_close(code, torch.tensor([[2.0, -1.0, 3.465736, -3.465736]]))


def test_cell_by_hand():
    # Centre 4 right of the middle of a cell 16 wide: 4 / 16 + .5 = .75, whose logit is ln 3;
    # 2 above the middle of 8: .25, -ln 3. Sides (40, 20) of (20, 40): ln 2, -ln 2.
    code = Cell().encode(box(24.0, 38.0, 40.0, 20.0), ANCHOR, CELL)
    torch.testing.assert_close(code, torch.tensor([[1.098612, -1.098612, 0.693147, -0.693147]]))


@pytest.mark.parametrize("wild", [-1e4, 1e4])
def test_a_centre_cannot_leave_its_cell(wild):
    found = Cell().decode(torch.tensor([[wild, wild, 0.0, 0.0]]), ANCHOR, CELL)
    centre = (found[0, :2] + found[0, 2:]) / 2
    torch.testing.assert_close(
        centre, torch.tensor([20.0, 40.0]) + CELL[0] / 2 * (1 - 2 * (wild < 0))
    )


@pytest.mark.parametrize("coder", CODERS)
def test_wild_codes_and_empty_boxes_stay_finite(coder):
    assert coder.decode(torch.full((1, 4), 1e4), ANCHOR, CELL).isfinite().all()
    assert coder.encode(box(20.0, 40.0, 0.0, 0.0), ANCHOR, CELL).isfinite().all()
    on_the_border = box(28.0, 44.0, 5.0, 5.0)
    code = coder.encode(on_the_border, ANCHOR, CELL)
    assert code.isfinite().all()
    torch.testing.assert_close(coder.decode(code, ANCHOR, CELL), on_the_border, atol=0.01, rtol=0)


@pytest.mark.parametrize("coder", CODERS)
def test_any_leading_shape(coder):
    code = torch.zeros(3, 1, 4)
    assert coder.decode(code, ANCHOR, CELL).tolist() == [ANCHOR.tolist()] * 3
