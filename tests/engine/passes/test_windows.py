import numpy as np
import pytest

from engine.passes.windows import Pass, Passes, windows


def test_windows_by_hand():
    # a stride of 512; the last ones begin at 1000 - 640 and at 700 - 640
    assert windows((700, 1000), tile=640, overlap=0.2) == [
        (0, 0, 640, 640), (360, 0, 1000, 640), (0, 60, 640, 700), (360, 60, 1000, 700)]  # fmt: skip
    # lower than a tile: one row
    assert windows((500, 2000), tile=640, overlap=0.2) == [
        (0, 0, 640, 500), (512, 0, 1152, 500), (1024, 0, 1664, 500), (1360, 0, 2000, 500),
    ]  # fmt: skip
    assert windows((64, 128), tile=64, overlap=0) == [(0, 0, 64, 64), (64, 0, 128, 64)]


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5, 0.9])
def test_windows_cover_the_image_and_overlap(overlap):
    for height, width in ((641, 640), (640, 3840), (2160, 3840), (1153, 1)):
        found = np.array(windows((height, width), tile=640, overlap=overlap))
        assert len(set(map(tuple, found.tolist()))) == len(found)
        for low, high, side in ((0, 2, width), (1, 3, height)):
            spans = sorted({(int(row[low]), int(row[high])) for row in found})
            assert spans[0][0] == 0 and spans[-1][1] == side
            assert {last - first for first, last in spans} == {min(side, 640)}
            shared = [a[1] - b[0] for a, b in zip(spans, spans[1:], strict=False)]
            assert all(each >= 640 * overlap - 1 for each in shared)


def test_passes_of_an_image():
    passes = Passes(sizes=[(32, 32), (64, 64)], tile=100, overlap=0, flip=True)
    whole = (0, 0, 100, 90)
    assert passes.of((90, 100)) == [
        Pass(whole, (32, 32)), Pass(whole, (32, 32), flip=True),
        Pass(whole, (64, 64)), Pass(whole, (64, 64), flip=True)]  # fmt: skip
    seen = [each.window for each in passes.of((90, 200))[::4]]
    assert seen == [(0, 0, 200, 90), (0, 0, 100, 90), (100, 0, 200, 90)]


def test_the_protocol_says_what_was_done():
    assert Passes(sizes=[(9, 9)], tile=640).protocol.startswith("tiles of 640 px, overlap 0.2, and")
    both = Passes(sizes=[(9, 9), (8, 8)], flip=True)
    assert both.protocol.startswith("flipped and scaled views: merged")
