import pytest
import torch
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from detect import matching
from detect.bench.loss import peak
from detect.matching import (
    MIN_TIE_IOU,
    best_matches,
    best_object_per_slot,
    box_loss_rows,
    forced_matches,
    gather_boxes,
    match,
)
from engine.structures import BACKGROUND, IGNORE, Objects

CELLS = torch.tensor(  # 4 x 4 cells of a unit square, row by row
    [[x / 4, y / 4, (x + 1) / 4, (y + 1) / 4] for y in range(4) for x in range(4)]
)
LESSON = [  # (y1, x1, y2, x2) as published
    [0.6786, 0.4866, 0.9911, 0.6250],
    [0.7098, 0.0848, 0.9911, 0.5491],
    [0.5134, 0.8304, 0.6696, 0.9063],
]


def lesson(rows=(0, 1, 2), ignore=None):
    boxes = torch.tensor([LESSON[r] for r in rows])[:, [1, 0, 3, 2]]
    labels = torch.tensor([7 + r for r in rows])
    return Objects(boxes, labels, ignore=None if ignore is None else torch.tensor(ignore))


def found(objects, batch=1, slots=CELLS, positive=0.4, negative=0.4):
    matched_gt, labels = match(slots, objects, batch=batch, positive=positive, negative=negative)
    return matched_gt, labels


def expected(**by_cell):
    """A label a cell, BACKGROUND elsewhere; keywords like c14=7."""
    labels = [BACKGROUND] * 16
    for cell, label in by_cell.items():
        labels[int(cell[1:])] = label
    return [labels]


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return both / (sum(areas) - both)


def test_the_worked_example():
    overlap = torch.tensor([[iou(b, c) for c in CELLS.tolist()] for b in lesson().boxes.tolist()])
    assert overlap.amax(1).tolist() == pytest.approx([0.3985, 0.4538, 0.1897], abs=1e-4)
    assert overlap.argmax(1).tolist() == [14, 13, 11]
    best, matched_gt = best_object_per_slot(overlap, torch.zeros(3, dtype=torch.int64), 1)
    assert best[0, [14, 13, 11]].tolist() == pytest.approx([0.3985, 0.4538, 0.1897], abs=1e-4)
    assert matched_gt[0, [14, 13, 11, 0]].tolist() == [0, 1, 2, -1]


def test_the_worked_example_positive_slots():
    # 13 is positive by its IoU (.4538 > .4); 14 and 11 because they are their objects' best.
    matched_gt, labels = found(lesson())
    assert labels.tolist() == expected(c14=7, c13=8, c11=9)
    assert matched_gt[0, [14, 13, 11]].tolist() == [0, 1, 2]


def test_between_the_thresholds_a_slot_is_left_out():
    # .2 to .4: object 1 has x .0848 to .5491, so cell 12 (x 0 to .25) shares .1652 * .2411 =
    # .03983; areas .0625 + .4643 * .2813 = .1306; .03983 / (.1931 - .0398) = .2598.
    assert found(lesson(), negative=0.2)[1].tolist() == expected(c14=7, c13=8, c11=9, c12=IGNORE)


def test_a_threshold_belongs_to_the_side_above_it():
    whole = Objects(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([3]))
    slots = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 4, 1], [0, 0, 3, 1]])
    # Overlaps 1, 8/16 = .5, 4/16 = .25, 3/16
    _, labels = found(whole, slots=slots, positive=0.5, negative=0.25)
    assert labels.tolist() == [[3, 3, IGNORE, BACKGROUND]]


def test_two_objects_with_one_best_slot():
    first, second = torch.tensor([0.0, 0, 0.2, 0.2]), torch.tensor([0.0, 0, 0.24, 0.24])
    for boxes in ([first, second], [second, first]):
        # Cell 0 is the best of both; the last of them gets it, whichever overlaps more.
        matched_gt, labels = found(Objects(torch.stack(boxes), torch.tensor([4, 5])))
        assert labels.tolist() == expected(c0=5)
        assert matched_gt[0, 0] == 1


def test_ties():
    # An object over cells 0 and 1 alike: overlap .5 with both. The first of them is forced.
    wide = Objects(torch.tensor([[0.0, 0, 0.5, 0.25]]), torch.tensor([2]))
    assert found(wide, positive=0.6, negative=0.6)[1].tolist() == expected(c0=2)
    assert found(wide, positive=0.5)[1].tolist() == expected(c0=2, c1=2)
    # The same box twice: of equal IoUs the last object wins.
    twice = Objects(torch.tensor([[0.0, 0, 0.25, 0.25]] * 2), torch.tensor([1, 6]))
    assert found(twice)[1].tolist() == expected(c0=6)


def test_no_objects():
    matched_gt, labels = found(Objects.empty(), batch=2)
    assert labels.tolist() == expected() * 2
    assert gather_boxes(Objects.empty(), matched_gt).shape == (2, 16, 4)


