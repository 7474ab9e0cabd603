import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from detect import matching, matching_cpu
from detect.bench.loss import ssd300
from detect.matching import best_matches, match
from engine.structures import Objects

WHOLE = st.integers(-8, 40)  # pixels: ties, and overlaps exactly on a threshold, do occur
SIDES = st.integers(1, 30)


@st.composite
def boxes(draw, most, scale=1.0):
    """Boxes [n, 4], some of them equal, some far from all others, some of one pixel."""
    one = st.tuples(WHOLE, WHOLE, SIDES, SIDES)
    rows = draw(st.lists(one, min_size=1, max_size=most))
    far = draw(st.sampled_from([0, 0, 1000]))
    x, y, w, h = torch.tensor(rows).T * scale + torch.tensor([far, far, 0, 0])[:, None]
    return torch.stack([x, y, x + w, y + h], 1).float()


@st.composite
def cases(draw):
    """Slots, objects of some images in any order, and their number."""
    scale = draw(st.sampled_from([1.0, 0.37]))
    slots = draw(boxes(60, scale))
    slots = slots.repeat(draw(st.integers(1, 8)), 1)  # and moved: many equal or similar
    slots = slots + draw(st.sampled_from([0.0, 0.5])) * torch.arange(len(slots))[:, None]
    found = draw(boxes(40, scale)) if draw(st.booleans()) else torch.zeros(0, 4)
    batch = draw(st.integers(1, 4))
    images = draw(st.lists(st.integers(0, batch - 1), min_size=len(found), max_size=len(found)))
    ignore = draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found)))
    image = torch.tensor(images, dtype=torch.int64)
    labels = torch.arange(len(found)) % 7
    return slots, Objects(found, labels, image, ignore=torch.tensor(ignore).bool()), batch


THRESHOLDS = st.sampled_from([(0.5, 0.5), (0.5, 0.4), (0.25, 0.0), (0.0, 0.0), (1.0, 1.0)])


@given(cases(), THRESHOLDS, st.sampled_from([1, 4, 32]), st.sampled_from([64, 1 << 17]))
def test_slots_are_matched_as_when_all_pairs_are_compared(case, limits, span, cached):
    slots, objects, batch = case
    options = {"batch": batch, "positive": limits[0], "negative": limits[1]}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(matching_cpu, "SPAN", span)
        patched.setattr(matching_cpu, "CACHED", cached)
        matched_gt, labels = match(slots, objects, **options)
        patched.setattr(matching, "_best_matches_cpu", lambda *given: best_matches(*given[:3]))
        all_matched_gt, all_labels = match(slots, objects, **options)
    assert torch.equal(labels, all_labels)
    assert torch.equal(matched_gt[labels >= 0], all_matched_gt[labels >= 0])


@given(cases(), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([1, 4, 32]))
def test_every_overlap_that_matters_is_found_as_torchvision_computes_it(case, least, span):
    slots, objects, _ = case
    all_pairs = box_iou(objects.boxes, slots)  # [M, A]
    table, best = torch.zeros_like(all_pairs), torch.zeros_like(all_pairs, dtype=torch.bool)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(matching_cpu, "SPAN", span)
        for overlap, row, slot, most in matching_cpu.sparse_iou_cpu(slots, objects.boxes, least):
            table[row, slot] = overlap
            best[row[most], slot[most]] = True
    found = table > 0
    assert torch.equal(table[found], all_pairs[found])
    assert found[(all_pairs >= least) & (all_pairs > 0)].all()
    top = all_pairs.amax(1, keepdim=True)
    assert torch.equal(best, (all_pairs == top) & (top > 0))


@pytest.mark.parametrize("number", [1, 31, 32, 95, 96, 97, 1000])
def test_a_slot_is_in_one_span_and_only_the_last_repeats(number):
    slots = torch.rand(number, 4).cumsum(1)
    spans = matching_cpu._spans(slots)
    assert (
        matching_cpu.SPAN <= spans.shape[1] < 3 * matching_cpu.SPAN + 1
        or number < matching_cpu.SPAN
    )
    seen = torch.bincount(spans.flatten(), minlength=number)
    assert (seen[:-1] == 1).all() and seen[-1] >= 1


def test_few_of_ssd300s_default_boxes_are_looked_at(monkeypatch):
    # 200 objects of 20 to 250 pixels: of 8732 pairs each, in spans of 36 (3 ** 5 * 36 >= 8732)
    random = torch.Generator().manual_seed(0)
    centre = torch.rand(200, 2, generator=random) * 300
    half = 20 * 12.5 ** torch.rand(200, 2, generator=random) / 2
    objects = torch.cat([centre - half, centre + half], 1)
    looked, iou = [], matching_cpu._iou

    def counted(boxes, slots):
        overlap = iou(boxes, slots)
        looked.append(overlap.numel())
        return overlap

    monkeypatch.setattr(matching_cpu, "_iou", counted)
    slots = ssd300(8732)
    assert sum(len(hits[0]) for hits in matching_cpu.sparse_iou_cpu(slots, objects, 0.5)) > 200
    assert sum(looked) < 0.08 * 200 * 8732
