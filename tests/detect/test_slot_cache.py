import copy
import pickle

import pytest
import torch
from heads import CHANNELS, HEADS, SIZE, STRIDES, make

from detect import slot_cache
from detect.losses.box import GIoU
from engine.structures import Assigned


def features(height, width):
    sides = [(height // stride, width // stride) for stride in STRIDES]
    return [torch.zeros(2, c, *side) for c, side in zip(CHANNELS, sides, strict=True)]


@pytest.mark.parametrize("name", HEADS)
def test_slots_are_made_once_for_each_size(name):
    head = make(name).eval()
    first, other = head(features(*SIZE), SIZE), head(features(128, 128), (128, 128))
    again = head(features(*SIZE), SIZE)
    assert again.slots is first.slots and again.cells is first.cells
    assert other.slots.shape != first.slots.shape or not other.slots.equal(first.slots)
    assert make(name).eval()(features(128, 128), (128, 128)).slots.equal(other.slots)


def test_copies_and_state_dicts_have_none():
    head = make("yolo_v3")
    before = set(head.state_dict())
    head(features(*SIZE), SIZE)
    assert set(head.state_dict()) == before and len(head.slot_cache.kept) == 1
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert not other.slot_cache.kept


def test_slots_of_an_evaluation_take_gradients_in_training():
    head = make("ssd, sigmoid")
    with torch.inference_mode():
        head(features(*SIZE), SIZE)
    output = head(features(*SIZE), SIZE)
    labels = torch.zeros(output.boxes.shape[:2], dtype=torch.int64)
    GIoU()(output, Assigned(labels, output.boxes.detach() + 1)).backward()
    assert head.predictors[0].bias.grad.abs().sum() > 0


def test_the_oldest_size_gives_way(monkeypatch):
    monkeypatch.setattr(slot_cache, "MOST", 2)
    cache, made = slot_cache.SlotCache(), []
    like, slots = torch.zeros(1), (torch.zeros(1, 4), torch.zeros(1, 2))
    for key in (1, 2, 1, 3, 2, 1):
        cache(like, key, lambda key=key: made.append(key) or slots)
    assert made == [1, 2, 3, 1]


def test_a_compiled_graph_keeps_nothing():
    head = make("yolo_v2").eval()
    with torch.no_grad():
        program = torch.export.export(_Forward(head), (features(*SIZE),))
        assert not head.slot_cache.kept
        assert program.module()(features(*SIZE)).equal(head(features(*SIZE), SIZE).slots)


class _Forward(torch.nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, maps):
        return self.head(maps, SIZE).slots
