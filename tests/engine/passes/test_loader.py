from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from engine.config.schema import Precision
from engine.data import image_file
from engine.data.ahead import Kept
from engine.data.augment import Augment
from engine.data.files import Files
from engine.data.loader import Loader
from engine.errors import UserError
from engine.passes.loader import PassLoader
from engine.passes.merge import SuppressAcross
from engine.passes.windows import Passes
from engine.record import Record
from engine.structures import Fixed
from engine.training.loop import predict_batches


class Rectangles:
    """Black images [H, W, 3] with a filled rectangle of a pure colour each."""

    classes, notes, report, on_error = ["red", "green", "blue"], [], [], "fail"

    def __init__(self, *images):
        self.images, self.reads = images, 0  # (height, width), {label: box}

    def __len__(self):
        return len(self.images)

    def record(self, index):
        return Record(index, f"{index}.png", np.zeros(0, np.int64), np.zeros((0, 4), np.float32))

    def image(self, index):
        self.reads += 1
        size, boxes = self.images[index]
        image = np.zeros((*size, 3), np.uint8)
        for label, (x1, y1, x2, y2) in boxes.items():
            image[y1:y2, x1:x2, label] = 255
        return image


class Finder:
    """Finds the rectangle of each colour by its pixels; larger ones score more."""

    head = SimpleNamespace(outputs=frozenset({"logits", "boxes"}))

    def eval(self):
        return self

    def __call__(self, images):
        boxes, scores = torch.zeros(len(images), 3, 4), torch.full((len(images), 3), -1.0)
        for at, channel in enumerate(images.flatten(0, 1)):
            y, x = (channel > 127).nonzero(as_tuple=True)
            if len(x):
                found = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
                boxes.view(-1, 4)[at] = found
                scores.view(-1)[at] = 0.5 + min(len(x), 40000) / 80000
        return Fixed(boxes, scores, torch.arange(3).expand(len(images), 3))

    def decode(self, output):
        return output.objects()

    def losses(self, output, objects):
        raise AssertionError


def found_in(dataset, size, *, batch_size=3, fit="squeeze", workers=0, sizes=(), **passes):
    """By image, {label: box} of what the network finds; each once."""
    loader = PassLoader(
        passes=Passes(sizes=[size, *sizes], **passes), dataset=dataset, augment=Augment(fit=fit),
        merge=SuppressAcross(iou=0.3, max_detections=9), size=size, batch_size=batch_size,
        workers=workers, kept=Kept(most=0),
    )  # fmt: skip
    images = []
    for objects, batch, _ in predict_batches(Finder(), loader, torch.device("cpu"), Precision.fp32):
        for each in objects.split(len(batch.meta)):
            assert len(each.labels.unique()) == len(each)
            images.append(dict(zip(each.labels.tolist(), each.boxes.tolist(), strict=True)))
    return images


TRUE = {0: [40, 50, 100, 90], 1: [110, 20, 150, 200], 2: [320, 300, 380, 400]}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [{"tile": 128}, {"tile": 128, "flip": True}])
@pytest.mark.parametrize("fit", ["squeeze", "letterbox"])
def test_rectangles_are_found_in_tiles_as_they_are(options, fit, workers):
    # red lies in one window, green is cut by the first ones' edge at 128 and larger than they are
    # high, blue lies in the last ones, which were moved back
    data = Rectangles(((700, 1000), {0: TRUE[0]}), ((412, 390), {2: TRUE[2]}), ((50, 90), {}))
    found = found_in(data, (128, 128), fit=fit, workers=workers, overlap=0.5, **options)
    assert found == [{0: TRUE[0]}, {2: TRUE[2]}, {}]
    assert data.reads == 3  # each is decoded once


def test_what_is_cut_by_an_edge_is_found_whole_in_the_next_window():
    data = Rectangles(((128, 256), {0: [100, 20, 140, 60], 1: [50, 70, 80, 90]}))
    found = found_in(data, (128, 128), tile=128, overlap=0.5)
    assert found == [{0: [100, 20, 140, 60], 1: [50, 70, 80, 90]}]


def test_what_is_larger_than_a_tile_is_found_in_the_whole_image():
    data = Rectangles(((256, 256), {0: [20, 30, 220, 210]}))
    assert found_in(data, (128, 128), tile=128) == [{0: [20, 30, 220, 210]}]