def test_an_image_without_objects_beside_one_with():
    objects = lesson()
    objects.batch_index += 1
    assert found(objects, batch=3)[1].tolist() == (
        expected() + expected(c14=7, c13=8, c11=9) + expected()
    )


def test_ignored_objects_force_no_slot_and_ignore_those_they_overlap():
    # Object 1 overlaps cell 13 by .4538, which turns from its label to IGNORE.
    labels = found(lesson(ignore=[False, True, False]))[1]
    assert labels.tolist() == expected(c14=7, c13=IGNORE, c11=9)


def test_an_ignored_object_does_not_take_anothers_best_slot():
    boxes = torch.tensor([[0.0, 0, 0.2, 0.2], [0.0, 0, 0.25, 0.25]])
    objects = Objects(boxes, torch.tensor([4, 5]), ignore=torch.tensor([False, True]))
    assert found(objects)[1].tolist() == expected(c0=4)
    assert forced_matches(torch.ones(2, 1), objects, 1).tolist() == [[0]]


def test_gathered_boxes_are_those_of_the_matched_objects():
    matched_gt, labels = found(lesson())
    boxes = gather_boxes(lesson(), matched_gt)
    assert boxes[0, [14, 13, 11]].tolist() == lesson().boxes.tolist()


def slowly(slots, objects, batch, positive, negative):
    """One image, one slot, one object at a time."""
    rows = list(zip(objects.boxes.tolist(), objects.labels.tolist(), objects.ignore, strict=True))
    table = []
    for i in range(batch):
        in_image = [row for row, image in zip(rows, objects.batch_index, strict=True) if image == i]
        labels = []
        for slot in slots.tolist():
            best, label = 0.0, BACKGROUND
            for box, name, ignore in in_image:
                if 0 < iou(box, slot) >= best:
                    best, label = iou(box, slot), IGNORE if ignore else name
            if best < negative:
                label = BACKGROUND
            elif best < positive:
                label = IGNORE
            labels.append(label)
        for box, name, ignore in in_image:
            overlaps = [iou(box, slot) for slot in slots.tolist()]
            if not ignore:
                labels[overlaps.index(max(overlaps))] = name
        table.append(labels)
    return table


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_slow_loop(seed):
    random = torch.Generator().manual_seed(seed)
    # Small whole coordinates, so that ties and overlaps exactly on a threshold do occur.
    corners = torch.randint(0, 6, (40, 2), generator=random)
    boxes = torch.cat(
        [corners, corners + torch.randint(1, 6, (40, 2), generator=random)], 1
    ).float()
    image = torch.randint(0, 3, (seed % 21,), generator=random)  # in any order
    labels = torch.randint(0, 20, image.shape, generator=random)
    ignore = torch.rand(image.shape, generator=random) < 0.2
    objects = Objects(boxes[20 : 20 + len(image)], labels, image, ignore=ignore)
    slots = boxes[:20]
    _, fast = found(objects, batch=3, slots=slots, positive=0.3, negative=0.2)
    assert fast.tolist() == slowly(slots, objects, 3, 0.3, 0.2)


def crowd(seed, counts, slots=300):
    """Slots, and `counts` objects per image in random order, some ignored, some alike."""
    random = torch.Generator().manual_seed(seed)

    def boxes(number):
        corners = torch.randint(0, 40, (number, 2), generator=random)
        return torch.cat(
            [corners, corners + torch.randint(2, 20, (number, 2), generator=random)], 1
        )

    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    image = image[torch.randperm(len(image), generator=random)]
    labels = torch.randint(0, 20, image.shape, generator=random)
    ignore = torch.rand(image.shape, generator=random) < 0.2
    return boxes(slots).float(), Objects(boxes(len(image)).float(), labels, image, ignore=ignore)


def image_by_image(slots, objects, batch, ties=False):
    """`best_matches`, one slot and one object at a time."""
    best, matched_gt = torch.zeros(batch, len(slots)), torch.full((batch, len(slots)), -1)
    forced_gt = torch.full_like(matched_gt, -1)
    for row, image in enumerate(objects.batch_index.tolist()):
        overlaps = box_iou(objects.boxes[row : row + 1], slots)[0].tolist()
        top = max(overlaps)
        for slot, overlap in enumerate(overlaps):
            if overlap > 0 and overlap >= best[image, slot]:
                best[image, slot], matched_gt[image, slot] = overlap, row
            forced = top >= MIN_TIE_IOU and overlap == top if ties else slot == overlaps.index(top)
            if forced and not objects.ignore[row]:
                forced_gt[image, slot] = row
    return best, matched_gt, forced_gt


CROWDS = [
    [0],
    [1],
    [0, 0, 7],
    [3, 0, 1, 40],  # one image has nearly all of them
    [25, 1, 1, 1, 1, 1, 1, 1],
    [9, 9, 9],
]


