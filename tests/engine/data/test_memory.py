"""What workers hold in memory, over an epoch."""

import os

import numpy as np
import pytest

from engine.data.augment import Augment
from engine.data.loader import Loader
from engine.record import Record

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Index:
    """Many drawn images, their truth in arrays."""

    classes, report, notes = ["a"], [], []

    def __init__(self, length):
        self.boxes = np.tile(np.array([[10, 10, 90, 90]], np.float32), (length, 1))

    def __len__(self):
        return len(self.boxes)

    def record(self, index):
        return Record(f"{index:08d}", f"{index:08d}.jpg", np.zeros(1, int), self.boxes[index][None])

    def image(self, index):
        return np.full((300 + index % 97, 400, 3), index % 256, np.uint8)


def resident(pid):
    """Bytes of a process that are in memory."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")
def test_four_workers_grow_by_less_than_a_twentieth_over_an_epoch():
    augment = Augment(mosaic=0.5, mixup=0.2, zoom_out=0.5, overlaps=(0.1, 0.5), rotate=3)
    loader = Loader(dataset=Index(8000), augment=augment, size=(128, 128), batch_size=16,
                    workers=4, train=True)  # fmt: skip
    sizes = []
    for epoch in range(3):
        loader.sampler.seek(epoch)
        batches = iter(loader)
        for number, _ in enumerate(batches):
            if number == 60 and epoch == 0:  # each worker has made 15 batches
                workers = [w.pid for w in loader.loader._iterator._workers]
                sizes.append(sum(map(resident, workers)))
        sizes.append(sum(map(resident, workers)))
    assert max(sizes[1:]) < 1.05 * sizes[0]