@pytest.mark.parametrize("fit", ["squeeze", "letterbox", "crop"])
def test_flipped_and_scaled_views_are_mapped_back(fit):
    data = Rectangles(((128, 128), {0: [20, 30, 60, 90], 2: [64, 4, 120, 8]}))
    sizes = [(64, 64), (256, 256)]
    loader = PassLoader(
        passes=Passes(sizes=[(128, 128), *sizes], flip=True), dataset=data, size=(128, 128),
        augment=Augment(fit=fit, resize=1.0), merge=None, batch_size=1, kept=Kept(most=0),
    )  # fmt: skip
    count = 0
    for objects, batch, _ in predict_batches(  # every pass alone, without a merge
        Finder(), loader, torch.device("cpu"), Precision.fp32, losses=False
    ):
        assert objects.boxes.tolist() == [[20, 30, 60, 90], [64, 4, 120, 8]], batch.meta[0].matrix
        count += 1
    assert count == 6


# The last windows of 500 begin at odd pixels: these images are decoded at full size, not at 1 / 8.
@pytest.mark.parametrize(("tile", "fit", "most"), [(512, "letterbox", 0), (500, "squeeze", 2)])
def test_a_window_passes_as_an_image_of_its_own(tmp_path, tile, fit, most):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (9, 12, 3), np.uint8), (1025, 769))
    (tmp_path / "crops").mkdir()
    cv2.imwrite(str(tmp_path / "a.png"), image)
    passes = Passes(sizes=[(64, 96)], tile=tile, overlap=0.25)
    seen = [each.window for each in passes.of((769, 1025))]
    for i, (x1, y1, x2, y2) in enumerate(seen):
        cv2.imwrite(str(tmp_path / f"crops/{i:03d}.png"), image[y1:y2, x1:x2])
    options = {"augment": Augment(fit=fit), "size": (64, 96), "batch_size": 4}
    whole = PassLoader(passes=passes, dataset=Files(source=str(tmp_path / "a.png")),
                       merge=SuppressAcross(iou=0.5, max_detections=1), **options)  # fmt: skip
    alone = Loader(dataset=Files(source=str(tmp_path / "crops")), **options)
    got, expected = (torch.cat([batch.images for batch in x]).float() for x in (whole, alone))
    assert got.shape == expected.shape == (len(seen), 3, 64, 96)
    assert (got - expected).abs().max() <= most


def test_an_image_that_cannot_be_read_is_left_out_with_all_its_passes(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), np.full((80, 200, 3), 255, np.uint8))
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:400])
    data = Files(source=str(tmp_path), on_error="skip")
    found = found_in(data, (64, 64), tile=64, batch_size=2)
    assert len(found) == 2 and len(data.report) == 1
    with pytest.raises(UserError, match=r"1\.jpg.*on_error=skip"):
        found_in(Files(source=str(tmp_path)), (64, 64), tile=64)


def test_one_image_and_one_batch_of_windows_are_in_memory(monkeypatch):
    made = []
    data = Rectangles(*[((300, 300), {})] * 4)
    loader = PassLoader(passes=Passes(sizes=[(32, 32)], tile=32, overlap=0), dataset=data,
                        merge=SuppressAcross(iou=0.5, max_detections=1), augment=Augment(),
                        size=(32, 32), batch_size=8, kept=Kept(most=0))  # fmt: skip
    for batch in loader:
        assert len(batch.images) <= 8
        made.append(data.reads)
    assert made == [1 + min(i * 8 + 7, 403) // 101 for i in range(51)]  # as late as can be


@pytest.mark.parametrize("workers", [0, 3])
def test_a_file_is_decoded_once_at_each_size(tmp_path, monkeypatch, workers):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((256, 256, 3), 255, np.uint8))
    sizes, decode = [], image_file.decode
    monkeypatch.setattr(image_file, "decode", lambda *x: sizes.append(x[-1]) or decode(*x))
    found_in(Files(source=str(tmp_path / "a.png")), (64, 64), tile=64, overlap=0, workers=workers)
    assert sorted(sizes) == [1, 4]  # 16 windows, and the whole at a quarter
