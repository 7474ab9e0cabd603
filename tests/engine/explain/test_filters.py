import numpy as np

from engine.explain.filters import FILTERS, GAUSSIAN


def test_filters_of_a_grey_image_with_one_black_pixel():
    image = np.full((9, 9, 3), 100, np.uint8)
    image[4, 4] = 0
    middle = {name: int(smooth(image)[4, 4, 0]) for name, smooth in FILTERS.items()}
    # 100 (273 - 41) / 273 = 84.98; 100 * 24 / 25 = 96
    assert middle == {"gaussian": 85, "mean": 96, "median 3 x 3": 100, "median": 100,
                      "maximum": 100, "minimum": 0}  # fmt: skip
    assert (FILTERS["median"](image) == 100).all() and GAUSSIAN.sum() == 273
