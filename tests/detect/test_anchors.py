import pytest
import torch

from detect.anchors import anchor_shapes, grid_anchors


@pytest.mark.parametrize(
    "scale, ratio, side",
    [
        (2.0, 1.0, (2.0, 2.0)),
        (2.0, 4.0, (1.0, 4.0)),  # area 2 * 2 = 1 * 4, height / width = 4 / 1
        (3.0, 0.25, (6.0, 1.5)),  # area 3 * 3 = 6 * 1.5, height / width = 1.5 / 6
    ],
)
def test_an_anchors_area_is_its_scale_squared(scale, ratio, side):
    assert anchor_shapes([scale], [ratio]).tolist() == [list(side)]


def test_shapes_are_every_scale_with_every_ratio():
    shapes = anchor_shapes([1.0, 2.0], [1.0, 4.0])
    assert shapes.tolist() == [[1, 1], [0.5, 2], [2, 2], [1, 4]]


def test_a_grid_of_two_by_two():
    boxes, cells = grid_anchors((2, 2), torch.tensor([[4.0, 2.0], [8.0, 8.0]]), (8, 8))
    # Cells of 4 x 4 pixels, centres at 2 and 6; half sides (2, 1) and (4, 4).
    assert boxes.tolist() == [
        [0, 1, 4, 3],  # centre (2, 2)
        [-2, -2, 6, 6],
        [4, 1, 8, 3],  # centre (6, 2): the next column before the next row
        [2, -2, 10, 6],
        [0, 5, 4, 7],  # centre (2, 6)
        [-2, 2, 6, 10],
        [4, 5, 8, 7],  # centre (6, 6)
        [2, 2, 10, 10],
    ]
    assert cells.tolist() == [[4, 4]] * 8


def test_an_image_that_is_not_square():
    boxes, cells = grid_anchors((1, 2), torch.tensor([[2.0, 4.0]]), (10, 40))
    # One row and two columns: cells 40 / 2 = 20 wide, 10 / 1 = 10 high; centres (10, 5), (30, 5).
    assert cells.tolist() == [[20, 10], [20, 10]]
    assert boxes.tolist() == [[9, 3, 11, 7], [29, 3, 31, 7]]


def test_cells_divide_an_image_that_the_stride_does_not():
    boxes, cells = grid_anchors((3, 1), torch.tensor([[2.0, 2.0]]), (20, 7))
    # 20 pixels in three rows: 6.667 each, centres 3.333, 10, 16.667; one column, centre 3.5.
    torch.testing.assert_close(cells, torch.tensor([[7.0, 20 / 3]] * 3))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    torch.testing.assert_close(centres, torch.tensor([[3.5, 10 / 3], [3.5, 10.0], [3.5, 50 / 3]]))