@pytest.mark.parametrize("pairs", [1, 5000, 1 << 18])
@pytest.mark.parametrize("counts", CROWDS, ids=str)
def test_whatever_the_chunks_every_pair_is_compared(counts, pairs, monkeypatch):
    monkeypatch.setattr(matching, "CACHED", pairs)
    for ties in (False, True):
        slots, objects = crowd(0, counts)
        found = best_matches(slots, objects, len(counts), ties=ties)
        expected = image_by_image(slots, objects, len(counts), ties)
        for fast, slow in zip(found, expected, strict=True):
            assert torch.equal(fast, slow)


@pytest.mark.parametrize("counts", CROWDS, ids=str)
def test_every_object_is_in_one_group_of_its_image(counts):
    _, objects = crowd(0, counts)
    rows, image = matching._groups(objects.batch_index, len(counts))
    held = rows < len(objects)
    assert sorted(rows[held].tolist()) == list(range(len(objects)))
    assert torch.equal(objects.batch_index[rows[held]], image[:, None].expand_as(rows)[held])
    # At most M rows are compared and k per image, k the rounded root of the mean
    assert rows.numel() <= len(objects) + len(counts) * rows.shape[1]


def test_500_objects_are_matched_as_by_torchvision():
    slots, objects = crowd(3, [500, 2], slots=1000)
    slots, boxes = slots + torch.rand(1000, 4), objects.boxes + torch.rand(502, 4)  # no ties
    objects = Objects(boxes, objects.labels, objects.batch_index)
    matched_gt, labels = found(objects, batch=2, slots=slots, positive=0.5, negative=0.5)
    for image in range(2):
        rows = (objects.batch_index == image).nonzero()[:, 0]
        matched = SSDMatcher(0.5)(box_iou(boxes[rows], slots))
        assert torch.equal(labels[image] >= 0, matched >= 0)
        assert torch.equal(matched_gt[image][matched >= 0], rows[matched[matched >= 0]])


@pytest.mark.parametrize(("side", "matched_gt"), [(0.05, 0), (0.02, -1)])
def test_ties_are_forced_from_an_iou_of_a_millionth_on(side, matched_gt):
    # Of a slot of 32 * 32 = 1024: .05 ** 2 / 1024 = 2.4e-6 is enough, .02 ** 2 / 1024 = 3.9e-7 not.
    slots = torch.tensor([[0.0, 0.0, 32.0, 32.0], [64.0, 0.0, 96.0, 32.0]])
    one = Objects(torch.tensor([[1.0, 1.0, 1.0 + side, 1.0 + side]]), torch.tensor([3]))
    assert best_matches(slots, one, 1, ties=True)[2].tolist() == [[matched_gt, -1]]


def test_boxes_without_an_area_overlap_nothing():
    slots = torch.tensor([[0.0, 0, 4, 4], [2, 2, 2, 2], [3, 0, 4, 4]])
    whole, line = torch.tensor([[0.0, 0, 4, 3]]), torch.tensor([[1.0, 1, 1, 3]])
    assert found(Objects.empty(), slots=slots)[1].tolist() == [[BACKGROUND] * 3]
    # Overlaps 12 / 16, 0, 3 / 13
    labels = found(Objects(whole, torch.tensor([3])), slots=slots)[1]
    assert labels.tolist() == [[3, BACKGROUND, BACKGROUND]]
    # An object that overlaps no slot forces the first; of two objects that force it the last wins.
    both = Objects(torch.cat([whole, line]), torch.tensor([3, 4]))
    assert found(both, slots=slots[[0, 2]])[1].tolist() == [[4, BACKGROUND]]


def test_no_value_is_read_from_the_device():
    # On the meta device there is none: reading one, nonzero and masks as indices all raise.
    slots, objects = crowd(0, [3, 5, 0])
    matched_gt, labels = found(objects.to("meta"), batch=3, slots=slots.to("meta"))
    assert matched_gt.shape == labels.shape == (3, 300)
    assert gather_boxes(objects.to("meta"), matched_gt).shape == (3, 300, 4)
    forced_gt = best_matches(slots.to("meta"), objects.to("meta"), 3, ties=True)[2]
    assert forced_gt.shape == box_loss_rows(labels).view(3, 300).shape


@pytest.mark.parametrize("find", [match, best_matches])
def test_memory_does_not_grow_with_objects_times_slots(find):
    slots, objects = crowd(0, [400] * 4, slots=8732)
    given = {"positive": 0.4, "negative": 0.4} if find is match else {"ties": True}
    held = peak(lambda: find(slots, objects, batch=4, **given))
    assert held < 12e6  # the IoUs of all pairs alone: 1600 * 8732 * 4 bytes = 56 MB


def test_box_loss_rows_are_the_positive_ones_of_a_flat_batch():
    labels = torch.tensor([[BACKGROUND, 0], [IGNORE, BACKGROUND], [7, BACKGROUND]])
    assert box_loss_rows(labels).tolist() == [1, 4]
    assert box_loss_rows(labels.clamp(max=BACKGROUND)).tolist() == []
