import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.coder import CentreSize, SigmoidCoder, TanhCoder, YOLOCoder

CODERS = [CentreSize(), CentreSize(variances=(1.0, 1.0)), YOLOCoder()]
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


def test_yolo_coder_by_hand():
    # Centre 4 right of the middle of a cell 16 wide: 4 / 16 + .5 = .75, whose logit is ln 3;
    # 2 above the middle of 8: .25, -ln 3. Sides (40, 20) of (20, 40): ln 2, -ln 2.
    code = YOLOCoder().encode(box(24.0, 38.0, 40.0, 20.0), ANCHOR, CELL)
    torch.testing.assert_close(code, torch.tensor([[1.098612, -1.098612, 0.693147, -0.693147]]))


@pytest.mark.parametrize("wild", [-1e4, 1e4])
def test_a_centre_cannot_leave_its_cell(wild):
    found = YOLOCoder().decode(torch.tensor([[wild, wild, 0.0, 0.0]]), ANCHOR, CELL)
    centre = (found[0, :2] + found[0, 2:]) / 2
    torch.testing.assert_close(
        centre, torch.tensor([20.0, 40.0]) + CELL[0] / 2 * (1 - 2 * (wild < 0))
    )


@pytest.mark.parametrize("coder", CODERS)
def test_large_codes_and_empty_boxes_stay_finite(coder):
    assert coder.decode(torch.full((1, 4), 1e4), ANCHOR, CELL).isfinite().all()
    assert coder.encode(box(20.0, 40.0, 0.0, 0.0), ANCHOR, CELL).isfinite().all()
    on_the_border = box(28.0, 44.0, 5.0, 5.0)
    code = coder.encode(on_the_border, ANCHOR, CELL)
    assert code.isfinite().all()
    torch.testing.assert_close(coder.decode(code, ANCHOR, CELL), on_the_border, atol=0.01, rtol=0)


@pytest.mark.parametrize("coder", CODERS)
def test_a_side_is_at_most_62_times_the_anchors(coder):
    # 1000 / 16 = 62.5 times (20, 40) is (1250, 2500), whatever the variances.
    found = coder.decode(torch.tensor([[0.0, 0.0, 1e4, 1e4]]), ANCHOR, CELL)
    torch.testing.assert_close(found, box(20.0, 40.0, 1250.0, 2500.0), atol=1.0, rtol=0)


@pytest.mark.parametrize("coder", [CentreSize(variances=(1.0, 1.0)), YOLOCoder()])
def test_a_side_below_a_pixel_is_encoded_exactly_and_no_side_as_a_thousandth(coder):
    # ln(.5 / 20) = -3.6889 and ln(.25 / 40) = -5.0752; ln(.001 / 20) = -9.9035 and
    # ln(.001 / 40) = -10.5966
    thin, none = box(20.0, 40.0, 0.5, 0.25), box(20.0, 40.0, 0.0, 0.0)
    code = coder.encode(thin, ANCHOR, CELL)
    torch.testing.assert_close(code, torch.tensor([[0, 0, -3.68888, -5.07517]]))
    code = coder.encode(none, ANCHOR, CELL)
    torch.testing.assert_close(code, torch.tensor([[0, 0, -9.90349, -10.59663]]))


@pytest.mark.parametrize("coder", CODERS)
def test_any_leading_shape(coder):
    code = torch.zeros(3, 1, 4)
    assert coder.decode(code, ANCHOR, CELL).tolist() == [ANCHOR.tolist()] * 3


def test_tanh_coder_by_hand():
    coder = TanhCoder()
    # tanh(1) = .7616: 16 * .3808 = 6.093 right; tanh(-1): 8 * .3808 = 3.046 up, of (20, 40);
    # 20 * (1 + .3808) = 27.616 wide, 40 * (1 - .3808) = 24.768 high.
    found = coder.decode(torch.tensor([[1.0, -1.0, 1.0, -1.0]]), ANCHOR, CELL)
    torch.testing.assert_close(found, box(26.093, 36.954, 27.616, 24.768), atol=2e-3, rtol=0)
    assert coder.decode(torch.zeros(1, 4), ANCHOR, CELL).tolist() == ANCHOR.tolist()
    # The ends: half a cell, and half or one and a half times the size.
    ends = coder.decode(torch.tensor([[1e4, -1e4, 1e4, -1e4]]), ANCHOR, CELL)
    assert ends.tolist() == box(28.0, 36.0, 30.0, 20.0).tolist()


@settings(deadline=None, max_examples=60)
@given(*[st.floats(-0.99, 0.99)] * 4)
def test_tanh_coder_decodes_what_it_encodes(right, down, wide, high):
    truth = box(20 + 8 * right, 40 + 4 * down, 20 * (1 + wide / 2), 40 * (1 + high / 2))
    code = TanhCoder().encode(truth, ANCHOR, CELL)
    torch.testing.assert_close(TanhCoder().decode(code, ANCHOR, CELL), truth, atol=1e-3, rtol=0)


def test_tanh_coder_clamps_boxes_out_of_range():
    far = box(500.0, 40.0, 400.0, 1.0)  # half a cell right, 1.5 times as wide, half as high
    code = TanhCoder().encode(far, ANCHOR, CELL)
    assert code.isfinite().all()
    nearest = TanhCoder().decode(code, ANCHOR, CELL)
    torch.testing.assert_close(nearest, box(28.0, 40.0, 30.0, 20.0), atol=1e-3, rtol=0)


def test_sigmoid_coder_by_hand():
    # Of the slot 20 wide from 10 and 40 high from 20: shares 1/4, 1/2, 3/4, 3/4.
    truth = torch.tensor([[15.0, 40.0, 25.0, 50.0]])
    code = SigmoidCoder().encode(truth, ANCHOR, CELL)
    ln3 = 1.098612
    torch.testing.assert_close(code, torch.tensor([[-ln3, 0.0, ln3, ln3]]))
    torch.testing.assert_close(SigmoidCoder().decode(code, ANCHOR, CELL), truth)
    crossed = torch.tensor([[ln3, 0.0, -ln3, ln3]])
    torch.testing.assert_close(SigmoidCoder().decode(crossed, ANCHOR, CELL), truth)
    torch.testing.assert_close(
        SigmoidCoder().decode(SigmoidCoder().encode(ANCHOR, ANCHOR, CELL), ANCHOR, CELL),
        ANCHOR,
        atol=1e-3,
        rtol=0,
    )
    assert SigmoidCoder().encode(box(0.0, 0.0, 900.0, 0.0), ANCHOR, CELL).isfinite().all()
    assert SigmoidCoder().decode(torch.zeros(3, 1, 4), ANCHOR, CELL).shape == (3, 1, 4)
